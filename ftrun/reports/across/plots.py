"""The critical-difference picture: average ranks on an axis, bars over ways that are not told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from ftrun.errors import counted
from ftrun.reports.across.ranking import alike
from ftrun.reports.plots.drawing import plain, plot

if TYPE_CHECKING:
    from ftrun.reports.across.matching import Across
    from ftrun.reports.across.ranking import Versus
    from ftrun.reports.pages.page import Plot

GAP = 0.25  # height of a bar's row, of a way's label 1


def ranks_plot(found: Across, pairs: list[Versus]) -> Plot:
    """After Demšar 2006, figure 1, with bars from Holm-corrected signed-rank tests."""
    bars = alike(len(found.ways), pairs) if pairs else []
    ways, average = len(found.ways), found.average
    lower = -GAP * (len(bars) + 1)
    rows = (ways + 1) // 2
    figure = Figure(figsize=(8, 1.1 + 0.32 * (rows + GAP * len(bars))), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(1 - 0.02, ways + 0.02)
    axes.set_ylim(lower - rows - 0.2, 0)
    for number, way in enumerate(found.ways):
        label(axes, f"{way} ({average[number]:.3g})", float(average[number]), number, ways, lower)
    for number, members in enumerate(bars):
        height = -GAP * (number + 1)
        ends = [float(average[member]) for member in (members[0], members[-1])]
        axes.plot([ends[0] - 0.02, ends[1] + 0.02], [height, height], color="#000000", linewidth=3.5)
        inner = [float(average[member]) for member in members]
        axes.plot(inner, [height] * len(inner), "o", color="#000000", markersize=4.5)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(1, ways + 1))
    axes.set_xlabel(f"average rank over {counted(len(found.sets), 'data set')} (1 is the best)")
    axes.set_yticks([])
    axes.spines[["bottom", "left", "right"]].set_visible(False)
    joined = (
        "bars join ways, at their dots, that the signed-rank test does not tell apart"
        if bars
        else "no two ways are joined"
    )
    return plot(figure, "across", f"Average ranks; {joined if pairs else 'differences are not tested'}")


def label(axes: Any, text: str, rank: float, number: int, ways: int, lower: float) -> None:
    """The better half is named on the left, the others on the right, the outermost ones at the top."""
    left = number < (ways + 1) // 2
    row = number if left else ways - 1 - number
    height = lower - row - 0.5
    edge, other = (1.0, "right") if left else (float(ways), "left")
    axes.plot([rank, rank, edge], [0, height, height], color="#555555", linewidth=0.9, clip_on=False)
    shift = -4 if left else 4
    axes.annotate(
        plain(text), (edge, height), xytext=(shift, 0), textcoords="offset points", ha=other, va="center",
        fontsize=10, annotation_clip=False,
    )  # fmt: skip
