"""train.shard: a network split over processes trains as in one, is saved in the same files, and takes less."""

import json
import os
import signal

import pytest
import toys_image
import torch
from lab import SMALL_SOURCE, ran, settings
from safetensors.torch import load_file
from together import said, together
from torch import nn
from toys_tasks import words_of

from ftrun.errors import ConfigError
from ftrun.experiments import single
from ftrun.runs.run import Run
from ftrun.training.loop import Loop

SMALL = ["train.batch_size=10", "train.micro_batch=3", "train.lr=1e-3", "train.max_steps=7", "train.eval_every=3",
         "task.subset=41", "baselines=false", "train.patience=null", "train.keep=false"]  # fmt: skip
WAYS = {
    "full": ["strategy=full"],
    "full of recomputed layers by momentum": [
        "strategy=full", "train.checkpoint_layers=true", "train.optimizer=sgd", "train.layer_decay=0.5",
    ],
    "freeze": ["strategy=freeze", "bottom=1"],
    "gradual_unfreeze": ["strategy=gradual_unfreeze", "every=0.2"],
    "lora": ["strategy=lora", "train.checkpoint_layers=true"],
    "dora": ["strategy=lora", "variant=dora"],
    "adapter": ["strategy=adapter"],
    "bitfit": ["strategy=bitfit"],
    "norms": ["strategy=norms"],
    "linear_probe": ["strategy=linear_probe", "solver=adamw"],
    "lp_ft": ["strategy=lp_ft"],
    "l2sp": ["strategy=l2sp", *SMALL_SOURCE],
    "l2sp in the loss": ["strategy=l2sp", "apply=loss", *SMALL_SOURCE],
    "ewc": ["strategy=ewc", "samples=8", *SMALL_SOURCE],
    "ewc in the loss": ["strategy=ewc", "samples=8", "apply=loss", *SMALL_SOURCE],
    "lora held by l2sp": ["strategy=lora", "protect=l2sp", "protect.apply=loss", *SMALL_SOURCE],
    "lora held by ewc": ["strategy=lora", "protect=ewc", "protect.samples=8", *SMALL_SOURCE],
    "replay": ["strategy=replay", "buffer=16", *SMALL_SOURCE],
    "gradual_unfreeze with replay": [
        "strategy=gradual_unfreeze", "every=0.2", "protect=replay", "protect.buffer=16", *SMALL_SOURCE,
    ],
    "replay after its source": [
        "strategy=replay", "buffer=16", "task@source=classify", "source.train={files}/train.csv",
        "source.subset=40", "source.max_length=32",
    ],
}  # fmt: skip
KINDS = ["pairs", "multilabel", "regress", "ner", "qa", "lm", "mlm", "vit", "digits"]
QUICK = ["lora", "gradual_unfreeze with replay"]


def still(place):
    """The network at `place` without dropout, whose draws depend on the number of processes."""
    file = place / "config.json"
    config = json.loads(file.read_text())
    none = {name: 0.0 for name in config if "dropout" in name or name.endswith("pdrop")}
    file.write_text(json.dumps(config | none))
    return place


@pytest.fixture
def cases(toy_files, still_dir, tmp_path, monkeypatch):
    """The settings of each case by its name."""
    files = [f"task.{split}={toy_files}/{split}.csv" for split in ("train", "validation", "test")]
    classify = ["task=classify", *files, f"model.name={still_dir}", "task.max_length=32", "device=cpu"]
    found = {
        way: [*classify, *SMALL, *(word.replace("{files}", str(toy_files)) for word in words)]
        for way, words in WAYS.items()
    }
    for kind in KINDS[:-1]:
        place = tmp_path / "files" / kind
        place.mkdir(parents=True)
        words = words_of(kind, place, lambda name: still_dir)
        if kind == "lm":
            still(place / "gpt2")
        found[kind] = [*words, *SMALL, "strategy=full"]
    found["digits"] = ["task=digits", "model=mlp", "device=cpu", *SMALL]
    return found


def lines_of(place):
    return [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]


def differences(one, two):
    """In what two finished runs are different: metrics by more than 1e-6, weights by more than a rounding."""
    found, ours, theirs = [], lines_of(one), lines_of(two)
    if [line.keys() for line in ours] != [line.keys() for line in theirs] or len(ours) < 4:
        return ["other lines of metrics"]
    for line, other in zip(ours, theirs, strict=True):
        found += [
            f"{name} at {line['step']}: {value} and {other[name]}"
            for name, value in line.items()
            if other[name] != pytest.approx(value, rel=2e-6, abs=1e-6, nan_ok=True)
        ]
    places = [sorted((run / "model").glob("*.safetensors")) for run in (one, two)]
    for mine, other in zip(*places, strict=True):
        weights = load_file(mine), load_file(other)
        if {n: v.shape for n, v in weights[0].items()} != {n: v.shape for n, v in weights[1].items()}:
            return [*found, f"other weights in {mine.name}"]
        found += [
            f"{name}: {float((value - weights[1][name]).abs().max()):.1e}"
            for name, value in weights[0].items()
            if not torch.allclose(value, weights[1][name], rtol=1e-4, atol=3e-6)
        ]
    return found


def compared(cases, processes, tmp_path):
    """What is different between each case in one process and the same split over several, by its name."""
    alone = {name: ran(tmp_path / f"one-{at}", settings(*words)) for at, (name, words) in enumerate(cases.items())}
    places = {name: tmp_path / f"{processes}-{at}" for at, name in enumerate(cases)}
    works = {
        name: lambda name=name: single.run(settings(*cases[name], "train.shard=true"), places[name]) for name in cases
    }
    codes = together(processes, works, tmp_path / "logs")
    assert not any(codes), said(tmp_path / "logs")
    found = {name: differences(run.path, places[name]) for name, run in alone.items()}
    return {name: what for name, what in found.items() if what}


def test_two_processes_split_a_network_and_have_the_losses_and_weights_of_one(cases, tmp_path):
    """Micro-batches of 3, of which one process has fewer, and a last batch that only one can take."""
    assert compared({name: cases[name] for name in QUICK}, 2, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("processes", [2, 3])
def test_every_strategy_and_kind_is_the_same_in_several_processes(cases, tmp_path, processes):
    assert compared(cases, processes, tmp_path) == {}
