"""The learning rates: over the steps, and by layer where they differ by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import NullFormatter

from ftrun.reports.plots.drawing import (
    LINES,
    best_alone,
    even_ticks,
    legend_outside,
    overlaid,
    plain,
    plot,
    without,
)
from ftrun.reports.plots.training import series, trained

if TYPE_CHECKING:
    from ftrun.reports.pages.page import Plot
    from ftrun.reports.study import Group, Study


def rates(group: Group) -> Plot | None:
    """The learning rate over the steps, and by layer where train.layer_decay is below 1."""
    alike: dict[tuple[tuple[float, float], ...], list[Study]] = {}
    for study in trained(group):
        if run := tuple(series(study.tried[0], "learning_rate", "step")):
            alike.setdefault(run, []).append(study)
    if not alike:
        return None
    decayed = [study for studies in alike.values() for study in studies if _by_layer(study)][:1]
    figure, panels = overlaid(3.3, parts=1 + len(decayed))
    axes = panels[0]
    for (run, studies), (color, dash, _) in zip(alike.items(), LINES, strict=False):
        axes.plot(*zip(*run, strict=True), color=color, linestyle=dash, label=_names(studies))
    axes.set_ylabel("learning rate")
    axes.set_xlabel("optimizer step")
    even_ticks(axes)
    peaks = [max(rate for _, rate in run) for run in alike]
    if max(peaks) > 5 * min(peaks):
        axes.set_yscale("log")
    legend_outside(figure, axes, "outside upper center" if decayed else "outside lower center")
    for below, study in zip(panels[1:], decayed, strict=True):
        _layers(below, study)
    rest = [_names(studies) for studies in list(alike.values())[len(LINES) :]]
    highest = " (above: the highest of all layers)" if decayed else ""
    return plot(figure, "rates", f"Learning rates{highest}{best_alone(group)}{without(rest)}")


def _names(studies: list[Study]) -> str:
    names = [study.name for study in studies]
    return ", ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def _by_layer(study: Study) -> bool:
    return study.config["train"].get("layer_decay", 1) < 1 and bool(study.tried[0].result.get("layers"))


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
    axes.set_title(f"{plain(study.name)}: train.layer_decay={train['layer_decay']:.3g}", fontsize=9)
    axes.set_xlabel("peak learning rate")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", visible=False)
