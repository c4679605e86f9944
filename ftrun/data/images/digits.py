"""Handwritten digits of 8 x 8 pixels, from scikit-learn (Alpaydin & Kaynak 1998), in fixed splits."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ftrun.data.folds import PLAIN, Splitting
from ftrun.data.grouped_splits import Keys, split_rows
from ftrun.data.sources import SPLITS, embedded_split
from ftrun.data.splits import carve, pick

if TYPE_CHECKING:
    from numpy import ndarray

SIDE, BRIGHTEST = 8, 16  # pixels are whole numbers from 0 to 16


@cache
def fixed_splits(how: Splitting = PLAIN) -> dict[str, tuple[ndarray, list[int], list[int]]]:
    """Train, validation and test: pixels (rows, 64), float64 from 0 to 16, digits, and their rows from 0.

    Test is scikit-learn's quarter with random_state=0 or another seed, or a fold, and validation a tenth of
    every digit of the rest. Both are chosen among all ten digits, so that a split of some digits is a part of
    the whole one.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    digits = [int(digit) for digit in data.target]
    names = [*map(str, digits)]
    if how.folds is not None:
        rows, _ = split_rows(how, ["test", "validation"], Keys(names, "digit"))
    else:
        rest, test = train_test_split(list(range(len(digits))), test_size=0.25, random_state=how.seed)
        parts, _ = carve(pick(names, rest), ["validation"], how.seed)
        rows = {split: pick(rest, own) for split, own in parts.items()} | {"test": test}
    return {split: (data.data[rows[split]], pick(digits, rows[split]), rows[split]) for split in SPLITS}


def embedded(source: str) -> tuple[ndarray, list[int]]:
    """Of `embedded:digits:SPLIT`: (images, 8, 8) of uint8 from 0 to 255, and digits; DataError."""
    import numpy

    pixels, digits, _ = fixed_splits()[embedded_split(source, "digits", "images")]
    return numpy.rint(pixels * (255 / BRIGHTEST)).astype(numpy.uint8).reshape(-1, SIDE, SIDE), digits
