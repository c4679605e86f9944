"""model.pooling=auto in runs: what config.yaml holds, and what is handed on to the runs after it."""

import json
import shutil
from pathlib import Path

import pytest
from lab import ran, settings, toy
from pooled import MEAN, SAYS, sentences
from resuming import stopped
from toys_ner import words as ner_words

from ftrun.errors import ConfigError
from ftrun.experiments.single import resume, run
from ftrun.models.pooling import pooling_of
from ftrun.runs.manifest import SEAL
from ftrun.runs.run import Run
from ftrun.settings.settled import agree

PARTS = {
    ".": "mean",
    "task": "mean",
    "both": "mean",
    "none": "mean",
    "domain": "head",
    "domain-probe": "mean",
}
QUICK = "train.max_steps=3", "train.lr=1e-2"


@pytest.fixture
def sbert(tiny_dir, tmp_path):
    """A checkpoint that was trained with the mean."""
    return sentences(Path(shutil.copytree(tiny_dir("bert"), tmp_path / "sbert")), MEAN)


def found(experiment):
    return pooling_of(experiment.model, experiment.task.spec(None))


def test_the_run_s_settings_hold_what_it_became(toy_files, sbert, tmp_path, capsys):
    chosen = ran(tmp_path / "auto", toy(toy_files, sbert, *QUICK))
    assert f"pooling: mean, {SAYS}" in capsys.readouterr().out
    assert chosen.config["model"]["pooling"] == "mean"
    stated = ran(tmp_path / "mean", toy(toy_files, sbert, "model.pooling=mean", *QUICK))
    assert "pooling: mean, as" not in capsys.readouterr().out
    for name in ("metrics.jsonl", "result.json", "predictions.jsonl", "config.yaml"):
        assert (chosen.path / name).read_bytes() == (stated.path / name).read_bytes(), name


def test_a_run_goes_on_as_it_began_whatever_happens_to_the_checkpoint_s_files(toy_files, sbert, tmp_path):
    words = *QUICK, "train.eval_every=1", "train.checkpoint_every=1"
    whole = ran(tmp_path / "whole", toy(toy_files, sbert, *words))
    stopped(tmp_path / "stopped", toy(toy_files, sbert, *words), 2)
    (sbert / "modules.json").unlink()
    shutil.rmtree(sbert / "1_Pooling")
    resume(tmp_path / "stopped")
    for name in ("metrics.jsonl", "result.json", "predictions.jsonl"):
        assert (whole.path / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_what_a_run_saved_keeps_its_pooling(toy_files, tiny_dir, tmp_path):
    first = ran(tmp_path / "first", toy(toy_files, tiny_dir("bert"), "model.pooling=cls", *QUICK))
    assert found(toy(toy_files, first.path)) == ("cls", SAYS)
    for name in ("modules.json", "1_Pooling/config.json", SEAL):  # as older versions have saved it
        (first.model_dir / name).unlink()
    assert found(toy(toy_files, first.path)) == ("cls", "as the run had it that saved this checkpoint")
    own = ran(tmp_path / "own", toy(toy_files, first.path, "model.pooling=head", *QUICK))
    assert "ftrun_pooling" not in (own.model_dir / "config.json").read_text()


def test_a_source_decides_for_answers_of_its_kind(toy_files, sbert, tmp_path):
    first = ran(tmp_path / "cls", toy(toy_files, sbert, "model.pooling=cls", *QUICK))
    onto = "source=run", f"source.run={first.path}", *QUICK
    second = ran(tmp_path / "second", toy(toy_files, sbert, *onto))
    assert second.config["model"]["pooling"] == "cls"
    third = ran(tmp_path / "ner", settings(*ner_words(sbert), f"model.name={sbert}", *onto))
    assert third.config["model"]["pooling"] == "head" and third.read_json("result.json")["sources"]
    with pytest.raises(ConfigError, match=r"\(model.pooling=cls\), this run is .*\(model.pooling=mean\)"):
        run(toy(toy_files, sbert, "model.pooling=mean", *onto), tmp_path / "no")


def test_a_task_as_source_has_a_pooling_of_its_own(toy_files, sbert, tmp_path):
    files = [word.replace("task.", "source.", 1) for word in ner_words(sbert) if word.startswith("task.")]
    words = "task@source=ner", *files, *QUICK
    second = ran(tmp_path / "run", toy(toy_files, sbert, *words))
    assert second.config["model"]["pooling"] == "mean"
    assert Run.open(tmp_path / "run" / "source").config["model"]["pooling"] == "head"


def test_auto_agrees_with_whatever_came_of_it():
    asked = {"model": {"pooling": "auto", "name": "a"}, "seed": 0}
    assert agree(asked, {"model": {"pooling": "mean", "name": "a"}, "seed": 0})
    assert not agree(asked, {"model": {"pooling": "mean", "name": "b"}, "seed": 0})
    assert not agree({"model": {"pooling": "head"}}, {"model": {"pooling": "mean"}})
    assert not agree(asked, {"model": asked["model"]})


def test_a_sequence_settles_it_for_each_of_its_tasks(toy_files, sbert, ftrun_inprocess, tmp_path):
    labelled = (
        f"train: {toy_files}/train.csv, validation: {toy_files}/validation.csv, test: {toy_files}/test.csv"
    )
    tasks = f"[{{name: one, {labelled}}},{{name: two, {labelled}}}]"
    words = f"sequence={tasks}", f"model.name={sbert}", "device=cpu", *QUICK, "hydra.run.dir=both"
    ftrun_inprocess("task.max_length=16", *words)
    kept = [Run.open(tmp_path / "both" / name).config["model"]["pooling"] for name in ("1-one", "2-two")]
    assert kept == ["mean", "mean"]


def test_a_composition_has_one_pooling_for_labels_and_none_for_text(
    toy_words, toy_files, sbert, ftrun_inprocess, tmp_path
):
    words = [word for word in toy_words if not word.startswith("model.name")]
    ftrun_inprocess(
        "experiment=compose", *words, f"model.name={sbert}", f"compose.text.train={toy_files}/train.csv",
        "compose.text.block=16", f"compose.rows={toy_files}/test.csv", "train.max_steps=2",
        "compose.train.max_steps=2", "hydra.run.dir=both",
    )  # fmt: skip
    parts = {each: Run.open(tmp_path / "both" / each).config["model"]["pooling"] for each in PARTS}
    assert parts == PARTS and json.loads((tmp_path / "both" / "result.json").read_text())["contest"]


def test_a_sweep_goes_on_where_auto_was_settled(toy_words, sbert, ftrun_inprocess, tmp_path):
    words = [word for word in toy_words if not word.startswith("model.name")]
    sweep = "-m", *words, f"model.name={sbert}", *QUICK, "seed=0,1", "hydra.sweep.dir=all"
    ftrun_inprocess(*sweep)
    runs = sorted(path.parent for path in (tmp_path / "all").glob("*/config.yaml"))
    for each in runs:
        (each / "result.json").unlink()
    again = ftrun_inprocess(*sweep)
    assert all((each / "result.json").is_file() for each in runs), again.stdout
    assert sorted(path.parent for path in (tmp_path / "all").glob("*/config.yaml")) == runs
