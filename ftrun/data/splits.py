"""Seeded, stratified choices among rows: splits split off train, and subsets that lie in each other."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, counted, listed
from ftrun.settings.checks import natural_order
from ftrun.settings.seeds import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ftrun.data.sources import Row

SHARE = 0.1  # of each class, for each carved split
SPLIT_SEED = 0  # whatever the seed of a run: seeds are compared on the same test rows


@dataclass
class Splits:
    """The three splits of a table, notes on how they were made, and a hash of their texts and labels."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    notes: list[str]
    fingerprint: str  # sha256, the same wherever and whenever the same rows are read
    # how often train has each label, where its rows are too many to be held
    counted: Counter[str] | None = None


def carve(
    names: list[str], missing: list[str], seed: int, stratum: str = "class", unit: str = "row"
) -> tuple[dict[str, list[int]], list[str]]:
    """Indices of train and of each missing split, in the rows' order; no class leaves train wholly."""
    chosen: dict[str, list[int]] = {split: [] for split in ("train", *missing)}
    scarce: list[str] = []
    for name, members in _classes(names, seed, "split"):
        wanted = max(1, round(SHARE * len(members)))
        for split in missing:
            taken = min(wanted, len(members) - 1)
            chosen[split] += members[:taken]
            members = members[taken:]
            if taken == 0 and name not in scarce:
                scarce.append(name)
        chosen["train"] += members
    notes = []
    for split in missing:
        count = len(chosen[split])
        notes.append(
            f"{split}: {counted(count, unit)} split off train ({SHARE:.0%} of each {stratum}, seed {seed})"
        )
    if scarce:
        notes.append(
            f"too few {unit}s of {listed(scarce)} for every split: {' or '.join(missing)} has none of them"
        )
    return {split: sorted(indices) for split, indices in chosen.items()}, notes


def parse_subset(value: str | int) -> tuple[int, bool]:
    """`200` → (200, False), `"8 per class"` → (8, True); ConfigError for anything else."""
    found = re.fullmatch(r"\s*(\d+)(\s+per\s+class)?\s*", str(value))
    if isinstance(value, (bool, float)) or found is None or int(found[1]) == 0:
        raise ConfigError(
            f"task.subset={value}: a number of rows (200) or of rows per class ('8 per class'), at least 1"
        )
    return int(found[1]), found[2] is not None


def choose(
    names: list[str], subset: str | int, seed: int, stratum: str = "class"
) -> tuple[list[int], list[str]]:
    """Indices of a stratified subset, in the rows' order; a smaller one of the seed lies inside a larger."""
    size, per_class = parse_subset(subset)
    classes = _classes(names, seed, "subset")
    if per_class:
        small = [name for name, members in classes if len(members) < size]
        notes = [f"train: fewer than {counted(size, 'row')} of {listed(small)}, all taken"] if small else []
        return sorted(index for _, members in classes for index in members[:size]), notes
    if size > len(names):
        return list(range(len(names))), [
            f"train: task.subset={size} is more than the {counted(len(names), 'row')}, all taken"
        ]
    words = "classes" if stratum == "class" else f"{stratum}s"
    notes = (
        [f"train: {counted(size, 'row')} for {len(classes)} {words}, some have none"]
        if size < len(classes)
        else []
    )
    # Each class first, then every class at its own pace: any beginning of this order is stratified.
    order = sorted(
        (place > 0, (place + 0.5) / len(members), number, index)
        for number, (_, members) in enumerate(classes)
        for place, index in enumerate(members)
    )
    return sorted(index for *_, index in order[:size]), notes


def _classes(names: list[str], seed: int, purpose: str) -> list[tuple[str, list[int]]]:
    """The indices of each class, shuffled by the stream of this purpose."""
    start = stream(seed, purpose)
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    classes = sorted(members.items(), key=lambda item: natural_order(item[0]))
    for name, indices in classes:
        random.Random(f"{start} {name}").shuffle(indices)
    return classes


def pick(rows: Sequence[Any], indices: Sequence[int]) -> list[Any]:
    """The rows at these indices."""
    return [rows[index] for index in indices]
