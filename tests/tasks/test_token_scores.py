"""Scores of language models by hand, and what every family of metrics says of its own numbers."""

import math

import numpy
import pytest
import torch

from ftrun.tasks.metrics import classification, contrastive, entities, regression, spans, tokens
from ftrun.tasks.metrics.metric import LOSS
from ftrun.tasks.parts.positions import positions_in, positions_of

BATCH = {  # two texts; of the first two tokens are hidden, of the second one
    "inputs": {},
    "positions": torch.tensor([0, 2, 4]),
    "labels": torch.tensor([[1, -100, 0], [-100, 2, -100]]),
    "kinds": torch.tensor([[0, -1, 2], [-1, 0, -1]]),
    "order": torch.tensor([1, 0]),
}
WORDS = torch.tensor([[0.0, 2.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
ORDER = torch.tensor([[0.0, 1.0], [0.5, 2.0]])


def nats(logits, label):
    return math.log(sum(math.exp(value) for value in logits)) - logits[label]


def test_what_hidden_tokens_cost_and_how_many_are_right():
    each = [nats([0, 2, 0], 1), nats([1, 3, 0], 0), nats([0, 0, 1], 2)]
    first, second = tokens.word_answers(WORDS, BATCH)
    assert first.pop("nats") == pytest.approx(each[0] + each[1])
    assert second.pop("nats") == pytest.approx(each[2])
    assert first == {
        "guessed": 2, "right": 1, "masked": 1, "right_masked": 1, "random": 0, "right_random": 0, "kept": 1,
        "right_kept": 0,
    }  # fmt: skip
    assert second == dict.fromkeys(first, 0) | {"guessed": 1, "right": 1, "masked": 1, "right_masked": 1}
    total, count = tokens.word_loss(WORDS, BATCH)
    assert float(total) == pytest.approx(sum(each)) and count == 3


@pytest.mark.parametrize(
    ("hidden", "length"), [(1, 32), (32, 32), (33, 64), (614, 640), (5000, 5120), (19660, 20480)]
)
def test_positions_are_rounded_up_by_an_eighth_at_most_above_a_few(hidden, length):
    chosen = torch.zeros(40, 1000, dtype=torch.bool)
    chosen.view(-1)[1 : hidden + 1] = True
    found = positions_of(chosen, rounded=True)
    assert len(found) == length and found[:hidden].tolist() == list(range(1, hidden + 1))
    assert not found[hidden:].any() and torch.equal(positions_of(chosen), found[:hidden])
    labels = torch.full(chosen.shape, -100).masked_fill(chosen, 7)
    assert positions_in({"labels": labels}) == hidden


def test_a_pair_s_order_costs_as_often_as_it_has_hidden_tokens():
    found = tokens.order_answers(ORDER, BATCH)
    assert [each["order"] for each in found] == pytest.approx([2 * nats([0, 1], 1), nats([0.5, 2], 0)])
    assert [each["ordered"] for each in found] == [1, 0]


def test_scores_of_pairs_are_means_over_tokens_and_over_pairs():
    pairs = zip(tokens.word_answers(WORDS, BATCH), tokens.order_answers(ORDER, BATCH), strict=True)
    answers = [words | order for words, order in pairs]
    found = tokens.scores(answers)
    mean = sum(each["nats"] for each in answers) / 3
    assert found == pytest.approx(
        {
            "perplexity": math.exp(mean),
            "accuracy": 2 / 3,
            "accuracy_masked": 1,
            "accuracy_kept": 0,
            "mlm_loss": mean,
            "next_loss": (2 * nats([0, 1], 1) + nats([0.5, 2], 0)) / 3,
            "next_accuracy": 1 / 2,
        }
    )
    none = {name: 0 for name in answers[0] if not name.startswith("order")}
    assert tokens.scores([none]) == {"perplexity": 1.0, "accuracy": 0.0}
    assert tokens.scores([none | {"nats": 1e4, "guessed": 1}])["perplexity"] == math.exp(700)  # no overflow
    assert "next_loss" not in tokens.scores([{n: v for n, v in answers[0].items() if "order" not in n}])


def test_bits_are_of_bytes():
    assert tokens.bits_per_byte(8 * math.log(2), 4) == 2 and tokens.bits_per_byte(math.log(2), 0) == 1


VIEWS = torch.eye(6).view(3, 2, 6)
FAMILIES = {
    "classification": (
        classification.SINGLE_LABEL, classification.single_label_scores(["a", "b"], ["a", "a"])
    ),
    "multilabel": (
        classification.MULTILABEL, classification.multilabel_scores(numpy.eye(2), numpy.ones((2, 2)))
    ),
    "regression": (regression.METRICS, regression.scores(numpy.arange(3.0), numpy.arange(3.0), False)),
    "entities": (entities.METRICS, entities.tag_scores([["O"]], [["O"]])),
    "spans": (spans.METRICS, spans.scores(["a"], [["a"]], False)),
    "contrastive": (contrastive.METRICS, contrastive.scores_of(VIEWS, 3, 0.1)),
    "words": (tokens.MASKED, dict.fromkeys(["accuracy_random"], 0.0) | tokens.scores(
        tokens.word_answers(WORDS, BATCH)
    )),
    "order": (tokens.ORDER, {
        name: 0.0 for name in tokens.scores([
            {**words, **order} for words, order in
            zip(tokens.word_answers(WORDS, BATCH), tokens.order_answers(ORDER, BATCH), strict=True)
        ]) if name.startswith(("mlm", "next"))
    }),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_states_the_numbers_that_it_computes(family):
    stated, found = FAMILIES[family]
    assert set(stated) - {LOSS.name} == set(found) - {LOSS.name}
    assert all(name == metric.name for name, metric in stated.items())


def test_shares_are_printed_in_percent_and_errors_are_better_small():
    every = classification.METRICS | regression.METRICS | entities.METRICS | spans.METRICS
    every |= contrastive.METRICS | tokens.METRICS
    assert {name for name, metric in every.items() if not metric.is_share} == {
        "matthews_correlation", "pearson", "spearmanr", "mae", "rmse", "loss", "positive_similarity",
        "negative_similarity", "alignment", "uniformity", "effective_rank", "perplexity", "bits_per_byte",
        "mlm_loss", "next_loss",
    }  # fmt: skip
    assert {name for name, metric in every.items() if metric.sign < 0} == {
        "mae", "rmse", "loss", "negative_similarity", "alignment", "uniformity", "perplexity",
        "bits_per_byte", "mlm_loss", "next_loss",
    }  # fmt: skip
    assert every["bits_per_byte"].unit == "bits" and every["next_loss"].unit == "nats"
