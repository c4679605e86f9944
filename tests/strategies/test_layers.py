"""Which layers stay frozen, what holds the others, and what a strategy asks of a network, on stand-ins."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ftrun.errors import ConfigError
from ftrun.strategies import penalty
from ftrun.strategies.bitfit import Bitfit
from ftrun.strategies.ewc.output_factors import LabelSampling, exact
from ftrun.strategies.freeze import Freeze, middle, named_layers
from ftrun.strategies.l2sp import L2sp
from ftrun.strategies.norms import Norms
from ftrun.strategies.penalty import Anchor, sampled
from ftrun.strategies.replay import Replay, reservoir
from ftrun.strategies.strength import left_of_harm, that_leaves


@pytest.mark.parametrize(
    ("value", "layers"),
    [
        (3, [3]), ("4-7", [4, 5, 6, 7]), (" 2 - 2 ", [2]), ([2, 0, 2], [0, 2]), ([0], [0]),
        (True, None), ("7-4", None), ("4", None), ([], None), ([-1], None), ([True], None), ([1.0], None),
        ("4-", None), (1.5, None),
    ],
)  # fmt: skip
def test_layers_are_a_list_or_a_range_with_both_ends(value: Any, layers: list[int] | None) -> None:
    if layers is None:
        with pytest.raises(ConfigError, match="layers is a list of layers"):
            named_layers(value)
    else:
        assert named_layers(value) == layers


def test_the_middle_half_leaves_a_quarter_at_either_end() -> None:
    assert middle(4) == [1, 2] and middle(12) == [3, 4, 5, 6, 7, 8] and middle(7) == [1, 2, 3, 4, 5]
    assert middle(8) == [2, 3, 4, 5]
    with pytest.raises(ConfigError, match="this network has 3 layers; it takes 4"):
        middle(3)


def test_stages_count_the_embeddings_and_layers_are_within_the_network() -> None:
    def stages(depth: int, **own: Any) -> set[int]:
        return Freeze(**{"bottom": 2, "layers": None, "trained": None} | own).frozen_stages(depth)

    assert stages(4) == {0, 1, 2} and stages(4, bottom=0) == {0} and stages(4, bottom=4) == {0, 1, 2, 3, 4}
    assert stages(4, layers="0-1") == {1, 2} and stages(4, layers=3) == {4}
    assert stages(4, layers="middle") == {2, 3}
    with pytest.raises(ConfigError, match="bottom=5, but this network has 4 layers"):
        stages(4, bottom=5)
    with pytest.raises(ConfigError, match="layers=4, but this network has the layers 0 to 3"):
        stages(4, layers=4)
    for words, pattern in (("4-7", False), ("middle", False), ("4,5 - 6.", False), ("layer.1", True)):
        assert Freeze.by_pattern.fget(SimpleNamespace(layers=words)) is pattern  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="give one of them"):
        Freeze(2, [1], "layer")


class Small(nn.Module):
    """Two layers with norms, and a head."""

    def __init__(self, bias: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(2, 2, bias=bias), nn.Linear(2, 2)
        self.between = nn.LayerNorm(2, bias=bias) if norm else nn.Identity()
        self.name, self.depth = "small", 1

    def head_parameters(self) -> Any:
        return [(f"head.{name}", value) for name, value in self.head.named_parameters()]

    def norms(self) -> set[str]:
        own = {f"between.{name}" for name, _ in self.between.named_parameters()}
        return own | {"head.weight"}  # as of a head that has a norm of its own

    def stage_of(self, name: str) -> int:
        return {"first": 0, "between": 1, "head": 2}[name.split(".")[0]]


def trained(strategy: Any, net: Any) -> set[str]:
    strategy.fits(net)
    strategy.prepare(net)
    return {name for name, weight in net.named_parameters() if weight.requires_grad}


HEAD = {"head.weight", "head.bias"}


def test_what_trains_is_what_a_strategy_says_and_the_head() -> None:
    assert trained(Bitfit(), Small()) == {"first.bias", "between.bias"} | HEAD
    assert trained(Norms(), Small()) == {"between.weight", "between.bias"} | HEAD
    assert trained(Freeze(0, None, None), Small()) == {"between.weight", "between.bias"} | HEAD
    assert trained(Freeze(0, None, "between.bias"), Small()) == {"between.bias"} | HEAD
    assert trained(Freeze(0, "between", None), Small()) == {"first.weight", "first.bias"} | HEAD
    with pytest.raises(ConfigError, match="strategy=bitfit trains biases, but small has none below its head"):
        Bitfit().fits(Small(bias=False))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="strategy=norms .* but small has none"):
        Norms().fits(Small(norm=False))  # type: ignore[arg-type]
    for layers, said in (("head", "a weight of the head"), ("weight|bias", "a weight of the head")):
        with pytest.raises(ConfigError, match=said):
            Freeze(0, layers, None).fits(Small())  # type: ignore[arg-type]


def test_a_reservoir_is_of_any_number_below_the_count() -> None:
    from random import Random

    assert reservoir(3, 5, Random(0)) == [0, 1, 2] and reservoir(0, 5, Random(0)) == []
    kept = reservoir(1000, 10, Random(0))
    assert len(kept) == 10 == len({*kept}) and max(kept) > 500 and all(0 <= each < 1000 for each in kept)


def test_earlier_examples_come_in_proportion_to_the_share_and_one_at_least() -> None:
    strategy = Replay(0.25, 8, "reservoir")
    one, other = SimpleNamespace(name="one"), SimpleNamespace(name="other")
    strategy.seed, strategy.kept = 0, [(one, [5, 6]), (other, [7])]  # type: ignore[list-item]
    drawn = strategy.replay(3, 12)
    assert sum(len(rows) for _, rows in drawn) == 4  # 12 · 0.25 / 0.75
    assert {row for past, rows in drawn for row in rows if past is one} <= {5, 6}
    assert strategy.replay(3, 12) == drawn and sum(len(rows) for _, rows in strategy.replay(3, 1)) == 1
    assert len({str(strategy.replay(step, 12)) for step in range(9)}) > 3
    strategy.kept = [(one, [5]), (other, [])]  # type: ignore[list-item]
    assert [past for past, _ in strategy.replay(0, 4)] == [one]


@pytest.mark.parametrize("strength", [0.5, 3.0])
@pytest.mark.parametrize("rate", [0.1, 2.0])
def test_a_drift_that_is_pulled_back_ends_where_the_rule_says(strength: float, rate: float) -> None:
    """An even drift over many small steps, each followed by a proximal pull: (1 − e^−x) / x of itself."""
    steps, place = 20_000, 0.0
    step = rate / steps
    for _ in range(steps):
        place = (place + step) / (1 + step * strength)
    share = (place / rate) ** 2
    strengths = torch.tensor([strength], dtype=torch.float64)
    assert left_of_harm(strengths, rate) == pytest.approx(share, rel=1e-3)
    assert left_of_harm(strengths / 4, rate, factor=4.0) == pytest.approx(share, rel=1e-3)


def test_the_factor_that_leaves_a_share_is_found_over_all_sizes() -> None:
    chance = torch.Generator().manual_seed(0)
    for scale in (1e-12, 1.0, 1e12):
        strengths = torch.rand(50, generator=chance, dtype=torch.float64) * scale
        for share in (0.05, 0.5, 0.95):
            factor = that_leaves(share, strengths, 0.3)
            assert left_of_harm(strengths, 0.3, factor) == pytest.approx(share, abs=1e-6)
    zero = torch.zeros(3, dtype=torch.float64)
    assert that_leaves(0.5, zero, 1.0) == 0.0 and that_leaves(0.5, torch.ones(3), 0.0) == 0.0
    rates = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    assert left_of_harm(torch.ones(3, dtype=torch.float64), rates) > 0.3  # the first is not pulled at all


def test_strengths_are_sampled_evenly_whether_they_are_numbers_or_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(penalty, "SAMPLED", 10)
    strengths: Any = {"a": torch.arange(40.0), "b": 2.0}
    found = sampled(strengths, {"a": 40, "b": 15, "c": 900})
    assert found.tolist() == [float(n) for n in range(0, 40, 5)] + [2.0] * 3 and found.dtype == torch.float64
    assert len(sampled({"a": torch.arange(4.0)}, {"a": 4})) == 4


def test_a_penalty_of_numbers_and_tensors_is_the_sum_of_both() -> None:
    weights = {name: nn.Parameter(torch.tensor([1.0, 3.0])) for name in "ab"}
    targets = {name: torch.tensor([0.0, 1.0]) for name in "ab"}
    anchor = Anchor(weights, targets, {"a": 2.0, "b": torch.tensor([1.0, 0.5])})
    assert anchor.penalty() == pytest.approx(0.5 * 2 * (1 + 4) + 0.5 * (1 + 0.5 * 4))
    weights["a"].grad = torch.zeros(2)
    anchor.add_gradient()
    assert weights["a"].grad.tolist() == [2.0, 4.0] and weights["b"].grad is None
    anchor.pull({"a": 0.5, "b": 0.0})
    assert weights["a"].tolist() == pytest.approx([0.5, 2.0]) and weights["b"].tolist() == [1.0, 3.0]
    assert penalty.over_processes(3.0, weights.values()) == penalty.over_processes(3.0, []) == 3.0


@pytest.mark.parametrize(("undone", "weak"), [(0.049, True), (0.051, False)])
def test_a_hold_that_undoes_less_than_a_twentieth_is_said_to_do_almost_nothing(
    undone: float, weak: bool
) -> None:
    strength = -math.log1p(-undone)  # over learning rates of one in all
    weight = nn.Parameter(torch.zeros(4))
    held = L2sp(alpha=strength, beta=0.0, apply="proximal")
    note = held.strength_note(Anchor({"w": weight}, {"w": torch.zeros(4)}, {"w": strength}), 1.0)
    assert ("almost nothing" in note) is weak and f"{undone:.2%}" in note


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
def test_the_factors_of_a_softmax_are_those_of_its_covariance(classes: int) -> None:
    logits = torch.randn(5, classes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = exact(logits)
    assert len(columns) == max(1, classes - 1)
    p = logits.softmax(-1)
    whole = torch.einsum("kni,knj->nij", columns, columns)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None, :] if classes > 1 else torch.ones(5, 1, 1)
    torch.testing.assert_close(whole, expected.double(), rtol=1e-9, atol=1e-12)


def test_the_kind_of_sampling_follows_from_the_answers() -> None:
    auto = LabelSampling("auto", 1, 0)
    assert auto.kind_for(torch.zeros(2, 20)) == "exact" and auto.kind_for(torch.zeros(2, 21)) == "sampled"
    assert auto.kind_for(torch.zeros(2, 3, 4)) == "sampled"
    assert LabelSampling("empirical", 1, 0).kind_for(torch.zeros(2, 3, 4)) == "empirical"
    for kind, samples in (("other", 1), ("exact", 0)):
        with pytest.raises(ValueError, match="kind=other|samples=0"):
            LabelSampling(kind, samples, 0)
    for shape in ((3,), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="expected"):
            auto.factors(torch.zeros(shape), None, 0)
