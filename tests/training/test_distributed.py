"""Two processes are one: the same losses, one run directory."""

import json

import pytest
import toys_image
from lab import SMALL_SOURCE, ran, settings
from together import said, together

from ftrun.experiments import single

WAYS = {
    "full": ["strategy=full", "baselines=true"],
    "linear_probe": ["strategy=linear_probe"],
    "gradual_unfreeze with replay": [
        "strategy=gradual_unfreeze", "every=0.2", "protect=replay", "protect.buffer=16", *SMALL_SOURCE,
    ],
    "l2sp after its source": [
        "strategy=l2sp", "alpha=1", "task@source=classify", "source.train={files}/train.csv",
        "source.subset=40", "source.max_length=32",
    ],
}  # fmt: skip


def launched(processes, words, directory):
    """The run directory of an experiment that several processes make together."""
    work = {"run": lambda: single.run(settings(*words), directory)}
    assert together(processes, work, directory.with_name("logs")) == [0] * processes, said(
        directory.with_name("logs")
    )
    return directory


def same_lines(one, two):
    """The same metrics at the same steps, to 1e-5, in two finished runs."""
    lines = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)
    ]
    assert len(lines[0]) == len(lines[1]) > 10
    for ours, theirs in zip(*lines, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert theirs[name] == pytest.approx(value, rel=1e-5, abs=1e-5), (name, ours, theirs)
    assert (one / "result.json").is_file() and (two / "result.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[] if way.startswith("l2sp") else pytest.mark.ci) for way in WAYS]
)
def test_two_processes_give_the_losses_of_one(toy_files, still_dir, tmp_path, way):
    """101 rows in batches of 10: the last batch has one example, which only one process can take."""
    words = [
        "task=classify", f"task.train={toy_files}/train.csv", f"task.validation={toy_files}/validation.csv",
        f"task.test={toy_files}/test.csv", f"model.name={still_dir}", "task.max_length=32", "device=cpu",
        "train.batch_size=10", "train.micro_batch=3", "task.subset=101", "train.epochs=2", "train.lr=1e-3",
        "baselines=false",
        *(word.replace("{files}", str(toy_files)) for word in WAYS[way]),
    ]  # fmt: skip
    one = ran(tmp_path / "with1", settings(*words)).path
    two = launched(2, words, tmp_path / "with2")
    same_lines(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        pytest.param(["task=simclr"], id="simclr", marks=pytest.mark.ci),
        pytest.param(["task=moco", "task.queue=40", "task.symmetric=true"], id="moco"),
    ],
)
def test_two_processes_tell_views_apart_as_one_does(tmp_path, task):
    """Every view is compared with those of both processes; a network without batch normalisation.

    The embedding does not collapse: of one that does, gradients are differences of nearly equal numbers.
    """
    words = [
        *task, *toys_image.words(tmp_path, "vit")[1:], "task.crop=[0.3,1]", "task.width=8", "task.tau=0.5",
        "train.batch_size=12", "train.micro_batch=4", "train.optimizer=sgd", "train.clip=null",
        "task.on_instability=stop",
    ]  # fmt: skip
    same_lines(ran(tmp_path / "with1", settings(*words)).path, launched(2, words, tmp_path / "with2"))


@pytest.mark.slow
@pytest.mark.ci
def test_two_processes_keep_the_features_of_one(toy_files, still_dir, tmp_path, monkeypatch):
    """Each computes those of its own rows, and finds the other's on the disk."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [
        "task=classify", f"task.train={toy_files}/train.csv", f"task.validation={toy_files}/validation.csv",
        f"task.test={toy_files}/test.csv", f"model.name={still_dir}", "task.max_length=32", "device=cpu",
        "train.batch_size=32", "train.epochs=6", "train.lr=1e-3", "strategy=freeze", "bottom=1",
    ]  # fmt: skip
    two = launched(2, [*words, "train.keep=true"], tmp_path / "with2")
    assert len({*(tmp_path / "cache/ftrun/features").iterdir()}) > 1
    same_lines(ran(tmp_path / "with1", settings(*words, "train.keep=false")).path, two)
