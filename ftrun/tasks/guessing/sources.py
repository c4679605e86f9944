"""What a file, a directory or a data set is for, as far as a look at its form and its rows says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftrun.data.conll import cut
from ftrun.data.content import ending, lines_of
from ftrun.data.documents import PLAIN, files_of
from ftrun.data.images.sources import PICTURES, read_images
from ftrun.data.rows import read_rows
from ftrun.data.sources import is_path, is_saved, refuse_missing_source, saved_data
from ftrun.data.squad import rows_of
from ftrun.data.tables import ENDINGS, columns_of
from ftrun.errors import DataError
from ftrun.tasks.guessing.columns import Row, empty
from ftrun.tasks.guessing.kinds import COLUMNS, Guess, of_running_text, of_table

LOOKED = 400  # lines of a plain text, by which words in columns are told from running text
WORDS = (".conll", ".bio", ".iob", ".iob2")  # endings of words in columns with their tags, whatever is in it
TAG = re.compile(r"O|[BIESLU]-\S+")  # of IOB1, IOB2, BIOES and BILOU
TRAIN = re.compile(r"train(ing)?", re.IGNORECASE)
OTHERS = {"validation": ("validation", "valid", "val", "dev"), "test": ("test", "testing")}  # for train


def guess(source: str, given: dict[str, Any]) -> Guess:
    """Kind and settings of the task that a source of training rows is for, with the splits that lie beside.

    `given` are settings of the task that are known, and its `kind`. Raises DataError where the source cannot
    be read, or holds nothing that a task learns from.
    """
    refuse_missing_source(source)
    path = Path(source).expanduser()
    if is_path(source) and path.is_dir() and (path / "train").is_dir() and not is_saved(source):
        source, path = f"{source.rstrip('/')}/train", path / "train"
    elif is_path(source) and path.is_dir() and len(tables := tables_of_train(path)) == 1:
        source, path = f"{source.rstrip('/')}/{tables[0].name}", tables[0]
    found = of_source(source, path, given)
    own = {"train": source} | {split: beside(source, split, found) for split in OTHERS}
    found.settings = own | found.settings
    return found


def of_source(source: str, path: Path, given: dict[str, Any]) -> Guess:
    """The guess without the splits."""
    kind, form = given.get("kind"), ending(path)
    if not is_path(source) or is_saved(source):
        return of_table(read_rows(source, "train"), source, given)
    if kind == "image" or form in (".zip", ".npz") or (path.is_dir() and pictures_in(path)):
        if form not in ENDINGS:
            read_images(source, None, "label")
            return Guess("image", {})
    if path.is_dir():
        files_of("task.train", source)
        return of_running_text({}, [], [], kind)
    if form == ".json":
        return of_table(rows_of(source), source, given)
    tagged = kind is None and (form in WORDS or (form not in ENDINGS[:-2] and in_columns(path, form)))
    if kind == "ner" or tagged:
        if form not in (".jsonl", ".csv", ".parquet"):
            return Guess("ner", {})
    if form in PLAIN:
        return of_running_text({}, [], [], kind)
    return of_table(read_rows(source), source, given)


def tables_of_train(path: Path) -> list[Path]:
    """The tables in a directory that are called train."""
    return [
        file
        for file in path.iterdir()
        if TRAIN.fullmatch(file.name.partition(".")[0]) and ending(file) in ENDINGS and file.is_file()
    ]


def pictures_in(path: Path) -> bool:
    return any(file.suffix.lower() in PICTURES for file in path.rglob("*"))


def in_columns(path: Path, form: str) -> bool:
    """Whether the first lines are words with their tags, as many columns in each."""
    if form == ".parquet":
        return False
    lines = [line for _, line in zip(range(LOOKED), lines_of(path), strict=False) if line.strip()]
    tabs = bool(lines) and all("\t" in line for line in lines)
    fields = [cut(line, tabs) for line in lines if not line.startswith("-DOCSTART-")]
    body = fields[1:] if fields and not TAG.fullmatch(fields[0][-1]) else fields
    widths = {len(each) for each in fields}
    return len(widths) == 1 and max(widths) > 1 and bool(body) and all(TAG.fullmatch(e[-1]) for e in body)


def beside(source: str, split: str, found: Guess) -> str | None:
    """Another split that belongs to train: its name says so, and it has the columns that are read."""
    if is_path(source) and is_saved(source):
        try:
            saved_data(source, split)
        except DataError:
            return None
        return source if ":" not in Path(source).name else None
    if source.startswith("embedded:"):
        return source.replace(":train", f":{split}") if ":train" in source else None
    place = Path(source).expanduser()
    for word in OTHERS[split]:
        other = place.with_name(TRAIN.sub(word, place.name))
        if other != place and other.exists() and (other.is_dir() or usable(str(other), found)):
            return str(Path(source).with_name(other.name))
    return None


def usable(source: str, found: Guess) -> bool:
    """Whether a file has the columns that are read, and a label in its first row."""
    if not found.columns:
        return True
    try:
        rows: Sequence[Row] = rows_of(source) if source.endswith(".json") else read_rows(source)
    except DataError:
        return False
    values = [found.settings.get(name) for name in COLUMNS]
    columns = [name for each in values if each for name in (each if isinstance(each, list) else [each])]
    labels = [rows[0].get(name) for name in columns_of(found.settings.get("label", columns[-1]))]
    return {*columns} <= {*rows[0]} and not any(empty(label) or str(label) == "-1" for label in labels)
