"""The report of finished runs: a table, tests and plots, for the terminal, a document or a spreadsheet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, UserError, counted, disk_full, listed, near
from ftrun.reports.comparison import (
    COLUMNS,
    Row,
    as_csv,
    as_markdown,
    damaged,
    heading,
    side_by_side,
)
from ftrun.reports.numbers import cut
from ftrun.reports.summary import row_of
from ftrun.runs.files import write_atomically
from ftrun.runs.find import some_runs
from ftrun.runs.run import Run
from ftrun.runs.streams import shown
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ftrun.reports.pages.page import Plot, Section

GROUPS = 50  # of runs that may be compared with each other, at most, on a page
ENDINGS = {".md": "markdown", ".csv": "csv", ".html": "html", ".htm": "html"}


def write(
    paths: list[str],
    form: str | None = None,
    output: str | None = None,
    plots: str | None = None,
    *,
    sort: str | None = None,
    extra: Sequence[Section] = (),
) -> None:
    """The report of all runs below these paths, as a file or on standard output.

    Without `form` it is that of the output file's ending, or a table; `plots` is a directory for PNG files.
    Raises ConfigError where there are no runs or no such column, UserError where none can be read.
    """
    rows = rows_of(paths)
    if sort:
        rows = _sorted(rows, sort)
    form = form_of(form, output)
    if form == "csv":
        put(as_csv(_with_studies(rows)), output)
        return
    sections = [*_compared(rows, plotted=form == "html" or plots is not None), *_edited(rows), *extra]
    if plots is not None:
        save_plots(Path(plots), sections)
    if form == "html":
        from ftrun.reports.pages.page import runs_section
        from ftrun.reports.pages.webpage import as_html, title_of

        put(as_html(title_of(rows), heading(rows)[0], [*sections, runs_section(rows)]), output)
    elif form == "table" and output is None:
        from ftrun.reports.pages.terminal import show

        show(rows, sections)
    else:
        put(_document(rows, sections), output)


def form_of(form: str | None, output: str | None) -> str:
    """The format named, or that of the output file's ending, or a table."""
    return form or ENDINGS.get(Path(output or "").suffix, "table")


def put(text: str, output: str | None) -> None:
    """To the file, or to standard output; control characters of names stand there as their escapes."""
    if output is None:
        sys.stdout.write(shown(text))
    else:
        _save(Path(output), shown(text))


def _with_studies(rows: list[Row]) -> list[Row]:
    """The rows with the mean score, interval and model size of their study added, as raw numbers."""
    from ftrun.reports.groups import groups_of

    for group in groups_of(rows)[0] if _has_predictions(rows) else []:
        for study in group.ways:
            found = study.score
            own: Row = {"mean_score": found.value, "mean_low": found.low, "mean_high": found.high}
            own |= {"model_bytes": study.facts["bytes"], "dominated_by": study.dominated_by}
            for each in [run for tried in study.tried for run in tried.runs]:
                each.row.update(own)
    return rows


def _edited(rows: list[Row]) -> list[Section]:
    """The runs whose settings, as they are shown, are not those of their scores; nothing without any."""
    from ftrun.reports.pages.page import Section

    names = [row["label"] for row in rows if row.get("edited")]
    why = "config.yaml has changed since the run began, so its settings are not those of its scores"
    line = f"{why}: {listed(names)}"
    return [Section("Edited settings", lines=[line])] if names else []


def _has_predictions(rows: list[Row]) -> bool:
    return any((Path(row["run"]) / "predictions.jsonl").is_file() for row in rows)


def _compared(rows: list[Row], plotted: bool) -> list[Section]:
    """The comparison of the finished runs with predictions; nothing where there are none."""
    from ftrun.reports.groups import groups_of

    if not _has_predictions(rows):
        return []
    from ftrun.reports.pages.page import Section, sections_of

    groups, notes = groups_of(rows)
    sections = []
    for number, group in enumerate(groups[:GROUPS]):
        plots: list[Plot] = []
        if plotted:
            from ftrun.reports.plots.every import plots_of

            plots = plots_of(group, f"{number}-" if number else "")
        sections += sections_of(group, plots)
    if len(groups) > 1:
        words = "; ".join(
            f"{group.task}: {group.metric} on {counted(group.items, 'test example')}"
            for group in groups[:GROUPS]
        )
        more = f"not told here: {counted(len(groups) - GROUPS, 'group')}; name fewer directories to see more"
        lines = [words, *([more] if len(groups) > GROUPS else [])]
        sections.insert(0, Section("Not comparable with each other", lines=lines))
    if notes:
        sections.append(Section("Left out of the comparison", lines=cut(notes)))
    return sections


def _document(rows: list[Row], sections: list[Section]) -> str:
    if not sections:
        return as_markdown(rows)
    from ftrun.reports.pages.page import as_markdown as page
    from ftrun.reports.pages.page import runs_section

    return f"{heading(rows)[0]}\n{page([*sections, runs_section(rows)])}"


def save_plots(folder: Path, sections: list[Section]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for section in sections:
            for plot in section.plots:
                (folder / f"{plot.name}.png").write_bytes(plot.png)
    except OSError as error:
        raise disk_full(error) or UserError(f"cannot write {folder}: {error.strerror}") from None


def rows_of(directories: list[str]) -> list[Row]:
    """A row for every run below these directories, also for a damaged one."""
    rows = []
    for path in some_runs(directories):
        try:
            rows.append(row_of(Run.open(path)))
        except UserError as error:
            rows.append(damaged(str(path), str(error)))
    if all(row["state"] == "damaged" for row in rows):
        which = "the only run" if len(rows) == 1 else f"none of the {len(rows)} runs"
        verb = "cannot" if len(rows) == 1 else "can"
        of = f"{which} in {', '.join(directories)} {verb} be read"
        raise UserError(f"{of}: {rows[0]['failure']}")
    return side_by_side(rows)


def _sorted(rows: list[Row], name: str) -> list[Row]:
    """The rows sorted by one column: the best scores first, rows without a value last."""
    titles = {column.title: column.key for column in COLUMNS}
    key = titles.get(name, name)
    possible = [*titles, *dict.fromkeys(key for row in rows for key in row)]
    if not any(key in row for row in rows):
        raise ConfigError(f"report: --sort {name}: no such column{near(name, possible)}")

    known = [row for row in rows if row.get(key) is not None]
    metric = known[0]["metric"] if known and key.endswith("_score") else key
    descending = key.startswith(("eval_", "test_")) and lookup(metric).sign > 0
    known.sort(key=lambda row: _comparable(row[key]), reverse=descending)
    return known + [row for row in rows if row.get(key) is None]


def _comparable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, (int, float)) else (0.0, str(value))


def _save(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise disk_full(error) or UserError(f"cannot write {path}: {error.strerror}") from None
