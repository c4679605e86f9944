"""Runs that are older than a setting are read as if it had stood at its default."""

import json

import pytest
import yaml
from safetensors.torch import load_file

from ftrun.errors import ConfigError
from ftrun.experiments.overrides import compose
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.settings.upgrade import completed
from ftrun.training import checkpoint
from ftrun.training.restoring import BESIDE

PRESET = {
    "train.lr",
    "model.init",
    "source",
    "source.validation",
    "source.test",
    "source.subset",
}  # by more than the kind
KEPT = {"kind", "strategy", "train", "task", "model", "schedule", "name", "seed"}
ROWS = ["task=classify", "task.train=a.csv"]
LINES = {
    "classify": ROWS,
    "mlm": ["task=mlm", "task.corpus=docstrings"],
    "simclr": ["task=simclr", "task.train=a.npz", "model=resnet_small", "strategy=full"],
    "ewc": [*ROWS, "strategy=lora", "protect=ewc", "source=pretraining"],
    "source": [*ROWS, "task@source=docstrings"],
    "pays": [*ROWS, "pretrain=mlm", "pretrain.task.corpus=docstrings"],
    "compose": [*ROWS, "compose=domain", "compose.rows=a.csv"],
    "unfreeze": [*ROWS, "strategy=gradual_unfreeze", "schedule=slanted_triangular"],
}


def stored(tmp_path, config):
    """A run directory with just these settings."""
    tmp_path.mkdir()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "metrics.jsonl").touch()
    return Run.open(tmp_path)


def places(node, path=()):
    """Where a setting stands that could be younger than a run; pretrain.train lacks what is as in train."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from places(value, (*path, name))
        if name not in KEPT and not (isinstance(value, dict) and path) and path[1:] != ("train",):
            yield (*path, name)


def without(node, path):
    if len(path) == 1:
        return {name: value for name, value in node.items() if name != path[0]}
    return node | {path[0]: without(node[path[0]], path[1:])}


@pytest.mark.parametrize("words", LINES.values(), ids=LINES)
def test_settings_that_are_all_there_stay_in_their_order(words):
    """Else the config.yaml of what a resumed run makes of them has other bytes."""
    whole = compose(list(words))
    assert json.dumps(completed(whole)) == json.dumps(whole)


@pytest.mark.parametrize("words", LINES.values(), ids=LINES)
def test_a_setting_younger_than_the_run_is_at_its_default(words, tmp_path):
    whole = compose(list(words))
    said = {word.split("=")[0] for word in words}
    missing = [path for path in places(whole) if ".".join(path) not in said | PRESET]
    assert len(missing) > 35
    for number, path in enumerate(missing):
        run = stored(tmp_path / str(number), without(whole, path))
        assert run.settings == whole, path
    read(run.settings)


def test_what_has_no_default_is_still_missed(tmp_path):
    whole = compose(["source=run", "source.run=there"])
    for path, named in (
        (("task", "kind"), "task.kind"),
        (("source", "run"), "source.run"),
        (("seed",), None),
    ):
        run = stored(tmp_path / path[-1], without(whole, path))
        if named is None:
            assert read(run.settings).seed == 0
            continue
        with pytest.raises(ConfigError, match=named):
            read(run.settings)


def test_a_strategy_of_the_user_s_has_no_presets(tmp_path):
    run = stored(tmp_path / "run", {"strategy": "lab.queries", "biases": True})
    assert run.settings["biases"] is True and "rank" not in run.settings


def test_an_old_run_is_asked_scored_gone_on_with_and_started_from(
    ftrun_inprocess, toy_words, toy_files, tmp_path
):
    more = ["strategy=full", "train.max_steps=2", "hydra.run.dir=old"]
    ftrun_inprocess(*toy_words, *more)
    config = yaml.safe_load((tmp_path / "old/config.yaml").read_text())
    for path in (("compose",), ("pretrain",), ("task", "leaks"), ("model", "layers"), ("train", "momentum")):
        config = without(config, path)
    (tmp_path / "old/config.yaml").write_text(yaml.safe_dump(config))
    for place in (tmp_path / "old/checkpoints").iterdir():  # which did not say whose they are
        state = json.loads((place / "state.json").read_text())
        tensors = {file.stem: load_file(file) for file in place.glob("*.safetensors")}
        checkpoint.save(place, tensors, {name: state[name] for name in state if name not in BESIDE})
    ftrun_inprocess("predict", "old", "--input", f"{toy_files}/test.csv", "--output", "answered.csv")
    ftrun_inprocess("evaluate", "old")
    ftrun_inprocess("report", "old")
    ftrun_inprocess(*toy_words, "source=old", "train.max_steps=1", "hydra.run.dir=new")
    (tmp_path / "old/result.json").unlink()
    assert "resuming at step 2 of 2" in ftrun_inprocess("resume", "old").stdout
