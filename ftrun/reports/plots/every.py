"""Every plot of a group of comparable runs, in the order in which they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib

from ftrun.reports.plots.calibration import reliability
from ftrun.reports.plots.drawing import TEXT
from ftrun.reports.plots.rates import rates
from ftrun.reports.plots.scores import labels, ranks, scores
from ftrun.reports.plots.training import against_scratch, forgotten, training

if TYPE_CHECKING:
    from ftrun.reports.pages.page import Plot
    from ftrun.reports.study import Group


def plots_of(group: Group, prefix: str = "") -> list[Plot]:
    """Every plot that these runs have data for, the scores first; `prefix` begins the names of the files."""
    with matplotlib.rc_context(TEXT):
        drawn = [
            scores(group), labels(group), ranks(group), *training(group), against_scratch(group),
            forgotten(group), reliability(group), rates(group),
        ]  # fmt: skip
    found = [plot for plot in drawn if plot is not None]
    for plot in found:
        plot.name = prefix + plot.name
    return found
