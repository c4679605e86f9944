"""Classes of unequal size made equal: by weights in the loss, or by how often their rows are drawn."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from ftrun.settings.seeds import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

WAYS = ("none", "weights", "sample")


def class_weights(counts: Counter[int], classes: int) -> list[float]:
    """n / (k · n_c) for each class: rows over classes that occur times rows of the class.

    scikit-learn's class_weight="balanced" (King & Zeng 2001); 1 for a class without a row. The weights of all
    rows add up to n.
    """
    return [
        counts.total() / (len(counts) * counts[number]) if counts[number] else 1.0
        for number in range(classes)
    ]


def balanced_rows(targets: Sequence[int], seed: int, epoch: int) -> list[int]:
    """As many rows as there are, every class equally often; a function of targets, seed and epoch.

    The classes take turns through all epochs. Within a class its rows do: each comes once, in random order,
    before any comes again, so that a large class is gone through evenly although no epoch has all of it.
    """
    members: dict[int, list[int]] = {}
    for row, target in enumerate(targets):
        members.setdefault(target, []).append(row)
    classes = sorted(members)
    orders: dict[tuple[int, int], list[int]] = {}
    rows = []
    for draw in range(epoch * len(targets), (epoch + 1) * len(targets)):
        name = classes[draw % len(classes)]
        turn, place = divmod(draw // len(classes), len(members[name]))
        if (name, turn) not in orders:
            orders[name, turn] = list(members[name])
            random.Random(stream(seed, "balance", name, turn)).shuffle(orders[name, turn])
        rows.append(orders[name, turn][place])
    return rows
