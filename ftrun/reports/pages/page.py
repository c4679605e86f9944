"""The sections of a comparison, in the order in which they are read; and the same as markdown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ftrun.errors import counted
from ftrun.reports.diagnosing.forgetting import forgetting_line, is_weak, marked
from ftrun.reports.diagnosing.weighing import Weighing
from ftrun.reports.folding import runs_in_words
from ftrun.reports.mistakes.labels_in_doubt import doubt_lines
from ftrun.reports.numbers import MOST, count, cut, duration, score, size
from ftrun.reports.verdicts import slices
from ftrun.reports.verdicts.labelling import label_lines
from ftrun.reports.verdicts.sentences import elbow, interval, p_value_source, sentence, standard_error
from ftrun.reports.verdicts.verdict import scope, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ftrun.reports.comparison import Row
    from ftrun.reports.diagnosing.diagnosis import Diagnosis
    from ftrun.reports.study import Group, Study


@dataclass
class Plot:
    """A plot as PNG with its title."""

    name: str  # of its file, without .png
    title: str
    png: bytes


@dataclass
class Section:
    """A heading with a table, lines and plots below it."""

    title: str
    columns: list[tuple[str, bool]] = field(default_factory=list)  # title, whether right-aligned
    rows: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    lead: str = ""  # the answer in a sentence, shown large
    note: str = ""  # above the table: what is the same in all its rows
    below: dict[str, str] = field(default_factory=dict)  # a column → the one a page shows it under
    detail: bool = False  # stands at the end

    @property
    def written(self) -> bool:
        """Whether there is anything but plots."""
        return bool(self.rows or self.lines or self.lead) or not self.plots


def ordered(sections: Iterable[Section]) -> list[Section]:
    """As they are read: the details last."""
    return sorted(sections, key=lambda section: section.detail)


def sections_of(group: Group, plots: Sequence[Plot] = ()) -> list[Section]:
    """The sections on one group of comparable runs; the first plot stands with the table."""
    title = f"{group.task}: {group.metric} on {counted(group.items, 'test example')}"
    rows = [_cells(study, group.metric) for study in group.studies]
    table = tabled(f"{title}, with 95 % confidence intervals", COLUMNS, rows, KEPT)
    table.below, table.plots = BELOW, [*plots[:1]]
    first, *more = verdict(group)
    found = [Section(f"Verdict{scope(group)}", lead=first, lines=more), table]
    if group.pairs:
        correction = ", Holm-corrected" if len(group.pairs) > 1 else ""
        title = f"Pairwise comparison ({counted(len(group.pairs), 'test')}{correction})"
        told = cut([sentence(pair, group) for pair in group.pairs[:MOST]], len(group.pairs))
        found.append(Section(title, lines=[*told, p_value_source(group)]))
    if cells := slices.section(group):
        found.append(Section("Slices", *cells))
    if ranked := elbow(group):
        found.append(Section("LoRA rank", lines=[ranked[2]]))
    found += [Section(title, lines=lines) for title, of in SENTENCES.items() if (lines := of(group))]
    if plots[1:]:
        found.append(Section("Plots", plots=[*plots[1:]]))
    errors = [f"{study.name}: {standard_error(study, group.metric)}" for study in group.studies[:MOST]]
    found.append(Section("Standard errors", lines=cut(errors, len(group.studies)), detail=True))
    return found


COLUMNS = [
    ("strategy", False), ("seeds", True), ("score", True), ("trained", True), ("time", True),
    ("CPU time", True), ("memory", True), ("on disk", True), ("forgetting", True), ("Pareto", False),
]  # fmt: skip
KEPT = ("strategy", "score", "run", "test", "eval", "state")  # also where all rows agree
BELOW = {"CPU time": "time", "on disk": "memory", "Pareto": "strategy"}


def tabled(
    title: str, columns: Sequence[tuple[str, bool]], rows: list[list[str]], kept: Sequence[str]
) -> Section:
    """A table; what is the same in all rows goes into its note, an empty column nowhere."""
    used = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    agreed = [
        place
        for place in used
        if len(rows) > 1 and columns[place][0] not in kept and len({row[place] for row in rows}) == 1
    ]
    shown = [place for place in used if place not in agreed]
    same = ", ".join(f"{columns[place][0]} {rows[0][place]}" for place in agreed)
    return Section(
        title,
        [columns[place] for place in shown],
        [[row[place] for place in shown] for row in rows],
        note=f"the same in all rows: {same}" if same else "",
    )


def _cells(study: Study, metric: str) -> list[str]:
    facts, row = study.facts, study.tried[0].row
    return [
        study.name,
        runs_in_words(study.tried),
        interval(study.score, metric),
        count(facts["trained_parameters"]),
        duration(facts["seconds"]),
        duration(facts["cpu_seconds"]),
        size(facts["memory_bytes"]),
        size(facts["bytes"]),
        marked(score(facts["forgetting"], row["forgetting_metric"]), row),
        "" if study.baseline else f"dominated by {study.dominated_by}" if study.dominated_by else "optimal",
    ]


def _forgetting(group: Group) -> list[str]:
    """What each study forgot of a source whose gauge is weak, with what needs no gauge; of its first run."""
    return cut([
        f"{study.name} (seed {row['seed']}): {forgetting_line(source)}"
        for study in group.ways
        for row in [study.tried[0].row]
        for source in row["sources"]
        if is_weak(source)
    ])  # fmt: skip


def _untaught(group: Group) -> list[str]:
    """A line for each study with a run that learned nothing."""
    return _diagnosed(group, lambda diagnosis: int(bool(diagnosis.untaught)))


def _underfitting(group: Group) -> list[str]:
    """A line for each study with a run that learned too little."""
    return _diagnosed(group, lambda diagnosis: len(diagnosis.lacking))


def _overfitting(group: Group) -> list[str]:
    """A line for each study with signs of it, and the studies in which nothing is wrong."""
    lines = _diagnosed(group, lambda diagnosis: len(diagnosis.signs))
    healthy = [study.name for study in group.ways if all(run.diagnosis.healthy for run in study.trained)]
    none = f"no sign of underfitting or overfitting: {'; '.join(cut(healthy))}"
    return [*lines, none] if healthy else lines


def _diagnosed(group: Group, signs: Callable[[Diagnosis], int]) -> list[str]:
    """For each study with signs: in how many of its runs, and the diagnosis of the clearest one."""
    lines, weighing = [], Weighing(group)
    ill = [study for study in group.ways if any(signs(run.diagnosis) for run in study.trained)]
    for study in ill[:MOST]:
        seen = [run for run in study.trained if signs(run.diagnosis)]
        worst = max(seen, key=lambda run: (signs(run.diagnosis), -run.row["seed"]))
        often = f"{len(seen)} of {len(study.trained)} runs, here " if len(study.trained) > 1 else ""
        fold = "" if worst.row["fold"] is None else f", fold {worst.row['fold']}"
        text = worst.diagnosis.told(*weighing.weighed(worst.diagnosis.remedies, study))
        lines.append(f"{study.name} ({often}seed {worst.row['seed']}{fold}) {text}")
    return cut(lines, len(ill))


SENTENCES = {  # sections of lines alone, in their order
    "Label efficiency": label_lines,
    "Labels in doubt": doubt_lines,
    "Forgetting": _forgetting,
    "Runs that learned nothing": _untaught,
    "Underfitting": _underfitting,
    "Overfitting": _overfitting,
}


def runs_section(rows: list[Row]) -> Section:
    """The table of all runs, with a line for each one that has no result."""
    from ftrun.reports.comparison import columns_for, heading

    columns = columns_for(rows, heading(rows)[1])
    cells = [[column.text(row) for column in columns] for row in rows]
    section = tabled("Runs", [(column.title, column.right) for column in columns], cells, KEPT)
    section.below = {"share": "trained", "step": "eval", "tokens/s": "time", "images/s": "time"}
    failed = [f"{row['label']} failed: {row['failure']}" for row in rows if row["state"] == "failed"]
    ended = [
        f"{row['label']} {'is' if row['state'] == 'running' else 'was'} {row['state']}"
        for row in rows
        if row["state"] in ("interrupted", "running")
    ]
    damaged = [f"damaged: {row['failure']}" for row in rows if row["state"] == "damaged"]
    section.lines = [*cut(failed), *cut(ended), *cut(damaged)]
    return section


def as_markdown(sections: list[Section]) -> str:
    """The sections as a document, without plots."""
    parts = []
    for section in [section for section in ordered(sections) if section.written]:
        parts += ["", f"## {section.title}", ""]
        parts += [f"**{section.lead}**", ""] if section.lead else []
        if section.rows:
            parts += [f"{section.note[0].upper()}{section.note[1:]}.", ""] if section.note else []
            parts.append(_markdown_row([title for title, _ in section.columns]))
            parts.append(_markdown_row(["---:" if right else "---" for _, right in section.columns]))
            parts += map(_markdown_row, section.rows)
            parts += [""] if section.lines else []
        parts += [f"* {line}" for line in section.lines]
    return "\n".join(parts) + "\n"


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
