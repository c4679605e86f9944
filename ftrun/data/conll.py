"""Sentences of tokens and tags: CoNLL columns, a word a line, or rows that hold two lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrun.data.content import ending, read_text
from ftrun.data.rows import read_rows
from ftrun.data.sources import Place, Placed, is_path, is_saved
from ftrun.data.tables import refuse_absent
from ftrun.errors import ConfigError, DataError, UserError, counted, disk_full, kind_of, listed, near
from ftrun.runs.files import write_atomically

TABLES = (".csv", ".jsonl", ".parquet")  # every other ending is one of CoNLL columns
DOCUMENT = "-DOCSTART-"  # the first column of a line between documents (Tjong Kim Sang & De Meulder 2003)


@dataclass
class Sentence:
    """Words in order, their tags where the source has any, and where all this stands."""

    tokens: list[str]
    tags: list[str] | None
    columns: dict[str, Any]  # everything its source says, by name
    source: str
    number: int
    line: int | None  # of the first word

    @property
    def place(self) -> Place:
        """Its words parted by blanks, its source, and its number among the sentences there."""
        return Place(" ".join(self.tokens), self.source, self.number)

    @property
    def row(self) -> Placed:
        """Everything its source says, as a row."""
        return Placed(self.columns, self.source, self.number)

    def where(self, word: int = 0) -> str:
        """Where a word stands, for messages."""
        if self.line is None:
            return f"row {self.number} of {self.source}"
        return f"{self.source}, line {self.line + word} (sentence {self.number})"


def read_sentences(
    source: str, tokens: Any, tags: Any, tagged: bool, split: str | None = None
) -> list[Sentence]:
    """The sentences of a file or data set; `tokens` and `tags` say where, by name or by number.

    Null means the columns `tokens` and `tags`, or the first and the last. Sentences without words are left
    out; `split` is whose, for a saved data set of several. Raises DataError that names the line of what is
    wrong.
    """
    path = Path(source).expanduser()
    if is_path(source) and not path.is_dir() and not is_saved(source) and ending(path) not in TABLES:
        return from_columns(path, tokens, tags, tagged)
    rows = read_rows(source, split)
    return from_rows(rows, source, named("tokens", tokens, source), named("tags", tags, source), tagged)


def named(setting: str, value: Any, source: str) -> str:
    if isinstance(value, int):
        raise ConfigError(f"task.{setting}={value}: the columns of {source} have names, not numbers")
    return value or setting


def from_rows(
    rows: Sequence[dict[str, Any]], source: str, tokens: str, tags: str, tagged: bool
) -> list[Sentence]:
    found = list(dict.fromkeys(name for row in rows for name in row))
    for setting, column in (("tokens", tokens), ("tags", tags))[: 1 + tagged]:
        refuse_absent(setting, column, found, source)
    sentences = []
    for number, row in enumerate(rows, 1):
        words = texts(row.get(tokens), f"task.tokens={tokens}: row {number} of {source}")
        marks = texts(row.get(tags), f"task.tags={tags}: row {number} of {source}") if tagged else None
        if marks is not None and len(marks) != len(words):
            raise DataError(
                f"row {number} of {source}: {counted(len(words), 'token')}, but {counted(len(marks), 'tag')}"
            )
        sentences.append(Sentence(words, marks, row, source, number, None))
    return sentences


def texts(value: Any, where: str) -> list[str]:
    """A list of texts, empty for null; DataError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{where} holds {kind_of(value)}, not a list with an entry for each word")
    for item in value:
        if not isinstance(item, str):
            raise DataError(f"{where}: {item!r} is {kind_of(item)}, not text")
    return value


def from_columns(path: Path, tokens: Any, tags: Any, tagged: bool) -> list[Sentence]:
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), 1)]
    full = [line for _, line in lines if line.strip() and not line.lstrip().startswith(DOCUMENT)]
    if not full:
        raise DataError(f"{path} has no words")
    tabs = all("\t" in line for line in full)
    fields = cut(full[0], tabs)
    header, width = fields if isinstance(tokens, str) or isinstance(tags, str) else None, len(fields)
    token_at = position("tokens", 1 if tokens is None else tokens, width, header, path)
    tag_at = position("tags", -1 if tags is None else tags, width, header, path) if tagged else None
    if tag_at == token_at:
        raise DataError(f"{path} has one column, so its words have no tags")
    names = list(header or [f"column{number + 1}" for number in range(width)])
    names[token_at] = tokens if isinstance(tokens, str) else "tokens"
    sentences = []
    for number, (first, words) in enumerate(blocks(lines, skip_first=header is not None), 1):
        columns = aligned(words, first, number, tabs, width, path)
        everything = {name: list(column) for name, column in zip(names, columns, strict=True)}
        marks = list(columns[tag_at]) if tag_at is not None else None
        sentences.append(Sentence(list(columns[token_at]), marks, everything, str(path), number, first))
    return sentences


def cut(line: str, tabs: bool) -> list[str]:
    """The fields of a line, parted by single tabs or by any number of blanks and tabs."""
    return line.split("\t") if tabs else re.split("[ \t]+", line.strip(" \t"))


def position(setting: str, value: Any, width: int, header: list[str] | None, path: Path) -> int:
    """The index of a column named by its header or by its number from 1, from the end where negative."""
    if isinstance(value, str):
        assert header is not None
        if value not in header:
            raise DataError(
                f"task.{setting}={value}: {path} has no such column; "
                f"its first line is {listed(header)}{near(value, header)}; without a header a column is a"
                f" number, and task.{setting}=null the {'last' if setting == 'tags' else 'first'}"
            )
        return header.index(value)
    if not 1 <= abs(value) <= width:
        raise DataError(f"task.{setting}={value}: {path} has {counted(width, 'column')}")
    return value - 1 if value > 0 else width + value


def blocks(lines: list[tuple[int, str]], skip_first: bool) -> list[tuple[int, list[str]]]:
    """The lines of each sentence, with the number of its first."""
    found: list[tuple[int, list[str]]] = []
    inside, header = False, skip_first
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith(DOCUMENT):
            inside = False
        elif header:
            header = False
        else:
            if not inside:
                found.append((number, []))
            found[-1][1].append(line)
            inside = True
    return found


def aligned(
    lines: list[str], first: int, number: int, tabs: bool, width: int, path: Path
) -> list[tuple[str, ...]]:
    """The columns of one sentence; DataError where a line has more or fewer fields than the file's first."""
    fields = [cut(line, tabs) for line in lines]
    for at, found in enumerate(fields):
        if len(found) != width:
            raise DataError(
                f"{path}, line {first + at} (sentence {number}): {counted(len(found), 'column')}"
                f" ({lines[at].strip()[:40]!r}), the first line has {width}; tokens and tags are misaligned"
            )
    return list(zip(*fields, strict=True))


def write_columns(path: Path, rows: list[dict[str, Any]], answer: str) -> None:
    """A word a line: the columns of its row that have an entry for each word, the answer last.

    A row without an answer keeps its words, tagged O.
    """
    text = []
    for row in rows:
        length = next((len(value) for value in row.values() if isinstance(value, list)), 0)
        given = {
            name: value for name, value in row.items() if isinstance(value, list) and len(value) == length
        }
        tags = given.pop(answer, None) or ["O"] * length
        text += ["\t".join(map(str, fields)) for fields in zip(*given.values(), tags, strict=True)]
        text.append("")
    try:
        write_atomically(path, "\n".join(text) + "\n")
    except OSError as error:
        raise disk_full(error) or UserError(f"{path} could not be written: {error.strerror}") from None
