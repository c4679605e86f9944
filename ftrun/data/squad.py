"""Questions about paragraphs: SQuAD JSON or rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrun.data.content import ending, parsed, refuse_missing, text_of
from ftrun.data.rows import read_rows
from ftrun.data.sources import Place, Placed, is_path, is_saved
from ftrun.data.tables import ENDINGS, refuse_absent
from ftrun.errors import DataError, kind_of

READ = (".json", *ENDINGS)
IMPOSSIBLE = "is_impossible"  # of SQuAD 2 (Rajpurkar et al. 2018): what it says stands above the answers


@dataclass
class Question:
    """A question, the paragraph that may answer it, and its answers with their offsets; none = impossible."""

    id: str
    question: str
    context: str
    answers: list[tuple[str, int]] | None  # None where a file has no answers
    source: str
    number: int  # in its source, from 1
    columns: dict[str, Any]  # everything its source says, by name

    @property
    def where(self) -> str:
        """For messages."""
        return f"row {self.number} of {self.source} (id {self.id})"

    @property
    def place(self) -> Place:
        return Place(self.question, self.source, self.number)

    def placed(self) -> list[tuple[str, int]]:
        """The answers that stand in the paragraph at their offset."""
        return [
            (text, start)
            for text, start in self.answers or []
            if text and start >= 0 and self.context.startswith(text, start)
        ]

    def texts(self) -> list[str]:
        return [text for text, _ in self.answers or []]


def read_questions(
    source: str, columns: dict[str, str], answered: bool, split: str | None = None
) -> list[Question]:
    """The questions of a source, of a saved data set the split's; DataError says what is wrong with it."""
    return as_questions(rows_of(source, split), source, columns, answered)


def as_questions(
    rows: Sequence[dict[str, Any]], source: str, columns: dict[str, str], answered: bool
) -> list[Question]:
    """Rows as questions; `columns` names those of `question`, `context` and `answers`.

    Raises DataError naming the setting, or the row and what is wrong in it.
    """
    wanted = dict(list(columns.items())[: 2 + answered])
    found = list(dict.fromkeys(name for row in rows for name in row))
    for setting, column in wanted.items():
        refuse_absent(setting, column, found, source)
    questions = []
    for number, row in enumerate(rows, 1):
        place = f"row {number} of {source}"
        for setting in ("question", "context"):
            if not isinstance(row.get(columns[setting]), str):
                kind = kind_of(row.get(columns[setting]))
                raise DataError(f"task.{setting}={columns[setting]}: {place} holds {kind}, not text")
        name = str(row["id"]) if row.get("id") is not None else str(number)
        answers = answers_of(row.get(columns["answers"]), place) if answered else None
        if answered and says_impossible(row, place):
            answers = []
        questions.append(
            Question(name, row[columns["question"]], row[columns["context"]], answers, source, number, row)
        )
    return questions


def says_impossible(row: dict[str, Any], place: str) -> bool | None:
    """What SQuAD 2's own mark says, None where there is none; DataError where it is no mark."""
    value = row.get(IMPOSSIBLE)
    if value not in (None, True, False):
        raise DataError(f"{place}: {IMPOSSIBLE} is true or false, not {json.dumps(value, default=str)[:40]}")
    return value


def contradictions(questions: Sequence[Question], answers: str) -> list[Question]:
    """Questions whose mark says other than the column of their answers: impossible with, possible without."""
    return [
        asked
        for asked in questions
        if (mark := says_impossible(asked.columns, asked.where)) is not None
        and mark == bool(answers_of(asked.columns.get(answers), asked.where))
    ]


def rows_of(source: str, split: str | None = None) -> list[Placed]:
    """A row for each question, of SQuAD JSON (.json) or of anything that is rows already."""
    path = Path(source).expanduser()
    no_file = not is_path(source) or path.is_dir() or is_saved(source)
    if not no_file and ending(path) not in READ:
        raise DataError(
            f"{path}: cannot tell the format from {path.suffix or 'no ending'!r}; possible: {', '.join(READ)}"
        )
    if no_file or ending(path) != ".json":
        return read_rows(source, split)
    try:
        refuse_missing(path)
        content = parsed(text_of(path, rows=False), str(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    data = content.get("data") if isinstance(content, dict) else content
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise DataError(f"{path} is not SQuAD JSON: it has no list `data` of articles with `paragraphs`")
    rows = [
        row
        for number, item in enumerate(data, 1)
        for row in (flat(item, f"article {number}", path) if "paragraphs" in item else [item])
    ]
    if not rows:
        raise DataError(f"{path} has no questions")
    return [Placed(row, source, number) for number, row in enumerate(rows, 1)]


def flat(article: dict[str, Any], place: str, path: Path) -> list[dict[str, Any]]:
    return [
        {
            "id": asked.get("id"),
            "question": asked["question"],
            "context": paragraph["context"],
            **{name: asked[name] for name in ("answers", IMPOSSIBLE) if name in asked},
        }
        for where, paragraph in parts(article, "paragraphs", ("qas", "context"), place, path)
        for _, asked in parts(paragraph, "qas", ("question",), where, path)
    ]


def parts(
    whole: dict[str, Any], name: str, keys: Sequence[str], place: str, path: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The paragraphs of an article or the questions of one, each with its place; all have these keys."""
    what = {"paragraphs": "paragraph", "qas": "question"}[name]
    if not isinstance(whole[name], list):
        raise DataError(
            f"{path} is not SQuAD JSON: '{name}' of {place} is {kind_of(whole[name])}, not a list"
        )
    for number, part in enumerate(whole[name], 1):
        where = f"{what} {number} of {place}"
        if not isinstance(part, dict):
            raise DataError(f"{path} is not SQuAD JSON: {where} is {kind_of(part)}, not an object")
        missing = [key for key in keys if key not in part]
        if missing and part.get("qas") != []:  # nothing is read of a paragraph without questions
            raise DataError(f"{path} is not SQuAD JSON: {where} lacks '{missing[0]}'")
        yield where, part


def answers_of(value: Any, place: str) -> list[tuple[str, int]]:
    """Texts and offsets of {text: [], answer_start: []} or [{text, answer_start}, …]; null is no answer."""
    if value is None:
        return []
    single = value if isinstance(value, list) else [value]
    found: list[tuple[Any, Any]] = []
    for item in single:
        if not isinstance(item, dict) or not {"text", "answer_start"} <= item.keys():
            raise DataError(
                f"{place}: answers are {{text, answer_start}}, not {json.dumps(item, default=str)[:60]}"
            )
        texts, starts = item["text"], item["answer_start"]
        if not isinstance(texts, list):
            texts, starts = [texts], [starts]
        if not isinstance(starts, list) or len(texts) != len(starts):
            raise DataError(f"{place}: answers have {len(texts)} texts, but another number of offsets")
        found += zip(texts, starts, strict=True)
    for text, start in found:
        if not isinstance(text, str) or not isinstance(start, int):
            said = f"{json.dumps(text, default=str)[:40]} at {json.dumps(start, default=str)[:20]}"
            raise DataError(f"{place}: an answer is a text with a whole number as its offset, not {said}")
    return found
