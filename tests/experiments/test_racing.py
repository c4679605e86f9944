"""Learning rates in a race: what is given up at half, and what a single seed cannot choose."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_rel

from ftrun.errors import Paused
from ftrun.experiments import making
from ftrun.experiments.study.racing import Curve, came_late, curve_of, given_up, tied, worse
from ftrun.runs.run import PAUSE, Run
from ftrun.training.pausing import HALFWAY, Rung, asked, is_to_wait

WORDS = ["task=digits", "model=mlp", "train.optimizer=sgd", "task.subset=100", "train.batch_size=50",
    "train.max_steps=20", "train.eval_every=3", "device=cpu", "strategy=full", "baselines=false"]  # fmt: skip


def rows(mean: float, seed: int, count: int = 200) -> list[float]:
    """Losses of validation rows, hard ones hard for every rate."""
    hard, own = random.Random(0), random.Random(seed)
    return [max(0.0, mean + hard.gauss(0, 0.3) + own.gauss(0, 0.1)) for _ in range(count)]


def falling(start: float, end: float) -> list[float]:
    return [start + (end - start) * min(1.0, step / 15) for step in range(25)]


def test_the_paired_test_is_scipy_s() -> None:
    one, other = rows(0.6, 1), rows(0.55, 2)
    assert worse(one, other) == pytest.approx(ttest_rel(one, other).pvalue)
    assert worse(other, one) == 1.0 and worse(one, one) == 1.0
    assert worse([loss + 1 for loss in other], other) < 1e-300


def test_only_a_rate_that_is_worse_and_has_not_begun_is_given_up() -> None:
    leader = Curve(falling(0.7, 0.3), rows(0.4, 1))
    stuck = Curve(falling(0.7, 0.69), rows(0.7, 2))
    slow = Curve(falling(0.7, 0.64), rows(0.65, 3))  # worse at half, and on its way
    unlucky = Curve(falling(0.7, 0.69), rows(0.4, 4))  # no worse on validation
    overfitted = Curve(falling(0.7, 0.05), rows(0.9, 5))
    curves = {1e-3: leader, 1e-5: stuck, 1e-4: slow, 2e-5: unlucky, 1e-2: overfitted}
    assert given_up(curves) == {1e-5}
    assert given_up({1e-5: stuck}) == set()
    assert given_up({1e-5: stuck, 1e-6: Curve(falling(0.7, 0.7), rows(0.8, 6))}) == {1e-6}


def test_a_rate_that_diverged_is_given_up_and_nobody_where_nobody_learns() -> None:
    nan = float("nan")
    gone = Curve([*falling(0.7, 0.5), nan], rows(0.5, 1))
    scaled = Curve([nan, *falling(0.7, 0.3)], rows(0.4, 2))  # the first steps of fp16 are skipped
    assert given_up({1.0: gone, 0.1: scaled}) == {1.0}
    assert given_up({1.0: Curve([0.7], [0.1, nan])}) == set()  # there is no other: it ends by itself
    rising = Curve(falling(0.7, 0.9), rows(0.9, 1))
    assert given_up({0.1: rising, 0.2: Curve(falling(0.7, 1.2), rows(1.5, 2))}) == set()


def test_a_seed_cannot_choose_within_noise_nor_where_the_best_came_late() -> None:
    scores = {1e-4: 0.80, 3e-4: 0.84, 1e-3: 0.82, 3e-3: 0.50}
    assert tied(scores, "eval_accuracy", 100, late=False) == [3e-4, 1e-3, 1e-4]  # within 5.2 points
    assert tied(scores, "eval_accuracy", 10_000, late=False) == [3e-4]
    assert tied(scores, "eval_accuracy", 10_000, late=True) == [3e-4, 1e-3]
    assert tied({1e-4: 2.0, 1e-3: 3.0}, "eval_rmse", 10, late=False) == [1e-4]


def kept(place: Path, scores: list[float], best: float) -> Run:
    place.mkdir()
    lines = [{"step": 10 * (at + 1), "eval_accuracy": value} for at, value in enumerate(scores)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "config.yaml").write_text("seed: 0\n")
    (place / "result.json").write_text(json.dumps({"metric": "eval_accuracy", "eval_accuracy": best}))
    (place / "data.json").write_text(json.dumps({"baselines": {"majority": {"eval_accuracy": 0.5}}}))
    return Run(place)


def test_late_is_less_than_half_of_the_gain_at_half_of_the_steps(tmp_path: Path) -> None:
    assert came_late(kept(tmp_path / "late", [0.5, 0.5, 0.55, 0.85], 0.85))
    assert not came_late(kept(tmp_path / "soon", [0.5, 0.7, 0.8, 0.85], 0.85))
    assert not came_late(kept(tmp_path / "never", [0.5, 0.5, 0.5, 0.5], 0.5))


def made(place: Path, *words: str, race: bool = False) -> dict[str, Any]:
    """The files of a run that settings decide; {} where it waits."""
    from ftrun.commands._studies.settings import composed

    raw = composed([*WORDS, *words])
    if race:
        with asked(rungs=HALFWAY), pytest.raises(Paused, match="waiting at step 9 of 20"):
            making.one(raw, place, again=True)
        return {}
    making.one(raw, place, again=True)
    names = ("metrics.jsonl", "result.json", "predictions.jsonl")
    return {name: (place / name).read_bytes() for name in names}


def test_a_run_that_waited_at_half_is_the_run_that_did_not(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole")
    assert not (tmp_path / "whole" / PAUSE).exists()
    made(tmp_path / "halved", race=True)
    pause = json.loads((tmp_path / "halved" / PAUSE).read_text())
    assert (pause["step"], pause["of"]) == (9, 20)  # of 9 and 12 the nearer to 10
    line = next(
        line for line in Run(tmp_path / "halved").metrics() if "eval_loss" in line and line["step"] == 9
    )
    if len(pause["losses"]) < 256:
        assert sum(pause["losses"]) / len(pause["losses"]) == pytest.approx(line["eval_loss"], rel=1e-5)
    assert Run(tmp_path / "halved").state == "interrupted"
    assert made(tmp_path / "halved") == whole


def test_a_run_waits_at_the_first_bar_that_it_does_not_reach(tmp_path: Path) -> None:
    bars = (Rung(2, 0.0), Rung(3, 2.0), Rung(4, 2.0))  # an accuracy of 2 is out of reach
    with asked(rungs=bars), pytest.raises(Paused, match="waiting at step 9 of 20"):
        made(tmp_path / "run")
    with asked(rungs=bars), pytest.raises(Paused, match="waiting at step 9 of 20"):
        made(tmp_path / "run")  # it was killed before that was noted
    assert not is_to_wait(Rung(1, 0.5), 0.5, 1) and is_to_wait(Rung(1, 0.5), 0.6, -1)
    assert is_to_wait(Rung(1, 0.5), None, 1) and is_to_wait(Rung(1, 0.5), float("nan"), 1)


def test_the_race_of_real_runs_chooses_what_whole_runs_choose(tmp_path: Path) -> None:
    """A planted case: rates far too low are given up at half, the best of whole runs is not."""
    rates = [1e-5, 0.05, 0.3]
    scores, curves = {}, {}
    for rate in rates:
        place = tmp_path / f"{rate}"
        made(place, f"train.lr={rate}", race=True)
        found = curve_of(Run(place))
        assert found is not None
        curves[rate] = found
        made(place, f"train.lr={rate}")
        scores[rate] = json.loads((place / "result.json").read_text())["eval_accuracy"]
    lost = given_up(curves)
    assert lost == {1e-5}
    assert max(scores, key=scores.__getitem__) not in lost
