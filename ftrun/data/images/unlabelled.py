"""Pictures in three splits whose labels may be missing."""

from __future__ import annotations

from typing import Any

from ftrun.data.images.sources import Picture, read_pictures
from ftrun.data.images.splits import complete, hash_of, named, said_by
from ftrun.data.leaks import leak_notes
from ftrun.data.sources import SPLITS, Given, spelled
from ftrun.errors import DataError


def load_pictures(
    sources: dict[str, Given], image: str | None, label: str, subset: Any, seed: int, leaks: str
) -> tuple[dict[str, list[Picture]], list[str], str]:
    """The pictures of every split, what to tell, and a hash of all; a missing split is carved from train."""
    notes: list[str] = []
    found: dict[str, list[Picture]] = {}
    for split, source in sources.items():
        found[split], said = pictures_of(source, image, label, split)
        notes += said
    notes += complete(found, subset, seed, leaks)
    for split in SPLITS:
        if len(found[split]) < 2:
            raise DataError(f"{split} has {len(found[split])} images, and it takes two to tell them apart")
    notes += leak_notes(said_by(found), leaks, "images")
    return {split: found[split] for split in SPLITS}, notes, hash_of(found)


def pictures_of(given: Given, image: str | None, label: str, split: str) -> tuple[list[Picture], list[str]]:
    """The pictures of a source, each with the name of its label or None, and what is worth saying."""
    found, notes = read_pictures(given, image, label, split)
    for picture in found:
        picture.label = named(picture, spelled(given), label)
    return found, notes
