"""The examples of tasks on running text: blocks, or pairs of segments, made when they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.tasks.dataset import Example, MadeExamples

if TYPE_CHECKING:
    from ftrun.data.text.packing import Corpus
    from ftrun.data.text.sentence_pairs import Segments


@dataclass
class Block(Example):
    """A stretch of documents: `inputs` are tokens and `target` labels, both arrays of its length."""

    starts: Any  # where documents begin, booleans (length,)
    bytes: float  # of the text that its targets stand for

    @property
    def size(self) -> int:
        return len(self.inputs)


class Blocks(MadeExamples):
    """The blocks of a corpus, each made when it is looked at."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.each = corpus.bytes / max(1, corpus.scored)  # bytes of a token

    @property
    def sizes(self) -> Sequence[int]:
        found: Sequence[int] = self.corpus.edges[1:] - self.corpus.edges[:-1]
        return found

    def __len__(self) -> int:
        return len(self.corpus.edges) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):
            raise IndexError(index)
        tokens, labels, starts = self.corpus.block(index)
        return Block(tokens, labels, index, starts, float((labels >= 0).sum()) * self.each)


@dataclass
class Pair(Example):
    """Two segments, `inputs` being how long they are together."""

    @property
    def size(self) -> int:
        return int(self.inputs)


class Pairs(MadeExamples):
    """The pairs of segments of a split."""

    def __init__(self, segments: Segments) -> None:
        self.segments, self.corpus = segments, segments.corpus
        self.lengths = segments.end - segments.begin

    @property
    def sizes(self) -> Sequence[int]:
        found: Sequence[int] = self.lengths
        return found

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):
            raise IndexError(index)
        return Pair(int(self.lengths[index]), None, index)
