"""Diagnosis of a run: it has learned nothing, underfits, overfits or is overconfident; and settings to try.

Of these a run gets one, but for overfitting and overconfidence, which go together. What rises on validation
overfits; what has not fitted its own training rows underfits, whatever the gap between the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.reports.diagnosing.evidence import LEAST, SEEN, WIDTH, chance, mean, smooth, unsteady
from ftrun.reports.diagnosing.remedies import (
    Remedy,
    against_nothing,
    against_overfitting,
    against_underfitting,
)
from ftrun.reports.diagnosing.underfitting import barely, below_baseline, improving, learned, never, trivial
from ftrun.reports.numbers import score

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.calibration import Calibration
    from ftrun.reports.diagnosing.evidence import Evidence

RISE = 0.05  # of the lowest validation loss, at least
GAP = 0.05  # between training and validation score, at least
OVERSURE = 0.08  # calibration error, at least
WRONG = 0.05  # share of answers with a probability above 0.99, at least; 0.01 would be calibrated


@dataclass
class Diagnosis:
    """What is wrong with a run, if anything, and the settings to try."""

    signs: list[str]  # of overfitting
    epoch: float | None  # where it began
    remedies: list[Remedy]
    overconfident: bool = False
    untaught: str | None = None  # the evidence that it learned nothing; then there are no signs
    lacking: list[str] = field(default_factory=list)  # signs of underfitting; then there are no others

    @property
    def healthy(self) -> bool:
        return not (self.learned_too_little or self.signs)

    @property
    def learned_too_little(self) -> bool:
        """Whether it learned nothing, or less than its rows teach."""
        return bool(self.untaught or self.lacking)

    @property
    def text(self) -> str:
        """One paragraph."""
        return self.told([str(each) for each in self.remedies])

    def told(self, kept: list[str], refuted: list[str] | None = None) -> str:
        """The paragraph with the remedies of a report: those to try, and those that did not help there."""
        if self.healthy:
            return "no sign of underfitting or overfitting"
        found = [f"{self.finding}."]
        if self.epoch is not None:
            found.append(f"Overfitting began at epoch {self.epoch:.3g}.")
        if kept:
            found.append(f"Settings to try: {', '.join(kept)}.")
        if refuted:
            found.append(f"No better here: {', '.join(refuted)}.")
        if self.overconfident:
            found.append("To correct the probabilities: ftrun calibrate RUN.")
        return " ".join(found)

    @property
    def finding(self) -> str:
        """What is wrong, with its evidence."""
        if self.untaught:
            return f"learned nothing: {self.untaught}"
        if self.lacking:
            return f"underfits: {'; '.join(self.lacking)}"
        found = ["overfits"] if len(self.signs) > self.overconfident else []
        verdict = " and ".join([*found, "is overconfident"] if self.overconfident else found)
        return f"{verdict}: {'; '.join(self.signs)}"


def diagnose(found: Evidence) -> Diagnosis:
    """The diagnosis from everything that a run left behind."""
    nothing = trivial(found)
    fell = learned(found) if nothing else None
    if nothing and not fell:
        return Diagnosis([], None, against_nothing(found), untaught=nothing)
    rise, moving = rising(found), improving(found)
    wide = gap(found)
    begun = f"{nothing}, though {fell}" if nothing else barely(found)
    missed = None if wide or nothing else never(found)
    lacking = [sign for sign in (begun, below_baseline(found), moving, missed) if sign]
    if lacking and not rise:
        early = bool(begun or moving)
        return Diagnosis([], None, against_underfitting(found, early, bool(wide)), lacking=lacking)
    sure = overconfidence(found.calibration, found.rows.get("test")) if found.calibration else None
    over = None if found.solved else wide  # its L2 strength is the one with the least validation loss
    signs = [sign for sign in (rise[0] if rise else None, over, sure) if sign]
    epoch = rise[1] if rise else None
    return Diagnosis(
        signs, epoch, against_overfitting(found) if signs else [], overconfident=sure is not None
    )


def rising(found: Evidence) -> tuple[str, float] | None:
    """The sign that validation loss rises from its smoothed minimum while training loss keeps falling."""
    lines, evaluations, rows = found.lines, found.evaluations, found.rows.get("validation")
    losses = [line["eval_loss"] for line in evaluations]
    if len(losses) < 3 or not found.enough("validation"):
        return None
    even = smooth(losses)
    lowest = min(range(len(even)), key=lambda index: even[index])
    noise = (
        even[lowest] / math.sqrt(rows) if rows else 0.0
    )  # losses of one row spread about as wide as their mean
    least = max(RISE * even[lowest], 2 * noise, 2 * unsteady(losses[lowest:]))
    if even[-1] - even[lowest] < least or losses[-1] <= losses[lowest]:
        return None
    turn = evaluations[lowest]
    before = [line["train_loss"] for line in lines if line.get("train_loss") and line["step"] <= turn["step"]]
    after = [line["train_loss"] for line in lines if line.get("train_loss") and line["step"] > turn["step"]]
    if not before or not after or mean(after[-WIDTH:]) >= mean(before[-WIDTH:]):
        return None
    text = (
        f"validation loss rises from {losses[lowest]:.3f} at epoch {turn['epoch']:.3g} to {losses[-1]:.3f} "
        f"while training loss falls from {mean(before[-WIDTH:]):.3f} to {mean(after[-WIDTH:]):.3f}"
    )
    return text, turn["epoch"]


def gap(found: Evidence) -> str | None:
    """The sign that the score on training rows exceeds that on validation rows beyond chance."""
    trained, held, rows, metric = found.score("train"), found.score("eval"), found.rows, found.metric
    if not found.is_share or trained is None or held is None or not rows or not found.enough("validation"):
        return None
    noise = math.hypot(chance(trained, min(SEEN, rows["train"])), chance(held, rows["validation"]))
    if trained - held < max(GAP, 2 * noise):
        return None
    return (
        f"{metric} is {score(trained, metric)} on training rows but {score(held, metric)} on validation rows "
        f"(gap {100 * (trained - held):.1f} ± {200 * noise:.1f} points)"
    )


def overconfidence(found: Calibration, rows: int | None) -> str | None:
    """The sign that probabilities are higher, beyond chance, than the share of correct answers.

    The number of a calibrated network's correct answers has a variance of the sum of p (1 - p).
    """
    sure = sum(p * n for p, _, n in found.bins) - sum(r * n for _, r, n in found.bins)
    noise = (
        math.sqrt(len(found.bins) / rows) / 2 if rows else 0.0
    )  # what a calibrated network shows by chance
    many_wrong = found.wrong_though_sure > WRONG and found.sure * (rows or 0) * found.wrong_though_sure >= 5
    spread = math.sqrt(sum(n * p * (1 - p) for p, _, n in found.bins))
    if (
        sure <= 2 * spread
        or (rows is not None and rows < LEAST)
        or found.error < max(noise, OVERSURE if not many_wrong else OVERSURE / 2)
    ):
        return None
    total = sum(n for _, _, n in found.bins)
    promised, hit = (sum(pair[at] * pair[2] for pair in found.bins) / total for at in (0, 1))
    text = f"the mean probability is {100 * promised:.0f} % but {100 * hit:.0f} % of the answers are correct"
    if many_wrong:
        text = (
            f"{100 * found.sure:.0f} % of the answers have a probability above 0.99, and of these "
            f"{100 * found.wrong_though_sure:.0f} % are wrong"
        )
    return f"{text} (ECE {found.error:.3f}, Brier {found.brier:.3f})"
