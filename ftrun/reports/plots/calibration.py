"""The reliability diagrams: how often the answers are correct, against how probable the model calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.reports.diagnosing.calibration import BINS
from ftrun.reports.plots.drawing import OWN, best_alone, folded, multiples, plot, studies_to_plot, without

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.calibration import Calibration
    from ftrun.reports.pages.page import Plot
    from ftrun.reports.study import Group

BEST = 6  # studies with a diagram
AREA = 260.0  # square points of all bins of a diagram together


def reliability(group: Group) -> Plot | None:
    """A reliability diagram of the first seed of each of the best studies, with its calibration error."""
    known = [
        (study.name, found)
        for study in studies_to_plot(group)
        if (found := study.tried[0].calibration) is not None
    ]
    if not known:
        return None
    names = [name for name, _ in known]
    figure, panels = multiples(names[:BEST], 2.3)
    titles = folded(names[:BEST], 24)
    for (name, found), axes in zip(known, panels, strict=False):
        diagram(axes, found)
        axes.set_title(f"{titles[name]}\nECE {found.error:.3f} · Brier {found.brier:.3f}", fontsize=9)
    figure.supylabel("share of correct answers", fontsize=10)
    figure.supxlabel("probability of the answer", fontsize=10)
    caption = f"Reliability on the test rows (first seed, {BINS} bins of equal size; on the line: calibrated)"
    return plot(figure, "reliability", caption + best_alone(group) + without(names[BEST:]))


def diagram(axes: Any, found: Calibration) -> None:
    """The bins as circles as large as their numbers of answers, and the line of perfect calibration."""
    total = sum(count for _, _, count in found.bins)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.9, linestyle="--")
    sure, right = [p for p, _, _ in found.bins], [share for _, share, _ in found.bins]
    axes.plot(sure, right, color=OWN, linewidth=1.0, alpha=0.6)
    axes.scatter(sure, right, s=[AREA * count / total for _, _, count in found.bins], color=OWN, zorder=3)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1])
