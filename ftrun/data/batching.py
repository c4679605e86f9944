"""Batches of examples: a pure function of lengths, seed and epoch, so that only a position must be saved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ftrun.settings.seeds import stream

POOL = 50  # batches per shuffled pool that is sorted by length; small pools mix more, large ones pad less
HELD = 400_000  # examples in pools that are held sorted
GROWTH = 16  # times the rows of the first batch, at most


class EpochBatches(Sequence[list[int]]):
    """Every example once, in batches of similar length and random order; only one batch may be smaller.

    A batch is made when it is looked at, from two random orders that are a function of seed and epoch; they
    take 4 bytes for each example. With a pool of one batch, each is a random sample.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, epoch: int, pool: int = POOL
    ) -> None:
        generator = torch.Generator().manual_seed(stream(seed, "order", epoch))
        self.lengths, self.batch_size, self.pool = lengths, batch_size, pool
        kind = torch.int32 if len(lengths) < 2**31 else torch.int64  # which draws the same numbers
        self.order = torch.randperm(len(lengths), generator=generator, dtype=kind).numpy()
        batches = -(-len(lengths) // batch_size)
        self.turns = torch.randperm(batches, generator=generator, dtype=kind).numpy()
        self._pools: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        pool, place = divmod(int(self.turns[number]), self.pool)
        return self._sorted(pool)[place * self.batch_size : (place + 1) * self.batch_size]

    def _sorted(self, pool: int) -> list[int]:
        """The examples of a pool by length."""
        if pool not in self._pools:
            size = self.pool * self.batch_size
            if (len(self._pools) + 1) * size > HELD and self._pools:
                self._pools.pop(next(iter(self._pools)))
            own = self.order[pool * size : (pool + 1) * size].tolist()
            self._pools[pool] = sorted(own, key=self.lengths.__getitem__)
        return self._pools[pool]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Every example once, longest first: least padding, and what does not fit fails at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def batches_by_tokens(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """As `sorted_batches`, but a batch of shorter examples has as many as make up the first one's tokens.

    At most GROWTH times as many. To a GPU a batch of few tokens costs as much time as one of many.
    """
    order = [place for batch in sorted_batches(lengths, batch_size) for place in batch]
    tokens, batches = batch_size * max(lengths, default=0), []
    start = 0
    while start < len(order):
        fitting = tokens // max(1, lengths[order[start]])
        batches.append(order[start : start + max(1, min(GROWTH * batch_size, fitting))])
        start += len(batches[-1])
    return batches


def pad(sequences: Sequence[Sequence[int]], value: int, width: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids padded to the longest, or to `width` where that is more, and their mask.

    Both are (batch, length), int64.
    """
    import numpy

    lengths = numpy.fromiter(map(len, sequences), numpy.int64, len(sequences))
    shape = len(sequences), max(width, int(lengths.max()))
    there = numpy.arange(shape[1]) < lengths[:, None]
    ids: numpy.ndarray = numpy.full(shape, value, numpy.int64)
    ids[there] = numpy.fromiter(chain.from_iterable(sequences), numpy.int64, int(lengths.sum()))
    return torch.from_numpy(ids), torch.from_numpy(there.astype(numpy.int64))


def labels_tensor(labels: Sequence[Any]) -> Tensor | None:
    """Whole numbers as int64, others as float64, of one dimension more for lists; None where any is None."""
    import numpy

    return None if None in labels else torch.from_numpy(numpy.array(labels))
