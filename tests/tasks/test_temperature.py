"""A temperature is found where one was planted, as torch finds it; a threshold has the highest F1."""

import numpy
import pytest
import torch
from sklearn.metrics import f1_score, log_loss

from ftrun.tasks.parts.temperature import (
    COLDEST,
    HOTTEST,
    all_right,
    decisions,
    f1_at,
    fit_temperature,
    fit_threshold,
    log_probabilities,
    mean_nll,
)


def drawn(rows: int, classes: int, seed: int = 0):
    """Logits, and labels drawn from their own softmax: they are calibrated as they are."""
    generator = numpy.random.default_rng(seed)
    logits = generator.normal(0, 2, (rows, classes))
    chances = numpy.exp(log_probabilities(logits, 1.0)).cumsum(1)
    labels = (generator.random((rows, 1)) > chances).sum(1).clip(0, classes - 1)
    return logits, labels


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.5, 8.0])
def test_the_factor_on_calibrated_logits_is_found(factor):
    logits, labels = drawn(20_000, 4)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)
    exact = fit_temperature(logits, labels)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * exact, rel=1e-9)


@pytest.mark.parametrize("classes", [2, 7])
def test_it_is_the_minimum_that_torch_finds(classes):
    logits, labels = drawn(300, classes, seed=classes)
    logits = 3 * logits
    b = torch.ones(1, dtype=torch.float64, requires_grad=True)
    scores, targets = torch.tensor(logits), torch.tensor(labels)
    close = {"tolerance_grad": 1e-12, "tolerance_change": 1e-15, "line_search_fn": "strong_wolfe"}
    solver = torch.optim.LBFGS([b], max_iter=200, **close)

    def loss():
        solver.zero_grad()
        value = torch.nn.functional.cross_entropy(b * scores, targets)
        value.backward()
        return value

    solver.step(loss)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(1 / b.item(), rel=1e-6)
    assert mean_nll(logits, labels, found) == pytest.approx(loss().item(), abs=1e-12)
    chances = numpy.exp(log_probabilities(logits, found))
    assert mean_nll(logits, labels, found) == pytest.approx(log_loss(labels, chances), abs=1e-9)


def test_validation_never_becomes_less_likely_and_no_answer_changes():
    for seed in range(20):
        logits, labels = drawn(25, 3, seed)
        labels = numpy.random.default_rng(seed).permutation(labels) if seed % 2 else labels
        found = fit_temperature(logits, labels)
        assert mean_nll(logits, labels, found) <= mean_nll(logits, labels, 1.0) + 1e-12
        assert (log_probabilities(logits, found).argmax(1) == logits.argmax(1)).all()


def test_a_temperature_stays_within_its_limits():
    logits, labels = drawn(50, 3)
    assert fit_temperature(logits, logits.argmax(1)) == COLDEST and all_right(logits, logits.argmax(1))
    assert fit_temperature(logits, logits.argmin(1)) == HOTTEST and not all_right(logits, labels)


def test_several_labels_are_binary_choices():
    generator = numpy.random.default_rng(1)
    scores, labels = generator.normal(0, 3, (60, 5)), generator.integers(0, 2, (60, 5)).astype(float)
    both = decisions(scores, labels)
    known = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(scores) / 1.7, torch.tensor(labels)
    )
    assert mean_nll(*both, 1.7) == pytest.approx(known.item(), abs=1e-12)


def test_a_threshold_has_the_highest_f1_of_all():
    generator = numpy.random.default_rng(2)
    for _ in range(25):
        rows = int(generator.integers(2, 40))
        probabilities = generator.random(rows).round(1 + rows % 3)  # some are equal
        labels = generator.integers(0, 2, rows)
        found = fit_threshold(probabilities, labels, 0.5)
        own = f1_at(probabilities, labels, found)
        assert own == pytest.approx(f1_score(labels, probabilities >= found, zero_division=0))
        grid = numpy.linspace(0, 1, 501)
        assert own >= max(f1_at(probabilities, labels, t) for t in grid) - 1e-12
        if f1_at(probabilities, labels, 0.5) >= own - 1e-12 or not labels.any():
            assert found == 0.5


def test_of_equally_good_thresholds_the_nearest_to_the_default_is_taken():
    probabilities = numpy.array([0.1, 0.2, 0.3, 0.4, 0.6])
    labels = numpy.array([1, 0, 0, 1, 1])
    # F1 of all five rows is 6/8; of the upper two 4/5; nothing else reaches that
    assert fit_threshold(probabilities, labels, 0.5) == pytest.approx(0.35)
    assert fit_threshold(probabilities, labels, 0.38) == 0.38
    tied = numpy.array([1, 0, 1, 0, 0])  # 4/5 at 0.05, 0.25 … : all five 4/7, the upper three 2/5
    assert fit_threshold(numpy.array([0.2, 0.4, 0.6, 0.7, 0.9]), tied, 0.5) == pytest.approx(0.1)
