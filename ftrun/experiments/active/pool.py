"""The rows of a file that may be suggested: without a label, and each new to the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftrun.data import leaks
from ftrun.data.tables import columns_of
from ftrun.errors import DataError, counted
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.parts.table_rows import TableRows
from ftrun.training.kept.features import addresses_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ftrun.tasks.data import TaskData

SHOWN = 3  # rows named of each kind that is left out


def pool_of(data: TaskData, own: TaskData, labels: list[str], file: str) -> tuple[list[int], list[str]]:
    """Places of the examples of a file's rows that may be suggested, and who may not, in sentences.

    A row may not that has something in one of the columns `labels`, that equals one of the run's `own`, or
    that equals an earlier one. Texts are equal as in a data card, whatever their case, blanks and forms of
    characters; other rows where the network is given the same. Raises DataError where none is left.
    """
    examples, rows = data.dataset("test").examples, data.rows.inputs
    known: dict[Hashable, str] = {}
    for split in reversed(SPLITS):  # of a row in several splits train is told
        if split in own.rows.splits:
            known |= dict.fromkeys(keys_of(own, split), f"also in {split}")
    places: list[int] = []
    out: dict[str, list[int]] = {}
    for place, (example, key) in enumerate(zip(examples, keys_of(data, "test"), strict=True)):
        label = next((name for name in labels if rows[example.row].get(name) not in (None, "", [])), None)
        why = known.get(key) if label is None else f"labelled already (column {label!r})"
        if why is None:
            places.append(place)
            known[key] = "that repeat an earlier one"
        else:
            out.setdefault(why, []).append(example.row)
    if blank := sorted({*range(len(rows))} - {example.row for example in examples}):
        out["empty or unreadable"] = blank
    notes = [told(len(found), why, [rows[row].number for row in found]) for why, found in out.items()]
    if not places:
        raise DataError(f"{file}: no row is left to suggest; left out: {'; '.join(notes)}")
    return places, notes


def told(count: int, why: str, numbers: Sequence[int]) -> str:
    """12 rows also in train (rows 3, 8, 9 and 9 more)."""
    shown = ", ".join(f"{number:,}" for number in numbers[:SHOWN])
    more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
    return f"{counted(count, 'row')} {why} ({'row' if count == 1 else 'rows'} {shown}{more})"


def keys_of(data: TaskData, split: str) -> Sequence[Hashable]:
    """What is equal of equal rows, one for each example; of a split that is not encoded for each row."""
    if not isinstance(data.rows, TableRows):
        dataset = data.dataset(split)
        return addresses_of(dataset, list(dataset.examples))
    rows = data.rows.splits[split]
    if not data.rows.answered:
        rows = [rows[example.row] for example in data.dataset(split).examples]
    return leaks.of_columns({split: rows}, columns_of(data.task.text)).keys[split]
