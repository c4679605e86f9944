"""Scores by slice: where a run is weak, and where the best way overall is not the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftrun.data.slices import order
from ftrun.errors import counted
from ftrun.reports.answers import columns_of
from ftrun.reports.numbers import score
from ftrun.reports.statistics.intervals import Lines, of_one_run, scored_lines
from ftrun.reports.study import Pair, Study, pool_seeds, studied, tested
from ftrun.reports.verdicts.sentences import difference_words, interval
from ftrun.tasks.metrics.metric import lookup
from ftrun.tasks.metrics.rescoring import Scored, scored

if TYPE_CHECKING:
    from ftrun.reports.answers import Items
    from ftrun.reports.study import Group
    from ftrun.reports.tried import Tried

Cells = tuple[list[tuple[str, bool]], list[list[str]], list[str]]  # columns, rows and lines of a section

LEAST = 20  # rows of a slice that is tested
UNDEFINED = "undefined"  # a correlation of rows that all have the same label or answer
SHOWN = 8  # slices that are named for being too small; the table has all


@dataclass
class Slice:
    """The rows with one value of a column, and how each study scores on them, the group's best one first."""

    name: str  # genre=news
    places: list[int]
    studies: list[Study]
    rows: int  # of repeated splits fewer than places

    @property
    def is_tested(self) -> bool:
        return self.rows >= LEAST and all(study.defined for study in self.studies)


def slices_in(columns: dict[str, list[str]]) -> dict[str, dict[str, list[int]]]:
    """Column → slice → the places of its rows; a column with a single slice says nothing and is left out."""
    found: dict[str, dict[str, list[int]]] = {}
    for column, names in columns.items():
        places = {name: [at for at, own in enumerate(names) if own == name] for name in order(names)}
        if len(places) > 1:
            found[column] = places
    return found


def tables(lines: Lines, metric: str | None) -> Iterator[Any]:
    """A table for each column of a run's slices: rows, score with its interval, and what is worse."""
    from rich.table import Table

    whole = None if metric is None else of_rows(lines, range(len(lines)), metric)
    if whole is None or metric is None:
        return
    sign = lookup(metric).sign
    for column, places in slices_in(columns_of(lines)).items():
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in (column, "rows", metric, ""):
            table.add_column(title, justify="left" if title in (column, "") else "right")
        for name, chosen in places.items():
            found = of_rows(lines, chosen, metric)
            if found is not None and not found.defined:
                table.add_row(name, f"{len(chosen):,}", UNDEFINED, "")
            elif found is not None:
                own = of_one_run(found, metric)
                worse = sign * (own.high if sign > 0 else own.low) < sign * whole.score
                mark, style = ("below overall" if sign > 0 else "above overall", "bold yellow")
                cells = (name, f"{len(chosen):,}", interval(own, metric), mark if worse else "")
                table.add_row(*cells, style=style if worse else None)
        yield table


def of_rows(lines: Lines, places: Sequence[int], metric: str) -> Scored | None:
    """The metric of some rows; None where it cannot be computed from their labels and answers."""
    chosen = [lines[at] for at in places]
    if not chosen or not all("label" in line and "answer" in line for line in chosen):
        return None
    return scored_lines(metric, chosen)


def section(group: Group) -> Cells | None:
    """The content of the section on slices; None where the runs have none.

    The best way overall is tested in each slice against every other way with as many labels, and all these
    tests are corrected together (Holm 1979): to look for the slice that fits is to look often.
    """
    best = group.best
    ways = [best, *(other for other in group.ways if other is not best and alike(best, other))]
    shared, notes = agreed([tried.answered.items for study in ways for tried in study.tried])
    uneven = in_some_splits(best.tried[0])
    notes += [f"not all splits have the same slices by {name}, so these are left out" for name in uneven]
    shared = {column: slices for column, slices in shared.items() if column not in uneven}
    numbers = best.tried[0].tested_rows
    found = [
        Slice(f"{column}={name}", places, on_slice(ways, places), len({numbers[at] for at in places}))
        for column, slices in shared.items()
        for name, places in slices.items()
    ]
    if not found:
        return None
    best_overall = f"{best.name}, best overall" if len(ways) > 1 else best.name
    columns = [("slice", False), ("rows", True), (best_overall, True)]
    rows = [[own.name, f"{own.rows:,}", _cell(own.studies[0], own, group)] for own in found]
    if len(ways) > 1:
        columns.append(("best in the slice", True))
        for row, own in zip(rows, found, strict=True):
            top = max(own.studies, key=lambda study: (study.defined, group.sign * study.score.value))
            row.append("the same" if top is own.studies[0] else f"{top.name} {_cell(top, own, group)}")
    return columns, rows, [*_verdicts(found, group), *notes]


def alike(one: Study, other: Study) -> bool:
    """Whether two ways were trained on as many labels."""
    return one.config["task"].get("subset") == other.config["task"].get("subset")


def agreed(runs: list[Items]) -> tuple[dict[str, dict[str, list[int]]], list[str]]:
    """The slices that all runs have alike, and a line on the columns that only some have so."""
    each = [slices_in(items.slices) for items in dict.fromkeys(runs)]  # mostly one object for all
    names = list(dict.fromkeys(column for found in each for column in found))
    apart = [name for name in names if any(found.get(name) != each[0].get(name) for found in each)]
    notes = [f"not all runs have the same slices by {name}, so these are left out" for name in apart]
    return {name: each[0][name] for name in names if name not in apart}, notes


def in_some_splits(tried: Tried) -> list[str]:
    """The columns whose slices are not those of every split, such as thirds of other test rows."""
    if tried.rows is None:
        return []
    names: dict[int, dict[str, set[str]]] = {}
    for part in tried.parts:
        own = names.setdefault(part.row["split_seed"], {})
        for column, found in part.answered.items.slices.items():
            own.setdefault(column, set()).update(found)
    columns = dict.fromkeys(column for own in names.values() for column in own)
    return [each for each in columns if len({frozenset(own.get(each, ())) for own in names.values()}) > 1]


def on_slice(ways: list[Study], places: list[int]) -> list[Study]:
    """The studies on these rows alone."""
    own = [[_tried(tried, places) for tried in study.tried] for study in ways]
    found = [studied(study.name, study.way, runs, {}) for study, runs in zip(ways, own, strict=True)]
    pool_seeds(found)
    return found


def _tried(tried: Tried, places: list[int]) -> Tried:
    labels, answers = ([own[at] for at in places] for own in (tried.labels, tried.answers))
    found = scored(tried.row["metric"], labels, answers)
    assert found is not None  # the run is in the group because its metric can be computed
    folds = None if tried.folds is None else [tried.folds[at] for at in places]
    rows = None if tried.rows is None else [tried.rows[at] for at in places]
    own = {"score": found.score, "left_out": found.left_out, "defined": found.defined}
    return replace(tried, **own, folds=folds, rows=rows)


def _cell(study: Study, own: Slice, group: Group) -> str:
    """The score with its interval, which few rows have not unless they are a share of them."""
    if not study.defined:
        return UNDEFINED
    if len(study.tried) == 1:
        return interval(of_one_run(study.tried[0], group.metric), group.metric)
    return interval(study.score, group.metric) if own.is_tested else score(study.score.value, group.metric)


def _verdicts(found: list[Slice], group: Group) -> list[str]:
    """Where another way is significantly better than the best overall, or that this is nowhere."""
    best, *others = found[0].studies
    lines = []
    for why, left in (
        (f"fewer than {LEAST} rows", [own.name for own in found if own.rows < LEAST]),
        (UNDEFINED, [own.name for own in found if own.rows >= LEAST and not own.is_tested]),
    ):
        if len(left) > SHOWN:
            left = [*left[:SHOWN], f"and {len(left) - SHOWN} more"]
        if left:
            lines.append(f"not tested, {why}: {', '.join(left)}")
    large = [own for own in found if own.is_tested]
    if not others or not large:
        return lines
    pairs = tested([(own.studies[0], other) for own in large for other in own.studies[1:]])
    said = []
    for number, own in enumerate(large):
        mine = pairs[number * len(others) : (number + 1) * len(others)]
        better = [pair for pair in mine if pair.apart and group.sign * pair.found.value < 0]
        if better:
            top = max(better, key=lambda pair: group.sign * pair.second.score.value)
            said.append(_sentence(own, top, group))
    looked = f"{counted(len(large), 'slice')} tested"
    if len(pairs) > 1:
        looked += f", {len(pairs)} tests, Holm-corrected"
    if said:
        return [*said, looked, *lines]
    return [f"no slice in which another way is significantly better than {best.name} ({looked})", *lines]


def _sentence(own: Slice, pair: Pair, group: Group) -> str:
    chance = "p < 0.001" if pair.corrected < 0.001 else f"p = {pair.corrected:.2g}"
    return (
        f"{pair.first.name} is best overall, but on {own.name} {pair.second.name} is better"
        f" (difference {difference_words(pair.found, group.metric)}, {chance},"
        f" {counted(own.rows, 'row')})"
    )
