"""What all plots share: line styles that survive a grey printer, panels, names, error bars, and the PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from ftrun.reports.numbers import cut, distinct, filled
from ftrun.reports.pages.page import Plot
from ftrun.runs.streams import shown
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ftrun.reports.study import Group, Study

# Okabe and Ito's colours for the colour-blind, from dark to light
LINES: tuple[tuple[str, Any, str], ...] = (
    ("#000000", "-", "o"), ("#0072B2", (0, (5, 1.5)), "s"), ("#D55E00", (0, (1, 1)), "^"),
    ("#009E73", "-.", "D"), ("#CC79A7", (0, (7, 2, 1, 2, 1, 2)), "v"), ("#E69F00", (0, (3, 3)), "P"),
    ("#56B4E9", (0, (10, 2)), "X"), ("#666666", (0, (2, 1, 1, 1)), "*"),
)  # fmt: skip
OWN, SECOND, OTHERS = "#0072B2", "#D55E00", "#BBBBBB"  # of small multiples: the panel's curves, all others
Place = Literal["outside lower center", "outside upper center"]  # of a legend
FEW = 4  # curves that are told apart in one plot; more get a panel each
PANELS = 9  # at most, the best first
CURVES = 100  # studies with curves at most, the best ones: more are a grey field
WIDTH = 6.0  # inches of every figure: a page of 420 pixels shows 10 points as 9 pixels
TEXT: dict[Any, Any] = {
    "font.size": 10, "axes.labelsize": 10, "axes.titlesize": 9.5, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "legend.fontsize": 9.5, "legend.frameon": False, "legend.handlelength": 3.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
}  # fmt: skip


def studies_to_plot(group: Group) -> list[Study]:
    """The CURVES best studies with the most labels, the best first; their curves have the same scale."""
    return _of_one_scale(group)[:CURVES]


def best_alone(group: Group) -> str:
    """The end of a caption that says so; empty where all of them are drawn."""
    count = len(_of_one_scale(group))
    return f"; of the best {CURVES} of {count:,} studies" if count > CURVES else ""


def _of_one_scale(group: Group) -> list[Study]:
    most = max((study.facts["labels"] or 0 for study in group.ways), default=0)
    return [study for study in group.ways if (study.facts["labels"] or 0) == most]


def axis_label(group: Group) -> str:
    unit = lookup(group.metric).unit
    return f"{group.metric} ({unit})" if unit else group.metric


def factor_of(group: Group) -> float:
    return float(lookup(group.metric).factor)


def folded(names: Iterable[str], width: int, lines: int = 2) -> dict[str, str]:
    """Each name on at most this many lines of `width` characters; no two come to be the same."""
    known = list(dict.fromkeys(names))
    for room in range(width * lines, width, -1):
        texts = [filled(text, width) for text in distinct(known, room).values()]
        if all(len(text) <= lines for text in texts):
            return {name: plain("\n".join(text)) for name, text in zip(known, texts, strict=True)}
    return {name: plain(text) for name, text in distinct(known, width).items()}


def plain(text: str) -> str:
    """A name as matplotlib draws it letter by letter: no formula between dollars, no control characters."""
    return shown(text).replace("$", "\\$")


def overlaid(height: float, parts: int = 1) -> tuple[Figure, list[Any]]:
    """A figure with `parts` plots, one below the other."""
    figure = Figure(figsize=(WIDTH, height * parts), layout="constrained")
    return figure, list(figure.subplots(parts, 1, squeeze=False).ravel())


def multiples(names: list[str], height: float = 1.7) -> tuple[Figure, list[Any]]:
    """Panels with the same axes, one for each name, which is its title."""
    across = 2 if len(names) in (2, 4) else min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(WIDTH, 0.5 + height * down), layout="constrained")
    panels = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel())
    titles = folded(names, 66 // across)
    for place, axes in enumerate(panels):
        if place >= len(names):
            axes.set_visible(False)
            continue
        axes.set_title(titles[names[place]], fontweight="bold")
        axes.tick_params(labelbottom=place + across >= len(names))
    return figure, panels[: len(names)]


def legend_outside(figure: Figure, axes: Any, place: Place = "outside lower center") -> None:
    """The legend below or above the plots, where it covers nothing."""
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    texts = folded(names, 38)
    across = 1 if len(names) == 1 else 3 if max(map(len, texts.values())) <= 18 else 2
    figure.legend(handles, [texts[name] for name in names], loc=place, ncols=across)


def without(names: list[str], why: str = "not drawn") -> str:
    """The end of a caption that names what a plot leaves out; empty where that is nothing."""
    return f"; {why}: {', '.join(cut(names))}" if names else ""


def errorbars(
    axes: Any, group: Group, studies: list[Study], places: list[float], style: Any, **more: Any
) -> None:
    """Scores with their intervals at places on the other axis; `style` is one of LINES."""
    color, dash, marker = style
    factor = factor_of(group)
    values = [factor * study.score.value for study in studies]
    reach = [
        [factor * (study.score.value - study.score.low) for study in studies],
        [factor * (study.score.high - study.score.value) for study in studies],
    ]
    axes.errorbar(
        places, values, yerr=reach, color=color, linestyle=dash, marker=marker,
        markersize=5, capsize=3, elinewidth=0.9, **more,
    )  # fmt: skip


def tried_values(axes: Any, values: list[float]) -> None:
    """A logarithmic axis with a tick at each value that was tried."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(values)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()


def even_ticks(axes: Any, most: int = 8) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, steps=[1, 2, 5, 10]))


def plot(figure: Figure, name: str, title: str) -> Plot:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return Plot(name, title, file.getvalue())
