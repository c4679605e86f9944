"""Weights chosen by patterns over their names: frozen, trained, and at rates of their own."""

import json

import pytest
import torch
from lab import ran, settings
from transformers import BertConfig, BertForSequenceClassification

from ftrun.errors import ConfigError
from ftrun.experiments.single import refuse
from ftrun.models.model import Model
from ftrun.strategies.freeze import Freeze
from ftrun.strategies.norms import Norms
from ftrun.training.checkpoint import newest, read_tensors
from ftrun.training.optim import groups, plan
from ftrun.training.updates.rates import rates_of


@pytest.fixture
def bert():
    with torch.device("meta"):
        net = BertForSequenceClassification(BertConfig(num_hidden_layers=6))
    return Model(net, None, "bert", {"classifier.weight", "classifier.bias"})


def train(*words):
    return settings(*words).train


@pytest.mark.parametrize(
    ("by_pattern", "same"),
    [
        (Freeze(2, r"encoder\.layer\.[2-4]\.", None), Freeze(2, "2-4", None)),
        (Freeze(2, r"embeddings|encoder\.layer\.[01]\.", None), Freeze(2, None, None)),
        (Freeze(2, None, r"encoder\.layer\.[2-5]\.|pooler"), Freeze(2, None, None)),
        (Freeze(2, None, r"LayerNorm"), Norms()),
    ],
)
def test_a_pattern_chooses_what_numbers_of_layers_do(bert, by_pattern, same):
    by_pattern.prepare(bert)
    found = set(bert.trained())
    same.prepare(bert)
    assert found - {n for n in found if "pooler" in n} == {n for n in bert.trained() if "pooler" not in n}
    assert 0 < len(found) < len([*bert.named_parameters()])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (2, r"encoder\.layers\.[0-3]", None),
            r"layers=encoder\\.layers.* is found in no name .* are 'bert.encoder.layer.0'",
        ),
        ((2, "midle", None), "layers=midle is found in no name of a weight; the nearest are 'middle'"),
        ((2, None, "clasifier"), "trained=clasifier is found in no .* are 'classifier'"),
        (
            (2, "classifier", None),
            "layers=classifier is found in classifier.bias, a weight of the head, which",
        ),
        ((2, "lay(er", None), r"layers=lay\(er is no regular expression: missing \)"),
        ((2, "4-7", "layer"), "layers=4-7 says what is frozen, and trained=layer what is not; give one"),
        (
            (2, "7-4", None),
            "layers is a list of layers such as .* a regular expression over names of weights, not 7-4",
        ),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(bert, arguments, said):
    with pytest.raises(ConfigError, match=said):
        Freeze(*arguments).fits(bert)


def test_rates_by_pattern_can_be_those_of_layer_decay(bert):
    decayed, plain = train("train.lr=1e-3", "train.layer_decay=0.9"), train("train.lr=1e-3")
    plain.rates = {rf"encoder\.layer\.{layer}\.": 1e-3 * 0.9 ** (5 - layer) for layer in range(5)}
    plain.rates["embeddings"] = 1e-3 * 0.9**6
    ours, theirs = (
        {name: group.scale for group in groups(bert, each) for name in group.parameters}
        for each in (plain, decayed)
    )
    assert ours == pytest.approx(theirs, rel=1e-12) and len(set(map(str, ours.values()))) > 6


def test_the_plan_says_the_rates_before_training(bert):
    own = train(
        "train.lr=1e-4", r"train.rates={layer.\[0-2\]: 1e-5, LayerNorm.weight.*: 1e-5, classifier: 1e-3}"
    )
    lines = plan(bert, groups(bert, own), own.lr, {}, 100)
    told = [set(line.split("rate ")[1].split(",")[0].split(" to ")) for line in lines]
    assert told == [{"0.0001", "1e-05"}, {"1e-05"}, {"0.0001", "1e-05"}, {"0.0001", "0.001"}]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"layers": 1e-5}, "train.rates=layers is found in no name of a weight; the nearest are "),
        ({"embeddings": 1e-5}, "embeddings is found in names of frozen weights alone, which have no rate"),
        (
            {"layer": 1e-5, r"layer\.5": 1e-4},
            r"bert.encoder.layer.5.* has two rates, 1e-05 by layer and 0.0001 by",
        ),
    ],
)
def test_rates_that_contradict_each_other_are_refused(bert, rates, said):
    Freeze(2, None, None).prepare(bert)
    own = train()
    own.rates = rates
    with pytest.raises(ConfigError, match=said):
        groups(bert, own)


def test_a_weight_whose_rate_the_strategy_sets_gets_no_other(bert):
    own = train()
    own.rates = {"classifier": 1e-3}
    with pytest.raises(ConfigError, match="classifier.bias has 16 times the rate of others by the strategy"):
        rates_of(bert, own, lambda name: 16.0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train.rates=1e-4"],
            r"train.rates is a rate for each pattern, such as {classifier: 1e-3}, not 0.0001",
        ),
        (["train.rates={layer: fast}"], "train.rates.layer is a number, not 'fast'"),
        (["train.rates={layer: 0}"], "train.rates.layer is above 0, not 0"),
        (
            ["train.rates={layer: 1e-4}", "train.layer_decay=0.9"],
            "train.rates and train.layer_decay=0.9 both set",
        ),
    ],
)
def test_rates_are_numbers_above_zero(words, said):
    with pytest.raises(ConfigError, match=said):
        settings(*words)


def test_a_wrong_pattern_is_said_before_the_rows_are_read():
    wrong = settings("task=digits", "model=mlp", "train.rates={clasifier: 1e-3}")
    with pytest.raises(ConfigError, match="train.rates=clasifier is found in no .* are 'classifier'"):
        refuse(wrong, None)


def test_weights_move_at_their_own_rates(tmp_path):
    words = (
        "task=digits",
        "task.subset=100",
        "model=mlp",
        "device=cpu",
        "baselines=false",
        "train.max_steps=3",
    )
    more = (
        "train.lr=1e-3",
        "train.rates={backbone: 1e-9, classifier: 0.1}",
        "schedule=constant",
        "train.warmup=0",
    )
    run = ran(tmp_path / "run", settings(*words, *more))
    weights = read_tensors(newest(run.checkpoints / "last")[0], "weights")
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    told = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert told == pytest.approx([1e-9] * len(told))  # the highest that is no multiple of train.lr
    head = weights["net.classifier.bias"]
    assert float(head.abs().max()) > 0.05  # three steps of Adam from zero
