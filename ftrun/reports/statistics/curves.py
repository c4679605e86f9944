"""Score against a quantity such as labels: where curves cross, and how many times fewer labels suffice."""

from __future__ import annotations

import math
from collections.abc import Sequence

Curve = Sequence[tuple[float, float]]  # (quantity, score), by growing quantity


def monotone(curve: Curve) -> list[tuple[float, float]]:
    """The closest non-decreasing curve (least squares by pooling adjacent violators, Ayer et al. 1955)."""
    blocks: list[list[float]] = []
    for _, value in curve:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, count = blocks.pop()
            total = blocks[-1][0] * blocks[-1][1] + value * count
            blocks[-1] = [total / (blocks[-1][1] + count), blocks[-1][1] + count]
    even = [value for value, count in blocks for _ in range(int(count))]
    return [(x, y) for (x, _), y in zip(curve, even, strict=True)]


def reaching(curve: Curve, level: float) -> float | None:
    """The quantity at which a monotone curve reaches a score, interpolated in the logarithm; None = never."""
    for (x, y), (x0, y0) in zip(curve, [curve[0], *curve], strict=False):
        if y >= level:
            if y == y0 or x == x0:
                return x
            share = (level - y0) / (y - y0)
            return math.exp(math.log(x0) + share * (math.log(x) - math.log(x0)))
    return None


def times_fewer(curve: Curve, control: Curve) -> float | None:
    """The control's quantity over the curve's at the control's best score; None where that is unknown.

    It is unknown where the curve never has that score, or has it at its first point: see `at_least_times`.
    """
    level = monotone(control)[-1][1]
    mine = monotone(curve)
    here = reaching(mine, level)
    if here is None or mine[0][1] >= level:
        return None
    there = reaching(monotone(control), level)
    return there / here if there is not None else None


def at_least_times(curve: Curve, control: Curve) -> float | None:
    """A lower bound of that factor, at the curve's first score, where the control never exceeds it."""
    x, level = monotone(curve)[0]
    if level < monotone(control)[-1][1]:
        return None
    there = reaching(monotone(control), level)
    return (control[-1][0] if there is None else there) / x


def crossings(first: Curve, second: Curve) -> list[float]:
    """The quantities at which the curves cross, over those both have, interpolated in the logarithm."""
    other = dict(second)
    both = [(x, y - other[x]) for x, y in first if x in other]
    found = []
    for (x0, d0), (x1, d1) in zip(both, both[1:], strict=False):
        if d0 * d1 < 0:
            share = d0 / (d0 - d1)
            found.append(math.exp(math.log(x0) + share * (math.log(x1) - math.log(x0))))
    return found
