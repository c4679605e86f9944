"""What a finished run left behind, as the diagnosis reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.runs.content import answers_of
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.calibration import Calibration
    from ftrun.runs.run import Run

WIDTH = 3  # evaluations that are averaged
SEEN = 512  # training rows that are scored at the end of a run, at most
LEAST = 10  # validation or test rows that anything is told from: of fewer, chance has its way


@dataclass
class Evidence:
    """Settings, curves, scores and test answers of a finished run, and its data card."""

    config: dict[str, Any]
    lines: list[dict[str, Any]]  # of metrics.jsonl
    result: dict[str, Any]
    metric: str | None
    calibration: Calibration | None = None
    labels: list[Any] = field(default_factory=list)  # of the test rows, where they were kept
    answers: list[Any] = field(default_factory=list)
    card: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)  # settings as they were before `auto` was settled

    @classmethod
    def of(
        cls,
        run: Run,
        metric: str | None,
        found: Calibration | None = None,
        answered: list[dict[str, Any]] | None = None,
    ) -> Evidence:
        """From a run directory; `answered` are the lines of predictions.jsonl where they were read before."""
        if answered is None:
            answered = answers_of(run.path / "predictions.jsonl")
        known = [each for each in answered if "label" in each and "answer" in each]
        labels, answers = [each["label"] for each in known], [each["answer"] for each in known]
        result, card = run.read_json("result.json") or {}, run.read_json("data.json") or {}
        return cls(run.config, run.metrics(), result, metric, found, labels, answers, card, run.asked)

    @cached_property
    def classes(self) -> bool:
        """Whether the answer to a row is one label."""
        return {*map(type, self.labels), *map(type, self.answers)} == {str}

    @property
    def numbers(self) -> bool:
        return bool(self.labels) and all(isinstance(e, int | float) for e in [*self.labels, *self.answers])

    @property
    def solved(self) -> bool:
        """Whether its head was solved for, so that neither steps nor a rate could be changed."""
        return "l2" in self.result

    @cached_property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines that have a validation loss, one after the other in time."""
        return [line for line in self.lines if line.get("eval_loss") is not None and "l2" not in line]

    @property
    def rows(self) -> dict[str, int]:
        found: dict[str, int] = self.result.get("rows", {})
        return found

    def enough(self, split: str) -> bool:
        """Whether a split has the rows that a judgement needs; true where their number was not kept."""
        return self.rows.get(split, LEAST) >= LEAST

    @property
    def is_share(self) -> bool:
        return lookup(self.metric).is_share

    def score(self, split: str, metric: str | None = None) -> float | None:
        """The score of the best weights on train, eval or test; None where it was not measured."""
        found: float | None = self.result.get(f"{split}_{metric or self.metric}")
        return found

    @cached_property
    def trivial_loss(self) -> float | None:
        """The best constant answer's loss: the entropy of the training labels, 1 for standardised numbers.

        None where it does not follow from the data card, and where the training weighs the labels.
        """
        counts = self.card.get("labels", {}).get("train", {})
        if self.numbers and "numbers" in self.card:
            return 1.0
        if not self.classes or not counts or (self.config["task"].get("balance") or "none") != "none":
            return None
        total = sum(counts.values())
        return -sum(n / total * math.log(n / total) for n in counts.values() if n)

    @property
    def stopped(self) -> bool:
        """Whether patience ended the run: as many evaluations without a better score as it allows.

        It counts them from when every layer trains and the score has moved, so a run may have had them and
        yet all of its steps.
        """
        train, best = self.config["train"], self.result.get("best_step")
        patience, most = train.get("patience"), train.get("max_steps")
        whole = isinstance(most, int) and self.result.get("steps", 0) >= most
        if self.solved or patience is None or best is None or whole:
            return False
        return sum(line["step"] > best for line in self.evaluations) >= patience


def smooth(values: list[float]) -> list[float]:
    """A moving average: the mean of each value and its neighbours."""
    reach = WIDTH // 2
    return [mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def unsteady(values: list[float]) -> float:
    """The standard error of a difference of two smoothed values, by how a curve jumps up and down.

    Second differences have six times the variance of what is independent from value to value, and next to
    nothing of a curve that bends. 0 where there are too few.
    """
    bends = [one - 2 * two + three for one, two, three in zip(values, values[1:], values[2:], strict=False)]
    return math.sqrt(2 / WIDTH * mean([bend**2 for bend in bends]) / 6) if bends else 0.0


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def chance(share: float, rows: int) -> float:
    """The standard error of a share of so many rows."""
    return math.sqrt(max(0.0, share * (1 - share)) / rows)
