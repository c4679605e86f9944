"""Every docstring whole and in parts, and which two of them should mean the same."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

    from tiny_bert.corpus import Corpus

LIBRARY = "python"
LIBRARY_WEIGHT = 4.0  # a docstring of the library's own counts as four
SENTENCE = re.compile(r"(?<=[.!?:;]) ")
FEWEST, MOST, PARTS = 8, 80, 5  # words of a part, and parts of a docstring
SAME_FILE = 0.6  # of the pairs
POOL = 8  # batches drawn together, so that each has texts of like length


class Views:
    """The texts, first every docstring whole, then their parts; `file` and `document` are of each text."""

    def __init__(self, corpus: Corpus) -> None:
        parts = [split(text) for text in corpus.texts]
        count = np.array([len(each) for each in parts])
        self.texts = corpus.texts + [part for each in parts for part in each]
        whole = np.arange(len(parts))
        self.document = np.concatenate([whole, np.repeat(whole, count)])
        self.file = np.array(corpus.files)[self.document]
        self.parts, self.first_part = count, len(parts) + np.cumsum(count) - count
        _, start, number, neighbours = np.unique(
            corpus.files, return_index=True, return_inverse=True, return_counts=True
        )  # the docstrings of a file stand together
        self.start, self.neighbours = start[number], neighbours[number]
        weight = weights(corpus.packages)
        self.by_file = np.cumsum(weight * (self.neighbours > 1))
        self.by_part = np.cumsum(weight * (count > 1))

    def pairs(self, count: int, random: Generator) -> np.ndarray:
        """Numbers of texts, (count, 2): two docstrings of a file, or two parts of a docstring."""
        same_file = round(SAME_FILE * count)
        one = drawn(self.by_file, same_file, random)
        other = another(one - self.start[one], self.neighbours[one], random) + self.start[one]
        document = drawn(self.by_part, count - same_file, random)
        part = random.integers(self.parts[document])
        first = self.first_part[document]
        parts = [first + part, first + another(part, self.parts[document], random)]
        return np.concatenate([np.stack([one, other], 1), np.stack(parts, 1)])

    def batches(self, count: int, lengths: np.ndarray, random: Generator) -> list[np.ndarray]:
        """Some batches of `count` pairs, each of texts of like length, in random order."""
        pairs = self.pairs(POOL * count, random)
        pairs = pairs[np.argsort(lengths[pairs].max(1), kind="stable")]
        return [pairs[i * count : (i + 1) * count] for i in random.permutation(POOL)]


def split(text: str) -> list[str]:
    """The first sentence and the following ones in parts of up to 80 words; none of a short text."""
    parts: list[list[str]] = [[]]
    for sentence in SENTENCE.split(text):
        words = sentence.split()
        full = len(parts[-1]) >= FEWEST if len(parts) == 1 else len(parts[-1]) + len(words) > MOST
        if full and parts[-1]:
            parts.append([])
        parts[-1] += words
    found = [" ".join(part) for part in parts[:PARTS] if len(part) >= FEWEST]
    return found if len(found) > 1 else []


def weights(packages: list[str]) -> np.ndarray:
    """Of each docstring: those of large packages weigh less."""
    size = Counter(packages)
    own = {name for name in size if name.partition("==")[0] == LIBRARY}
    return np.array([size[name] ** -0.6 * (LIBRARY_WEIGHT if name in own else 1.0) for name in packages])


def drawn(cumulative: np.ndarray, count: int, random: Generator) -> np.ndarray:
    """Indices, each as probable as its weight."""
    return np.searchsorted(cumulative, random.random(count) * cumulative[-1], side="right")


def another(place: np.ndarray, among: np.ndarray, random: Generator) -> np.ndarray:
    """A different place of as many."""
    return (place + random.integers(1, among)) % among
