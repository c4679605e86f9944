"""Rows from any source, cleaned and split: what a task learns from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from ftrun.data.folds import PLAIN, Splitting
from ftrun.data.grouped_splits import Keys, split_whole
from ftrun.data.label_columns import ONE_NAME, LabelColumn
from ftrun.data.labels import (
    Labels,
    doubted_texts,
    refuse_absent_classes,
    refuse_foreign,
    refuse_free_text,
)
from ftrun.data.leaks import leak_notes, of_columns, warnings_of, without_leaks
from ftrun.data.sources import FORMS, SPLITS, Given, Part, Placed, Row, read_parts, spelled
from ftrun.data.splits import Splits, choose, parse_subset, pick
from ftrun.data.tables import Columns, columns_of, refuse_absent
from ftrun.errors import ConfigError, DataError, counted, kind_of
from ftrun.settings.checks import natural_order


def read_rows(source: Given, split: str | None = None) -> list[Placed]:
    """The rows of all that a setting names, of a saved data set the split's; DataError says what is wrong."""
    return [row for part in read_parts(source, split) for row in part.rows]


def load_splits(
    *,
    train: Given | None,
    validation: Given | None,
    test: Given | None,
    text: Columns,
    label: str,
    subset: str | int | None,
    seed: int,
    leaks: str = "warn",
    reading: LabelColumn = ONE_NAME,
    classes: list[str] | None = None,
    how: Splitting = PLAIN,
) -> Splits:
    """Read, clean and complete the splits: labels as `reading` has them, what is missing carved.

    Of all labels those of `classes` alone, None for all. Training rows whose text, or by `how` whose group or
    time, is in another split too are warned of, dropped or an error.
    """
    if train is None:
        raise ConfigError(f"task.train is not set: it is {FORMS}")
    if subset is not None:
        parse_subset(subset)
    sources, notes = how.sources({"train": train, "validation": validation, "test": test})
    rows = {
        split: in_use(usable(split, source, text, label, reading, notes, how), source, label, classes)
        for split, source in sources.items()
        if source is not None
    }
    refuse_hidden_labels(rows, sources, label, reading)
    notes += _carve_missing(rows, text, label, reading, how)
    if leaks == "drop":
        notes += _drop_leaks(rows, text, how)
    if subset is not None:
        whole = len(rows["train"])
        strata = reading.strata(_column(rows["train"], label))
        chosen, more = choose(strata, subset, seed, reading.stratum)
        rows["train"] = pick(rows["train"], chosen)
        notes += [f"train: {len(chosen)} of {whole} rows chosen (task.subset={subset}, seed {seed})", *more]
    notes += leak_notes(of_columns(rows, text), leaks) + warnings_of(how.leaks(rows), leaks)
    return splits_of(rows, notes, text, label)


def _drop_leaks(rows: dict[str, list[Row]], text: Columns, how: Splitting) -> list[str]:
    """Take training rows that are in another split, too, or do not stand apart from it; returns notes."""
    kept, notes = without_leaks(of_columns(rows, text))
    rows["train"] = pick(rows["train"], kept)
    kept, more = how.without_leaks(rows)
    rows["train"] = pick(rows["train"], kept)
    return notes + more


def load_test(
    source: Given,
    *,
    text: Columns,
    label: str,
    labels: Labels | None,
    reading: LabelColumn = ONE_NAME,
    classes: list[str] | None = None,
) -> Splits:
    """One source as the test split of a finished run, its labels known; DataError names a foreign one."""
    notes: list[str] = []
    rows = in_use(usable("test", source, text, label, reading, notes), source, label, classes)
    splits = splits_of({"test": rows}, notes, text, label)
    if labels is not None:
        refuse_foreign(splits, label, labels.names, "a label of this run")
    return splits


def texts_of(rows: Sequence[Row], column: str, source: str) -> list[str]:
    """The texts to predict for, "" where there is none; DataError when the column is missing or no text."""
    _refuse_columns("input", source, rows, [("text", column)])
    return [cell_text(row, number, column, source) for number, row in enumerate(rows, 1)]


def usable(
    split: str,
    source: Given,
    text: Columns,
    label: str,
    reading: LabelColumn,
    notes: list[str],
    how: Splitting = PLAIN,
) -> list[Row]:
    parts, texts = read_parts(source, split), columns_of(text)
    rows = sum(len(part.rows) for part in parts)
    kept: list[Row] = []
    without: dict[str, list[str]] = {"an empty text": [], "no label": []}
    wanted = [*(("text", column) for column in texts), *(("label", name) for name in reading.named(label))]
    for part in parts:
        notes += part.notes
        _refuse_columns(split, part.name, part.rows, wanted)
        how.check(part.rows, part.name)
        names = _names(part, label, reading, notes)
        for number, (row, name) in enumerate(zip(part.rows, names, strict=True), 1):
            where = str(number) if len(parts) == 1 else f"{number} of {part.short}"
            if not all([cell_text(row, number, column, part.name) for column in texts]):
                without["an empty text"].append(where)
            elif name is None:
                without["no label"].append(where)
            else:
                kept.append(Placed(row | {label: name}, row.file, row.number))
    if not kept and without["no label"]:
        raise DataError(_no_labels(split, spelled(source), label, rows))
    for why, dropped in without.items():
        if dropped:
            named = ", ".join(dropped[:3]) + (", …" if len(dropped) > 3 else "")
            notes.append(f"{split}: {len(dropped)} of {rows} rows dropped, {why} (row {named})")
    if not kept:
        raise DataError(
            f"task.{split}={spelled(source)}: none of {counted(rows, 'row')} has both a text and a label"
        )
    notes += [f"{split}: {counted(len(kept), 'row')} of {len(parts)} files"] * (len(parts) > 1)
    notes += doubted_texts(split, (row[column] for row in kept for column in texts))
    return kept


def in_use(rows: list[Row], source: Given, label: str, classes: list[str] | None) -> list[Row]:
    """The rows of some classes; DataError where one of them has none."""
    if classes is None:
        return rows
    refuse_absent_classes(classes, {row[label] for row in rows}, spelled(source), "row")
    return [row for row in rows if row[label] in classes]


def _refuse_columns(split: str, source: str, rows: Sequence[Row], wanted: list[tuple[str, str]]) -> None:
    if not rows:
        raise DataError(f"task.{split}={source} has no rows")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for setting, column in wanted:
        refuse_absent(setting, column, columns, source)


def _names(part: Part, label: str, reading: LabelColumn, notes: list[str]) -> list[Any]:
    """What the label column says in each row; what is odd in it as a whole is noted."""
    names, place = [], part.name
    try:
        for number, row in enumerate(part.rows, 1):
            place = f"row {number} of {part.name}"
            names.append(reading.read(reading.cell(row, label)))
        place = part.name
        odd = reading.notes([reading.cell(row, label) for row in part.rows])
    except DataError as error:
        raise DataError(f"task.label={label}: {place}: {error}") from None
    notes += [f"warning: {part.short}: {note}" for note in odd]
    return names


def cell_text(row: Row, number: int, column: str, source: str) -> str:
    """The text of a row's cell, "" where it has none; DataError where it holds something else."""
    value = row.get(column)
    if isinstance(value, str):
        return "" if value.strip() in ("", "nan", "NaN") else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    raise DataError(f"task.text={column}: row {number} of {source} holds {kind_of(value)}, not text")


def refuse_hidden_labels(
    rows: dict[str, list[Row]], sources: dict[str, Given | None], label: str, reading: LabelColumn
) -> None:
    """Benchmarks that keep their test labels to themselves write -1 in every row."""
    if reading.hidden is None or reading.hidden in _column(rows["train"], label):
        return
    for split in set(rows) - {"train"}:
        if all(value == reading.hidden for value in _column(rows[split], label)):
            raise DataError(_no_labels(split, spelled(sources[split] or ""), label, len(rows[split])))


def _no_labels(split: str, source: str, label: str, rows: int) -> str:
    instead = "" if split == "train" else f"; task.{split}=null carves one from train"
    where = f"column {label!r} is empty or -1 in each of {counted(rows, 'row')}"
    return f"task.{split}={source} has no labels ({where}){instead}"


def _carve_missing(
    rows: dict[str, list[Row]], text: Columns, label: str, reading: LabelColumn, how: Splitting
) -> list[str]:
    """Carve the splits that are not there from train, in place; DataError where train is too small."""
    missing = [split for split in ("test", "validation") if split not in rows]
    if not missing:
        return []
    strata = reading.strata(_column(rows["train"], label))
    keys = Keys(strata, reading.stratum, *how.keys(rows["train"]))
    texts = of_columns({"train": rows["train"]}, text).keys["train"]
    indices, notes = split_whole(how, missing, keys, texts, "text")
    rows |= {split: pick(rows["train"], chosen) for split, chosen in indices.items()}
    if reading is ONE_NAME and not all(rows[split] for split in missing):
        refuse_free_text(sorted(set(strata), key=natural_order), len(strata), label)
    for split in missing:
        if not rows[split]:
            few = f"rows ({len(texts)})"
            if (different := len({*texts})) < len(texts):
                few = f"different texts ({different} in {counted(len(texts), 'row')})"
            raise DataError(f"task.train has too few {few} to carve {split} from; set task.{split}")
    return notes


def _column(rows: list[Row], column: str) -> list[Any]:
    return [row[column] for row in rows]


def _inputs(row: Row, text: Columns) -> str | tuple[str, ...]:
    """What the network reads of a row."""
    return row[text] if isinstance(text, str) else tuple(row[column] for column in text)


def splits_of(rows: dict[str, list[Row]], notes: list[str], text: Columns, label: str) -> Splits:
    train, validation, test = (rows.get(split, []) for split in SPLITS)
    content = [[[_inputs(row, text), row[label]] for row in part] for part in (train, validation, test)]
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return Splits(train, validation, test, notes, fingerprint)
