"""Calibration: the probability of the answers against the share of them that is correct."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BINS = 15  # as many as in Guo et al. 2017, but of equal numbers of answers, so that none is empty
SURE = 0.99


@dataclass
class Calibration:
    """Calibration errors and overconfident answers; all values are shares of 1."""

    error: float  # expected calibration error: mean distance of probability and share of correct answers
    brier: float  # mean square of the probability minus 1 where correct, minus 0 where wrong
    sure: float  # answers with a probability above 0.99
    wrong_though_sure: float  # of these, how many are wrong
    bins: list[tuple[float, float, int]]  # mean probability, share correct, number of answers


def calibration(probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS) -> Calibration:
    """The calibration from each answer's probability and whether the answer was correct."""
    ordered = sorted(zip(probabilities, right, strict=True), key=lambda pair: pair[0])
    count = len(ordered)
    parts = []
    for number in range(min(bins, count)):
        size, rest = divmod(count, min(bins, count))
        start = number * size + min(number, rest)
        part = ordered[start : start + size + (number < rest)]
        parts.append((sum(p for p, _ in part) / len(part), sum(r for _, r in part) / len(part), len(part)))
    sure = [hit for p, hit in ordered if p > SURE]
    return Calibration(
        error=sum(n * abs(p - r) for p, r, n in parts) / count,
        brier=sum((p - hit) ** 2 for p, hit in ordered) / count,
        sure=len(sure) / count,
        wrong_though_sure=1 - sum(sure) / len(sure) if sure else 0.0,
        bins=parts,
    )
