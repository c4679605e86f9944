"""A search: what its ranges mean, what it draws, and what it gives up on the way."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from ftrun import CONF
from ftrun.errors import ConfigError, UserError
from ftrun.experiments.study import pruning
from ftrun.experiments.study.pruning import rungs_of
from ftrun.experiments.study.ranges import check, range_of
from ftrun.experiments.study.trials import DATABASE, Trials, claimed, worded
from ftrun.experiments.study.values import Interval, Range, begun_with, is_near_end
from ftrun.settings.checks import found_in
from ftrun.settings.suggest import RANGES
from ftrun.settings.upgrade import completed, preset
from ftrun.training.pausing import Rung

STRATEGIES = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def ranged(key: str, text: str) -> Range:
    found = range_of(f"{key}={text}")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "default", "drawn", "word"),
    [
        ("choice(2, 4, '8')", 4, "4", "4"),
        ("2,4", 4, "4", "4"),
        ("range(0, 3)", 2, "2", "2"),
        ("choice([a,b], all)", "all", "all", "all"),
        ("interval(0, 0.2)", 0.1, 0.1, "0.1"),
        ("int(interval(8, 256))", 64, 64, "64"),
        ("tag(log, interval(1e-4, 1e-2))", 3.16e-3, 3.16e-3, "0.0032"),
        ("tag(times, interval(0.1, 10))", 0.0015, 1.0, "0.0015"),
        ("tag(times, interval(0.1, 10))", 200, 1.0, "200"),
    ],
)
def test_a_default_is_drawn_and_written(text: str, default: Any, drawn: Any, word: str) -> None:
    assert begun_with(ranged("a", text), default) == (drawn, word)


def test_multiples_are_of_the_default_and_whole_where_it_is() -> None:
    times = ranged("a", "tag(times, interval(0.1, 10))")
    assert times.word(2.5, 0.004) == "0.01" and times.word(2.5, 3) == "8"
    assert times.drawn(0.04, 0.002) is None  # twenty times
    assert is_near_end(times, 9.0) and is_near_end(times, 0.11) and not is_near_end(times, 1.0)


def test_a_search_begins_in_the_range_where_it_leaves_out_the_default() -> None:
    assert ranged("a", "choice(2, 4)").nearest(8) == "2" and ranged("a", "choice(2, 4)").nearest(4) is None
    assert ranged("a", "interval(0.1, 0.5)").nearest(0.9) == "0.5"
    assert ranged("a", "tag(times, interval(2, 3))").nearest(0.9) is None


def settings(strategy: str) -> dict[str, Any]:
    known = {
        "train": {},
        "task": preset("task", "classify") | {"train": "a.csv"},
        "model": preset("model", "tiny_bert"),
        "schedule": {"name": "linear"},
    }
    return completed({"strategy": strategy, **known})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_ranges_of_a_strategy_are_of_its_settings_and_hold_their_defaults(strategy: str) -> None:
    raw = settings(strategy)
    for file in (CONF / "config.yaml", CONF / f"strategy/{strategy}.yaml"):
        node = yaml.safe_load(file.read_text()).get(RANGES, {})
        ranges = {key: ranged(key, text) for key, text in node.items()}
        check(strategy, raw, ranges)
        for key, each in ranges.items():
            default = found_in(raw, key)[1]
            assert default == "auto" or begun_with(each, default)[0] is not None, key
    assert RANGES not in raw


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("rank", "choice(2, 0)", "rank=choice(2, 0): strategy=lora: rank is at least 1, not 0"),
        ("rank", "interval(2, 8)", "possible: rank=int(interval(2, 8))"),
        ("rnk", "choice(1, 2)", "strategy=lora has no setting 'rnk'; did you mean"),
        ("task.subset", "choice(10, 20)", "so task.subset is the same for all"),
        ("train", "choice(1, 2)", "train is a group of settings"),
        ("dropout", "tag(times, interval(0.1, 2))", "there are no multiples of its default, 0.0"),
        ("rank", "interval(8, 2)", "the first end is below the second, not 8 and 2"),
        ("rank", "tag(log, interval(0, 2))", "on a log scale both ends are above 0, not 0"),
        ("rank", "tag(lg, interval(1, 2))", "'lg' is no tag of a range; possible: log, times"),
        ("rank", "glob(*)", "rank=glob(*) is no range; possible: choice"),
        ("rank", "choice(2", "rank=choice(2 is no range"),
        ("rank", "range(5,1)", "rank=range(5,1) has no value; possible: choice"),
        ("rank", "range(0, 1000000000)", "has more than 1,000 values"),
    ],
)
def test_what_is_no_range_of_a_setting_is_said(key: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        check("lora", settings("lora"), {key: ranged(key, text)})
    assert said in str(error.value)


RANGED = {
    "rate": ranged("rate", "tag(times, interval(0.01, 100))"),
    "rank": ranged("rank", "choice(2, 4, 8)"),
}
BASES = {"rate": 1e-3, "rank": 8}


def objective(values: dict[str, str]) -> float:
    """Best at a rate of 0.02 and a rank of 4."""
    return -abs(math.log10(float(values["rate"]) / 0.02)) - 0.3 * (values["rank"] != "4")


def step(trials: Trials) -> None:
    """One more trial; the third fails, the fourth is given up."""
    number, params = len(trials.all), trials.drawn(RANGED, BASES)
    assert params is not None
    values = worded(params, RANGED, BASES)
    assert trials.add(params, RANGED, {"values": values}) == number
    state, score = {2: "FAIL", 3: "PRUNED"}.get(number, "COMPLETE"), objective(values)
    trials.tell(number, state, {1: score}, score if state == "COMPLETE" else None, state)


def drawn(trials: Trials) -> list[dict[str, str]]:
    return [trial.user_attrs["values"] for trial in trials.all]


class InMemory(Trials):
    """Trials that are kept nowhere."""

    def __init__(self, seed: int) -> None:
        self.file, self.seed, self.direction = Path("nowhere"), seed, "maximize"
        self.study = optuna.create_study(direction="maximize")


def test_a_search_finds_what_is_planted_sooner_than_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    def best(seed: int, startup: int) -> float:
        monkeypatch.setattr("ftrun.experiments.study.trials.STARTUP", startup)
        trials = InMemory(seed)
        for _ in range(16):
            step(trials)
        assert len({tuple(values.items()) for values in drawn(trials)}) == 16  # none twice
        return max(map(objective, drawn(trials)))

    assert sum(best(seed, 5) - best(seed, 99) for seed in range(6)) / 6 > 0.02
    assert sum(best(seed, 5) for seed in range(6)) / 6 > -0.1


def test_a_search_that_is_opened_again_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    whole, place = InMemory(7), tmp_path / "b {x}?#%41"  # which an address would read otherwise
    place.mkdir()
    for _ in range(9):
        step(whole)
    for count in (6, 3):
        trials = Trials(place / DATABASE, "s", True, 7)
        for _ in range(count):
            step(trials)
        found = drawn(trials)
        trials.close()
    assert found == drawn(whole) and (place / DATABASE).is_file()


def test_ranges_that_hold_no_more_are_noticed(tmp_path: Path) -> None:
    trials, ranges = Trials(tmp_path / DATABASE, "s", False, 0), {"rank": RANGED["rank"]}
    found = []
    while (params := trials.drawn(ranges, BASES)) is not None:
        number = trials.add(params, ranges, {"values": worded(params, ranges, BASES)})
        trials.tell(number, "COMPLETE", {}, 0.5, "")
        found.append(params["rank"])
    trials.close()
    assert sorted(found) == ["2", "4", "8"]


def test_a_damaged_database_and_one_that_another_process_searches_are_a_line(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("no database " * 100)
    with pytest.raises(
        UserError, match=r"search\.db cannot be used .*not a database.*; possible: move it away"
    ):
        Trials(tmp_path / DATABASE, "s", True, 0)
    with claimed(tmp_path):
        with pytest.raises(
            ConfigError, match="the search in .* is being made by process .*; wait or stop it"
        ):
            with claimed(tmp_path):
                pass
    with claimed(tmp_path):
        pass


def pruned_by_optuna(
    pruner: optuna.pruners.BasePruner, curves: list[list[float]], sign: int
) -> list[int | None]:
    """At which evaluation each curve is given up, as Optuna does it inside a run."""
    study = optuna.create_study(direction="maximize" if sign > 0 else "minimize", pruner=pruner)
    ended: list[int | None] = []
    for curve in curves:
        trial, end = study.ask(), None
        for number, score in enumerate(curve, 1):
            trial.report(sign * score, number)
            if number < len(curve) and trial.should_prune():
                end = number
                break
        study.tell(
            trial,
            None if end else sign * curve[-1],
            state=None if not end else optuna.trial.TrialState.PRUNED,
        )
        ended.append(end)
    return ended


def pruned_by_bars(name: str, curves: list[list[float]], sign: int) -> list[int | None]:
    """The same by bars that are known before a run begins."""
    whole: list[dict[int, float]] = []
    others: list[dict[int, float]] = []
    ended: list[int | None] = []
    for curve in curves:
        bars = {int(rung.at): rung.bar for rung in rungs_of(name, whole, others, sign)}
        below = (at for at, score in enumerate(curve, 1) if at in bars and score < sign * (bars[at] or 0.0))
        end = next((at for at in below if at < len(curve)), None)
        reached = {at: score for at, score in enumerate(curve, 1) if end is None or at <= end}
        (whole if end is None else others).append(reached)
        ended.append(end)
    return ended


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["median", "asha"])
def test_the_bars_give_up_what_optuna_s_pruners_give_up(name: str, sign: int) -> None:
    chance = random.Random(3)
    curves = [sorted(chance.random() for _ in range(10)) for _ in range(40)]
    pruner: optuna.pruners.BasePruner = (
        optuna.pruners.MedianPruner(n_startup_trials=pruning.FEWEST, n_warmup_steps=4)
        if name == "median"
        else optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=pruning.FACTOR)
    )
    theirs = pruned_by_optuna(pruner, curves, sign)
    assert pruned_by_bars(name, curves, sign) == theirs and len({*theirs}) > 2


def test_without_a_pruner_or_trials_nothing_waits() -> None:
    curve = {1: 0.5, 2: 0.6}
    assert rungs_of("none", [curve] * 9, [], 1) == () and rungs_of("median", [curve] * 4, [], 1) == ()
    assert rungs_of("asha", [], [], 1) == () and rungs_of("asha", [curve], [], -1) == (Rung(1, -0.5),)
    assert isinstance(RANGED["rate"], Interval)
