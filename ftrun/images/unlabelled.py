"""Pictures in three splits whose labels may be missing."""

from __future__ import annotations

from typing import Any

from ftrun.data.duplicates import leak_notes, without_leaks
from ftrun.data.sources import SPLITS, Given, spelled
from ftrun.data.splits import SPLIT_SEED, carve, choose, pick
from ftrun.errors import DataError
from ftrun.images.imagesets import hash_of, named, said_by
from ftrun.images.pictures import Picture, read_pictures


def load_pictures(
    sources: dict[str, Given], image: str | None, label: str, subset: Any, seed: int, leaks: str
) -> tuple[dict[str, list[Picture]], list[str], str]:
    """The pictures of every split, what to tell, and a hash of all; a missing split is carved from train."""
    notes: list[str] = []
    found: dict[str, list[Picture]] = {}
    for split, source in sources.items():
        found[split], said = pictures_of(source, image, label, split)
        notes += said
    missing = [split for split in ("test", "validation") if split not in found]
    if missing:
        strata = classes_of(found["train"])
        indices, said = carve(strata, missing, SPLIT_SEED, "class" if any(strata) else "kind")
        found |= {split: pick(found["train"], places) for split, places in indices.items()}
        notes += said
    if leaks == "drop":
        kept, said = without_leaks(said_by(found), "images")
        found["train"] = pick(found["train"], kept)
        notes += said
    if subset is not None:
        whole = len(found["train"])
        places, said = choose(classes_of(found["train"]), subset, seed)
        found["train"] = pick(found["train"], places)
        notes += [f"train: {len(places)} of {whole} images chosen (task.subset={subset}, seed {seed})", *said]
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


def classes_of(pictures: list[Picture]) -> list[str]:
    """Each picture's label; those without are of one kind."""
    return [picture.label or "" for picture in pictures]
