"""What runs answered to their test rows, held small: what many of them have in common is held once."""

from __future__ import annotations

import hashlib
import json
import marshal
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from ftrun.tasks.scorer import DIGITS, PROBABILITIES

Line = dict[str, Any]  # of predictions.jsonl
Array = Any  # numpy.ndarray of floats


@dataclass(eq=False)
class Items:
    """The test rows of runs in their order: one object for all runs that were scored on the same ones."""

    labels: list[Any]
    files: list[str | None]  # where each row stands, None where that is not known
    places: Sequence[Any]  # in its file: its number, or its text where it has none
    slices: dict[str, list[str]]  # a column → the name of each row's slice
    key: str  # a hash of the rows' numbers and labels

    @cached_property
    def classes(self) -> bool:
        """Whether each label is one name, so that an answer is right or wrong."""
        return all(isinstance(label, str) for label in self.labels)

    @property
    def names(self) -> list[str | None]:
        """What tells each row from every other of the data; None where nothing does."""
        return [
            None if file is None else repr((file, place))
            for file, place in zip(self.files, self.places, strict=True)
        ]


@dataclass(eq=False)
class Probabilities:
    """The probability of each label for each row."""

    names: tuple[tuple[str, ...], ...]  # the labels of each row
    packed: Array  # of all rows, one behind the other

    @property
    def values(self) -> Array:
        """All probabilities as they were written."""
        return unpacked(self.packed)

    @property
    def rows(self) -> list[dict[str, float]]:
        """The same as in the file."""
        found = iter(self.values.tolist())
        return [{name: next(found) for name in names} for names in self.names]


@dataclass(eq=False)
class Answered:
    """The answers of a run to its test rows."""

    items: Items
    answers: Sequence[Any]
    probability: Sequence[float] | None = None  # of each answer; None where one is not known
    of_labels: bool = False  # whether each row has a probability of each label
    probabilities: Probabilities | None = None  # these, where they were kept

    def __len__(self) -> int:
        return len(self.answers)


class Shelf:
    """Hands out one object for equal ones, as long as runs are read."""

    def __init__(self) -> None:
        self._items: dict[bytes, Items] = {}
        self._lists: dict[tuple[str, ...], list[str]] = {}
        self._tuples: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def put(self, lines: list[Line], keep: bool = True) -> Answered:
        """Lines of predictions.jsonl that have a label and an answer each; `keep` those of each label."""
        sure: list[Any] = [line.get("probability") for line in lines]
        each: list[Any] = [line.get(PROBABILITIES) for line in lines]
        whole = {*map(type, each)} == {dict} and all(each)
        whole = whole and None not in chain.from_iterable(own.values() for own in each)
        return Answered(
            self._rows(lines),
            self._shared([line["answer"] for line in lines]),
            array("d", sure) if {*map(type, sure)} == {float} else None,
            whole,
            self._probabilities(each) if whole and keep else None,
        )

    def _rows(self, lines: list[Line]) -> Items:
        labels, rows = [line["label"] for line in lines], [line.get("row") for line in lines]
        files = [str(line["file"]) if "file" in line else None for line in lines]
        places = [_place(line) for line in lines]
        slices = columns_of(lines)
        mark = hashlib.sha256(marshal.dumps((labels, rows, files, places, slices), 2)).digest()
        if mark not in self._items:
            pairs = json.dumps([[row, label] for row, label in zip(rows, labels, strict=True)]).encode()
            whole = all(type(place) is int and place.bit_length() < 64 for place in places)
            self._items[mark] = Items(
                [*self._shared(labels)],
                [file and sys.intern(file) for file in files],
                array("q", places) if whole else places,
                slices,
                hashlib.sha256(pairs).hexdigest(),
            )
        return self._items[mark]

    def _shared(self, values: list[Any]) -> Sequence[Any]:
        """Numbers in eight bytes; of each name, and list of names, one object for all rows and runs."""
        kinds = {*map(type, values)}
        if kinds == {str}:
            return [*map(sys.intern, values)]
        return array("d", values) if kinds == {float} else [self._list(value) for value in values]

    def _list(self, value: Any) -> Any:
        if not isinstance(value, list) or {*map(type, value)} != {str}:
            return sys.intern(value) if isinstance(value, str) else value
        key = tuple(value)
        if key not in self._lists:
            self._lists[key] = [*map(sys.intern, value)]
        return self._lists[key]

    def _probabilities(self, each: list[dict[str, float]]) -> Probabilities:
        import numpy

        rows = [tuple(own) for own in each]
        names = tuple(self._tuples.setdefault(own, own) for own in rows)
        values = numpy.fromiter(chain.from_iterable(own.values() for own in each), float)
        return Probabilities(self._tuples.setdefault(names, names), packed(values))


def columns_of(lines: list[Line]) -> dict[str, list[str]]:
    """Of each column the slices that the rows are in."""
    columns = dict.fromkeys(chain.from_iterable(line.get("slices", ()) for line in lines))
    return {name: [sys.intern(line["slices"][name]) for line in lines] for name in columns}


def _place(line: Line) -> Any:
    number = line.get("file_row")
    return line.get("text") if number is None and "file" in line else number


def packed(values: Array) -> Array:
    """Probabilities in four bytes each where these hold all their decimals."""
    import numpy

    small = values.astype(numpy.float32)
    return small if (unpacked(small) == values).all() else values


def unpacked(found: Array) -> Array:
    """What `packed` was given."""
    return found if found.dtype == float else found.astype(float).round(DIGITS)


def in_turn(parts: Sequence[Answered]) -> Answered:
    """The answers to several tests one after the other; slices of the columns that all of them have."""
    import numpy

    items = [each.items for each in parts]
    sure = [each.probability for each in parts]
    each = [own.probabilities for own in parts]
    columns = [name for name in items[0].slices if all(name in own.slices for own in items)]
    whole = Items(
        [label for own in items for label in own.labels],
        [file for own in items for file in own.files],
        [place for own in items for place in own.places],
        {name: [slice for own in items for slice in own.slices[name]] for name in columns},
        hashlib.sha256("".join(own.key for own in items).encode()).hexdigest(),
    )
    known = [own for own in each if own is not None]
    return Answered(
        whole,
        [answer for own in parts for answer in own.answers],
        None if any(own is None for own in sure) else array("d", chain.from_iterable(filter(None, sure))),
        all(own.of_labels for own in parts),
        None
        if len(known) < len(parts)
        else Probabilities(
            tuple(names for own in known for names in own.names),
            packed(numpy.concatenate([own.values for own in known])),
        ),
    )
