"""Handwritten digits of 8 x 8 pixels (Alpaydin & Kaynak 1998, from scikit-learn) and tasks derived from them.

The scenarios in which forgetting is studied (van de Ven & Tolias 2019): with `classes` and `modulo` other
digits come under the same labels, with `classes` and `labels` the labels come bit by bit, and with `permute`
digits and labels stay and the pixels change places (Goodfellow et al. 2014).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.folds import Splitting
from ftrun.data.images.digits import BRIGHTEST, SIDE, fixed_splits
from ftrun.data.images.transforms import order_of, seeds_of
from ftrun.data.labels import Labels, name_of
from ftrun.data.sources import Place
from ftrun.data.splits import choose, parse_subset, pick
from ftrun.errors import ConfigError, DataError, counted, listed, near
from ftrun.models.spec import ImageInput, Spec
from ftrun.settings.checks import at_least
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import Batch, Dataset, Draw, Example, Rows
from ftrun.tasks.parts import labelled
from ftrun.tasks.parts.images import IMAGES, stacked

if TYPE_CHECKING:
    from numpy import ndarray

    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective

COLUMNS = [f"pixel{number}" for number in range(SIDE * SIDE)]
SHAPE = (1, SIDE, SIDE)


@dataclass
class DigitRows(Rows):
    """Of each split the pixels, (rows, 64) of float32 from 0 to 1, and the labels; None: to be answered."""

    places: dict[str, list[Place]] = field(default_factory=dict)

    def card(self, data: TaskData) -> dict[str, Any]:
        return labelled.examples_card(data)


@dataclass
class Digits(Task):
    """Some digits or all, under their own names or modulo a number, as they are or with permuted pixels."""

    name: str
    classes: Any  # the digits in use, or null for all ten
    modulo: int | None
    labels: Any  # the names of the head's labels, or null for those of the digits in use
    permute: Any  # a seed, null for the pixels as they are, or a list of these
    subset: Any  # null, a number of training rows, or "k per class"
    folds: int | None
    fold: int | None
    split_seed: int

    ignored_settings: ClassVar[tuple[str, ...]] = ("max_length",)

    def __post_init__(self) -> None:
        self.used = digits_of(self.classes)
        at_least("task.modulo", self.modulo, 2)
        found = list(dict.fromkeys(self.label_of(digit) for digit in sorted(self.used)))
        self.names = Labels(found if self.labels is None else declared(self.labels, found), [])
        if len(found) < 2:
            raise ConfigError(
                f"task.modulo={self.modulo} maps the digits {self.used} to one label; two are needed"
            )
        self.orders = [permutation(seed) for seed in seeds_of(self.permute)]
        if self.subset is not None:
            parse_subset(self.subset)
        self.how = Splitting(self.folds, self.fold, self.split_seed)

    def label_of(self, digit: int) -> str:
        return str(digit if self.modulo is None else digit % self.modulo)

    def load(self, seed: int) -> DigitRows:
        import numpy

        notes: list[str] = []
        splits: dict[str, Any] = {}
        places: dict[str, list[Place]] = {}
        for split, (pixels, digits, whole) in fixed_splits(self.how).items():
            rows = [row for row, digit in enumerate(digits) if digit in self.used]
            if split == "train" and self.subset is not None:
                chosen, warnings = choose([str(digits[row]) for row in rows], self.subset, seed)
                notes.append(
                    f"train: {len(chosen)} of {len(rows)} rows chosen (task.subset={self.subset},"
                    f" seed {seed})"
                )
                notes += warnings
                rows = pick(rows, chosen)
            own = (pixels[rows] / BRIGHTEST).astype(numpy.float32)
            labels = [self.label_of(digits[row]) for row in rows] * len(self.orders)
            splits[split] = numpy.concatenate([own[:, order] for order in self.orders]), labels
            numbers = [whole[row] + 1 for row in rows]  # in scikit-learn's data, whatever the split
            found = [Place(f"row {number}", "embedded:digits", number) for number in numbers]
            places[split] = found * len(self.orders)
        return DigitRows(splits, notes, fingerprint(splits), places=places)

    def load_file(self, file: str, answered: bool, spec: Spec) -> DigitRows:
        from ftrun.data.rows import read_rows

        rows = read_rows(file)
        if not answered:
            return DigitRows({"test": (self.unanswered(rows, file), None)}, inputs=rows)
        pixels, labels = self.permuted(pixels_of(rows, file), file), []
        names = Labels(list(spec.labels or ()), [])
        for number, row in enumerate(rows, 1):
            try:
                labels.append(names.names[names.index(row.get("label"))])
            except DataError as error:
                raise DataError(f"{file}, row {number}, column 'label': {error}") from None
        splits = {"test": (pixels, labels)}
        places = [Place(f"row {row.number}", row.file, row.number) for row in rows]
        return DigitRows(splits, [], fingerprint(splits), places={"test": places})

    def unanswered(self, rows: Sequence[dict[str, Any]], file: str) -> dict[int, ndarray]:
        """The pixels of rows that are not blank."""
        readable = [row for row, content in enumerate(rows) if not is_blank(content)]
        pixels = self.permuted(pixels_of([rows[row] for row in readable], file), file)
        return dict(zip(readable, pixels, strict=True))

    def spec(self, source: Any) -> Spec:
        known = source is None or isinstance(source, Rows)
        names = tuple(self.names.names) if known else labelled.names_in(source)
        inputs = ImageInput(shape=SHAPE)
        return Spec(self.name, IMAGES, inputs, labelled.head_of(names), labels=names, regression=True)

    def encode(self, data: TaskData, split: str) -> DigitImages:
        pixels, labels = data.rows.splits[split]
        if labels is None:
            return DigitImages([Example(each.reshape(SHAPE), None, row) for row, each in pixels.items()], "")
        names, images = Labels(list(data.spec.labels or ()), []), pixels.reshape(-1, *SHAPE)
        places = data.rows.places[split]
        examples = [
            Example(image, names.index(label), row, place=places[row])
            for row, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        permuted = "" if self.permute is None else f", pixels permuted (task.permute={self.permute})"
        return DigitImages(examples, f"{split}: {counted(len(images), 'image')} of {SIDE} x {SIDE}{permuted}")

    def permuted(self, pixels: ndarray, file: str) -> ndarray:
        """The pixels of a file in the order of this run's permutation."""
        if len(self.orders) > 1:
            raise ConfigError(
                f"task.permute={self.permute}: this run has {len(self.orders)} permutations, "
                f"and {file} does not specify which one to use"
            )
        return pixels[:, self.orders[0]]

    def objective(self, data: TaskData) -> Objective:
        return labelled.class_objective(data, weighted=False)

    def scorer(self, data: TaskData) -> labelled.ClassScorer:
        return labelled.ClassScorer(data.spec.labels or ())


class DigitImages(Dataset):
    """Pixels that are scaled already."""

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        from ftrun.data.batching import labels_tensor

        pixels = stacked([example.inputs for example in examples])
        labels = labels_tensor([example.target for example in examples])
        return {"inputs": {"pixel_values": pixels}, "labels": labels}


def fingerprint(splits: dict[str, Any]) -> str:
    """A hash of all labels and pixels."""
    digest = hashlib.sha256(json.dumps({split: labels for split, (_, labels) in splits.items()}).encode())
    for pixels, _ in splits.values():
        digest.update(pixels.tobytes())
    return digest.hexdigest()


def digits_of(classes: Any) -> list[int]:
    """The digits in use; ConfigError unless they are two or more different ones."""
    if classes is None:
        return list(range(10))
    if (
        not isinstance(classes, list)
        or not all(type(digit) is int and 0 <= digit <= 9 for digit in classes)
        or len(set(classes)) != len(classes)
        or len(classes) < 2
    ):
        raise ConfigError(
            f"task.classes is a list of two or more different digits from 0 to 9, not {classes}"
        )
    return classes


def declared(labels: Any, needed: list[str]) -> list[str]:
    """The declared labels as names; ConfigError when one that the digits need is not among them."""
    if not isinstance(labels, list) or not all(isinstance(label, str | int) for label in labels):
        raise ConfigError(f"task.labels is a list of labels such as [0,1,2,3,4], not {labels}")
    names = [name_of(label) or "" for label in labels]
    if len(set(names)) != len(names) or "" in names:
        raise ConfigError(f"task.labels={labels}: labels must be different and not empty")
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise ConfigError(
            f"task.labels={labels} does not include {listed(lacking)}, labels of digits in use"
            f"{near(lacking[0], names)}"
        )
    return names


def permutation(seed: int | None) -> list[int]:
    """Where each of the 64 pixels comes from; a function of the seed alone."""
    return order_of(seed, SIDE * SIDE)


def is_blank(row: dict[str, Any]) -> bool:
    """Whether a row has the columns of an image and nothing in any of them."""
    return all(column in row and row[column] in (None, "") for column in COLUMNS)


def pixels_of(rows: Sequence[dict[str, Any]], file: str) -> ndarray:
    """(rows, 64) from 0 to 1; DataError names the columns that are missing or the pixel that is none."""
    import numpy

    there = {column for row in rows for column in row}
    missing = [column for column in COLUMNS if column not in there]
    if rows and missing:
        raise DataError(
            f"{file} has no column {listed(missing)}; an image is pixel0 to pixel63, row by row, each 0 to 16"
        )
    pixels: ndarray = numpy.zeros((len(rows), len(COLUMNS)), dtype=numpy.float32)
    for number, row in enumerate(rows):
        for place, column in enumerate(COLUMNS):
            pixels[number, place] = pixel(row.get(column), f"{file}, row {number + 1}: {column}")
    return pixels / BRIGHTEST


def pixel(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= BRIGHTEST:
        raise DataError(f"{where} is {str(value)[:40]!r}, not a number from 0 to {BRIGHTEST}")
    return number
