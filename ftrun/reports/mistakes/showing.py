"""What a run gets wrong: its most confident wrong answers, what it confuses, and labels it contradicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, DataError, UserError, counted
from ftrun.reports.diagnosing.diagnosis import diagnose
from ftrun.reports.diagnosing.evidence import Evidence
from ftrun.reports.mistakes.confident_learning import Doubt, caution, doubts
from ftrun.reports.mistakes.judging import Line, Numbers, OneLabel, form_of
from ftrun.reports.numbers import share
from ftrun.reports.pages.page import Section
from ftrun.runs.content import answers_of
from ftrun.runs.run import PREDICTIONS, Run
from ftrun.runs.typed import continuing
from ftrun.tasks.scorer import PROBABILITIES

LEAST, BESIDE, LARGEST = 24, 60, 110  # characters of a text, of the other columns, of a text where all fits


@dataclass
class Mistakes:
    """The answers to one split, judged."""

    lines: list[Line]  # those that have a label
    form: OneLabel
    wrong: list[int]  # places among the lines, the most confident answer or the largest error first
    doubts: list[Doubt]  # the least probable label first


def answered_in(run: Run) -> list[Line]:
    """The lines of predictions.jsonl; UserError where the run has none."""
    path = run.path / PREDICTIONS
    if not path.is_file():
        inside = sorted(each.parent for each in run.path.glob(f"*/{PREDICTIONS}"))
        hint = f"; possible: {inside[0]}" if inside else ""
        state = "" if run.finished else f" (it is {run.state}; {continuing(run.path)})"
        raise UserError(f"{run.path} has no {PREDICTIONS}{state}{hint}")
    return answers_of(path)


def judged(lines: list[Line], source: str) -> Mistakes:
    """What is wrong and what is in doubt; ConfigError where there is no label to compare answers with."""
    known = [line for line in lines if line.get("label") is not None and line.get("answer") is not None]
    if not lines:
        raise DataError(f"{source} has no rows in {PREDICTIONS}")
    if not known:
        raise ConfigError(f"{source}: its rows have no labels, so no answer can be wrong")
    form = form_of(known[0])
    wrong = [at for at, line in enumerate(known) if form.wrong(line)]
    wrong.sort(key=lambda at: (-form.sure(known[at]), at))
    doubted: list[Doubt] = []
    if all(line.get(PROBABILITIES) for line in known):
        doubted = doubts([line["label"] for line in known], [line[PROBABILITIES] for line in known])
    return Mistakes(known, form, wrong, doubted)


def learned_too_little(run: Run, lines: list[Line]) -> str:
    """Why a run's doubts say little of the labels, from its answers to the test rows; empty where they do."""
    try:
        metric = (run.read_json("result.json") or {}).get("metric")
        found = diagnose(Evidence.of(run, metric and metric.removeprefix("eval_"), answered=lines))
    except UserError:  # of a damaged file, which the answers do not need
        return ""
    return found.finding if found.learned_too_little else ""


def sections_of(mistakes: Mistakes, split: str, most: int, width: int) -> list[Section]:
    """What a terminal of `width` columns shows, at most `most` rows of each kind."""
    room = max(LEAST, min(LARGEST, width - BESIDE))
    return [
        each
        for each in (
            _summary(mistakes, split),
            _worst(mistakes, most, room),
            _confused(mistakes, most, room),
            _doubted(mistakes, split, most, room),
        )
        if each is not None
    ]


def _summary(mistakes: Mistakes, split: str) -> Section:
    lines, wrong = mistakes.lines, mistakes.wrong
    if isinstance(mistakes.form, Numbers):
        mean = sum(map(mistakes.form.sure, lines)) / len(lines)
        return Section(f"{counted(len(lines), f'{split} row')}, off by {mean:.4g} on average")
    rows = counted(len(lines), f"{split} row")
    return Section(f"{len(wrong):,} of {rows} wrong ({share(len(wrong) / len(lines))})")


NAMED = [("text", False), ("row", False)]


def _worst(mistakes: Mistakes, most: int, room: int) -> Section | None:
    form = mistakes.form
    off = isinstance(form, Numbers)
    rows = []
    for at in mistakes.wrong[:most]:
        line = mistakes.lines[at]
        words = [_cut(word, room // 2) for word in form.words(line)]
        rows.append([f"{form.sure(line):{'.4g' if off else '.3f'}}", *words, *_named(line, room)])
    title = "Answers furthest off" if off else "Most confident wrong answers"
    first = "off by" if off else "probability"
    return (
        Section(title, [(first, True), ("label", False), ("answer", False), *NAMED], rows) if rows else None
    )


def _confused(mistakes: Mistakes, most: int, room: int) -> Section | None:
    lines, form = mistakes.lines, mistakes.form
    pairs = Counter(pair for at in sorted(mistakes.wrong) for pair in form.pairs(lines[at]))
    rows = [
        [_cut(label, room // 2), _cut(answer, room // 2), f"{count:,}", share(count / pairs.total())]
        for (label, answer), count in pairs.most_common(most)
    ]
    columns = [("label", False), ("answer", False), ("times", True), ("share", True)]
    return Section(form.pairs_title, columns, rows) if rows else None


def _doubted(mistakes: Mistakes, split: str, most: int, room: int) -> Section | None:
    lines = mistakes.lines
    if not lines[0].get(PROBABILITIES):
        return None
    rows = [
        [
            f"{doubt.probability:.3f}",
            _cut(doubt.label, room // 2),
            f"{_cut(doubt.instead, room // 2)} ({doubt.other:.3f})",
            *_named(lines[doubt.at], room),
        ]
        for doubt in mistakes.doubts[:most]
    ]
    number = len({doubt.at for doubt in mistakes.doubts})
    title = (
        f"Labels in doubt: {number:,} of {counted(len(lines), f'{split} row')} ({share(number / len(lines))})"
    )
    columns = [("its probability", True), ("label", False), ("rather", False), *NAMED]
    return Section(title, columns if rows else [], rows, caution(number, len(lines)))


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _named(line: Line, room: int) -> list[str]:
    """The row's text, shortened, and where it stands; of older runs its number in the split."""
    if "text" not in line:
        return ["", f"row {line['row']} of the split"]
    text = line["text"] if isinstance(line["text"], str) else " | ".join(line["text"])
    number = "" if line["file_row"] is None else f":{line['file_row']}"
    return [_cut(text, room), f"{Path(line['file']).name}{number}"]


def table_of(mistakes: Mistakes) -> list[dict[str, Any]]:
    """All rows that are wrong or in doubt, with every column: wrong ones first, as they are ranked."""
    doubted: dict[int, Doubt] = {}
    for each in mistakes.doubts:  # of several labels in doubt the least probable one is told
        doubted.setdefault(each.at, each)
    wrong, found = set(mistakes.wrong), []
    for at in dict.fromkeys([*mistakes.wrong, *doubted]):
        line, doubt = mistakes.lines[at], doubted.get(at)
        own: dict[str, Any] = {"wrong": at in wrong}
        if isinstance(mistakes.form, Numbers):
            own = {"off_by": mistakes.form.sure(line)}
        elif line.get(PROBABILITIES):
            own["in_doubt"] = doubt is not None
            own["label_in_doubt"] = doubt and doubt.label
            own["rather"] = doubt and doubt.instead
        found.append(line | own)
    return found
