"""Pictures in three splits, some of their classes or all: labels named, a missing split carved from train."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ftrun.data.images.sources import Picture, read_pictures
from ftrun.data.labels import Labels, listed, name_of, natural, refuse_absent_classes, refuse_free_text
from ftrun.data.leaks import Said, leak_notes, without_leaks
from ftrun.data.rows import Splits, label_set
from ftrun.data.sources import SPLITS, Given, spelled
from ftrun.data.splits import SPLIT_SEED, carve, choose, pick
from ftrun.data.tables import ENDINGS
from ftrun.errors import ConfigError, DataError, near


@dataclass
class Reading:
    """How pictures are found in a source, which are taken, and what their labels become."""

    image: str | None
    label: str
    classes: list[str] | None  # the labels in use, None for all
    modulo: int | None  # labels are whole numbers, and become their rest

    def labelled(self, split: str, given: Given, notes: list[str]) -> list[Picture]:
        """The pictures of a source that have a label in use; DataError where there is none."""
        found, said = read_pictures(given, self.image, self.label, split)
        source = spelled(given)
        notes += said
        for picture in found:
            picture.label = named(picture, source, self.label)
        kept = [picture for picture in found if picture.label is not None]
        if not kept:
            raise DataError(self.no_labels(split, source, found))
        if len(kept) < len(found):
            some = [picture.name for picture in found if picture.label is None]
            count = f"{len(some)} of {len(found)} images"
            notes.append(f"{split}: {count} dropped, no label ({listed(some, 3)})")
        return self.in_use(source, kept)

    def no_labels(self, split: str, source: str, found: list[Picture]) -> str:
        columns = list(dict.fromkeys(key for picture in found for key in picture.about))
        if columns == ["file"] and not source.endswith(ENDINGS):
            return f"task.{split}={source} has no labels: its images lie in no class folders"
        has = f"; it has {listed(columns)}{near(self.label, columns)}" if self.label not in columns else ""
        return f"task.{split}={source} has no labels (task.label={self.label}){has}"

    def in_use(self, source: str, pictures: list[Picture]) -> list[Picture]:
        if self.classes is None:
            return pictures
        there = {picture.label for picture in pictures if picture.label is not None}
        refuse_absent_classes(self.classes, there, source, "image")
        return [picture for picture in pictures if picture.label in self.classes]

    def rest(self, pictures: list[Picture]) -> None:
        """Labels modulo `modulo`."""
        for picture in pictures if self.modulo is not None else []:
            try:
                picture.label = str(int(picture.label) % self.modulo)  # type: ignore[operator]
            except ValueError:
                raise DataError(
                    f"task.modulo={self.modulo} needs labels that are whole numbers; {picture.name} is"
                    f" {picture.label!r}"
                ) from None


def named(picture: Picture, source: str, column: str) -> str | None:
    try:
        return name_of(picture.label)
    except DataError as error:
        raise DataError(f"task.label={column}: {picture.name} of {source}: {error}") from None


def load_splits(
    sources: dict[str, Given | None],
    reading: Reading,
    labels: list[Any] | None,
    subset: Any,
    seed: int,
    leaks: str,
) -> tuple[dict[str, list[Picture]], Labels, list[str], str]:
    """The pictures of every split, the labels, what to tell, and a hash of all; DataError, ConfigError."""
    notes: list[str] = []
    if sources["train"] is None:
        raise ConfigError("task.train is not set")
    found = {split: reading.labelled(split, source, notes) for split, source in sources.items() if source}
    notes += complete(found, subset, seed, leaks)
    for split in SPLITS:
        if not found[split]:
            labelled = [str(picture.label) for part in found.values() for picture in part]
            refuse_free_text(sorted(set(labelled), key=natural), len(labelled), reading.label)
            raise DataError(f"task.train has too few images to carve {split} from; set task.{split}")
        reading.rest(found[split])
    notes += leak_notes(said_by(found), leaks, "images")
    names = label_set(table(found, reading.label), reading.label, labels)
    return (
        {split: found[split] for split in SPLITS},
        names,
        notes + names.notes,
        hash_of(found),
    )


def complete(found: dict[str, list[Picture]], subset: Any, seed: int, leaks: str) -> list[str]:
    """Carve what is missing from train, drop its leaks, choose the subset, in place; what to tell of it.

    Pictures without a label are of one kind.
    """
    notes: list[str] = []
    missing = [split for split in ("test", "validation") if split not in found]
    if missing:
        strata = [picture.label or "" for picture in found["train"]]
        indices, said = carve(strata, missing, SPLIT_SEED, "class" if any(strata) else "kind")
        found |= {split: pick(found["train"], chosen) for split, chosen in indices.items()}
        notes += said
    if leaks == "drop":
        kept, said = without_leaks(said_by(found), "images")
        found["train"] = pick(found["train"], kept)
        notes += said
    if subset is not None:
        whole = len(found["train"])
        chosen, said = choose([picture.label or "" for picture in found["train"]], subset, seed)
        found["train"] = pick(found["train"], chosen)
        notes += [f"train: {len(chosen)} of {whole} images chosen (task.subset={subset}, seed {seed})", *said]
    return notes


def table(found: dict[str, list[Picture]], label: str) -> Splits:
    """The rows as `label_set` takes them."""
    train, validation, test = (
        [{"": picture.name, label: picture.label} for picture in found[split]] for split in SPLITS
    )
    return Splits(train, validation, test, notes=[], fingerprint="")


def said_by(found: dict[str, list[Picture]]) -> Said:
    """Pictures say the same where they are stored byte for byte alike."""
    return Said(
        {split: [picture.digest.hex() for picture in part] for split, part in found.items()},
        {split: [picture.name for picture in part] for split, part in found.items()},
    )


def hash_of(found: dict[str, list[Picture]]) -> str:
    whole = hashlib.sha256()
    for split in SPLITS:
        for picture in found[split]:
            whole.update(picture.digest + str(picture.label).encode() + b"\n")
    return whole.hexdigest()
