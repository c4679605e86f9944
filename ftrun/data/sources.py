"""Where rows come from: files, patterns and lists of them, saved data sets, the Hub's, an embedded one."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ftrun.data.content import place_of, refuse_missing
from ftrun.data.hub import hub_rows, named_rows
from ftrun.data.tables import read_table
from ftrun.errors import DataError, listed, near, needs

Row = dict[str, Any]
Given = str | list[str]
SPLITS = ("train", "validation", "test")
FILES = {"pretraining": ("text",), "domain": ("rows", "test")}  # settings that name files, where not splits
FORMS = (
    "a csv, tsv, jsonl, json, txt or parquet file (or its .gz), a list or pattern of these, a directory of"
    " datasets.save_to_disk, hub:NAME[@REVISION][:CONFIG]:SPLIT or embedded:docstrings:SPLIT"
)


class Place(NamedTuple):
    """Where a person finds a row: what it says, its file as it was named, and its number there.

    Rows of data are counted from 1, without a header and without blank lines, as in messages. An image that
    is a file of its own has no number: its text is its path below the folder.
    """

    text: str | list[str]
    file: str
    file_row: int | None


class Placed(Row):
    """The columns of a row that knows its file and its number there."""

    __slots__ = ("file", "number")

    def __init__(self, columns: Row, file: str, number: int) -> None:
        super().__init__(columns)
        self.file, self.number = file, number

    def place(self, text: str | list[str]) -> Place:
        """Its place, told by one of its columns or by several."""
        said = self[text] if isinstance(text, str) else [self[name] for name in text]
        return Place(said, self.file, self.number)


@dataclass
class Part:
    """The rows of one file or data set, its name, and notes about it."""

    name: str
    rows: list[Placed]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, rows: list[Row], notes: list[str]) -> Part:
        """The same of rows that are numbered in their order."""
        return cls(name, [Placed(row, name, number) for number, row in enumerate(rows, 1)], notes)

    @property
    def short(self) -> str:
        return Path(self.name).name


def spelled(given: Given) -> str:
    """As it stands on the command line."""
    return given if isinstance(given, str) else f"[{','.join(given)}]"


def read_parts(given: Given, split: str | None = None) -> list[Part]:
    """What a setting names, part by part; `split` is whose, for a saved data set of several.

    Raises DataError, before any file is read where one of them is missing.
    """
    sources = sources_of(given)
    for source in sources:
        refuse_missing_source(source, f", one of {len(sources)} files," if len(sources) > 1 else "")
    return [_part(source, split) for source in sources]


def sources_of(given: Given) -> list[str]:
    """The single sources, patterns replaced by the files they match in the order of their names."""
    each = [given] if isinstance(given, str) else list(given)
    if not each:
        raise DataError("the list [] is empty; name at least one file")
    return [source for item in map(str, each) for source in _matched(item)]


def look(*nodes: Any) -> None:
    """DataError where a setting of these nodes of a configuration names a file that is not there.

    It looks at no content and imports nothing heavy. A kind of one's own alone knows what its settings mean.
    """
    for node in (node for node in nodes if isinstance(node, dict)):
        kind = str(node.get("kind", node.get("name")))
        for name in FILES.get(kind, SPLITS) if "." not in kind else ():
            if isinstance(given := node.get(name), str | list) and given:
                for source in sources_of(given):
                    refuse_missing_source(source)


def refuse_missing_source(source: str, which: str = "") -> None:
    """DataError where a source is a path, and neither it nor what stands before its colon is there."""
    if is_path(source) and stored(source) is None:
        head, colon, _ = source.rpartition(":")
        if not (colon and os.path.exists(Path(head).expanduser())):
            refuse_missing(place_of(source), which)


def is_path(source: str) -> bool:
    return not source.startswith(("hub:", "embedded:"))


def _matched(source: str) -> list[str]:
    if not is_path(source):
        return [source]
    path = place_of(source)
    if not glob.has_magic(source) or os.path.exists(path):
        return [source]
    found = sorted(name for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        place = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
        there = sorted(other.name for other in place.iterdir()) if place.is_dir() else None
        holds = (
            f"{place} holds {listed(there, 4) or 'nothing'}" if there is not None else f"no {place} exists"
        )
        raise DataError(f"{source} matches no file; {holds}")
    return found


def _part(source: str, split: str | None) -> Part:
    if source.startswith("hub:"):
        return Part.of(source, hub_rows(source), [])
    if source.startswith("embedded:"):
        return Part.of(source, _embedded(source), [])
    if (data := saved_data(source, split)) is not None:
        return Part.of(source, named_rows(data), [])
    return Part.of(source, *read_table(Path(source).expanduser()))


def stored(source: str) -> tuple[Path, str | None] | None:
    """Directory and split of DIR or DIR:SPLIT; None where there is no such directory."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path, None
    head, colon, split = source.rpartition(":")
    if colon and head and not path.exists() and Path(head).expanduser().is_dir():
        return Path(head).expanduser(), split
    return None


def is_saved(source: str) -> bool:
    """Whether it is a directory of save_to_disk; DataError for a DIR:SPLIT whose directory is none."""
    place = stored(source)
    if place is None:
        return False
    path, named = place
    found = any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))
    if named is not None and not found:
        raise DataError(f"{source}: {path} is not a directory of datasets.save_to_disk")
    return found


def saved_data(source: str, role: str | None) -> Any:
    """The `datasets.Dataset` in a directory of save_to_disk, None where the source is no such directory.

    Of several splits it is the one that DIR:SPLIT names, else that of the role; DataError when there is none.
    """
    place = stored(source)
    if place is None or not is_saved(source):
        return None
    path, named = place
    several = (path / "dataset_dict.json").is_file()
    needs(source, "hub", "datasets")
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are OSError and ValueError
        raise DataError(f"{path} is damaged: {str(error).strip().splitlines()[0]}") from None
    if not several:
        if named is not None:
            raise DataError(f"{source}: {path} holds one data set without splits; leave ':{named}' out")
        return data
    wanted = named or role
    if wanted is None or wanted not in data:
        lacks = f"has no split {wanted!r}" if wanted else "has several splits"
        ways = ", ".join(f"{path}:{split}" for split in data)
        raise DataError(f"{path} {lacks}; possible: {ways}{near(wanted or '', data)}")
    return data[wanted]


def _embedded(source: str) -> list[Row]:
    from ftrun.data import docstrings

    whole, _, few = source.rpartition(":")
    if few.isdecimal():
        return docstrings.rows(embedded_split(whole, "docstrings", "data set"), per_class=int(few))
    return docstrings.rows(embedded_split(source, "docstrings", "data set"))


def embedded_split(source: str, only: str, what: str) -> str:
    """The split of `embedded:NAME:SPLIT`; DataError unless its name is `only`, the one `what` there is."""
    _, _, rest = source.partition(":")
    name, _, split = rest.partition(":")
    if name != only:
        raise DataError(f"{source}: no embedded {what} {name!r}; possible: {only}{near(name, [only])}")
    if split not in SPLITS:
        raise DataError(f"{source}: no split {split!r}; possible: {', '.join(SPLITS)}{near(split, SPLITS)}")
    return split
