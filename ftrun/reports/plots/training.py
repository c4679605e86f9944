"""Plots over training steps: loss and score, and the score on the source task."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from ftrun.reports.plots.drawing import (
    FEW,
    LINES,
    OTHERS,
    OWN,
    PANELS,
    SECOND,
    axis_label,
    best_alone,
    even_ticks,
    factor_of,
    legend_outside,
    multiples,
    overlaid,
    plot,
    studies_to_plot,
    without,
)
from ftrun.reports.verdicts.labelling import CONTROL
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.pages.page import Plot
    from ftrun.reports.study import Group, Study
    from ftrun.reports.tried import Tried

Series = list[tuple[float, float]]


def training(group: Group) -> list[Plot]:
    """Loss and score over the epochs: few studies in one plot, more in a panel each."""
    studies = trained(group)
    if not studies:
        return []
    if len(studies) <= FEW:
        return [learning_curves(group, studies, "training", f"Training curves{averaged(studies)}")]
    score, rest = f"eval_{group.metric}", averaged(studies) + best_alone(group)
    return [
        in_panels(studies, score, f"validation {axis_label(group)}", "training",
            f"Validation {group.metric} during training{rest}", factor_of(group)),
        in_panels(studies, "eval_loss", "loss", "loss", f"Loss during training{rest}", beside="train_loss"),
    ]  # fmt: skip


def averaged(studies: list[Study]) -> str:
    """The part of a caption that says over what each curve is the mean; empty where it is a single run."""
    over = [name for name in ("folds", "splits") if any(name in study.tried[0].tests for study in studies)]
    over += ["seeds"] if any(len(study.tried) > 1 for study in studies) else []
    words = " and ".join([", ".join(over[:-1]), *over[-1:]] if len(over) > 1 else over)
    return f" (mean over {words}; the band spans the lowest and highest)" if over else ""


def trained(group: Group) -> list[Study]:
    """The studies to plot that have curves, and beside them those whose head was solved for, a level each."""
    found = [study for study in studies_to_plot(group) if study.tried[0].lines]
    return found if any(not solved(study) for study in found) else []


def solved(study: Study) -> bool:
    """Whether the lines of its runs are L2 strengths tried, not training steps."""
    return any("l2" in line for line in study.tried[0].lines)


def against_scratch(group: Group) -> Plot | None:
    """The training curves of pre-trained weights and of random initialization."""
    control = [study for study in trained(group) if study.config["strategy"] == CONTROL]
    others = [study for study in trained(group) if study.config["strategy"] == "full"]
    others = others or [study for study in trained(group) if study not in control][:1]
    if not control or not others:
        return None
    both = [*others[:1], *control[:1]]
    title = f"Pre-trained weights against random initialization{averaged(both)}"
    return learning_curves(group, both, "scratch", title)


def learning_curves(group: Group, studies: list[Study], name: str, title: str) -> Plot:
    """The loss, and below it the score, of a few studies."""
    figure, (above, below) = overlaid(3.3, parts=2)
    axis = step_axis(studies)
    for study, style in zip(studies, LINES, strict=False):
        band(above, study, "train_loss", axis, style, thin=True)
        band(above, study, "eval_loss", axis, style)
        band(below, study, f"eval_{group.metric}", axis, style, factor_of(group), label=study.name)
    above.set_ylabel("loss (thin: training)")
    below.set_ylabel(f"validation {axis_label(group)}")
    for axes in (above, below):
        axes.set_xlabel(AXES[axis])
        even_ticks(axes)
    legend_outside(figure, below)
    return plot(figure, name, title)


def in_panels(
    studies: list[Study],
    key: str,
    label: str,
    name: str,
    title: str,
    factor: float = 1.0,
    beside: str | None = None,
) -> Plot:
    """A panel for each study, with the others in grey behind it; `beside` is a second, thin curve."""
    figure, panels = multiples([study.name for study in studies[:PANELS]])
    axis = step_axis(studies)
    for study, axes in zip(studies, panels, strict=False):
        for other in studies:
            if other is not study:
                band(axes, other, key, axis, (OTHERS, "-", None), factor, thin=True)
        if beside is not None:
            band(axes, study, beside, axis, (SECOND, "-", None), thin=True, label="training")
        band(axes, study, key, axis, (OWN, "-", None), factor, label="validation")
        even_ticks(axes, 4)
    figure.supylabel(label, fontsize=10)
    figure.supxlabel(AXES[axis], fontsize=10)
    if beside is not None:
        legend_outside(figure, panels[0], "outside upper center")
    rest = without([study.name for study in studies[PANELS:]], "in grey only")
    return plot(figure, name, f"{title}; in grey the other studies{rest}")


def forgotten(group: Group) -> Plot | None:
    """The score on the source task over the steps."""
    studies = trained(group)
    keys = [key for study in studies for line in study.tried[0].lines for key in line]
    keys = [key for key in keys if key.startswith("source")]
    metric = next((key for key in keys if lookup(key).is_share), next(iter(keys), None))
    if metric is None:
        return None
    factor = lookup(metric).factor
    title = f"Score on the source task during training, on its validation rows{averaged(studies)}"
    title += best_alone(group)
    label = f"{metric.replace('_', ' ', 1)}{' (%)' if factor > 1 else ''}"
    if len(studies) > FEW:
        return in_panels(studies, metric, label, "forgetting", title, factor)
    figure, (axes,) = overlaid(3.6)
    axis = step_axis(studies)
    for study, style in zip(studies, LINES, strict=False):
        band(axes, study, metric, axis, style, factor, label=study.name)
    axes.set_ylabel(label)
    axes.set_xlabel(AXES[axis])
    even_ticks(axes)
    legend_outside(figure, axes)
    return plot(figure, "forgetting", title)


AXES = {"epoch": "epoch", "step": "optimizer step"}


def step_axis(studies: list[Study]) -> str:
    """Epochs where all runs have similar numbers of them, else steps, as epochs of few rows are short."""
    studies = [study for study in studies if not solved(study)]
    lasts = [line["epoch"] for study in studies for line in study.tried[0].lines[-2:-1] if "epoch" in line]
    return "epoch" if lasts and max(lasts) < 2 * max(min(lasts), 1e-9) and max(lasts) < 50 else "step"


def band(
    axes: Any,
    study: Study,
    key: str,
    axis: str,
    style: Any,
    factor: float = 1.0,
    thin: bool = False,
    label: str | None = None,
) -> None:
    """The mean over a study's runs, and the span of their values; `style` is a colour, dashes, a marker.

    Of a head that was solved for it is a level, that of its best strength.
    """
    color, dash, marker = style
    if solved(study):
        best = [line.get(key) for each in study.trained for line in each.lines if chosen(each, line)]
        values = [factor * value for value in best if value is not None]
        if values:
            axes.axhline(
                statistics.fmean(values), color=color, linestyle=dash, label=label,
                linewidth=0.9 if thin else 1.8, alpha=0.7 if thin else 1.0,
            )  # fmt: skip
        return
    at, rows = in_common([series(each, key, axis) for each in study.trained])
    if not at:
        return
    rows = [[factor * value for value in row] for row in rows]
    axes.plot(
        at, [statistics.fmean(row) for row in rows], color=color, linestyle=dash, label=label,
        marker=None if thin else marker, markevery=max(1, len(at) // 12), markersize=5,
        linewidth=0.9 if thin else 1.8, alpha=0.7 if thin else 1.0,
    )  # fmt: skip
    if len(rows[0]) > 1 and not thin:
        low, high = [min(row) for row in rows], [max(row) for row in rows]
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def chosen(tried: Tried, line: dict[str, Any]) -> bool:
    """Whether a line is that of the run's best strength."""
    return "l2" in line and line["l2"] == tried.result.get("l2")


def in_common(runs: list[Series]) -> tuple[list[float], list[list[float]]]:
    """Where all curves are known, and there the value of each; nothing where one of them has no point.

    Between two points of its own a curve is read on the line that joins them: folds of unlike size are
    evaluated at unlike parts of an epoch.
    """
    import numpy

    if not all(runs):
        return [], []
    runs = [sorted(dict(run).items()) for run in runs]
    low, high = max(run[0][0] for run in runs), min(run[-1][0] for run in runs)
    at = sorted({x for run in runs for x, _ in run if low <= x <= high})
    columns = [numpy.interp(at, *zip(*run, strict=True)).tolist() for run in runs]
    return at, [[*row] for row in zip(*columns, strict=True)]


def series(tried: Tried, key: str, axis: str) -> Series:
    """The values of one column over the steps or epochs that have it."""
    return [(line[axis], line[key]) for line in tried.lines if line.get(key) is not None and axis in line]
