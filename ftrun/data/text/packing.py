"""Documents one after the other in one array of tokens, cut into blocks in which none sees another."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

IGNORED = -100  # the label of a token that is not predicted
START, SCORED, GIVEN = 0, 1, 2  # a token that begins a document, one to be predicted, one of a prompt


@dataclass
class Corpus:
    """The documents of a split: their tokens, a flag for each, and where each block begins and ends."""

    tokens: ndarray  # (tokens,) uint32
    flags: ndarray  # (tokens,) uint8
    edges: ndarray  # (blocks + 1,) int64
    documents: int
    bytes: int  # of the text that the scored tokens stand for, in UTF-8
    counted: int | None = None  # tokens that are predicted, where they were counted before

    @property
    def scored(self) -> int:
        """Tokens that are predicted, the separators at the ends of documents among them."""
        import numpy

        return int(numpy.count_nonzero(self.flags == SCORED)) if self.counted is None else self.counted

    def block(self, number: int) -> tuple[ndarray, ndarray, ndarray]:
        """Tokens, labels (the next token, -100 where none is scored) and starts of one block, each (length,).

        The label of a block's last token is the first one of the next block, so that every token is scored
        once.
        """
        import numpy

        begin, end = int(self.edges[number]), int(self.edges[number + 1])
        tokens = numpy.asarray(self.tokens[begin : end + 1], dtype=numpy.int64)
        flags = numpy.asarray(self.flags[begin : end + 1])
        labels: ndarray = numpy.full(end - begin, IGNORED, dtype=numpy.int64)
        scored = flags[1:] == SCORED
        labels[: len(scored)][scored] = tokens[1:][scored]
        starts = flags[: end - begin] == START
        starts[0] = True
        return tokens[: end - begin], labels, starts


def pack(pieces: Iterable[tuple[list[int], list[int]]], block: int, whole: bool) -> Corpus:
    """Blocks of at most `block` tokens from pieces of documents, each tokens and flags."""
    return cut(*joined(pieces), block, whole)


def joined(pieces: Iterable[tuple[list[int], list[int]]]) -> tuple[ndarray, ndarray]:
    """All tokens and all flags."""
    import numpy

    pairs = [(numpy.array(ids, numpy.uint32), numpy.array(kinds, numpy.uint8)) for ids, kinds in pieces]
    empty: Any = (numpy.zeros(0, numpy.uint32), numpy.zeros(0, numpy.uint8))
    tokens, flags = (numpy.concatenate(each) for each in zip(empty, *pairs, strict=True))
    return tokens, flags


def cut(tokens: ndarray, flags: ndarray, block: int, whole: bool) -> Corpus:
    """Tokens and flags in blocks; bytes are left at zero.

    A document that does not fit is continued in the next block; with `whole` it begins one instead.
    """
    import numpy

    starts = numpy.flatnonzero(flags == START)
    edges = whole_documents(starts, len(tokens), block) if whole else every(block, flags)
    return Corpus(tokens, flags, edges, len(starts), 0)


def every(block: int, flags: ndarray) -> ndarray:
    """Edges of blocks of equal length; a last one in which nothing would be scored is left out."""
    import numpy

    edges: ndarray = numpy.append(numpy.arange(0, len(flags), block), len(flags))
    if len(edges) > 2 and not (flags[edges[-2] + 1 :] == SCORED).any():
        edges = edges[:-1]
    return edges


def whole_documents(starts: ndarray, end: int, block: int) -> ndarray:
    """Edges of blocks that hold as many documents as fit, in their order and none of them cut."""
    import numpy

    edges = array("q", [0])
    for begin, stop in zip(map(int, starts), chain(map(int, starts[1:]), [end]), strict=True):
        if stop - edges[-1] > block:
            edges.append(begin)
    return numpy.array(edges + array("q", [end]))


def together(blocks: list[tuple[ndarray, ndarray, ndarray]], pad: int) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs and labels of a batch: positions begin at 0 in every document, and none attends to another.

    The mask is (batch, length) where every block holds one document, whose attention is causal anyway; else
    it is added to the attention's scores, (batch, 1, length, length). Padding stands at the right.
    """
    import numpy
    import torch

    length = max(len(tokens) for tokens, _, _ in blocks)
    ids: ndarray = numpy.full((len(blocks), length), pad, numpy.int64)
    labels: ndarray = numpy.full((len(blocks), length), IGNORED, numpy.int64)
    starts: ndarray = numpy.zeros((len(blocks), length), bool)
    for row, (tokens, targets, begins) in enumerate(blocks):
        ids[row, : len(tokens)], labels[row, : len(tokens)] = tokens, targets
        starts[row, : len(tokens)] = begins
    place = numpy.arange(length)
    positions = place - numpy.maximum.accumulate(numpy.where(starts, place, 0), axis=1)
    inputs = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
    if (starts.sum(1) > 1).any():
        inputs["attention_mask"] = apart(torch.from_numpy(starts.cumsum(1)))
    else:
        lengths = torch.tensor([len(tokens) for tokens, _, _ in blocks])
        inputs["attention_mask"] = (torch.arange(length) < lengths[:, None]).long()
    return inputs, torch.from_numpy(labels)


def apart(documents: Tensor) -> Tensor:
    """Zero where a token may look, -inf elsewhere, (batch, 1, length, length), from document numbers."""
    import torch

    same = documents[:, :, None] == documents[:, None, :]
    seen = torch.zeros(same.shape).masked_fill(~(same & torch.ones_like(same).tril()), -torch.inf)
    return seen.unsqueeze(1)
