"""Rows split with scikit-learn's splitters: in folds, by whole groups, in time, or by whole texts.

Where neither folds, groups nor times are set, a share of each stratum is split off (`ftrun.data.splits`).
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from ftrun.data import times as in_time
from ftrun.data.leaks import normalised, of_texts, without_leaks
from ftrun.data.sources import SPLITS
from ftrun.data.splits import SHARE, carve, choose, parse_subset, pick
from ftrun.errors import ConfigError, DataError, counted, listed
from ftrun.settings.seeds import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from ftrun.data.folds import Splitting

Row = TypeVar("Row")
Parts = tuple[dict[str, list[int]], list[str]]  # the indices of each split in the rows' order, and notes
TOO_LARGE = 2  # times a fold's share of the rows: no split of its own where others can be it


@dataclass
class Keys:
    """What of each row decides its split: its stratum, and its group or time where these count."""

    strata: list[str]
    stratum: str  # the word for one of them
    groups: list[str] | None = None
    times: list[in_time.Moment] | None = None
    unit: str = "row"  # what is split

    def of(self, rows: list[int]) -> Keys:
        """Those of some rows."""
        groups = None if self.groups is None else pick(self.groups, rows)
        times = None if self.times is None else pick(self.times, rows)
        return Keys(pick(self.strata, rows), self.stratum, groups, times, self.unit)


def split_whole(how: Splitting, missing: list[str], keys: Keys, content: list[str], what: str) -> Parts:
    """The same of rows with a `content`, a text or an image: those of an equal one are on one side.

    Where groups or times are set, these alone decide.
    """
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(content):
        rows.setdefault(one, []).append(row)
    if len(rows) == len(content) or keys.groups is not None or keys.times is not None:
        return split_rows(how, missing, keys)
    alike = [*rows.values()]
    apart = replace(keys.of([each[0] for each in alike]), unit=f"different {what}")
    found, notes = split_rows(how, missing, apart)
    parts = {split: sorted(row for one in chosen for row in alike[one]) for split, chosen in found.items()}
    sizes = ", ".join(f"{split} {counted(len(chosen), 'row')}" for split, chosen in parts.items())
    return parts, [*notes, f"rows of one {what} stay in one split: {sizes}"]


def split_rows(how: Splitting, missing: list[str], keys: Keys) -> Parts:
    """Indices of train and of each missing split.

    With folds one of them is the test split, and validation is split off the rest. Raises DataError where
    there are too few rows, groups or times.
    """
    if how.folds is None:
        return _held_out(how, missing, keys)
    rest, test, notes = _fold(how, how.folds, how.fold or 0, keys)
    inner, more = _held_out(how, ["validation"], keys.of(rest))
    return {name: pick(rest, own) for name, own in inner.items()} | {"test": test}, notes + more


def _held_out(how: Splitting, missing: list[str], keys: Keys) -> Parts:
    if keys.times is not None:
        return in_time.held_out(keys.times, missing, SHARE, how.time or "")
    if keys.groups is not None:
        return _whole_groups(how, missing, keys, keys.groups)
    return carve(keys.strata, missing, how.seed, keys.stratum, keys.unit)


def _fold(how: Splitting, folds: int, number: int, keys: Keys) -> tuple[list[int], list[int], list[str]]:
    """Indices outside and inside of the fold, and notes; in time those outside are before it."""
    if keys.times is not None:
        rest, test = in_time.fold(keys.times, folds, number, how.time or "")
        since, until = (in_time.shown(keys.times[place]) for place in in_time.ends(keys.times, test))
        span = f"{how.time} from {since} to {until}, after {counted(len(rest), 'row')}"
        return rest, test, [f"test: fold {number} of {folds}, {counted(len(test), 'row')}, {span}"]
    counts, rows = Counter(keys.strata), len(keys.strata)
    common, most = counts.most_common(1)[0]
    of, unit = f"of {keys.stratum} {common!r}", keys.unit
    possible = [(rows, unit, f"{unit}s"), (most, f"{unit} {of}", f"{unit}s {of}, the most frequent")]
    if keys.groups is not None:
        possible.append((len(set(keys.groups)), f"value of {how.group}", f"different values of {how.group}"))
    fewest, one, several = min(possible, key=lambda each: each[0])
    if fewest < folds:
        raise DataError(f"task.folds={folds} is more than the {counted(fewest, one, several)}")
    rest, test = _partition(folds, how.seed, keys)[number]
    if not test:
        raise DataError(
            f"task.folds={folds}: whole groups of {how.group} leave nothing for fold {number}; set fewer"
        )
    rare = [name for name, count in counts.items() if count < folds]
    notes = [f"too few {unit}s of {listed(rare)} for every fold"] if rare else []
    of = f", {_groups_in(keys, how, test)}" if keys.groups is not None else ""
    said = f"test: fold {number} of {folds}, {counted(len(test), unit)}{of} (seed {how.seed})"
    return rest, test, [said, *notes]


def _groups_in(keys: Keys, how: Splitting, rows: list[int]) -> str:
    """12 of 98 values of patient."""
    groups = keys.groups or []
    return f"{len(set(pick(groups, rows))):,} of {counted(len(set(groups)), 'value')} of {how.group}"


def _partition(folds: int, seed: int, keys: Keys) -> list[tuple[list[int], list[int]]]:
    """The rows outside and inside of each fold, as stratified as whole groups allow."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if keys.groups is None else StratifiedGroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds: a note says it
        found = list(splitter.split(keys.strata, keys.strata, keys.groups))
    return [(rest.tolist(), test.tolist()) for rest, test in found]


def _whole_groups(how: Splitting, missing: list[str], keys: Keys, groups: list[str]) -> Parts:
    """Each missing split is one of ten folds of whole groups, or of as many as there are groups."""
    count, most = len(set(groups)), Counter(keys.strata).most_common(1)[0][1]
    folds = min(round(1 / SHARE), count, most)
    found = [test for _, test in _partition(folds, how.seed, keys) if test] if folds > 1 else []
    if len(found) <= len(missing):
        splits = ", ".join(["train", *reversed(missing)])
        raise DataError(
            f"task.group={how.group}: {counted(count, 'different value')} in {counted(len(groups), 'row')}"
            f" are too few for {splits} without a group on two sides"
        )
    random.Random(stream(how.seed, "split")).shuffle(found)
    found.sort(key=lambda rows: len(rows) * folds > TOO_LARGE * len(groups))
    parts, seeded = dict(zip(missing, found, strict=False)), f"(seed {how.seed})"
    notes = [
        f"{name}: {counted(len(rows), 'row')} split off train, {_groups_in(keys, how, rows)} {seeded}"
        for name, rows in parts.items()
    ]
    return {"train": sorted(row for rows in found[len(missing) :] for row in rows)} | parts, notes


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
    how: Splitting,
) -> list[str]:
    """Carve what is missing from train and choose the subset, in place; returns notes.

    Rows of one text stay together when a split is carved; `drop` leaves training rows out whose text is in
    another split too. Raises DataError when train is too small.
    """
    missing = [split for split in ("test", "validation") if split not in rows]
    notes = carve_groups(rows, missing, text, word, how) if missing else []
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
    rows: dict[str, list[Row]], missing: list[str], text: Callable[[Row], str], word: str, how: Splitting
) -> list[str]:
    """Carve the missing splits from train by whole texts, in place; DataError where there are too few."""
    whole, keys = rows["train"], [normalised(text(row)) for row in rows["train"]]
    different = len({*keys})
    if how.folds is not None and how.folds > different:
        raise DataError(f"task.folds={how.folds} is more than the {different} different {word}")
    indices, _ = split_whole(how, missing, Keys(["one"] * len(keys), "text"), keys, "text")
    for split in ("train", *missing):
        rows[split] = pick(whole, indices[split])
    for split in missing:
        if not rows[split]:
            raise DataError(f"task.train has too few different {word} ({different}) to carve {split} from")
    one, notes = word.removesuffix("s"), []
    for split in missing:
        part = f"split off train ({SHARE:.0%}, seed {how.seed})"
        if how.folds is not None and split == "test":
            part = f"fold {how.fold} of {how.folds} (seed {how.seed})"
        notes.append(f"{split}: {counted(len(rows[split]), one)} {part}")
    return notes
