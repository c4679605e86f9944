"""Runs of one process that share rows, tokens and cards leave what each leaves alone, byte for byte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import one_of, settings

from ftrun.experiments import start
from ftrun.experiments.overrides import compose
from ftrun.runs import warm
from ftrun.runs.run import Run
from ftrun.tasks.classify import Classify
from ftrun.tasks.data import TaskData

CLOCKS = {"timing.jsonl", "cost.json", "environment.json"}
FEW = ["train.max_steps=3", "train.eval_every=2", "device=cpu"]
DIGITS = ["task=digits", "model=mlp", *FEW]


@pytest.fixture
def shared() -> Iterator[None]:
    with warm.shared():
        yield


@pytest.fixture
def texts(toy_files: Path, tiny_model_dir: Path) -> list[str]:
    files = [f"task.{split}={toy_files / split}.csv" for split in ("train", "validation", "test")]
    return ["task=classify", *files, f"model.name={tiny_model_dir}", "task.max_length=32", *FEW]


def contents(place: Path) -> dict[str, bytes]:
    """Every file of a run but for its clocks."""
    files = [file for file in place.rglob("*") if file.is_file() and file.name not in CLOCKS]
    found = {str(file.relative_to(place)): file.read_bytes() for file in files}
    for name, clock in {"state.json": "cost", "manifest.json": "state.json"}.items():
        state = json.loads(found[f"checkpoints/last/{name}"])
        del state[clock]
        found[f"checkpoints/last/{name}"] = json.dumps(state).encode()
    return found


def assert_as_alone(place: Path, runs: list[list[str]]) -> None:
    """The last of these runs, alone and after the others."""
    start.run(settings(*runs[-1]), place / "alone")
    with warm.shared():
        for number, words in enumerate(runs):
            start.run(settings(*words), place / f"run{number}")
    alone, after = contents(place / "alone"), contents(place / f"run{len(runs) - 1}")
    assert alone.keys() == after.keys() and "result.json" in alone
    for name, content in alone.items():
        assert content == after[name], name


@pytest.mark.parametrize("strategy", one_of("lora", "full", "linear_probe"))
def test_a_run_of_texts_is_the_same_after_others(tmp_path, texts, strategy) -> None:
    last = [*texts, "task.max_length=24", *f"strategy={strategy}".split()]
    others = [[*texts, "task.max_length=8", "strategy=lora", "seed=1"], [*last, "seed=2"]]
    assert_as_alone(tmp_path, [*others, last])


def test_a_pooled_one_too(tmp_path, texts) -> None:
    words = [[*texts, "strategy=linear_probe", f"model.pooling={each}"] for each in ("mean", "cls")]
    assert_as_alone(tmp_path, words)


def test_and_one_of_images(tmp_path) -> None:
    words = [[*DIGITS, *own.split()] for own in ("seed=1", "task.subset=300 seed=0", "task.subset=300")]
    assert_as_alone(tmp_path, words)


def test_rows_are_read_encoded_and_described_once_for_a_content(tmp_path, texts, shared, monkeypatch) -> None:
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        before = getattr(Classify, name)

        def call(self, *given):
            calls[name] += 1
            return before(self, *given)

        monkeypatch.setattr(Classify, name, call)

    for name in ("load", "encode", "describe"):
        counted(name)
    for strategy in ("full", "lora", "linear_probe"):
        start.run(settings(*texts, f"strategy={strategy}"), tmp_path / strategy)
    assert calls == {"load": 1, "encode": 3, "describe": 1}
    cards = [json.loads((tmp_path / each / "data.json").read_text()) for each in ("full", "lora")]
    assert cards[0] == cards[1] and "features" in cards[0]["baselines"]


def test_a_changed_file_is_read_again(tmp_path, toy_files, texts, shared) -> None:
    copy = tmp_path / "train.csv"
    copy.write_text((toy_files / "train.csv").read_text())
    task = settings(*texts, f"task.train={copy}").task
    first = TaskData.read(task, 0).rows
    assert TaskData.read(task, 0).rows.splits["train"] is first.splits["train"]
    with copy.open("a") as file:
        file.write("one more,a\n")
    assert len(TaskData.read(task, 0).rows.splits["train"]) == len(first.splits["train"]) + 1


def test_notes_belong_to_a_run(texts, shared) -> None:
    task = settings(*texts).task
    TaskData.read(task, 0).rows.notes.append("of this run")
    assert "of this run" not in TaskData.read(task, 0).rows.notes


def test_what_is_composed_belongs_to_who_asked(shared) -> None:
    first = compose(["seed=3"])
    first["train"]["lr"] = "changed"
    assert compose(["seed=3"])["train"]["lr"] != "changed" and compose(["seed=4"])["seed"] == 4


def test_memory_does_not_grow(tmp_path, shared) -> None:
    """What the runs leave behind: as many objects after nine as after a few."""
    import gc

    import torch

    def left() -> Counter[str]:
        gc.collect()
        kinds = (type(each) for each in gc.get_objects())
        return Counter(
            kind.__name__ for kind in kinds if issubclass(kind, torch.Tensor | torch.nn.Module | Run)
        )

    counts = []
    for number in range(9):
        words = [*DIGITS, "task.subset=100", "baselines=false", f"seed={number % 3}", "train.max_steps=1"]
        start.run(settings(*words), tmp_path / str(number))
        counts.append(sum(left().values()))
    assert max(counts[6:]) <= max(counts[3:6]), counts


def test_a_sweep_composes_its_options_once_and_leaves_what_runs_leave_alone(
    tmp_path, texts, ftrun_inprocess, monkeypatch
) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    composed, before = [], ConfigLoaderImpl.load_sweep_config

    def load(self, master_config, sweep_overrides):
        composed.append(sweep_overrides)
        return before(self, master_config, sweep_overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", load)
    ftrun_inprocess(
        "-m", *texts, "strategy=linear_probe", "seed=0,1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}"
    )
    assert len(composed) == 1 and not warm.sharing()
    ftrun_inprocess(*texts, "strategy=linear_probe", "seed=2", f"hydra.run.dir={tmp_path / 'alone'}")
    one, other = contents(tmp_path / "alone"), contents(tmp_path / "sweep" / "2-linear_probe")
    assert one == {name: content for name, content in other.items() if name != "log.txt"}
