"""The comparison over several data sets in words and tables, and as a file or on standard output."""

from __future__ import annotations

import csv
import io
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.across.matching import Across, across
from ftrun.reports.across.ranking import (
    FEWEST,
    ROPE,
    Versus,
    friedman,
    sets_needed,
    smallest_p,
    versus,
)
from ftrun.reports.numbers import score
from ftrun.reports.pages.console import console
from ftrun.reports.pages.page import Section, as_markdown
from ftrun.reports.pages.terminal import on_terminal
from ftrun.reports.pages.webpage import as_html
from ftrun.reports.statistics.significance import ALPHA
from ftrun.reports.table import ENDINGS, put, rows_of, save_plots

if TYPE_CHECKING:
    from collections.abc import Sequence

PAIRS = 15  # shown; of more, those with the best way; the csv file has these too


def write(paths: list[str], form: str | None, output: str | None, plots: str | None) -> None:
    """The report over the data sets of all runs below these paths, as `reports.table.write` does for one."""
    found = across(rows_of(paths))
    pairs = tested(found)
    form = form or ENDINGS.get(Path(output or "").suffix, "table")
    if form == "csv":
        put(as_csv(found, pairs), output)
        return
    sections = sections_of(found, pairs)
    if form == "html" or plots is not None:
        from ftrun.reports.across.plots import ranks_plot

        sections.insert(2, Section("Average ranks", plots=[ranks_plot(found, pairs)]))
    if plots is not None:
        save_plots(Path(plots), sections)
    title = f"{counted(len(found.ways), 'way')} of training on {counted(len(found.sets), 'data set')}"
    if form == "html":
        put(as_html(title, ", ".join(found.sets), sections), output)
    elif form == "table" and output is None:
        on_terminal(console(), sections)
    else:
        put(f"# {title}\n{as_markdown(sections)}", output)


def tested(found: Across) -> list[Versus]:
    """The pairs, tested where enough data sets have scores in the same unit."""
    return versus(found.gains()) if len(found.shares) >= FEWEST else []


def sections_of(found: Across, pairs: list[Versus]) -> list[Section]:
    """A sentence, the table, the pairs, and what was left out."""
    sections = [
        Section("Over all data sets", lead=verdict(found, pairs), lines=[overall(found)]),
        table(found),
    ]
    if pairs:
        sections.append(pairwise(found, pairs))
    if found.notes:
        sections.append(Section("Left out", lines=found.notes))
    return sections


def verdict(found: Across, pairs: list[Versus]) -> str:
    """Who is ahead, how often, and how probably."""
    wins, sets = int(found.tied[:, 0].sum()), len(found.sets)
    shared = "or tied " if (found.tied.sum(1)[found.tied[:, 0]] > 1).any() else ""
    text = (
        f"{found.ways[0]} is best {shared}on {wins} of {sets} data sets: average rank {found.average[0]:.3g}"
    )
    level = [
        way for way, rank in zip(found.ways, found.average, strict=True) if isclose(rank, found.average[0])
    ]
    if len(level) > 1:
        return f"no way is ahead: {' and '.join(level)} have the same average rank, {found.average[0]:.3g}"
    if not pairs:
        return text
    second = next(pair for pair in pairs if (pair.first, pair.second) == (0, 1))
    return (
        f"{text}; better than {found.ways[1]} (rank {found.average[1]:.3g}) with probability "
        f"{second.better:.2f}, practically equal with {second.equal:.2f}"
    )


def overall(found: Across) -> str:
    """Friedman's test, or what is lacking for it."""
    sets, ways = found.ranks.shape
    if sets < FEWEST:
        return f"{sets} data sets are too few for a test over data sets, which needs at least {FEWEST}"
    if ways < 3:
        return "Friedman's test needs three ways of training; the two are compared below"
    test = friedman(found.ranks)
    chance = "p < 0.001" if test.p < 0.001 else f"p = {test.p:.2g}"
    differ = "the ways differ" if test.p < ALPHA else "no difference among the ways is significant"
    how = f"F = {test.f:.3g}" if test.f < float("inf") else "all data sets give the same order"
    return f"{differ} (Friedman's test with Iman and Davenport's F: {how}, {chance})"


def table(found: Across) -> Section:
    """A row for each data set, a column for each way, and the average ranks below."""
    rows = []
    for number, (name, metric) in enumerate(zip(found.sets, found.metrics, strict=True)):
        cells = [
            f"{score(value, metric)} ({rank:g}){' =' if tied and rank > 1 else ''}"
            for value, rank, tied in zip(
                found.scores[number], found.ranks[number], found.tied[number], strict=True
            )
        ]
        rows.append([name, metric, *cells])
    rows.append(["average rank", "", *(f"{rank:.2f}" for rank in found.average)])
    lines = ["test scores, means over seeds, and in brackets their ranks"]
    if any(cell.endswith("=") for row in rows for cell in row):
        lines[0] += "; = is not told apart from the best by the paired test on that data set's test rows"
    if len(found.shares) < FEWEST <= len(found.sets):
        lines.append("scores in several units have ranks but no differences, so pairs are not tested")
    columns = [("data set", False), ("metric", False), *((way, True) for way in found.ways)]
    return Section("Scores and ranks", columns, rows, lines)


def pairwise(found: Across, pairs: list[Versus]) -> Section:
    """A row for each pair, and how to read it."""
    shown = pairs if len(pairs) <= PAIRS else [pair for pair in pairs if pair.first == 0]
    rows = [
        [
            found.ways[pair.first], found.ways[pair.second], f"{100 * pair.difference:+.1f}",
            f"{pair.better:.2f}", f"{pair.equal:.2f}", f"{pair.worse:.2f}", f"{pair.corrected:.2g}",
        ]
        for pair in shown
    ]  # fmt: skip
    columns = [
        ("way", False), ("against", False), ("points", True), ("better", True), ("equal", True),
        ("worse", True), ("p", True),
    ]  # fmt: skip
    title = f"Pairs of ways over {counted(len(found.shares), 'data set')}"
    return Section(title, columns, rows, [*readings(found, pairs), *hidden(pairs, shown)])


def readings(found: Across, pairs: list[Versus]) -> list[str]:
    """What the columns mean, and what so many data sets can show."""
    sets = len(found.shares)
    lines = [
        "better, equal, worse: probabilities of the Bayesian signed-rank test (Benavoli et al. 2017); equal "
        f"is a difference of at most {100 * ROPE:g} point",
        f"p: Wilcoxon's signed-rank test over data sets, Holm-corrected for {counted(len(pairs), 'test')}",
    ]
    least = smallest_p(sets, len(pairs))
    if least >= ALPHA:
        enough = sets_needed(len(pairs))
        lines[1] += f"; with {sets} data sets none is below {least:.2g}: it takes {enough}"
    if sets < len(found.sets):
        others = [name for number, name in enumerate(found.sets) if number not in found.shares]
        lines.append(
            f"differences are of shares alone, so without {', '.join(others)}, whose metric has another unit"
        )
    return lines


def hidden(pairs: list[Versus], shown: Sequence[Versus]) -> list[str]:
    """The pairs that the table leaves out."""
    if len(shown) == len(pairs):
        return []
    return [
        f"not shown: {counted(len(pairs) - len(shown), 'pair')} without the best way; the picture joins them"
    ]


def as_csv(found: Across, pairs: list[Versus]) -> str:
    """A line for each way on each data set, with the way's average rank and its test against the best one."""
    against = {pair.second: pair for pair in pairs if pair.first == 0}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        "data_set metric way score rank seeds tied_with_best average_rank difference_to_first "
        "better_than_first equal_to_first worse_than_first p_to_first".split()
    )
    for row, name in enumerate(found.sets):
        for column, way in enumerate(found.ways):
            pair = against.get(column)
            own = [None] * 5 if pair is None else [
                -pair.difference, pair.worse, pair.equal, pair.better, pair.corrected
            ]  # fmt: skip
            facts = [found.scores[row, column], found.ranks[row, column], found.seeds[row, column]]
            writer.writerow(
                [
                    name,
                    found.metrics[row],
                    way,
                    *facts,
                    bool(found.tied[row, column]),
                    found.average[column],
                    *own,
                ]
            )
    return text.getvalue()
