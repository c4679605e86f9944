"""What each strategy says of itself and its settings, as papers and reference codes have it; no network."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ftrun import CONF
from ftrun.errors import ConfigError
from ftrun.settings.habits import Pace
from ftrun.settings.resolve import load_class
from ftrun.settings.schedules import Constant, Course, Length
from ftrun.strategies.base import Strategy
from ftrun.strategies.gradual_unfreeze import GradualUnfreeze
from ftrun.strategies.linear_probe import unsolvable
from ftrun.strategies.lora import Lora
from ftrun.strategies.lp_ft import LpFt
from ftrun.strategies.replay import Replay, balanced, has_classes

NAMES = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))
# rate and steps beside full fine-tuning, and where the rate comes from
PACES = {
    "adapter": (10.0, 1.5),  # Houlsby et al. 2019, code: 3e-4 for BERT-base, ten times that of full
    "bitfit": (20.0, 1.5),  # Ben Zaken et al. 2022, code: 1e-3
    "norms": (20.0, 1.5),  # Lu et al. 2021: 1e-3
    "ia3": (100.0, 1.5),  # Liu et al. 2022: 3e-3
    "lora": (10.0, 1.5),  # Schulman et al. 2025: ten times that of full, at any rank
    "prefix": (100.0, 1.5),  # Liu et al. 2022 (P-tuning v2), code: 5e-3
    "prompt": (100.0, 1.5),
    "vera": (100.0, 1.5),  # Kopiczko et al. 2024, table 8: ten times that of LoRA
}
SAYS = {  # what is not as of every other strategy
    "needs_source": {"ewc", "replay"},
    "needs_new_head": {"linear_probe", "lp_ft", "setfit"},
    "starts_random": {"scratch"},
    "refits": {"setfit"},
    "on_rounded": {"lora"},
}
COPIES = {"l2sp": 1, "ewc": 2}  # the anchors; of ewc a strength for each weight as well
# settings at the edge of what they can be: the last that is taken, and the first that is refused
EDGES = [
    ("adapter", "bottleneck", [1], [0]),
    ("distil", "alpha", [0, 1], [-0.01, 1.01]),
    ("distil", "temperature", [1e-6], [0, -1]),
    ("ewc", "floor", [0], [-1e-9]),
    ("ewc", "samples", [1], [0]),
    ("ewc", "gamma", [0, 1], [-0.01, 1.01]),
    ("ewc", "pull_", [0, "auto"], [-1e-9]),
    ("freeze", "bottom", [0], [-1]),
    ("gradual_unfreeze", "every", [1e-6, 2], [0, -1]),
    ("l2sp", "alpha", [0, "auto"], [-1e-9]),
    ("l2sp", "beta", [0], [-1e-9]),
    ("lora", "rank", [1], [0]),
    ("lora", "alpha", [1e-6], [0]),
    ("lora", "ratio", [1e-6], [0]),
    ("lora", "dropout", [0, 0.999], [1, -0.01]),
    ("lp_ft", "probe", [0.01, 0.99], [0, 1]),
    ("lp_ft", "probe_lr", [1e-9], [0]),
    ("prefix", "tokens", [1], [0]),
    ("prompt", "tokens", [1], [0]),
    ("replay", "share", [0.01, 0.99, "auto"], [0, 1]),
    ("replay", "buffer", [1], [0]),
    ("vera", "rank", [1], [0]),
    ("vera", "d_initial", [1e-9], [0]),
    ("vera", "dropout", [0, 0.999], [1, -0.01]),
]
WORDS = [  # settings that are one of some words
    ("adapter", "placement", ["houlsby", "pfeiffer"]),
    ("adapter", "activation", ["gelu", "relu", "tanh", "silu"]),
    ("ewc", "apply", ["proximal", "loss"]),
    ("ewc", "fisher", ["auto", "exact", "sampled", "empirical"]),
    ("gradual_unfreeze", "from_", ["top", "bottom"]),
    ("l2sp", "apply", ["proximal", "loss"]),
    ("linear_probe", "solver", ["auto", "lbfgs", "adamw"]),
    ("lora", "variant", ["lora", "lora_plus", "dora", "rslora", "pissa"]),
    ("replay", "choose", ["reservoir", "balanced"]),
]
COURSE = Course(0.5, Constant(), Length(10, 100, 0, 10, 10, 1), depth=4)


def made(name: str, **changes: Any) -> Any:
    """The strategy with the settings of its file, but for these."""
    chosen = load_class("strategies", name)
    values = yaml.safe_load((CONF / f"strategy/{name}.yaml").read_text())
    own = {field.name: values[field.name.removesuffix("_")] for field in fields(chosen)}
    return chosen(**own | changes)


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_has_the_pace_of_its_reference_and_says_what_it_needs(name: str) -> None:
    chosen = load_class("strategies", name)
    fixed = Pace(1.0, 2.0, 1e-2) if name == "linear_probe" else None  # a linear layer on fixed features
    assert chosen.pace == (fixed or Pace(*PACES.get(name, (1.0, 1.0))))
    assert made(name).paced() == chosen.pace
    assert {said: getattr(chosen, said) for said in SAYS} == {
        said: name in whose for said, whose in SAYS.items()
    }
    assert chosen.copies == COPIES.get(name, 0)


@pytest.mark.parametrize(("name", "setting", "taken", "refused"), EDGES, ids=lambda each: str(each)[:20])
def test_a_number_is_taken_to_its_edge_and_refused_beyond(
    name: str, setting: str, taken: list[Any], refused: list[Any]
) -> None:
    for value in taken:
        assert getattr(made(name, **{setting: value}), setting) == value
    for value in refused:
        with pytest.raises(ConfigError, match=setting.removesuffix("_")):
            made(name, **{setting: value})


@pytest.mark.parametrize(("name", "setting", "words"), WORDS, ids=lambda each: str(each)[:20])
def test_a_word_is_one_of_those_that_are_named(name: str, setting: str, words: list[str]) -> None:
    for word in words:
        assert getattr(made(name, **{setting: word}), setting) == word
    with pytest.raises(ConfigError) as caught:
        made(name, **{setting: words[0] + "x"})
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(("name", "adaptive", "plain"), [("l2sp", 0.5, 0.1), ("ewc", 0.2, 0.05)])
def test_a_hold_on_auto_leaves_less_harm_under_gradient_descent(
    name: str, adaptive: float, plain: float
) -> None:
    """As conf/README.md says of auto; where the number was set nothing is settled."""
    chosen = load_class("strategies", name)
    assert (chosen.left.adaptive, chosen.left.plain) == (adaptive, plain)
    own = "pull_" if chosen.strength == "pull" else "alpha"
    assert made(name, **{own: "auto"}).settled() == {chosen.strength: 1.0}
    assert made(name, **{own: 3.0}).settled() == {} and made(name, **{own: 3.0}).factor == 3.0


def test_what_no_strategy_overrides_moves_every_weight_from_the_start_at_the_rate_of_the_course() -> None:
    plain = Strategy()
    assert [plain.opens(stage, COURSE) for stage in range(6)] == [0] * 6
    assert plain.rate(3, 50, COURSE) == COURSE.rate(50) == 0.5 and plain.scale("any.weight") == 1.0
    assert plain.replay(3, 8) == [] and plain.replayed_share() == 0.0 and plain.penalty() is None
    assert plain.settled() == {} and plain.solved is False
    assert not plain.pulls() and not plain.rate_by_stage()
    assert plain.chosen(None, None) == ({}, "")  # type: ignore[arg-type]
    data: Any = object()
    assert plain.lesson(data, None) is data  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_strategy_says_of_its_rates_and_pulls_is_what_it_does(name: str) -> None:
    """The groups of the optimizer and how soon a step is read depend on it."""
    strategy = made(name)
    assert strategy.pulls() is (name in ("l2sp", "ewc"))
    assert strategy.rate_by_stage() is (name == "gradual_unfreeze")
    if not strategy.rate_by_stage():
        for step in (0, 49, 50, 99):
            opened = [stage for stage in range(6) if strategy.opens(stage, COURSE) <= step]
            assert len({strategy.rate(stage, step, COURSE) for stage in opened}) == 1
    if name in COPIES:
        assert not made(name, apply="loss").pulls()


def test_lora_plus_moves_b_alone_faster() -> None:
    plus, plain = made("lora", variant="lora_plus", ratio=4.0), made("lora", variant="rslora", ratio=4.0)
    assert plus.scale("net.query.lora_B.default.weight") == 4.0
    assert plus.scale("net.query.lora_A.default.weight") == plus.scale("net.classifier.weight") == 1.0
    assert plain.scale("net.query.lora_B.default.weight") == 1.0 and plain.paced() == Lora.pace
    assert plus.paced() == Pace(rate=5.0, steps=1.5)  # the geometric mean of A's and B's is that of lora


@pytest.mark.parametrize("name", ["lora", "vera"])
def test_targets_are_a_word_or_names(name: str) -> None:
    for given, kept in (("attention", "attention"), ("all", "all"), ("query", ["query"]), (["a"], ["a"])):
        assert made(name, targets=given).targets == kept
    with pytest.raises(ConfigError, match=f"strategy={name}: targets is empty"):
        made(name, targets=[])


def test_the_first_share_of_lp_ft_and_of_an_opened_stage_are_at_least_a_step() -> None:
    short = Course(0.5, Constant(), Length(1, 2, 0, 1, 1, 1), depth=1)
    assert LpFt(probe=0.01, probe_lr=1.0).probing(short) == 1
    unfreezing = GradualUnfreeze(every=0.01, from_="top")
    assert unfreezing.interval(short) == 1
    assert GradualUnfreeze(every=1, from_="top").interval(COURSE) == 10  # from 1 on epochs, below shares
    assert GradualUnfreeze(every=0.5, from_="top").interval(COURSE) == 50
    assert unfreezing.rate(2, 0, short) == 0.5  # the head has its rate at once
    assert [unfreezing.opens(stage, COURSE) for stage in (5, 4, 0)] == [0, 1, 5]
    assert [GradualUnfreeze(0.01, "bottom").opens(stage, COURSE) for stage in (5, 4, 0)] == [0, 5, 1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"regression": False}, "task=this does not make"),
        ({"streamed": True}, "task.stream=true"),
        ({"protect": "ewc"}, "protect="),
        ({"source": "run", "scenario": "domain"}, "scenario=domain goes on"),
        ({"source": "run", "scenario": "task"}, ""),
        ({"source": None, "scenario": "domain"}, ""),
    ],
)
def test_each_hindrance_of_a_solved_head_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr("ftrun.models.features.head_input.unlike_one_layer", lambda model: "")
    known = {"regression": True, "streamed": False, "protect": None, "source": None, "scenario": "task"}
    known |= changes
    spec = SimpleNamespace(regression=known.pop("regression"))
    task = SimpleNamespace(name="this", spec=lambda source: spec)
    found = unsolvable(SimpleNamespace(task=task, **known), None)  # type: ignore[arg-type]
    assert (why in found) if why else found == ""


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("single_label_classification", True),
        ("multi_label_classification", True),
        ("regression", False),
        (None, False),
    ],
)
def test_rows_with_labels_have_classes(kind: str | None, classes: bool) -> None:
    spec = SimpleNamespace(config={"problem_type": kind})
    assert has_classes(SimpleNamespace(data=SimpleNamespace(spec=spec))) is classes  # type: ignore[arg-type]


def test_a_balanced_choice_has_rows_of_each_class_and_no_other() -> None:
    from random import Random

    targets = [0] * 50 + [2] * 3 + [1] * 20
    chosen = balanced(targets, 12, Random(0))
    assert len(chosen) == len({*chosen}) == 11  # four of each, of which one class has three
    counts = [[targets[row] for row in chosen].count(name) for name in (0, 1, 2)]
    assert counts == [4, 4, 3]


def test_the_part_that_is_replayed_is_a_half_until_it_was_found() -> None:
    assert Replay("auto", 8, "reservoir").replayed_share() == 0.5
    found = Replay("auto", 8, "reservoir")
    found.settle(1)
    assert found.settled() == {"share": 0.1}  # a ninth of this task's weight: 1/9 of 10/9
    found.settle(3)
    assert found.settled() == {"share": 0.25} and Replay(0.3, 8, "reservoir").settled() == {}
