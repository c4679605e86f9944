"""What a temperature and thresholds have done to a run's probabilities and answers."""

from __future__ import annotations

import math
from typing import Any

from ftrun.errors import counted
from ftrun.reports.numbers import score
from ftrun.reports.pages.page import Section
from ftrun.tasks.parts.temperature import COLDEST, HOTTEST

QUALITIES = {"ece": "ECE", "nll": "NLL", "brier": "Brier"}
ANSWERS = ("micro_f1", "macro_f1", "subset_accuracy")  # of several labels per row
CHANCE = 0.05  # p, at most, of a sentence about the network
SHOWN = 30  # labels; calibration.json has all


def sections_of(record: dict[str, Any]) -> list[Section]:
    """The content of calibration.json as tables and sentences."""
    test, held = record["test"], record["validation"]
    before, after = test["before"], test["after"]
    rows = [[title, f"{before[name]:.4f}", f"{after[name]:.4f}"] for name, title in QUALITIES.items()]
    rows += [
        [name, score(before[name], name), score(after[name], name)] for name in ANSWERS if name in before
    ]
    title = f"Calibration on {counted(test['rows'], 'test row')}: temperature {record['temperature']:.3g}"
    fitted = (
        f"fitted on {counted(held['rows'], 'validation row')}, whose NLL falls from "
        f"{held['before']['nll']:.4f} to {held['after']['nll']:.4f}"
    )
    lines = [sentence(record), fitted]
    found = [Section(title, [("", False), ("before", True), ("after", True)], rows, lines)]
    return found if record["thresholds"] is None else [*found, thresholds(record)]


def sentence(record: dict[str, Any]) -> str:
    """What the temperature says of the network, and whether the test rows agree."""
    temperature, before, after = record["temperature"], record["test"]["before"], record["test"]["after"]
    p = by_chance(record)
    if p >= CHANCE:
        few = counted(record["validation"]["rows"], "validation row")
        return (
            f"{few} cannot tell a temperature of {temperature:.3g} from 1 (p = {p:.2g}): the network may be"
            f" as sure as it should be; {_shares(before, after)}"
        )
    if temperature in (COLDEST, HOTTEST):
        what = "no better than chance" if temperature == HOTTEST else "far too small"
        return f"the logits are {what} on the validation rows: the temperature is at its limit"
    sure = "overconfident" if temperature > 1 else "underconfident"
    told = f"the network was {sure}: {_shares(before, after)}"
    if after["nll"] <= before["nll"]:
        return told
    return f"{told}; but their NLL is higher than before, so the calibration does not help on these rows"


def _shares(before: dict[str, float], after: dict[str, float]) -> str:
    promised, now, right = (
        f"{100 * value:.1f} %"
        for value in (before["mean_probability"], after["mean_probability"], before["right"])
    )
    return (
        f"the mean probability of its answers is {now} instead of {promised}, and {right} of them are right"
    )


def by_chance(record: dict[str, Any]) -> float:
    """The p-value of a temperature of 1, by the likelihood ratio on the validation rows (Wilks 1938).

    Of several labels per row each label is an answer.
    """
    held = record["validation"]
    count = held["rows"] * len(record.get("labels") or [None])
    gain = max(0.0, held["before"]["nll"] - held["after"]["nll"])
    return math.erfc(math.sqrt(count * gain))


def thresholds(record: dict[str, Any]) -> Section:
    """A row for each label, and what the thresholds gain where they were not chosen."""
    columns = [
        ("label", False), ("threshold", True), ("positives", True), ("validation F1", True),
        ("test F1", True),
    ]  # fmt: skip
    rows = []
    for name, own in [*record["labels"].items()][:SHOWN]:
        change = (_change(own[split]) for split in ("validation", "test"))
        rows.append([name, f"{own['threshold']:.3g}", f"{own['validation']['positives']:,}", *change])
    held, test = (record[split] for split in ("validation", "test"))
    gains = [
        f"{100 * (split['after']['macro_f1'] - split['before']['macro_f1']):+.1f}" for split in (held, test)
    ]
    lines = [
        f"macro F1 changes by {gains[0]} points on validation, where the thresholds were chosen, and by "
        f"{gains[1]} points on test, which alone tells what they gain"
    ]
    if len(record["labels"]) > SHOWN:
        lines.append(f"the first {SHOWN} of {len(record['labels'])} labels; all are in calibration.json")
    return Section(f"Thresholds (default {record['default_threshold']:g})", columns, rows, lines)


def _change(own: dict[str, Any]) -> str:
    return f"{score(own['f1_before'], 'f1').removesuffix(' %')} → {score(own['f1_after'], 'f1')}"
