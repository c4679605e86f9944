"""Weights that no loss reaches: found by one pass, frozen and named, and all else is as before."""

import pytest
import torch
from lab import toy
from torch import nn

from ftrun.errors import ConfigError
from ftrun.models.load import load
from ftrun.tasks.data import TaskData
from ftrun.training.reached import freeze_unreached


@pytest.fixture
def opened(toy_files, tiny_dir):
    data = TaskData.read(toy(toy_files, tiny_dir("bert")).task, 0)
    model = load(toy(toy_files, tiny_dir("bert")).model, data.spec, 0)
    data.encode(model.tokenizer, "train", "validation", "test")
    return model, data


def test_an_idle_weight_is_frozen_and_named_and_nothing_else_changes(opened):
    model, data = opened
    assert freeze_unreached(model.train(), data, "full") is None
    for name in ("first", "second", "third", "fourth"):
        model.net.bert.register_parameter(name, nn.Parameter(torch.ones(2)))
    before, chance = {*model.trained()}, torch.get_rng_state()
    said = freeze_unreached(model, data, "full")
    assert said == "frozen, since no loss reaches 4 weights: bert.first, bert.second, bert.third and 1 more"
    assert before - {*model.trained()} == {f"net.bert.{n}" for n in ("first", "second", "third", "fourth")}
    assert model.training and torch.equal(chance, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert freeze_unreached(model, data, "full") is None  # said once


def test_the_experts_of_a_mixture_stay_open(opened):
    model, data = opened
    model.net.bert.experts = nn.Linear(2, 2)  # which of them are reached is another question for every batch
    assert freeze_unreached(model, data, "full") is None


def test_where_nothing_is_reached_the_strategy_is_refused(opened):
    model, data = opened
    model.requires_grad_(False)
    model.net.bert.register_parameter("idle", nn.Parameter(torch.ones(2)))
    with pytest.raises(
        ConfigError, match="strategy=own trains only weights of .* that no loss reaches: bert.idle"
    ):
        freeze_unreached(model, data, "own")


@pytest.mark.parametrize("training", [True, False])
def test_the_network_trains_or_not_as_before(opened, training):
    model, data = opened
    freeze_unreached(model.train(training), data, "full")
    assert model.training is training
