"""Plots over training steps: loss and score, learning rates, and the score on the source task."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ftrun.reports.drawing import LINES, axis_label, factor_of, finish, plot, studies_to_plot
from ftrun.reports.labelling import CONTROL
from ftrun.reports.page import Plot
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.study import Group, Study, Tried

Series = list[tuple[float, float]]


def training(group: Group) -> Plot:
    """Loss and score over the epochs."""
    return learning_curves(
        group,
        studies_to_plot(group),
        "training",
        "Training curves (mean over seeds; the band spans the lowest and highest)",
    )


def against_scratch(group: Group) -> Plot | None:
    """The training curves of pre-trained weights and of random initialization."""
    control = [study for study in studies_to_plot(group) if study.config["strategy"] == CONTROL]
    others = [study for study in studies_to_plot(group) if study.config["strategy"] == "full"]
    others = others or [study for study in studies_to_plot(group) if study not in control][:1]
    if not control or not others:
        return None
    return learning_curves(
        group, [*others[:1], *control[:1]], "scratch", "Pre-trained weights against random initialization"
    )


def learning_curves(group: Group, studies: list[Study], name: str, title: str) -> Plot:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, study in enumerate(studies):
        color, dash, marker = LINES[number]
        band(left, study, "train_loss", color, dash, None, f"{study.name}, training", thin=True)
        band(left, study, "eval_loss", color, dash, marker, f"{study.name}, validation")
        band(right, study, f"eval_{group.metric}", color, dash, marker, study.name, factor_of(group))
    left.set_ylabel("loss (thin: training, thick: validation)")
    right.set_ylabel(f"validation {axis_label(group)}")
    for axes in (left, right):
        finish(axes, "epoch" if step_axis(studies) == "epoch" else "optimizer step")
    handles, names = right.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, handlelength=4)
    return plot(figure, name, title)


def forgotten(group: Group) -> Plot | None:
    """The score on the source task over the steps."""
    lines = [line for study in studies_to_plot(group) for line in study.tried[0].lines]
    keys = [key for line in lines for key in line if key.startswith("source")]
    metric = next((key for key in keys if lookup(key).is_share), next(iter(keys), None))
    if metric is None:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    factor = lookup(metric).factor
    for number, study in enumerate(studies_to_plot(group)):
        color, dash, marker = LINES[number]
        band(axes, study, metric, color, dash, marker, study.name, factor)
    axes.set_ylabel(f"{metric.replace('_', ' ', 1)}{' (%)' if factor > 1 else ''}")
    axes.legend(frameon=False, handlelength=4)
    finish(axes, "epoch" if step_axis(studies_to_plot(group)) == "epoch" else "optimizer step")
    return plot(figure, "forgetting", "Score on the source task during training, on its validation rows")


def step_axis(studies: list[Study]) -> str:
    """Epochs where all runs have similar numbers of them, else steps, as epochs of few rows are short."""
    lasts = [line["epoch"] for study in studies for line in study.tried[0].lines[-2:-1] if "epoch" in line]
    return "epoch" if lasts and max(lasts) < 2 * max(min(lasts), 1e-9) and max(lasts) < 50 else "step"


def band(
    axes: Any,
    study: Study,
    key: str,
    color: str,
    dash: Any,
    marker: str | None,
    label: str,
    factor: float = 1.0,
    thin: bool = False,
) -> None:
    axis = step_axis([study])
    runs = [series(each, key, axis) for each in study.tried]
    at = sorted(set.intersection(*(set(dict(run)) for run in runs))) if runs else []
    if not at:
        return
    rows = [[factor * dict(run)[x] for run in runs] for x in at]
    middle = [statistics.fmean(row) for row in rows]
    often = max(1, len(at) // 12)
    axes.plot(
        at, middle, color=color, linestyle=dash, marker=marker, markevery=often, markersize=5, label=label,
        linewidth=0.8 if thin else 1.8, alpha=0.6 if thin else 1.0,
    )  # fmt: skip
    if len(runs) > 1 and not thin:
        low, high = [min(row) for row in rows], [max(row) for row in rows]
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def series(tried: Tried, key: str, axis: str) -> Series:
    return [(line[axis], line[key]) for line in tried.lines if line.get(key) is not None and axis in line]


def rates(group: Group) -> Plot | None:
    """The learning rate over the steps, and by layer where train.layer_decay is below 1."""
    studies = [study for study in studies_to_plot(group) if series(study.tried[0], "learning_rate", "step")]
    if not studies:
        return None
    decayed = [study for study in studies if study.config["train"].get("layer_decay", 1) < 1]
    decayed = [study for study in decayed if study.tried[0].result.get("layers")][:1]
    figure = Figure(figsize=(11 if decayed else 6.5, 3.8), layout="constrained")
    panels: list[Any] = list(figure.subplots(1, 1 + len(decayed), squeeze=False)[0])
    alike: dict[tuple[tuple[float, float], ...], list[str]] = {}
    lines = []  # of the first of those alike, as in the other plots
    for study, line in zip(studies, LINES, strict=False):
        run = tuple(series(study.tried[0], "learning_rate", "step"))
        lines += [line] if run not in alike else []
        alike.setdefault(run, []).append(study.name)
    for (run, names), (color, dash, _) in zip(alike.items(), lines, strict=True):
        name = ", ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
        panels[0].plot(*zip(*run, strict=True), color=color, linestyle=dash, label=name)
    panels[0].set_ylabel("learning rate (highest of all layers)")
    peaks = [study.config["train"]["lr"] for study in studies]
    if max(peaks) > 5 * min(peaks):
        panels[0].set_yscale("log")
    panels[0].legend(frameon=False, fontsize=8, handlelength=4)
    finish(panels[0], "optimizer step")
    for axes, study in zip(panels[1:], decayed, strict=True):
        _layers(axes, study)
    return plot(figure, "rates", "Learning rates")


def _layers(axes: Any, study: Study) -> None:
    """Each layer's peak learning rate with its value."""
    train = study.config["train"]
    depth = study.tried[0].result["layers"]
    names = ["embeddings", *(f"layer {number}" for number in range(depth)), "head"]
    shares = [train["layer_decay"] ** min(depth - stage, depth) for stage in range(depth + 1)] + [1.0]
    found = [train["lr"] * share for share in shares]
    axes.plot(found, names, color="#0072B2", linestyle=":", marker="o")
    for rate, name in zip(found, names, strict=True):
        axes.annotate(f"{rate:.2g}", (rate, name), textcoords="offset points", xytext=(7, -3), fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(min(found) / 1.3, max(found) * 1.5)
    axes.set_title(f"{study.name}: train.layer_decay={train['layer_decay']:.3g}", fontsize=9)
    axes.set_xlabel("peak learning rate")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
