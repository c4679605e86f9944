"""How fast a hold acts on each weight, which strategies go with rounded weights, and what few seeds tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from ftrun.errors import ConfigError
from ftrun.reports.statistics.seeds import Family, Runs, varied
from ftrun.strategies.ewc.output_factors import LabelSampling
from ftrun.strategies.l2sp import L2sp
from ftrun.strategies.lora import Lora
from ftrun.tasks.metrics.metric import known
from ftrun.training.gradients.gradient import Gradient

LESS = {  # of which less is better; of every other metric more is
    "loss", "rmse", "mae", "perplexity", "bits_per_byte", "mlm_loss", "next_loss", "negative_similarity",
    "alignment", "uniformity", "forgetting", "intransigence",
}  # fmt: skip


def test_every_metric_has_the_direction_of_its_definition() -> None:
    assert {name for name, metric in known().items() if metric.direction == "min"} == LESS
    assert {metric.direction for metric in known().values()} == {"min", "max"}


@pytest.mark.parametrize("variant", ["lora", "pissa"])
@pytest.mark.parametrize("rounded", [False, True])
def test_only_pissa_splits_weights_that_have_few_bits(variant: str, rounded: bool) -> None:
    strategy = Lora(4, 8, 0.0, "all", variant, 16)
    settings: Any = SimpleNamespace(model=SimpleNamespace(rounded=rounded, load="4bit"))
    if variant == "pissa" and rounded:
        with pytest.raises(ConfigError, match="variant=pissa splits the weights, of which model.load=4bit"):
            strategy.check(settings)
    else:
        strategy.check(settings)


@pytest.mark.parametrize(
    ("apply", "updates", "adaptive", "expected"),
    [
        ("proximal", False, True, {"a": 2.0, "b": 2.0}),  # at the learning rate alone
        ("loss", False, False, {"a": 2.0, "b": 2.0}),
        ("loss", False, True, {"a": 4.0, "b": 2.0}),  # divided by the size of the weight's gradients
        ("proximal", True, True, {"a": 2.0, "b": 2.0, "u": 24.0}),
        ("loss", True, True, {"a": 4.0, "b": 2.0, "u": 24.0}),
        ("loss", True, False, {"a": 2.0, "b": 2.0, "u": 6.0}),
    ],
)
def test_a_pull_acts_at_the_rate_of_its_form(
    apply: str, updates: bool, adaptive: bool, expected: dict[str, float]
) -> None:
    up = nn.Parameter(torch.ones(1))
    theirs: Any = {"u": SimpleNamespace(up=up, pace=lambda: 3.0)} if updates else {}
    memory: Any = SimpleNamespace(
        lr_sum=2.0, adaptive=adaptive, sizes=lambda: {"a": 0.5, "the.up": 0.25},
        model=SimpleNamespace(named_parameters=lambda: [("the.up", up)]),
    )  # fmt: skip
    found = L2sp(alpha=1.0, beta=0.0, apply=apply).rates(memory, ["a", "b"], theirs)
    assert found == pytest.approx(expected)


def test_the_noise_of_a_regression_is_its_residual_only_where_that_is_asked_for() -> None:
    logits, labels = torch.zeros(3, 1), torch.tensor([3.0, -4.0, 0.5])
    empirical = LabelSampling("empirical", 1, 0).noise(logits, labels, 0, "empirical")
    assert empirical[:, 0].tolist() == [3.0, 4.0, 0.5]
    drawn = [LabelSampling("sampled", 2, 0).noise(logits, given, 0, "sampled") for given in (labels, None)]
    assert torch.equal(*drawn) and not torch.equal(drawn[0], empirical) and drawn[0].shape == (3, 1)
    later = LabelSampling("sampled", 2, 0).noise(logits[:1], None, 2, "sampled")
    assert torch.equal(later[0], drawn[0][2])  # by the running number of an example


def test_of_two_ways_with_few_seeds_the_noise_is_that_of_their_differences() -> None:
    chance = numpy.random.default_rng(2)
    tables = chance.normal(size=(2, 3, 40))
    ways = []
    for table in tables:
        left_out = (table.sum(1)[:, None] - table) / 39
        ways.append(Runs([0, 1, 2], table.mean(1), left_out.T))
    found = varied(ways, Family(ways))
    gap = tables[0] - tables[1]
    rest = gap - gap.mean(0) - gap.mean(1, keepdims=True) + gap.mean()
    assert found is not None and found.noise == pytest.approx((rest**2).sum() / 2 / 39 / 40 / 3)


def test_only_memory_that_runs_out_is_tried_again_with_less() -> None:
    made: Any = Gradient.__new__(Gradient)
    made.recompute, tried = False, list[str]()

    def accumulate(rows: Any, state: Any) -> Any:
        raise made.error

    made.accumulate = accumulate
    made.forget, made.need_less = (
        (lambda: tried.append("forget")),
        (lambda error, state: tried.append("less")),
    )
    made.error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        made.of([0], None, lambda: tried.append("clear"))
    assert tried == []
    made.error = MemoryError()

    def less(error: BaseException, state: Any) -> None:
        tried.append("less")
        if len(tried) > 3:
            raise error

    made.need_less = less
    with pytest.raises(MemoryError):
        made.of([0], None, lambda: tried.append("clear"))
    assert tried == ["forget", "less", "clear", "forget", "less"]
