"""Parameter groups, decay and layer-wise rates, on BERT-base without memory behind it."""

import importlib.util
import os
import signal

import pytest
import torch
from lab import ran, toy
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from ftrun.errors import ConfigError, Interrupted
from ftrun.experiments import single
from ftrun.models.model import Model
from ftrun.settings.schema import Train
from ftrun.training import checkpoint
from ftrun.training.optim import Group, groups, merged, optimizer, plan, refuse_optimizer
from ftrun.training.updates.moments import load_moments, moments


def train(**changes):
    values = {
        "optimizer": "adamw", "lr": 1e-3, "momentum": 0.9,
        "batch_size": 8, "micro_batch": None, "epochs": 1, "max_steps": None, "warmup": 0.0,
        "weight_decay": 0.01, "clip": 1.0, "layer_decay": 1.0, "precision": "fp32", "sampling": "auto",
        "eval_every": "epoch", "patience": None, "metric": None, "checkpoint_every": "epoch",
        "rates": None, "average": "none", "ema_decay": 0.9999, "deterministic": True,
        "keep": "auto",
        "graphs": "auto",
        "compile": False,
        "checkpoint_layers": False,
        "frozen_dtype": "fp32",
        "shard": False,
    }  # fmt: skip
    return Train(**{**values, **changes})


@pytest.fixture
def bert_base():
    with torch.device("meta"):
        net = BertForSequenceClassification(BertConfig())
    return Model(net, None, "bert-base", {"classifier.weight", "classifier.bias"})


def test_every_parameter_is_in_exactly_one_group(bert_base):
    found = groups(bert_base, train(layer_decay=0.9))
    names = [name for group in found for name in group.parameters]
    assert sorted(names) == sorted(bert_base.trained())
    assert sum(p.numel() for group in found for p in group.parameters.values()) == 109_483_778


def test_biases_and_norms_are_not_decayed(bert_base):
    plain = [
        p
        for group in groups(bert_base, train())
        if group.weight_decay == 0
        for p in group.parameters.values()
    ]
    assert (len(plain), sum(p.numel() for p in plain)) == (124, 122_114)


def test_groups_are_as_few_as_have_a_rate_of_their_own(bert_base):
    """With one rate for all two, those with weight decay and those without; the head is in the last."""
    for settings, course, expected in (
        (train(), lambda stage: None, 2),
        (train(), lambda stage: min(stage, 1), 4),
        (train(layer_decay=0.9), lambda stage: None, 2 * 13),
        (train(), lambda stage: stage, 2 * 14),
        (train(weight_decay=0), lambda stage: None, 1),
    ):
        found = merged(groups(bert_base, settings), course)
        assert len(found) == expected
        names = [name for group in found for name in group.parameters]
        assert sorted(names) == sorted(bert_base.trained())
        assert found[-1].stage == 13 and "net.classifier.weight" in found[-1].parameters
        whole = {
            name: (g.scale, g.weight_decay) for g in groups(bert_base, settings) for name in g.parameters
        }
        assert whole == {name: (g.scale, g.weight_decay) for g in found for name in g.parameters}


def test_the_articles_rates_of_twelve_layers(bert_base):
    scales = {group.stage: group.scale for group in groups(bert_base, train(layer_decay=1 / 2.6))}
    assert scales[13] == scales[12] == 1.0
    assert 1 / scales[0] == pytest.approx(95_428.957, abs=1e-3)
    for lower in range(12):
        assert scales[lower + 1] / scales[lower] == pytest.approx(2.6)


def test_a_rate_too_small_to_matter_is_said(bert_base):
    lines = plan(bert_base, groups(bert_base, train(layer_decay=1 / 2.6)), 1e-3, {}, 100)
    assert any("effectively frozen" in line for line in lines)
    assert not any(
        "effectively frozen" in line for line in plan(bert_base, groups(bert_base, train()), 1e-3, {}, 100)
    )


def test_the_plan_says_each_stage_once_and_joins_equal_layers(bert_base):
    for name, parameter in bert_base.named_parameters():
        parameter.requires_grad_(bert_base.stage_of(name) > 10)
    lines = plan(bert_base, groups(bert_base, train()), 1e-3, {}, 100)
    assert lines == [
        "embeddings: frozen (23,837,184)",
        "layer 0 to 9: frozen (7,087,872)",
        "layer 10 to 11: 7,087,872 of 7,087,872 trained, rate 0.001, weight decay 0.01",
        "head: 592,130 of 592,130 trained, rate 0.001, weight decay 0.01",
    ]


def test_the_plan_says_when_a_stage_opens_and_at_which_rate(bert_base):
    found = groups(bert_base, train(layer_decay=0.5, weight_decay=0.1))
    opens = {stage: 10 * (13 - stage) for stage in range(14)}
    lines = plan(bert_base, found, 1e-3, opens, 120)
    assert lines[0].startswith(
        "embeddings: 23,837,184 of 23,837,184 trained, rate 2.44e-07, weight decay 0.1"
    )
    assert [line.rsplit(", ", 1)[1] for line in lines[:4]] == [
        "never unfrozen", "never unfrozen", "unfrozen at step 110", "unfrozen at step 100"
    ]  # fmt: skip
    assert lines[12].endswith("rate 0.001, weight decay 0.1, unfrozen at step 10")
    assert lines[13] == "head: 592,130 of 592,130 trained, rate 0.001, weight decay 0.1"
    assert lines[14:] == []
    lowest = plan(bert_base, groups(bert_base, train(layer_decay=0.4)), 1e-3, {}, 120)[-1]
    assert lowest == "embeddings: 1.7e-05 of the rate, effectively frozen (train.layer_decay or train.rates)"
    for name, parameter in bert_base.named_parameters():
        parameter.requires_grad_(name.endswith("LayerNorm.bias"))
    assert plan(bert_base, groups(bert_base, train()), 1e-3, {}, 9)[1] == (
        "layer 0 to 11: 1,536 of 7,087,872 trained, rate 0.001, weight decay 0"
    )


def test_adamw_agrees_with_the_formula():
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    adamw = optimizer([Group(0, 1.0, 0.1, {"w": weight})], train(lr=0.01), torch.device("cpu"))
    expected, m, v = weight.detach().clone(), 0.0, 0.0
    for step in range(1, 4):
        grad = torch.tensor([[0.5, -1.0]], dtype=torch.float64) * step
        weight.grad = grad.clone()
        adamw.step()
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        expected -= 0.01 * 0.1 * expected
        expected -= 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=0)


def test_sgd_agrees_with_the_formula():
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    settings = train(lr=0.1, optimizer="sgd", momentum=0.9)
    sgd = optimizer([Group(0, 1.0, 0.0, {"w": weight})], settings, torch.device("cpu"))
    weight.grad = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    for _ in range(2):
        sgd.step()
    expected = torch.tensor([[1.0 - 0.29, -2.0 - 0.58]], dtype=torch.float64)  # 0.1 * (1 + 1.9)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=0)


def test_lars_agrees_with_the_formula_and_leaves_vectors_to_sgd():
    """The rate of a matrix is scaled by 0.001·|w| / (|g| + decay·|w|); a bias takes the plain step."""
    weight = nn.Parameter(torch.tensor([[3.0, -4.0]], dtype=torch.float64))
    bias = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    found = [Group(0, 1.0, 0.1, {"w": weight}), Group(0, 1.0, 0.0, {"b": bias})]
    lars = optimizer(found, train(lr=2.0, optimizer="lars"), torch.device("cpu"))
    expected = {"w": weight.detach().clone(), "b": bias.detach().clone()}
    speed = {"w": 0.0, "b": 0.0}
    for step in range(1, 4):
        weight.grad = torch.tensor([[0.6, 0.8]], dtype=torch.float64) * step
        bias.grad = torch.tensor([0.5, -0.5], dtype=torch.float64)
        w = expected["w"]
        trust = 1e-3 * w.norm() / (weight.grad.norm() + 0.1 * w.norm())
        speed["w"] = 0.9 * speed["w"] + trust * (weight.grad + 0.1 * w)
        speed["b"] = 0.9 * speed["b"] + bias.grad
        expected = {name: value - 2.0 * speed[name] for name, value in expected.items()}
        lars.step()
    torch.testing.assert_close(weight.detach(), expected["w"], rtol=1e-12, atol=0)
    torch.testing.assert_close(bias.detach(), expected["b"], rtol=1e-12, atol=0)


class Counting(torch.optim.Optimizer):
    """Its state is as that of adamw8bit: numbers in a byte, one table for all weights, a plain count."""

    def __init__(self, weights):
        super().__init__(weights, {})
        self.table = torch.linspace(-1, 1, 256)

    def step(self):
        for weight in self.param_groups[0]["params"]:
            state = self.state[weight]
            state["state1"] = state.get("state1", torch.zeros(len(weight), dtype=torch.uint8)) + 3
            state["qmap1"], state["step"] = self.table, state.get("step", 0) + 1


def test_a_state_of_bytes_shared_tables_and_numbers_comes_back(tmp_path):
    weights = {name: torch.nn.Parameter(torch.zeros(4)) for name in "ab"}
    one, other = Counting(weights.values()), Counting(weights.values())
    one.step()
    checkpoint.save(tmp_path / "last", {"optimizer": moments(one, weights)}, {})
    load_moments(checkpoint.read_tensors(tmp_path / "last", "optimizer"), other, weights)
    for each in (one, other):
        each.step()
    for weight in weights.values():
        there, here = one.state[weight], other.state[weight]
        assert here["step"] == there["step"] == 2 and type(here["step"]) is int
        assert torch.equal(here["state1"], there["state1"]) and here["state1"].dtype == torch.uint8
        assert torch.equal(here["qmap1"], there["qmap1"])


def test_adamw8bit_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"adamw8bit needs bitsandbytes: pip install 'ftrun\[quantized\]'"):
        refuse_optimizer(train(optimizer="adamw8bit"), None)


def test_adamw8bit_keeps_its_moments_in_a_byte_each_and_goes_on_exactly(
    toy_files, tiny_dir, tmp_path, monkeypatch
):
    pytest.importorskip("bitsandbytes")
    words = "train.optimizer=adamw8bit", "train.max_steps=6", "train.eval_every=2", "train.checkpoint_every=2"
    experiment = toy(toy_files, tiny_dir("bert"), *words, "baselines=false", "train.lr=0.01")
    whole = ran(tmp_path / "whole", experiment)
    moments = checkpoint.read_tensors(whole.checkpoints / "last", "optimizer")
    embedding = "net.bert.embeddings.word_embeddings.weight"
    assert moments[f"state1/{embedding}"].dtype == moments[f"state2/{embedding}"].dtype == torch.uint8
    honest = single.Step.take

    def take(self, rows):
        if self.state.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, rows)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(single.Step, "take", take)
        ran(tmp_path / "cut", experiment)
    single.resume(tmp_path / "cut")
    assert (tmp_path / "cut/metrics.jsonl").read_bytes() == (whole.path / "metrics.jsonl").read_bytes()
