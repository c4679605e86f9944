"""Diagnosis of a run: three signs of overfitting, when it began, and the settings to try against it.

A run that is no better than one label for all rows cannot overfit; it is reported to have learned nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.reports.numbers import score
from ftrun.tasks.metrics.metric import lookup
from ftrun.tasks.metrics.rescoring import scored

if TYPE_CHECKING:
    from ftrun.reports.calibration import Calibration

WIDTH = 3  # evaluations that are averaged before a minimum is looked for
RISE = 0.05  # of the lowest validation loss, at least
GAP = 0.05  # between training and validation score, at least
OVERSURE = 0.08  # calibration error, at least
UNRELATED = 0.1  # correlation of answers and labels (Matthews), at most
WRONG = 0.05  # share of answers with a probability above 0.99, at least; 0.01 would be calibrated


@dataclass
class Diagnosis:
    """The signs of overfitting in a run, if any."""

    signs: list[str]
    epoch: float | None  # where it began
    remedies: list[str]
    overconfident: bool = False
    untaught: str | None = None  # the evidence that it learned nothing; then there are no signs

    @property
    def text(self) -> str:
        """One paragraph."""
        if self.untaught:
            return f"learned nothing: {self.untaught}. Settings to try: {', '.join(self.remedies)}."
        if not self.signs:
            return "no sign of overfitting"
        began = f" Overfitting began at epoch {self.epoch:g}." if self.epoch is not None else ""
        found = ["overfits"] if len(self.signs) > self.overconfident else []
        verdict = " and ".join([*found, "is overconfident"] if self.overconfident else found)
        return f"{verdict}: {'; '.join(self.signs)}.{began} Settings to try: {', '.join(self.remedies)}."


def diagnose(
    config: dict[str, Any],
    lines: list[dict[str, Any]],
    result: dict[str, Any],
    metric: str | None,
    found: Calibration | None,
) -> Diagnosis:
    """The diagnosis from the settings, metrics.jsonl, result.json and the calibration of the test answers."""
    rows = result.get("rows", {})
    signs, epoch = [], None
    if rise := rising(lines, rows.get("validation")):
        text, epoch = rise
        signs.append(text)
    if wide := gap(result, metric, rows):
        signs.append(wide)
    sure = overconfidence(found, rows.get("test")) if found is not None else None
    if sure:
        signs.append(sure)
    found_remedies = [*remedies(config), *(["ftrun calibrate RUN"] if sure else [])] if signs else []
    return Diagnosis(signs, epoch, found_remedies, overconfident=sure is not None)


def untaught(
    labels: list[Any], answers: list[Any], config: dict[str, Any], result: dict[str, Any]
) -> Diagnosis | None:
    """A diagnosis where the answers are unrelated to the labels, on test and on training rows."""
    count = len(labels)
    often = Counter(labels).most_common(1)[0][1] / count
    right = sum(label == answer for label, answer in zip(labels, answers, strict=True)) / count
    related = scored("matthews_correlation", labels, answers)
    if right > often + 2 * math.sqrt(often * (1 - often) / count) or related is None:
        return None
    if max(abs(related.score), abs(result.get("train_matthews_correlation", 0.0))) >= UNRELATED:
        return None
    why = (
        f"test accuracy is {score(right, 'accuracy')}, and always answering the most frequent label gives"
        f" {score(often, 'accuracy')}"
    )
    rate = config["train"].get("lr")
    now = f" (now {rate:g})" if isinstance(rate, float) else ""  # of a composition it is auto, its runs' own
    return Diagnosis([], None, [f"a different train.lr{now}", "more train.epochs"], untaught=why)


def rising(lines: list[dict[str, Any]], rows: int | None) -> tuple[str, float] | None:
    """The sign that validation loss rises from its smoothed minimum while training loss keeps falling."""
    evaluations = [line for line in lines if line.get("eval_loss") is not None]
    losses = [line["eval_loss"] for line in evaluations]
    if len(losses) < 3:
        return None
    even = smooth(losses)
    lowest = min(range(len(even)), key=lambda index: even[index])
    noise = (
        even[lowest] / math.sqrt(rows) if rows else 0.0
    )  # losses of one row spread about as wide as their mean
    if even[-1] - even[lowest] < max(RISE * even[lowest], 2 * noise) or losses[-1] <= losses[lowest]:
        return None
    turn = evaluations[lowest]
    before = [line["train_loss"] for line in lines if line.get("train_loss") and line["step"] <= turn["step"]]
    after = [line["train_loss"] for line in lines if line.get("train_loss") and line["step"] > turn["step"]]
    if not before or not after or mean(after[-WIDTH:]) >= mean(before[-WIDTH:]):
        return None
    text = (
        f"validation loss rises from {losses[lowest]:.3f} at epoch {turn['epoch']:g} to {losses[-1]:.3f} "
        f"while training loss falls from {mean(before[-WIDTH:]):.3f} to {mean(after[-WIDTH:]):.3f}"
    )
    return text, turn["epoch"]


def gap(result: dict[str, Any], metric: str | None, rows: dict[str, int]) -> str | None:
    """The sign that the score on training rows exceeds that on validation rows beyond chance."""
    trained, held = result.get(f"train_{metric}"), result.get(f"eval_{metric}")
    if not lookup(metric).is_share or trained is None or held is None or not rows:
        return None
    counts = {"train": min(512, rows["train"]), "validation": rows["validation"]}
    chance = math.sqrt(
        trained * (1 - trained) / counts["train"] + max(held * (1 - held), 0) / counts["validation"]
    )
    if trained - held < max(GAP, 2 * chance):
        return None
    return (
        f"{metric} is {score(trained, metric)} on training rows but {score(held, metric)} on validation rows "
        f"(gap {100 * (trained - held):.1f} ± {200 * chance:.1f} points)"
    )


def overconfidence(found: Calibration, rows: int | None) -> str | None:
    """The sign that probabilities are higher than the share of correct answers."""
    sure = sum(p * n for p, _, n in found.bins) - sum(r * n for _, r, n in found.bins)
    noise = (
        math.sqrt(len(found.bins) / rows) / 2 if rows else 0.0
    )  # what a calibrated network shows by chance
    many_wrong = found.wrong_though_sure > WRONG and found.sure * (rows or 0) * found.wrong_though_sure >= 5
    if sure <= 0 or found.error < max(noise, OVERSURE if not many_wrong else OVERSURE / 2):
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


def remedies(config: dict[str, Any]) -> list[str]:
    """Settings against overfitting that the run does not use yet."""
    train, strategy = config["train"], config["strategy"]
    found = ["train.patience=2"] if train.get("patience") is None else []
    if config.get("dropout") == 0:
        found.append("dropout=0.1")
    if strategy in ("full", "scratch", "gradual_unfreeze", "lp_ft", "l2sp", "ewc", "replay"):
        found += ["strategy=freeze", "strategy=lora"]
    elif strategy == "freeze" and isinstance(config.get("bottom"), int):
        found += [f"bottom={config['bottom'] + 1}", "strategy=lora"]
    elif strategy == "lora" and config.get("rank", 1) > 1:
        found.append(f"rank={max(1, config['rank'] // 2)}")
    if strategy != "linear_probe" and strategy != "l2sp":
        found.append("protect=l2sp" if strategy != "lora" else "strategy=linear_probe")
    if config["task"].get("augment") in ("none", False, None) and "augment" in config["task"]:
        found.append("task.augment")
    if config["task"].get("subset") is not None:
        found.append("task.subset=null")
    return found or ["fewer train.epochs"]


def smooth(values: list[float]) -> list[float]:
    """A moving average: the mean of each value and its neighbours."""
    reach = WIDTH // 2
    return [mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
