"""Plots of the final scores with their intervals: of each study, by number of labels and by LoRA rank."""

from __future__ import annotations

import string
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ftrun.errors import counted
from ftrun.reports.numbers import score
from ftrun.reports.plots.drawing import (
    CURVES,
    FEW,
    LINES,
    OTHERS,
    OWN,
    PANELS,
    axis_label,
    errorbars,
    even_ticks,
    factor_of,
    folded,
    legend_outside,
    multiples,
    overlaid,
    plot,
    tried_values,
    without,
)
from ftrun.reports.verdicts.labelling import crossovers, curves, points
from ftrun.reports.verdicts.sentences import elbow

if TYPE_CHECKING:
    from ftrun.reports.pages.page import Plot
    from ftrun.reports.study import Group, Study

MOST = 24  # studies with a line of their own, the best first
OTHER = LINES[2][0]  # of the baselines


def scores(group: Group) -> Plot:
    """The score of each study as a point with its interval, the best on top; a baseline's point is hollow."""
    drawn, factor = group.studies[:MOST], factor_of(group)
    names = folded([study.name for study in drawn], 26)
    figure, (axes,) = overlaid(1.2 + 0.3 * len(drawn) + 0.12 * sum("\n" in name for name in names.values()))
    best = group.best.score
    axes.axvspan(factor * best.low, factor * best.high, color=OWN, alpha=0.08, linewidth=0)
    for place, study in enumerate(drawn):
        found = study.score
        color, inside = (OTHER, "white") if study.baseline else (OWN, OWN)
        axes.plot([factor * found.low, factor * found.high], [place, place], color=color, linewidth=1.8)
        axes.plot(
            [factor * found.value], [place], color=color, marker="o", markersize=6, markerfacecolor=inside
        )
        text = score(found.value, group.metric)
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_yticks(range(len(drawn)), [names[study.name] for study in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"test {axis_label(group)}")
    even_ticks(axes, 6)
    rest = without([study.name for study in group.studies[MOST:]])
    where = f"on {counted(group.items, 'test example')}"
    return plot(figure, "scores", f"Scores {where}, with 95 % confidence intervals{rest}")


def labels(group: Group) -> Plot | None:
    """Score against the number of labels, with crossovers marked where the curves share a plot."""
    found = curves(group)
    if not found:
        return None
    caption = "Score against the number of labels, with 95 % confidence intervals"
    ordered = sorted(found, key=lambda name: -group.sign * found[name][-1].score.value)
    if len(found) > FEW:
        return _labels_in_panels(group, found, ordered, caption)
    figure, (axes,) = overlaid(3.9)
    for number, (name, style) in enumerate(zip(ordered, LINES, strict=False)):
        shift = 1 + 0.03 * (number - 1)  # side by side, not on top of each other
        places = [shift * labels_of(study) for study in found[name]]
        errorbars(axes, group, found[name], places, style, label=name)
    for letter, (place, text) in zip(string.ascii_lowercase, turns(found, group), strict=False):
        axes.axvline(place, color="#666666", linewidth=0.9, linestyle=":")
        axes.text(place, 1.01, letter, transform=axes.get_xaxis_transform(), ha="center")
        caption += f"; {letter}: {text}"
    _label_axis(axes, found)
    axes.set_ylabel(f"test {axis_label(group)}")
    axes.set_xlabel("labels (training rows)")
    legend_outside(figure, axes)
    return plot(figure, "labels", caption)


def _labels_in_panels(group: Group, found: dict[str, list[Study]], ordered: list[str], caption: str) -> Plot:
    figure, panels = multiples(ordered[:PANELS])
    for name, axes in zip(ordered, panels, strict=False):
        for other in ordered[:CURVES]:
            if other != name:
                values = [factor_of(group) * study.score.value for study in found[other]]
                axes.plot([labels_of(study) for study in found[other]], values, color=OTHERS, linewidth=1)
        errorbars(axes, group, found[name], [labels_of(study) for study in found[name]], (OWN, "-", "o"))
        _label_axis(axes, found)
        axes.tick_params(axis="x", labelrotation=45)
    figure.supylabel(f"test {axis_label(group)}", fontsize=10)
    figure.supxlabel("labels (training rows)", fontsize=10)
    rest = without(ordered[PANELS:CURVES], "in grey only") + without(ordered[CURVES:])
    return plot(figure, "labels", f"{caption}; in grey the other strategies{rest}")


def _label_axis(axes: Any, found: dict[str, list[Study]]) -> None:
    tried_values(axes, [labels_of(study) for studies in found.values() for study in studies])


def labels_of(study: Study) -> float:
    return study.facts["labels"] or 0.0


def turns(found: dict[str, list[Study]], group: Group) -> list[tuple[float, str]]:
    """The significant crossovers of two curves: the number of labels, and a text."""
    marks = []
    for (first, one), (second, other) in combinations(found.items(), 2):
        mine, theirs = dict(points(one, group.sign)), dict(points(other, group.sign))
        last = max((x for x in mine if x in theirs), default=0.0)
        for place in crossovers(one, other, group.sign):
            after, before = (first, second) if mine[last] > theirs[last] else (second, first)
            marks.append((place, f"{after} overtakes {before} at about {place:,.0f} labels"))
    return sorted(marks)


def ranks(group: Group) -> Plot | None:
    """Score against LoRA rank, with the elbow marked."""
    found = elbow(group)
    if found is None:
        return None
    studies, chosen, text = found
    figure, (axes,) = overlaid(3.4)
    tried = [float(study.config["rank"]) for study in studies]
    errorbars(axes, group, studies, tried, LINES[1])
    rank = chosen.config["rank"]
    axes.axvline(rank, color="#666666", linewidth=0.9, linestyle=":")
    axes.text(rank, 1.01, f"elbow: rank {rank}", transform=axes.get_xaxis_transform(), ha="center")
    tried_values(axes, tried)
    axes.set_ylabel(f"test {axis_label(group)}")
    axes.set_xlabel("LoRA rank")
    return plot(figure, "ranks", f"Score against LoRA rank, with 95 % confidence intervals; {text}")
