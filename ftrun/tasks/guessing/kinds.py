"""Which kind of task a file is for, and which of its columns that reads: one guess, and what is in doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ftrun.errors import ConfigError, DataError, listed, near
from ftrun.tasks.guessing.columns import (
    ANSWERS,
    CLASSES,
    IMAGES,
    LABELS,
    NUMBERS,
    TEXT,
    Column,
    Row,
    columns_in,
    is_list,
)
from ftrun.tasks.guessing.labels import Doubt, label_columns, label_of, targets_of

KINDS = ("classify", "multilabel", "regress", "ner", "qa", "mlm", "lm", "image")
# names that say what a column is, the likeliest first
TEXTS = (
    "text", "sentence", "review", "content", "body", "document", "comment", "message", "question", "title"
)  # fmt: skip
PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("text_a", "text_b"), ("first", "second"), ("question", "sentence"), ("query", "passage"),
)  # fmt: skip
ANSWERED = (
    ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"), ("instruction", "response"),
    ("question", "answer"), ("input", "output"), ("source", "target"),
)  # fmt: skip
COLUMNS = ("text", "label", "image", "tokens", "tags", "question", "context", "prompt", "completion")


@dataclass
class Guess:
    """A kind of task with its settings, the columns of the file, and what is in doubt."""

    kind: str
    settings: dict[str, Any]
    columns: list[Column] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


def of_table(rows: Sequence[Row], source: str, given: dict[str, Any]) -> Guess:
    """The guess for the rows of a table; what is `given`, kind and columns, stays as it is.

    Raises DataError where no column holds what such a task reads, ConfigError for a column that is not there.
    """
    columns = columns_in(rows)
    refuse_absent_columns(given, columns, source)
    kind = given.get("kind")
    images = [column.name for column in columns if column.holds == IMAGES]
    if kind == "image" or (kind is None and images):
        return image(columns, images, given, source)
    answers = [column.name for column in columns if column.holds == ANSWERS]
    if kind == "qa" or (kind is None and answers):
        return questions(columns, answers, given, source)
    words = words_and_tags(rows, columns)
    if kind == "ner" or (kind is None and words):
        tokens, tags = words or ("tokens", "tags")
        own = {"tokens": given.get("tokens", tokens), "tags": given.get("tags", tags)}
        return Guess("ner", own, columns)
    return of_texts(columns, given, source)


def of_texts(columns: list[Column], given: dict[str, Any], source: str) -> Guess:
    """The guess for a table of texts: what is learned of them, a label or the texts themselves."""
    kind, doubts, names = given.get("kind"), list[Doubt](), {column.name for column in columns}
    pair = next((pair for pair in ANSWERED if names.issuperset(pair)), None)
    if (asked := given.get("prompt")) and (written := given.get("completion")):
        kind, pair = kind or "lm", (asked, written)
    labels = targets_of(columns, [])
    if kind == "lm" or (kind is None and pair and not labels and "text" not in given):
        if pair and "text" not in given:
            return Guess("lm", {"prompt": pair[0], "completion": pair[1], "loss_on": "completion"}, columns)
    text = text_of(columns, given, doubts, source)
    if kind in ("lm", "mlm"):
        return Guess(kind, {"text": text}, columns, doubts)
    if (several := label_columns(columns, text, given, doubts)) is not None:
        return Guess("multilabel", {"text": text, "label": several}, columns, doubts)
    label = label_of(columns, text, given, doubts)
    if label is None:
        refuse_names(columns, text, given, source)
        if kind is not None:
            shown = listed([column.line() for column in columns])
            raise DataError(f"{source}: no column could be the label of task={kind}; it has {shown}")
        return of_running_text({"text": text}, columns, doubts)
    if label.unclean and kind in (None, "regress"):
        raise DataError(
            f"{source}: {label.name} holds numbers that need cleaning: {label.unclean}; possible besides:"
            " task.label=COLUMN, another one, or task=mlm, which needs none"
        )
    own: dict[str, Any] = {"text": text, "label": label.name}
    if kind is None:
        kind = {LABELS: "multilabel", NUMBERS: "regress"}.get(label.holds, "classify")
        if label.holds == CLASSES and label.whole and label.distinct > 2:
            doubts.append(Doubt("task", kind, ("classify", "regress")))
        if label.holds == CLASSES and label.separator:
            doubts.append(Doubt("task", kind, ("classify", "multilabel")))
    if kind == "multilabel" and label.flags:
        own["positions"] = [f"label_{number}" for number in range(1, label.flags + 1)]
    elif kind == "multilabel" and label.separator:
        own["separator"] = label.separator
    return Guess(kind, own, columns, doubts)


def of_running_text(
    settings: dict[str, Any], columns: list[Column], doubts: Sequence[Doubt], given: str | None = None
) -> Guess:
    """Text without labels: masked words, or the next ones."""
    doubt = [] if given else [Doubt("task", "mlm", ("mlm", "lm"))]
    return Guess(given or "mlm", settings, columns, [*doubts, *doubt])


def image(columns: list[Column], images: list[str], given: dict[str, Any], source: str) -> Guess:
    doubts: list[Doubt] = []
    column = given.get("image") or next(iter(images), None)
    label = label_of([each for each in columns if each.name != column], "", given, doubts)
    if column is None or label is None:
        what = "image" if column is None else "label"
        shown = listed([each.line() for each in columns])
        raise DataError(f"{source}: no column could be the {what} of task=image; it has {shown}")
    return Guess("image", {"image": column, "label": label.name}, columns, doubts)


def questions(columns: list[Column], answers: list[str], given: dict[str, Any], source: str) -> Guess:
    """The paragraph is the longest text and the question the next one, where their names do not say it."""
    texts = sorted((each for each in columns if each.holds in (TEXT, CLASSES)), key=lambda each: each.words)
    names = [each.name for each in texts]
    if len(names) < 2 or not (answers or "answers" in given):
        shown = listed([each.line() for each in columns])
        raise DataError(
            f"{source}: task=qa reads a question, a context and answers with text and answer_start; it has"
            f" {shown}"
        )
    own = {
        "question": "question" if "question" in names else names[-2],
        "context": "context" if "context" in names else names[-1],
        "answers": answers[0] if answers else None,
    }
    return Guess("qa", {name: given.get(name, value) for name, value in own.items()}, columns)


def words_and_tags(rows: Sequence[Row], columns: list[Column]) -> tuple[str, str] | None:
    """Two columns of lists that are of one length in every row: words, and fewer different tags."""
    lists = [each for each in columns if all(is_list(row.get(each.name)) for row in rows)]
    for at, one in enumerate(lists):
        for other in lists[at + 1 :]:
            if all(len(row[one.name]) == len(row[other.name]) for row in rows):
                tags, words = sorted((one, other), key=lambda each: each.distinct)
                if not tags.flags:
                    return words.name, tags.name
    return None


def text_of(columns: list[Column], given: dict[str, Any], doubts: list[Doubt], source: str) -> Any:
    """The column of texts, or a pair of them."""
    if "text" in given:
        return given["text"]
    texts = {each.name: each for each in columns if each.holds == TEXT}
    texts = texts or {each.name: each for each in columns if each.holds == CLASSES and not each.whole}
    for pair in PAIRS:
        if {*texts}.issuperset(pair):
            return list(pair)
    if not texts:
        raise DataError(no_text(columns, source))
    named = next((name for name in TEXTS for column in texts if column.lower() == name), None)
    found = next((column for column in texts if column.lower() == named), "")
    if not found:
        longest = sorted(texts.values(), key=lambda each: -each.words)
        found = longest[0].name
        near_it = [each.name for each in longest if 2 * each.words >= longest[0].words]
        if len(near_it) > 1:
            doubts.append(Doubt("task.text", found, tuple(near_it)))
    return found


def refuse_names(columns: list[Column], text: Any, given: dict[str, Any], source: str) -> None:
    """DataError where nothing is left to learn but the names of classes."""
    if "text" not in given and all(each.holds != TEXT for each in columns if each.name in text):
        raise DataError(no_text(columns, source))


def no_text(columns: list[Column], source: str) -> str:
    shown = listed([each.line() for each in columns])
    return f"{source}: no column holds texts; it has {shown}; possible: task.text=COLUMN"


def refuse_absent_columns(given: dict[str, Any], columns: list[Column], source: str) -> None:
    names = [column.name for column in columns]
    for setting, value in given.items():
        several = setting == "text" or (setting == "label" and given.get("kind") in (None, "multilabel"))
        if setting in COLUMNS and isinstance(value, list) and not several:
            raise ConfigError(f"task.{setting} is one column, not {listed(value)}")
        for name in value if isinstance(value, list) else [value]:
            if setting in COLUMNS and name not in names:
                raise ConfigError(
                    f"task.{setting}={name}: {source} has no such column; it has {listed(names)}"
                    f"{near(str(name), names)}"
                )
