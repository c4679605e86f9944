"""Muon, schedule-free AdamW and Adafactor: which weights they move, and that a run goes on exactly."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lab import ran, settings
from resuming import same, stopped
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from ftrun.errors import ConfigError
from ftrun.experiments import start
from ftrun.models.model import Model
from ftrun.settings.schema import Train
from ftrun.training.checkpoint import newest, read_tensors
from ftrun.training.optim import Group, groups, merged, optimizer, refuse_optimizer
from ftrun.training.updates.average import Between
from ftrun.training.updates.schedule_free import ScheduleFree

WORDS = [
    "task=digits", "task.subset=100", "model=mlp", "device=cpu", "baselines=false", "train.lr=0.01",
    "train.max_steps=6", "train.eval_every=2", "train.checkpoint_every=2", "train.patience=null",
    "schedule=constant", "train.warmup=0", "train.batch_size=16",
]  # fmt: skip
KEPT = {
    "muon": {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"},
    "schedulefree": {"z", "exp_avg_sq", "group.step", "group.lr_max", "group.weight_sum"},
    "adafactor": {"exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq", "step", "RMS"},
}


def train(name, **changes) -> Train:
    return settings(
        f"train.optimizer={name}", "schedule=constant", *(f"train.{n}={v}" for n, v in changes.items())
    ).train


@pytest.mark.parametrize("name", ["muon", "schedulefree", pytest.param("adafactor", marks=pytest.mark.ci)])
def test_a_run_goes_on_exactly(name, tmp_path):
    experiment = settings(*WORDS, f"train.optimizer={name}")
    whole = ran(tmp_path / "whole", experiment)
    stopped(tmp_path / "cut", experiment, 4)
    start.resume(tmp_path / "cut")
    same(tmp_path / "cut", whole.path)
    kept = read_tensors(newest(whole.checkpoints / "last")[0], "optimizer")
    assert {key.split("/")[0] for key in kept} == KEPT[name]
    result = whole.read_json("result.json")
    assert result["eval_loss"] < 2.25 and result["reload_difference"] < 1e-6  # ln 10 = 2.303


def moved(weights, make, steps=3):
    """These weights after some steps on fixed gradients."""
    own = {name: nn.Parameter(value.clone()) for name, value in weights.items()}
    chosen, draw = make(own), torch.Generator().manual_seed(1)
    for _ in range(steps):
        for value in own.values():
            value.grad = torch.randn(value.shape, generator=draw)
        for each in chosen:
            each.step()
    return own


def test_muon_moves_matrices_of_layers_and_adamw_the_rest():
    weights = {"hidden": torch.randn(6, 4), "head": torch.randn(2, 4), "bias": torch.randn(4)}

    def ours(own):
        found = [
            Group(1, 1.0, 0.1, {"hidden": own["hidden"]}, True),
            Group(1, 1.0, 0.0, {"bias": own["bias"]}),
        ]
        found.append(Group(2, 1.0, 0.1, {"head": own["head"]}))
        return [optimizer(found, train("muon", lr=0.01), torch.device("cpu"))]

    def theirs(own):
        others = [
            {"params": [own["bias"]], "weight_decay": 0.0},
            {"params": [own["head"]], "weight_decay": 0.1},
        ]
        hidden = torch.optim.Muon([own["hidden"]], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        return [hidden, torch.optim.AdamW(others, lr=0.01, fused=True)]

    one, other = moved(weights, ours), moved(weights, theirs)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    update = one["hidden"].detach() - moved(weights, ours, 2)["hidden"].detach()
    assert float(update.square().mean().sqrt()) == pytest.approx(0.01 * 0.2, rel=0.3)  # as far as AdamW's


def test_muon_gets_the_matrices_between_embeddings_and_head():
    with torch.device("meta"):
        net = BertForSequenceClassification(BertConfig(num_hidden_layers=2))
    model = Model(net, None, "bert", {"classifier.weight", "classifier.bias"})
    found = merged(groups(model, train("muon")), lambda stage: None)
    hidden = [name for group in found if group.hidden for name in group.parameters]
    assert len(hidden) == 2 * 6 and all(".encoder.layer." in n and n.endswith("weight") for n in hidden)
    assert "net.classifier.weight" in found[-1].parameters and not found[-1].hidden
    everything = [name for group in found for name in group.parameters]
    assert sorted(everything) == sorted(model.trained())
    assert not any(group.hidden for group in groups(model, train("adamw")))


def test_schedule_free_scores_the_mean_of_its_fast_sequence(monkeypatch, tmp_path):
    """At a constant rate x is the mean of z after each step; evaluation leaves y as it was, bit for bit."""
    fast, scored, honest = [], [], Between.scored

    def step(self, closure=None):
        plain(self, closure)
        fast.append([self.state[w]["z"].double().clone() for g in self.param_groups for w in g["params"]])

    def watched(self, score, state, metric):
        weights = [w for g in self.optimizer.param_groups for w in g["params"]]
        before = [w.detach().clone() for w in weights]
        context = honest(self, score, state, metric)
        with context as scores:
            scored.append([w.detach().clone() for w in weights])
        assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
        return nullcontext(scores)

    plain = ScheduleFree.step
    monkeypatch.setattr(ScheduleFree, "step", step)
    monkeypatch.setattr(Between, "scored", watched)
    ran(tmp_path / "run", settings(*WORDS, "train.optimizer=schedulefree"))
    assert len(fast) == 6 and len(scored) == 3
    for at, values in zip((2, 4, 6), scored, strict=True):
        for place, value in enumerate(values):
            mean = sum(each[place] for each in fast[:at]) / at
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)


def test_a_group_that_opens_late_begins_as_one_of_its_own():
    first, late = (nn.Parameter(torch.ones(3)) for _ in range(2))
    alone = nn.Parameter(torch.ones(3))
    both = ScheduleFree([{"params": [first]}, {"params": [late]}], lr=0.1)
    for number in range(4):
        first.grad, late.grad = torch.ones(3), torch.full((3,), 0.5) if number == 3 else None
        both.step()
    alone.grad = torch.full((3,), 0.5)
    ScheduleFree([alone], lr=0.1).step()
    assert torch.equal(late, alone) and not torch.equal(late, torch.ones(3))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["schedule=linear"], "schedule=linear does that as well; possible: schedule=constant"),
        (
            ["train.average=ema"],
            "an average of its own, beside train.average=ema; possible: train.average=none",
        ),
        (["strategy=l2sp"], "a pull after each step would move one; possible: apply=loss"),
    ],
)
def test_what_does_not_go_with_schedule_free_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        settings("train.optimizer=schedulefree", "schedule=constant", *words)


def test_what_does_not_go_with_the_others_is_refused():
    with pytest.raises(
        ConfigError, match="train.optimizer=muon takes a step of its own length for each weight"
    ):
        settings("train.optimizer=muon", "strategy=l2sp")
    with pytest.raises(
        ConfigError, match="train.shard=true: train.optimizer=adafactor needs each weight in one"
    ):
        settings("train.optimizer=adafactor", "train.shard=true")
    with pytest.raises(ConfigError, match="moves matrices of hidden layers, and none of them trains"):
        weight = nn.Parameter(torch.zeros(2))
        optimizer([Group(1, 1.0, 0.0, {"b": weight})], train("muon"), torch.device("cpu"))
    normed = SimpleNamespace(name="normed", batch_norms=lambda: [nn.BatchNorm1d(3)])
    with pytest.raises(
        ConfigError, match="the statistics of batch normalisation in normed are of the latter"
    ):
        refuse_optimizer(train("schedulefree"), normed)
