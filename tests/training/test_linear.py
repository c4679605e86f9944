"""Linear models on fixed features: the optimum of the task's own loss, and the search for its L2 strength."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from ftrun.data.batching import labels_tensor
from ftrun.errors import UserError
from ftrun.tasks.losses import binary_cross_entropy, squared_error, summed_cross_entropy
from ftrun.training.linear import GRID, HALVINGS, MOST, NEVER, Scaling, fit, following, searched

CHANCE = numpy.random.default_rng(0)
FEATURES = CHANCE.normal(size=(60, 5)) * [1, 3, 0.1, 1, 1] + [0, 5, 0, -2, 0]
CLASSES = CHANCE.integers(0, 3, 60)
SEVERAL = numpy.stack([FEATURES[:, 0] > 0, FEATURES[:, 1] > 5 + CHANCE.normal(size=60)], 1).astype(float)
NUMBERS = FEATURES[:, 1] + CHANCE.normal(size=60)
WEIGHTS = [0.5, 2.0, 1.0]  # of the classes


def half_squared(outputs, batch):
    return squared_error(outputs, batch).sum / 2


def weighted(outputs, batch):
    return summed_cross_entropy(outputs, batch["labels"], torch.tensor(WEIGHTS[: outputs.shape[1]]))


LOSSES = {
    "classes": (CLASSES, 3, weighted),
    "two classes": (CLASSES % 2, 2, weighted),
    "several": (SEVERAL, 2, lambda outputs, batch: binary_cross_entropy(outputs, batch).sum),
    "numbers": (NUMBERS, 1, half_squared),
}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", LOSSES)
def test_it_is_the_minimum_of_the_task_s_own_loss_and_the_penalty(kind, bias):
    """There the gradient of Σ w·loss + λ/2 · Σ W² is zero; of two classes W is their difference's."""
    labels, outputs, loss = LOSSES[kind]
    weights = numpy.array(WEIGHTS)[labels] if kind in ("classes", "two classes") else None
    scaled = Scaling.of(FEATURES, bias)(FEATURES)
    found = fit(scaled, labels, 0.7, outputs, weights, bias)
    assert found.converged and (bias or not found.biases.any())
    weight, biases = (
        torch.tensor(v, dtype=torch.float32).requires_grad_() for v in (found.weights, found.biases)
    )
    summed = loss(
        torch.tensor(scaled).float() @ weight.T + biases, {"labels": labels_tensor(labels.tolist())}
    )
    penalised = weight[1] - weight[0] if kind == "two classes" else weight
    (summed + 0.7 / 2 * penalised.square().sum()).backward()
    assert weight.grad.abs().max() < 1e-3 and (not bias or biases.grad.abs().max() < 1e-3)


def test_on_the_features_themselves_it_has_the_logits_that_it_has_on_scaled_ones():
    scaling = Scaling.of(
        numpy.concatenate([FEATURES, numpy.full((60, 1), 7.0)], 1)
    )  # a unit that says nothing
    features = numpy.concatenate([FEATURES, numpy.full((60, 1), 7.0)], 1)
    found = fit(scaling(features), CLASSES, 1.0, 3)
    assert numpy.allclose(scaling.undone(found).logits(features), found.logits(scaling(features)), atol=1e-9)
    with pytest.raises(UserError, match="features are not finite"):
        Scaling.of(numpy.full((2, 2), math.nan))


def test_a_label_without_training_rows_is_never_answered():
    features, labels = numpy.eye(4), numpy.array([0, 0, 2, 2])
    found = fit(features, labels, 1.0, 4)
    assert found.biases[1] == found.biases[3] == NEVER and not found.weights[[1, 3]].any()
    assert set(found.logits(features).argmax(1)) == {0, 2}
    one = fit(features, numpy.array([1, 1, 1, 1]), 1.0, 4)
    assert (one.logits(features).argmax(1) == 1).all()
    always = fit(features, numpy.stack([numpy.ones(4), numpy.zeros(4)], 1), 1.0, 2)
    assert always.biases.tolist() == [-NEVER, NEVER]


@pytest.mark.parametrize("best", [-6.0, -3.3, -0.06, 1.0, 2.7, 6.0])
def test_the_search_finds_a_planted_strength_to_an_eighth_of_a_decade(best):
    tried = []
    found = searched(
        lambda strength: tried.append(strength) or strength, lambda s: (math.log10(s) - best) ** 2
    )
    assert abs(math.log10(found) - best) <= 1 / 16 + 1e-9
    assert len(tried) == len(set(tried)) <= MOST and 1e-6 <= min(tried) and max(tried) <= 1e6


def test_the_search_goes_on_from_any_moment_and_prefers_the_stronger_of_equals():
    def rank(power):
        return [round((power - 2.2) ** 2, 1)]

    whole = []
    while (power := following(whole)) is not None:
        whole.append([power, *rank(power)])
    for cut in range(len(whole)):
        assert following(whole[:cut]) == whole[cut][0]
    assert [power for power, _ in whole][:4] == [6.0, 4.0, 2.0, 0.0]
    assert -4.0 not in [power for power, _ in whole]  # two in a row were worse than the best
    flat: list[list[float]] = []
    while (power := following(flat)) is not None:
        flat.append([power, 1.0])
    assert {power for power, _ in flat} >= {GRID[0], 4.0, 2.0} and searched(lambda s: s, lambda s: 1.0) == 1e6


def test_the_strengths_tried_halve_their_distance():
    assert [low - high for high, low in zip(GRID, GRID[1:], strict=False)] == [-2.0] * 6
    assert list(HALVINGS) == [2.0**-k for k in range(4)] and len(GRID) + 2 * 4 == MOST


@pytest.mark.parametrize("labels", [CLASSES, CLASSES % 2, SEVERAL], ids=["classes", "two classes", "several"])
def test_a_fit_that_needs_more_iterations_than_it_has_says_so(monkeypatch, labels):
    monkeypatch.setattr("ftrun.training.linear.ITERATIONS", 1)
    assert not fit(FEATURES, labels, 1e-3, 3).converged
    monkeypatch.undo()
    assert fit(FEATURES, labels, 1e-3, 3).converged
