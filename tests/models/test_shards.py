"""A network in two shards, of which the frozen one is a file of several runs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from lab import settings
from transformers import AutoModelForSequenceClassification

from ftrun.models import shards
from ftrun.models.load import load
from ftrun.models.reload import reload
from ftrun.models.save import export
from ftrun.runs.ledger import FORMER

CLASS = "AutoModelForSequenceClassification"


@pytest.fixture
def study(tmp_path, tiny_dir, monkeypatch):
    """`study("linear_probe", seed, "run")`: a run's saved model, in a study of its like."""
    monkeypatch.setattr(shards, "LEAST_BYTES", 1)
    (tmp_path / FORMER).touch()

    def make(strategy, seed, name, model="bert", *more):
        words = [
            f"strategy={strategy}",
            f"model.name={tiny_dir(model)}",
            "task=classify",
            "task.train=none.csv",
            *more,
        ]
        chosen = settings(*words, *(["bottom=1"] if strategy == "freeze" else []), "task.max_length=16")
        net = load(chosen.model, chosen.task.spec(None), seed)
        chosen.strategy.prepare(net)
        place = tmp_path / name / "model"
        export(net, place, CLASS)
        return net, place

    return make


def inode(place):
    return (place / shards.FROZEN).stat().st_ino


def equal(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("model", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("strategy", ["linear_probe", "freeze", "bitfit", "norms"])
def test_transformers_reads_what_is_linked(study, strategy, model):
    (_, first), (net, second) = (study(strategy, seed, f"run{seed}", model) for seed in (0, 1))
    assert inode(first) == inode(second)
    for place in (first, second):
        assert (
            json.loads((place / shards.INDEX).read_text())["weight_map"].keys() == net.net.state_dict().keys()
        )
    own = AutoModelForSequenceClassification.from_pretrained(second)
    assert equal(own, net.net) and equal(reload(second, CLASS), net.net)


def test_a_deleted_or_repeated_run_harms_no_other(study):
    (_, first), (net, second) = (study("linear_probe", seed, f"run{seed}") for seed in (0, 1))
    kept = (second / shards.FROZEN).read_bytes()
    shutil.rmtree(first)
    assert (second / shards.FROZEN).read_bytes() == kept and equal(reload(second, CLASS), net.net)
    _, third = study("linear_probe", 2, "run2")
    export(study("full", 3, "run3")[0], third, CLASS)  # over what is there
    assert (second / shards.FROZEN).read_bytes() == kept and not (third / shards.FROZEN).exists()


def test_a_linked_backbone_says_the_same_of_itself_as_one_that_was_written(study, tiny_dir, tmp_path):
    """All of its weights are another run's, so that transformers writes none of them."""
    other = shutil.copytree(tiny_dir("bert"), tmp_path / "masked")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))
    more = [f"model.name={other}", "model.pooling=mean"]
    (_, first), (_, second) = (study("linear_probe", n, f"run{n}", "bert", *more) for n in (0, 1))
    assert (first / shards.WHOLE).stat().st_ino == (second / shards.WHOLE).stat().st_ino
    assert (first / "config.json").read_bytes() == (second / "config.json").read_bytes()
    assert json.loads((second / "config.json").read_text())["architectures"] == ["BertModel"]


def test_other_weights_are_never_linked(study):
    _, first = study("linear_probe", 0, "run0")
    file = first / shards.FROZEN
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # a bit of one weight
    file.unlink()
    file.write_bytes(data)
    net, second = study("linear_probe", 1, "run1")
    assert inode(first) != inode(second) and equal(reload(second, CLASS), net.net)


def test_a_file_system_without_links_gets_a_copy(study, monkeypatch):
    def refuse(*places):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (_, first), (net, second) = (study("linear_probe", seed, f"run{seed}") for seed in (0, 1))
    assert inode(first) != inode(second) and equal(reload(second, CLASS), net.net)
    assert (first / shards.FROZEN).read_bytes() == (second / shards.FROZEN).read_bytes()


def test_little_that_is_frozen_is_no_shard(study, monkeypatch):
    monkeypatch.setattr(shards, "LEAST_BYTES", 8 * 1024**2)
    _, place = study("linear_probe", 0, "run")
    assert not (place / shards.FROZEN).exists() and (place / shards.WHOLE).is_file()
