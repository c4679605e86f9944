"""Pairs of segments of running text, to tell whether the second follows the first.

Either half of the second segments are another document's (Devlin et al. 2019, next-sentence prediction), or
half of the pairs are swapped (Lan et al. 2020, sentence-order prediction).
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ftrun.data.text.packing import SCORED, START
from ftrun.errors import DataError
from ftrun.settings.seeds import stream

if TYPE_CHECKING:
    from numpy import ndarray

    from ftrun.data.text.packing import Corpus

SENTENCE = 3  # the flag of a token that begins a sentence, where it does not begin a document
ENDS = re.compile(r"(?<=[.!?])(?=\s)|(?<=\n)")
NEAR, TRIES = 16, 32  # places by length within which another document's segment is drawn, and how often


def sentences(text: str) -> list[str]:
    """The text in pieces that end with a line or a stop; where a stop ends none, nothing worse is cut."""
    return [part for part in ENDS.split(text) if part.strip()]


@dataclass
class Segments:
    """Pairs of neighbouring segments of one document each, as places in the tokens of a corpus."""

    corpus: Corpus
    begin: ndarray  # (pairs,) where the first segment begins,
    cut: ndarray  # where it ends and the second begins,
    end: ndarray  # and where that one ends
    document: ndarray  # the number of its document; documents that say the same have the same
    room: int  # tokens of both together, at most

    def __post_init__(self) -> None:
        import numpy

        self.order = numpy.argsort(self.end - self.cut, kind="stable")  # by the length of the second segment
        self.rank = numpy.empty_like(self.order)
        self.rank[self.order] = numpy.arange(len(self.order))

    def __len__(self) -> int:
        return len(self.begin)

    def refuse(self, kind: str, split: str) -> None:
        """DataError where there is no pair, or for nsp no other document to take a segment from."""
        if not len(self):
            raise DataError(
                f"task.next={kind} needs two sentences in a document, and no document of {split} has them;"
                " possible: task.documents=file, task.documents=paragraph, task.next=none"
            )
        if kind == "nsp" and len(set(self.document.tolist())) < 2:
            raise DataError(
                f"task.next=nsp takes half of the second segments from another document, and {split} has one"
                " with two sentences; possible: task.documents=paragraph, task.next=sop"
            )

    def first(self, row: int) -> list[int]:
        return self.corpus.tokens[self.begin[row] : self.cut[row]].tolist()

    def second(self, row: int) -> list[int]:
        return self.corpus.tokens[self.cut[row] : self.end[row]].tolist()

    def drawn(self, row: int, kind: str, seed: int, epoch: int) -> tuple[list[int], list[int], int]:
        """Both segments of a pair in this epoch, and 0 where the second follows the first, else 1.

        Of two pairs one is true, so that the halves are equal whatever the documents are like. What is too
        long is cut after that is decided.
        """
        false = (stream(seed, "next", epoch, row // 2) + row) % 2
        if not false:
            one, other = self.first(row), self.second(row)
        elif kind == "sop":
            one, other = self.second(row), self.first(row)
        else:
            one, other = self.first(row), self.second(self.stranger(row, seed, epoch))
        return (*shortened(one, other, self.room), false)

    def stranger(self, row: int, seed: int, epoch: int) -> int:
        """A pair of another document whose second segment is about as long: length must give nothing away."""
        chance, place = random.Random(stream(seed, "next", epoch, row, 1)), int(self.rank[row])
        for _ in range(TRIES):
            near = place + chance.randint(-NEAR, NEAR)
            if 0 <= near < len(self) and self.fits(row, int(self.order[near])):
                return int(self.order[near])
        return self.nearest(row)

    def fits(self, row: int, other: int) -> bool:
        length = self.cut[row] - self.begin[row] + self.end[other] - self.cut[other]
        return bool(self.document[row] != self.document[other] and length <= self.room)

    def nearest(self, row: int) -> int:
        """The pair of another document whose second segment is nearest in length."""
        import numpy

        others = numpy.flatnonzero(self.document != self.document[row])
        return int(others[numpy.abs(self.rank[others] - self.rank[row]).argmin()])


def shortened(one: list[int], other: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both without the end of the longer, then of each in turn, until they fit; order makes no difference."""
    over = len(one) + len(other) - room
    if over <= 0:
        return one, other
    least = min(len(one), len(other))
    keep = max(room - least, room // 2)
    return one[:keep], other[:keep]


def segmented(corpus: Corpus, room: int) -> Segments:
    """As many sentences as fit in `room` tokens, cut in two between any of them, document by document.

    A sentence longer than half of the room is several. One that has no neighbour in its document is left out.
    """
    import numpy

    flags = corpus.flags[:]
    starts = numpy.flatnonzero(flags != SCORED)
    opening = flags[starts] == START
    chance = random.Random(stream(0, "cut"))
    numbers: dict[bytes, int] = {}
    found: list[tuple[int, int, int, int]] = []
    firsts = numpy.flatnonzero(opening)
    for low, high in zip(firsts.tolist(), [*firsts[1:].tolist(), len(starts)], strict=False):
        if high - low < 2:
            continue
        begin = int(starts[low])
        end = int(starts[high]) if high < len(starts) else len(corpus.tokens)
        text = hashlib.sha256(corpus.tokens[begin:end].tobytes()).digest()
        number = numbers.setdefault(text, len(numbers))
        edges = pieces([*starts[low:high].tolist(), end], room // 2)
        for place in filled(edges, room, backwards=chance.random() < 0.5):
            found.append((place[0], place[chance.randrange(1, len(place) - 1)], place[-1], number))
    places = numpy.array(found, dtype=numpy.int64).reshape(-1, 4)
    return Segments(corpus, places[:, 0], places[:, 1], places[:, 2], places[:, 3], room)


def pieces(edges: list[int], most: int) -> list[int]:
    """The edges, and within a sentence longer than `most` some that cut it into equal parts."""
    found = [edges[0]]
    for begin, end in pairwise(edges):
        parts = -(-(end - begin) // most)
        found += [begin + (end - begin) * part // parts for part in range(1, parts + 1)]
    return found


def filled(edges: list[int], room: int, backwards: bool) -> list[list[int]]:
    """The edges of neighbouring sentences, as many as fit in `room` tokens and at least two of them.

    The sentence that still fits is shorter than others, which would tell the order were it always the last.
    """
    if backwards:
        mirrored = filled([-edge for edge in reversed(edges)], room, backwards=False)
        return [[-edge for edge in reversed(each)] for each in reversed(mirrored)]
    found, held = [], [edges[0]]
    for edge in edges[1:]:
        if edge - held[0] > room:
            found.append(held)
            held = [held[-1]]
        held.append(edge)
    return [each for each in [*found, held] if len(each) > 2]
