"""The plots of a comparison; those over training steps are in training_plots."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ftrun.reports.calibration import BINS
from ftrun.reports.drawing import (
    LINES,
    MOST,
    axis_label,
    errorbars,
    factor_of,
    finish,
    plot,
    studies_to_plot,
    tried_values,
)
from ftrun.reports.labelling import crossovers, curves, points
from ftrun.reports.page import Plot
from ftrun.reports.training_plots import against_scratch, forgotten, rates, training
from ftrun.reports.verdicts import elbow

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study


def plots_of(group: Group, prefix: str = "") -> list[Plot]:
    """Every plot that these runs have data for."""
    drawn = [
        training(group), against_scratch(group), rates(group), labels(group), ranks(group),
        forgotten(group), reliability(group),
    ]  # fmt: skip
    return [Plot(prefix + p.name, p.title, p.png) for p in drawn if p is not None]


def labels(group: Group) -> Plot | None:
    """Score against the number of labels, with crossovers marked."""
    found = curves(group)
    if not found:
        return None
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, studies) in enumerate(list(found.items())[:MOST]):
        errorbars(axes, group, studies, name, lambda study: study.facts["labels"] or 0.0, number)
    for number, (place, height, names) in enumerate(turns(found, group)):
        axes.axvline(place, color="#666666", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{names} at about {place:,.0f} labels", (place, height), textcoords="offset points",
            xytext=(12, -34 - 16 * number),
            fontsize=8, arrowprops={"arrowstyle": "-", "color": "#666666"},
        )  # fmt: skip
    tried_values(axes, [study.facts["labels"] or 0.0 for studies in found.values() for study in studies])
    axes.set_ylabel(f"test {axis_label(group)}")
    axes.legend(frameon=False, handlelength=4)
    finish(axes, "labels (training rows)", logarithmic=True)
    return plot(figure, "labels", "Score against the number of labels, with 95 % confidence intervals")


def turns(found: dict[str, list[Study]], group: Group) -> list[tuple[float, float, str]]:
    """The significant crossovers of two curves: labels, score, and a text."""
    marks = []
    for (first, one), (second, other) in combinations(found.items(), 2):
        mine, theirs = points(one, group.sign), dict(points(other, group.sign))
        last = max(x for x, _ in mine if x in theirs) if theirs.keys() & dict(mine).keys() else 0.0
        for place in crossovers(one, other, group.sign):
            after, before = (first, second) if dict(mine)[last] > theirs[last] else (second, first)
            (x0, y0), (x1, y1) = next(ends for ends in pairwise(mine) if ends[0][0] <= place <= ends[1][0])
            height = y0 + (y1 - y0) * math.log(place / x0) / math.log(x1 / x0)
            marks.append((place, group.sign * height * factor_of(group), f"{after} overtakes {before}"))
    return marks


def ranks(group: Group) -> Plot | None:
    """Score against LoRA rank, with the elbow marked."""
    found = elbow(group)
    if found is None:
        return None
    studies, chosen, text = found
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    errorbars(axes, group, studies, "lora", lambda study: float(study.config["rank"]), 1)
    rank, height = chosen.config["rank"], factor_of(group) * chosen.score.value
    axes.annotate(
        f"elbow: rank {rank}", (rank, height), textcoords="offset points", xytext=(12, -34),
        arrowprops={"arrowstyle": "->"},
    )  # fmt: skip
    tried_values(axes, [float(study.config["rank"]) for study in studies])
    axes.set_ylabel(f"test {axis_label(group)}")
    finish(axes, "LoRA rank", logarithmic=True)
    return plot(figure, "ranks", f"Score against LoRA rank, with 95 % confidence intervals; {text}")


def reliability(group: Group) -> Plot | None:
    """The share of correct answers against their probability, for the first seed of each study."""
    known = [(study, study.tried[0].calibration) for study in studies_to_plot(group)]
    if not any(found for _, found in known):
        return None
    figure = Figure(figsize=(5.8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="perfect calibration")
    for number, (study, found) in enumerate(known):
        if found is not None:
            color, dash, marker = LINES[number]
            name = f"{study.name} (ECE {found.error:.3f}, Brier {found.brier:.3f})"
            axes.plot(
                [p for p, _, _ in found.bins], [r for _, r, _ in found.bins], color=color, linestyle=dash,
                marker=marker, markersize=4, linewidth=1.2, label=name,
            )  # fmt: skip
    axes.set_ylabel("share of correct answers")
    axes.set_xlim(min(p for _, found in known if found for p, _, _ in found.bins) - 0.02, 1.01)
    axes.legend(frameon=False, fontsize=8, handlelength=4)
    finish(axes, "probability of the answer")
    return plot(
        figure, "reliability", f"Reliability diagram on the test rows (first seed, {BINS} bins of equal size)"
    )
