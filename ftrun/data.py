"""Rows from any source, cleaned, split and described: what a task sees of the world."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, DataError, near
from ftrun.hub import hub_rows
from ftrun.labels import Labels, label_set, listed, name_of, refuse_foreign
from ftrun.splits import SPLIT_SEED, carve, choose, parse_subset, pick
from ftrun.tables import read_table

__all__ = [
    "Labels",
    "Row",
    "Splits",
    "label_set",
    "load_splits",
    "load_test",
    "parse_subset",
    "read_rows",
    "texts_of",
]

Row = dict[str, Any]
SPLITS = ("train", "validation", "test")
FORMS = "a csv, tsv, jsonl or parquet file, hub:NAME[:CONFIG]:SPLIT or embedded:docstrings:SPLIT"


@dataclass
class Splits:
    """The three splits, what was done to them in words, and a hash of their texts and labels."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    notes: list[str]
    fingerprint: str  # sha256, the same wherever and whenever the same rows are read


def read_rows(source: str) -> list[Row]:
    """The rows of a file, a Hub data set or an embedded one; DataError says what is wrong with it."""
    return _read(source)[0]


def load_splits(
    *,
    train: str | None,
    validation: str | None,
    test: str | None,
    text: str,
    label: str,
    subset: str | int | None,
    seed: int,
) -> Splits:
    """Read, clean and complete the splits: labels become their names, a missing one is carved from train."""
    if train is None:
        raise ConfigError(f"task.train is not set: it is {FORMS}")
    if subset is not None:
        parse_subset(subset)
    notes: list[str] = []
    sources = {"train": train, "validation": validation, "test": test}
    rows = {
        split: _usable(split, source, text, label, notes)
        for split, source in sources.items()
        if source is not None
    }
    _refuse_hidden_labels(rows, sources, label)
    missing = [split for split in ("test", "validation") if split not in rows]
    if missing:
        indices, said = carve(_column(rows["train"], label), missing, SPLIT_SEED)
        rows |= {split: pick(rows["train"], chosen) for split, chosen in indices.items()}
        notes += said
        _refuse_empty(rows, missing)
    if subset is not None:
        whole = len(rows["train"])
        chosen, said = choose(_column(rows["train"], label), subset, seed)
        rows["train"] = pick(rows["train"], chosen)
        notes += [f"train: {len(chosen)} of {whole} rows chosen (task.subset={subset}, seed {seed})", *said]
    notes += _shared(rows, text)
    return _splits(rows, notes, text, label)


def load_test(source: str, *, text: str, label: str, labels: Labels) -> Splits:
    """One source as the test split of a finished run, its labels known; DataError names a foreign one."""
    notes: list[str] = []
    splits = _splits({"test": _usable("test", source, text, label, notes)}, notes, text, label)
    refuse_foreign(splits, label, labels.names, "a label of this run")
    return splits


def texts_of(rows: list[Row], column: str, source: str) -> list[str]:
    """The texts to be answered, "" where there is none; DataError when the column is missing or no text."""
    _refuse_columns("input", source, rows, {"text": column})
    return [_text_of(row, number, column, source) for number, row in enumerate(rows, 1)]


def _read(source: str) -> tuple[list[Row], list[str]]:
    if source.startswith("hub:"):
        return hub_rows(source), []
    if source.startswith("embedded:"):
        return _embedded(source), []
    return read_table(Path(source).expanduser())


def _embedded(source: str) -> list[Row]:
    from ftrun import docstrings

    _, _, rest = source.partition(":")
    name, _, split = rest.partition(":")
    if name != "docstrings":
        raise DataError(
            f"{source}: no embedded data set {name!r}; possible: docstrings{near(name, ['docstrings'])}"
        )
    if split not in SPLITS:
        raise DataError(f"{source}: no split {split!r}; possible: {', '.join(SPLITS)}{near(split, SPLITS)}")
    return docstrings.rows(split)


def _usable(split: str, source: str, text: str, label: str, notes: list[str]) -> list[Row]:
    rows, said = _read(source)
    notes += said
    _refuse_columns(split, source, rows, {"text": text, "label": label})
    names = _names(source, rows, label)
    if all(name is None for name in names):
        raise DataError(_no_labels(split, source, label, len(rows)))
    kept, blank, unlabelled = [], [], []
    for number, (row, name) in enumerate(zip(rows, names, strict=True), 1):
        if not _text_of(row, number, text, source):
            blank.append(number)
        elif name is None:
            unlabelled.append(number)
        else:
            kept.append(row | {label: name})
    for dropped, why in ((blank, "an empty text"), (unlabelled, "no label")):
        if dropped:
            rows_named = ", ".join(map(str, dropped[:3])) + (", …" if len(dropped) > 3 else "")
            notes.append(f"{split}: {len(dropped)} of {len(rows)} rows dropped, {why} (row {rows_named})")
    if not kept:
        raise DataError(f"task.{split}={source}: none of the {len(rows)} rows has both a text and a label")
    return kept


def _refuse_columns(split: str, source: str, rows: list[Row], wanted: dict[str, str]) -> None:
    if not rows:
        raise DataError(f"task.{split}={source} has no rows")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for setting, column in wanted.items():
        if column not in columns:
            raise DataError(
                f"task.{setting}={column}: {source} has no such column; "
                f"it has {listed(columns)}{near(column, columns)}"
            )


def _names(source: str, rows: list[Row], label: str) -> list[str | None]:
    names = []
    for number, row in enumerate(rows, 1):
        try:
            names.append(name_of(row.get(label)))
        except DataError as error:
            raise DataError(f"task.label={label}: row {number} of {source}: {error}") from None
    return names


def _text_of(row: Row, number: int, column: str, source: str) -> str:
    value = row.get(column)
    if isinstance(value, str):
        return "" if value.strip() in ("", "nan", "NaN") else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    raise DataError(f"task.text={column}: row {number} of {source} holds a {type(value).__name__}, not text")


def _refuse_hidden_labels(rows: dict[str, list[Row]], sources: dict[str, str | None], label: str) -> None:
    """Benchmarks that keep their test labels to themselves write -1 in every row."""
    trained = set(_column(rows["train"], label))
    for split in set(rows) - {"train"}:
        if set(_column(rows[split], label)) == {"-1"} and "-1" not in trained:
            raise DataError(_no_labels(split, str(sources[split]), label, len(rows[split])))


def _no_labels(split: str, source: str, label: str, rows: int) -> str:
    instead = "" if split == "train" else f"; task.{split}=null carves one from train"
    return (
        f"task.{split}={source} has no labels (column {label!r} is empty or -1 in all {rows} rows){instead}"
    )


def _refuse_empty(rows: dict[str, list[Row]], missing: list[str]) -> None:
    for split in missing:
        if not rows[split]:
            raise DataError(
                f"task.train has too few rows ({len(rows['train'])}) to carve {split} from; set task.{split}"
            )


def _shared(rows: dict[str, list[Row]], text: str) -> list[str]:
    notes = []
    for split, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        known = set(_column(rows[other], text))
        count = sum(row[text] in known for row in rows[split])
        if count:
            notes.append(f"{split}: {count} of {len(rows[split])} texts are also in {other}")
    return notes


def _column(rows: list[Row], column: str) -> list[str]:
    return [row[column] for row in rows]


def _splits(rows: dict[str, list[Row]], notes: list[str], text: str, label: str) -> Splits:
    train, validation, test = (rows.get(split, []) for split in SPLITS)
    content = [[[row[text], row[label]] for row in part] for part in (train, validation, test)]
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Splits(train, validation, test, notes, fingerprint)
