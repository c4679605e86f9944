"""What all plots share: line styles that survive a grey printer, axes, error bars, and the PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from ftrun.reports.page import Plot
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from collections.abc import Callable

    from ftrun.reports.study import Group, Study

# Okabe and Ito's colours for the colour-blind, from dark to light
LINES: tuple[tuple[str, Any, str], ...] = (
    ("#000000", "-", "o"), ("#0072B2", (0, (5, 1.5)), "s"), ("#D55E00", (0, (1, 1)), "^"),
    ("#009E73", "-.", "D"), ("#CC79A7", (0, (7, 2, 1, 2, 1, 2)), "v"), ("#E69F00", (0, (3, 3)), "P"),
    ("#56B4E9", (0, (10, 2)), "X"), ("#666666", (0, (2, 1, 1, 1)), "*"),
)  # fmt: skip
MOST = 8  # curves in one plot


def studies_to_plot(group: Group) -> list[Study]:
    """The studies that fit into one plot: those with the most labels, the best first."""
    most = max((study.facts["labels"] or 0 for study in group.ways), default=0)
    return [study for study in group.ways if (study.facts["labels"] or 0) == most][:MOST]


def axis_label(group: Group) -> str:
    unit = lookup(group.metric).unit
    return f"{group.metric} ({unit})" if unit else group.metric


def factor_of(group: Group) -> float:
    return float(lookup(group.metric).factor)


def errorbars(
    axes: Any, group: Group, studies: list[Study], name: str, of: Callable[[Study], float], number: int
) -> None:
    color, dash, marker = LINES[number]
    factor = factor_of(group)
    shift = 1 + 0.03 * (number - 1)  # side by side, not on top of each other
    values = [factor * study.score.value for study in studies]
    reach = [
        [factor * (study.score.value - study.score.low) for study in studies],
        [factor * (study.score.high - study.score.value) for study in studies],
    ]
    axes.errorbar(
        [shift * of(study) for study in studies], values, yerr=reach, color=color, linestyle=dash,
        marker=marker, capsize=3, elinewidth=0.8, label=name,
    )  # fmt: skip


def tried_values(axes: Any, values: list[float]) -> None:
    """A logarithmic axis with a tick at each value that was tried."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(values)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()


def finish(axes: Any, label: str, logarithmic: bool = False) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if not logarithmic:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))


def plot(figure: Figure, name: str, title: str) -> Plot:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return Plot(name, title, file.getvalue())
