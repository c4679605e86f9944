"""The curves against their published values, and what all of them promise."""

from types import SimpleNamespace

import pytest

from ftrun.errors import ConfigError
from ftrun.settings.resolve import camel
from ftrun.settings.schedules import Constant, Cosine, Length, Linear, SlantedTriangular, progress

ALL = [Linear(), Cosine(), Constant(), SlantedTriangular(cut=0.1, ratio=32)]


@pytest.mark.parametrize("curve", ALL, ids=lambda curve: type(curve).__name__)
@pytest.mark.parametrize("total, warmup", [(1, 0), (7, 0), (7, 7), (95, 9), (100, 6), (1000, 1000)])
def test_stays_between_0_and_1_and_every_step_learns(curve, total, warmup):
    factors = [curve.factor(step, total, warmup) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize("curve", [Linear(), Cosine(), Constant()], ids=lambda curve: type(curve).__name__)
def test_warmup_rises_to_the_peak_at_its_last_step(curve):
    factors = [curve.factor(step, 100, 10) for step in range(11)]
    assert factors == sorted(factors)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1


def test_linear_and_cosine_fall_to_zero_and_are_half_way_in_the_middle():
    for curve in (Linear(), Cosine()):
        assert curve.factor(55, 100, 10) == pytest.approx(0.5)
        assert curve.factor(100, 100, 10) == pytest.approx(0, abs=1e-12)
    assert Cosine().factor(32, 100, 10) > Linear().factor(32, 100, 10)


def test_constant_stays():
    assert {Constant().factor(step, 50, 0) for step in range(50)} == {1.0}


@pytest.mark.parametrize("step, rate", [(0, 0.0003125), (5, 0.00515625), (10, 0.01), (55, 0.00515625)])
def test_slanted_triangle_of_the_article(step, rate):
    assert 0.01 * SlantedTriangular(cut=0.1, ratio=32).factor(step, 100, 0) == pytest.approx(rate)


def test_slanted_triangle_never_goes_below_its_lowest_rate():
    curve = SlantedTriangular(cut=0.1, ratio=32)
    assert all(
        curve.factor(step, 95, 0) >= 1 / 32 for step in range(95)
    )  # the printed formula is negative at 94


@pytest.mark.parametrize("cut, ratio, said", [(0.0, 32, "cut"), (1.0, 32, "cut"), (0.1, 0.5, "ratio")])
def test_slanted_triangle_refuses(cut, ratio, said):
    with pytest.raises(ConfigError, match=f"schedule.{said}"):
        SlantedTriangular(cut=cut, ratio=ratio)


def test_the_decay_is_over_at_the_end_however_short_it_is():
    assert [progress(step, 5, 4) for step in (4, 5)] == [0, 1] and progress(5, 5, 5) == 0
    assert [progress(step, 10, 2) for step in (2, 4, 10, 12)] == [0, 0.25, 1, 1]


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, Length(4, 10, 1, 4, 4, 1)),
        ({"max_steps": 500, "warmup": 30}, Length(4, 500, 30, 4, 4, 10)),
        ({"epochs": 0.1, "warmup": 3}, Length(4, 1, 1, 4, 4, 1)),
        ({"eval_every": 3, "checkpoint_every": 0.25}, Length(4, 10, 1, 3, 2, 1)),
        ({"eval_every": 0.001, "checkpoint_every": 1}, Length(4, 10, 1, 1, 1, 1)),
    ],
)
def test_the_length_of_a_run_is_in_steps(settings, expected):
    """100 rows in batches of 32 are 4 steps an epoch, 10 in two and a half."""
    plain = {"batch_size": 32, "max_steps": None, "epochs": 2.5, "warmup": 0.1}
    train = SimpleNamespace(**{**plain, "eval_every": "epoch", "checkpoint_every": "epoch", **settings})
    assert Length.of(train, 100) == expected


def test_the_end_of_a_run_is_scored_where_the_interval_does_not_come_out_even():
    found = [Length(4, total, 0, 4, 4, 1).evaluations for total in (1, 4, 5, 8, 10)]
    assert found == [1, 1, 2, 2, 3]


def test_names_become_classes():
    assert camel("slanted_triangular") == "SlantedTriangular"
    assert camel("mypackage.linear_probe") == "LinearProbe"
