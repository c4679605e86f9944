"""Splits and subsets of rows of which some belong together, such as the questions about one paragraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ftrun.data.leaks import normalised, of_texts, without_leaks
from ftrun.data.sources import SPLITS
from ftrun.data.splits import SHARE, SPLIT_SEED, carve, choose, parse_subset, pick
from ftrun.errors import ConfigError, DataError, counted

if TYPE_CHECKING:
    from collections.abc import Callable

Row = TypeVar("Row")


def refuse_classes(subset: str | int | None) -> None:
    """ConfigError for a task.subset that counts classes where rows have none."""
    if subset is not None and parse_subset(subset)[1]:
        raise ConfigError(f"task.subset={subset}: these rows have no class; possible: a number of rows")


def complete(
    rows: dict[str, list[Row]],
    subset: str | int | None,
    seed: int,
    text: Callable[[Row], str],
    word: str,
    drop: bool,
) -> list[str]:
    """Carve what is missing from train and choose the subset, in place; returns notes.

    Rows of one text stay together when a split is carved; `drop` leaves training rows out whose text is in
    another split too. Raises DataError when train is too small.
    """
    missing = [split for split in ("test", "validation") if split not in rows]
    notes = carve_groups(rows, missing, text, word) if missing else []
    if drop:
        kept, more = without_leaks(
            of_texts({split: [text(row) for row in rows[split]] for split in SPLITS}), word
        )
        rows["train"] = pick(rows["train"], kept)
        notes += more
    if subset is not None:
        whole = rows["train"]
        chosen, more = choose(["one"] * len(whole), subset, seed)
        rows["train"] = pick(whole, chosen)
        notes += [
            f"train: {len(chosen)} of {len(whole)} {word} chosen (task.subset={subset}, seed {seed})",
            *more,
        ]
    return notes


def carve_groups(
    rows: dict[str, list[Row]], missing: list[str], text: Callable[[Row], str], word: str
) -> list[str]:
    """Carve the missing splits from train by whole texts, in place; DataError where there are too few."""
    whole, keys = rows["train"], [normalised(text(row)) for row in rows["train"]]
    groups = list(dict.fromkeys(keys))
    indices, _ = carve(["one"] * len(groups), missing, SPLIT_SEED)
    home = {groups[index]: split for split, chosen in indices.items() for index in chosen}
    for split in ("train", *missing):
        rows[split] = [row for row, name in zip(whole, keys, strict=True) if home[name] == split]
    for split in missing:
        if not rows[split]:
            raise DataError(f"task.train has too few different {word} ({len(groups)}) to carve {split} from")
    how, one = f"split off train ({SHARE:.0%}, seed {SPLIT_SEED})", word.removesuffix("s")
    return [f"{split}: {counted(len(rows[split]), one)} {how}" for split in missing]
