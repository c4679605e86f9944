"""The pictures of a comparison; lines differ in dash and marker too, so that they survive a grey printer."""

from __future__ import annotations

import io
import math
import statistics
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from ftrun.reports.labelling import CONTROL, crossovers, curves, points
from ftrun.reports.page import Picture
from ftrun.reports.summary import PERCENT
from ftrun.reports.verdicts import elbow

if TYPE_CHECKING:
    from collections.abc import Callable

    from ftrun.reports.study import Group, Study, Tried

# Okabe and Ito's colours for the colour-blind, from dark to light
LINES: tuple[tuple[str, Any, str], ...] = (
    ("#000000", "-", "o"), ("#0072B2", (0, (5, 1.5)), "s"), ("#D55E00", (0, (1, 1)), "^"),
    ("#009E73", "-.", "D"), ("#CC79A7", (0, (7, 2, 1, 2, 1, 2)), "v"), ("#E69F00", (0, (3, 3)), "P"),
    ("#56B4E9", (0, (10, 2)), "X"), ("#666666", (0, (2, 1, 1, 1)), "*"),
)  # fmt: skip
MOST = 8  # curves in one picture
Series = list[tuple[float, float]]


def pictures_of(group: Group, prefix: str = "") -> list[Picture]:
    """Every picture that these runs have something for."""
    drawn = [
        training(group), against_scratch(group), rates(group), labels(group), ranks(group),
        forgotten(group), reliability(group),
    ]  # fmt: skip
    return [Picture(prefix + p.name, p.title, p.png) for p in drawn if p is not None]


def shown(group: Group) -> list[Study]:
    """The studies that have room in one picture: with as many labels as any has, the best first."""
    most = max((study.facts["labels"] or 0 for study in group.studies), default=0)
    return [study for study in group.studies if (study.facts["labels"] or 0) == most][:MOST]


def training(group: Group) -> Picture:
    """Loss and score over the epochs."""
    return _curves(
        group, shown(group), "training", "Training: mean over seeds, the band from lowest to highest"
    )


def against_scratch(group: Group) -> Picture | None:
    """The same network from random weights beside its pre-trained self."""
    control = [study for study in shown(group) if study.config["strategy"] == CONTROL]
    others = [study for study in shown(group) if study.config["strategy"] == "full"]
    others = others or [study for study in shown(group) if study not in control][:1]
    if not control or not others:
        return None
    return _curves(group, [*others[:1], *control[:1]], "scratch", "Pre-trained and from random weights")


def _curves(group: Group, studies: list[Study], name: str, title: str) -> Picture:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, study in enumerate(studies):
        color, dash, marker = LINES[number]
        _band(left, study, "train_loss", color, dash, None, f"{study.name}, training", thin=True)
        _band(left, study, "eval_loss", color, dash, marker, f"{study.name}, validation")
        _band(right, study, f"eval_{group.metric}", color, dash, marker, study.name, _factor(group))
    left.set_ylabel("loss (thin: training, thick: validation)")
    right.set_ylabel(f"validation {_unit(group)}")
    for axes in (left, right):
        _finish(axes, "epoch" if _axis(studies) == "epoch" else "optimizer step")
    handles, names = right.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, handlelength=4)
    return _picture(figure, name, title)


def _axis(studies: list[Study]) -> str:
    """Epochs where all runs have about as many; else steps, as few rows make epochs short."""
    lasts = [line["epoch"] for study in studies for line in study.tried[0].lines[-2:-1] if "epoch" in line]
    return "epoch" if lasts and max(lasts) < 2 * max(min(lasts), 1e-9) and max(lasts) < 50 else "step"


def _band(
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
    axis = _axis([study])
    runs = [_series(each, key, axis) for each in study.tried]
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


def _series(tried: Tried, key: str, axis: str) -> Series:
    return [(line[axis], line[key]) for line in tried.lines if line.get(key) is not None and axis in line]


def rates(group: Group) -> Picture | None:
    """The learning rate over the steps, and of each layer where lower ones take less."""
    studies = [study for study in shown(group) if _series(study.tried[0], "learning_rate", "step")]
    if not studies:
        return None
    decayed = [study for study in studies if study.config["train"].get("layer_decay", 1) < 1]
    decayed = [study for study in decayed if study.tried[0].result.get("layers")][:1]
    figure = Figure(figsize=(11 if decayed else 6.5, 3.8), layout="constrained")
    panels: list[Any] = list(figure.subplots(1, 1 + len(decayed), squeeze=False)[0])
    alike: dict[tuple[tuple[float, float], ...], list[str]] = {}
    lines = []  # of the first of those alike, as in the other pictures
    for study, line in zip(studies, LINES, strict=False):
        run = tuple(_series(study.tried[0], "learning_rate", "step"))
        lines += [line] if run not in alike else []
        alike.setdefault(run, []).append(study.name)
    for (run, names), (color, dash, _) in zip(alike.items(), lines, strict=True):
        name = ", ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
        panels[0].plot(*zip(*run, strict=True), color=color, linestyle=dash, label=name)
    panels[0].set_ylabel("highest learning rate")
    peaks = [study.config["train"]["lr"] for study in studies]
    if max(peaks) > 5 * min(peaks):
        panels[0].set_yscale("log")
    panels[0].legend(frameon=False, fontsize=8, handlelength=4)
    _finish(panels[0], "optimizer step")
    for axes, study in zip(panels[1:], decayed, strict=True):
        _layers(axes, study)
    return _picture(figure, "rates", "Learning rates")


def _layers(axes: Any, study: Study) -> None:
    """A mark for each layer's peak rate, with its value."""
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


def labels(group: Group) -> Picture | None:
    """Score against the number of labels, with the places where they cross."""
    found = curves(group)
    if not found:
        return None
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, studies) in enumerate(list(found.items())[:MOST]):
        _errorbars(axes, group, studies, name, lambda study: study.facts["labels"] or 0.0, number)
    for number, (place, height, names) in enumerate(turns(found, group)):
        axes.axvline(place, color="#666666", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{names} at about {place:,.0f}", (place, height), textcoords="offset points",
            xytext=(12, -34 - 16 * number),
            fontsize=8, arrowprops={"arrowstyle": "-", "color": "#666666"},
        )  # fmt: skip
    _counted(axes, [study.facts["labels"] or 0.0 for studies in found.values() for study in studies])
    axes.set_ylabel(f"test {_unit(group)}")
    axes.legend(frameon=False, handlelength=4)
    _finish(axes, "labels (training rows)", logarithmic=True)
    return _picture(figure, "labels", "Score against the number of labels, 95 % intervals")


def turns(found: dict[str, list[Study]], group: Group) -> list[tuple[float, float, str]]:
    """Where two curves cross beyond noise: labels, score, and who takes over from whom."""
    marks = []
    for (first, one), (second, other) in combinations(found.items(), 2):
        mine, theirs = points(one, group.sign), dict(points(other, group.sign))
        last = max(x for x, _ in mine if x in theirs) if theirs.keys() & dict(mine).keys() else 0.0
        for place in crossovers(one, other, group.sign):
            after, before = (first, second) if dict(mine)[last] > theirs[last] else (second, first)
            (x0, y0), (x1, y1) = next(ends for ends in pairwise(mine) if ends[0][0] <= place <= ends[1][0])
            height = y0 + (y1 - y0) * math.log(place / x0) / math.log(x1 / x0)
            marks.append((place, group.sign * height * _factor(group), f"{after} passes {before}"))
    return marks


def ranks(group: Group) -> Picture | None:
    """Score against rank, with the elbow."""
    found = elbow(group)
    if found is None:
        return None
    studies, chosen, text = found
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    _errorbars(axes, group, studies, "lora", lambda study: float(study.config["rank"]), 1)
    rank, height = chosen.config["rank"], _factor(group) * chosen.score.value
    axes.annotate(
        f"elbow: rank {rank}", (rank, height), textcoords="offset points", xytext=(12, -34),
        arrowprops={"arrowstyle": "->"},
    )  # fmt: skip
    _counted(axes, [float(study.config["rank"]) for study in studies])
    axes.set_ylabel(f"test {_unit(group)}")
    _finish(axes, "rank", logarithmic=True)
    return _picture(figure, "ranks", f"Score against rank, 95 % intervals; {text}")


def _errorbars(
    axes: Any, group: Group, studies: list[Study], name: str, of: Callable[[Study], float], number: int
) -> None:
    color, dash, marker = LINES[number]
    factor = _factor(group)
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


def forgotten(group: Group) -> Picture | None:
    """What is left of the source over the steps."""
    lines = [line for study in shown(group) for line in study.tried[0].lines]
    keys = [key for line in lines for key in line if key.startswith("source")]
    metric = next((key for key in keys if key.endswith(("accuracy", "f1"))), next(iter(keys), None))
    if metric is None:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    factor = 100.0 if metric.endswith(PERCENT) else 1.0
    for number, study in enumerate(shown(group)):
        color, dash, marker = LINES[number]
        _band(axes, study, metric, color, dash, marker, study.name, factor)
    axes.set_ylabel(f"{metric.replace('_', ' ', 1)}{' (%)' if factor > 1 else ''}")
    axes.legend(frameon=False, handlelength=4)
    _finish(axes, "epoch" if _axis(shown(group)) == "epoch" else "optimizer step")
    return _picture(figure, "forgetting", "What is left of the source on its validation rows")


def reliability(group: Group) -> Picture | None:
    """The share of right answers against their probability, for the first seed of each study."""
    known = [(study, study.tried[0].calibration) for study in shown(group)]
    if not any(found for _, found in known):
        return None
    figure = Figure(figsize=(5.8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, label="as sure as right")
    for number, (study, found) in enumerate(known):
        if found is not None:
            color, dash, marker = LINES[number]
            name = f"{study.name} (ECE {found.error:.3f}, Brier {found.brier:.3f})"
            axes.plot(
                [p for p, _, _ in found.bins], [r for _, r, _ in found.bins], color=color, linestyle=dash,
                marker=marker, markersize=4, linewidth=1.2, label=name,
            )  # fmt: skip
    axes.set_ylabel("share of right answers")
    axes.set_xlim(min(p for _, found in known if found for p, _, _ in found.bins) - 0.02, 1.01)
    axes.legend(frameon=False, fontsize=8, handlelength=4)
    _finish(axes, "probability of the answer")
    return _picture(figure, "reliability", "Reliability on the test rows, 15 bins of equal size, first seed")


def _unit(group: Group) -> str:
    return f"{group.metric} (%)" if group.metric in PERCENT else group.metric


def _factor(group: Group) -> float:
    return 100.0 if group.metric in PERCENT else 1.0


def _counted(axes: Any, values: list[float]) -> None:
    """A logarithmic axis whose ticks are the values that were tried."""
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(values)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()


def _finish(axes: Any, label: str, logarithmic: bool = False) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if not logarithmic:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))


def _picture(figure: Figure, name: str, title: str) -> Picture:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return Picture(name, title, file.getvalue())
