"""Images in three splits, some of their classes or all: labels named, a missing split split off train."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ftrun.data.folds import PLAIN, Splitting
from ftrun.data.grouped_splits import Keys, split_whole
from ftrun.data.images.sources import ImageFile, read_images
from ftrun.data.labels import Labels, label_set, name_of, refuse_absent_classes, refuse_free_text
from ftrun.data.leaks import SplitTexts, leak_notes, warnings_of, without_leaks
from ftrun.data.sources import SPLITS, Given, spelled
from ftrun.data.splits import Splits, choose, pick
from ftrun.data.tables import ENDINGS
from ftrun.errors import ConfigError, DataError, counted, listed, near
from ftrun.settings.checks import natural_order


@dataclass
class ImageSelection:
    """How images are found in a source, which are taken, and what their labels become."""

    image: str | None
    label: str
    classes: list[str] | None  # the labels in use, None for all
    modulo: int | None  # labels are whole numbers, and become their rest

    def labelled(self, split: str, given: Given, notes: list[str]) -> list[ImageFile]:
        """The images of a source that have a label in use; DataError where there is none."""
        found, more = read_images(given, self.image, self.label, split)
        source = spelled(given)
        notes += more
        for file in found:
            file.label = named(file, source, self.label)
        kept = [file for file in found if file.label is not None]
        if not kept:
            raise DataError(self.no_labels(split, source, found))
        if len(kept) < len(found):
            some = [file.name for file in found if file.label is None]
            count = f"{len(some)} of {len(found)} images"
            notes.append(f"{split}: {count} dropped, no label ({listed(some, 3)})")
        return self.in_use(source, kept)

    def no_labels(self, split: str, source: str, found: list[ImageFile]) -> str:
        columns = list(dict.fromkeys(key for file in found for key in file.about))
        if columns == ["file"] and not source.endswith(ENDINGS):
            without = "; possible without labels: task=simclr, task=moco"
            return f"task.{split}={source} has no labels: its images are not in class folders{without}"
        has = f"; it has {listed(columns)}{near(self.label, columns)}" if self.label not in columns else ""
        return f"task.{split}={source} has no labels (task.label={self.label}){has}"

    def in_use(self, source: str, files: list[ImageFile]) -> list[ImageFile]:
        if self.classes is None:
            return files
        there = {file.label for file in files if file.label is not None}
        refuse_absent_classes(self.classes, there, source, "image")
        return [file for file in files if file.label in self.classes]

    def rest(self, files: list[ImageFile]) -> None:
        """Labels modulo `modulo`."""
        for file in files if self.modulo is not None else []:
            try:
                file.label = str(int(file.label) % self.modulo)  # type: ignore[operator]
            except ValueError:
                raise DataError(
                    f"task.modulo={self.modulo} needs labels that are whole numbers; {file.name} is"
                    f" {file.label!r}"
                ) from None


def named(file: ImageFile, source: str, column: str) -> str | None:
    try:
        return name_of(file.label)
    except DataError as error:
        raise DataError(f"task.label={column}: {file.name} of {source}: {error}") from None


def load_splits(
    sources: dict[str, Given | None],
    reading: ImageSelection,
    labels: list[Any] | None,
    subset: Any,
    seed: int,
    leaks: str,
    how: Splitting = PLAIN,
) -> tuple[dict[str, list[ImageFile]], Labels, list[str], str]:
    """The images of every split, the labels, notes, and a hash of all; DataError, ConfigError."""
    sources, notes = how.sources(sources)
    if sources["train"] is None:
        raise ConfigError("task.train is not set")
    found = {split: reading.labelled(split, source, notes) for split, source in sources.items() if source}
    for split, part in columns(found).items():
        how.check(part, spelled(sources[split] or ""))
    notes += complete(found, subset, seed, leaks, how)
    for split in SPLITS:
        if not found[split]:
            labelled = [str(file.label) for part in found.values() for file in part]
            refuse_free_text(sorted(set(labelled), key=natural_order), len(labelled), reading.label)
            raise DataError(f"task.train has too few images to carve {split} from; set task.{split}")
        reading.rest(found[split])
    notes += leak_notes(split_texts(found), leaks, "images")
    notes += warnings_of(how.leaks(columns(found), "images"), leaks)
    names = label_set(table(found, reading.label), reading.label, labels, reading.classes is not None)
    return (
        {split: found[split] for split in SPLITS},
        names,
        notes + names.notes,
        hash_of(found),
    )


def complete(
    found: dict[str, list[ImageFile]], subset: Any, seed: int, leaks: str, how: Splitting = PLAIN
) -> list[str]:
    """Carve what is missing from train, drop its leaks, choose the subset, in place; returns notes.

    Images without a label are of one kind.
    """
    notes: list[str] = []
    missing = [split for split in ("test", "validation") if split not in found]
    if missing:
        strata = [file.label or "" for file in found["train"]]
        keys = Keys(strata, "class" if any(strata) else "kind", *how.keys(columns(found)["train"]))
        indices, more = split_whole(how, missing, keys, split_texts(found).keys["train"], "image")
        found |= {split: pick(found["train"], chosen) for split, chosen in indices.items()}
        notes += more
    if leaks == "drop":
        kept, more = without_leaks(split_texts(found), "images")
        found["train"] = pick(found["train"], kept)
        places, again = how.without_leaks(columns(found))
        found["train"] = pick(found["train"], places)
        notes += more + again
    if subset is not None:
        whole = len(found["train"])
        chosen, more = choose([file.label or "" for file in found["train"]], subset, seed)
        found["train"] = pick(found["train"], chosen)
        notes += [f"train: {len(chosen)} of {whole} images chosen (task.subset={subset}, seed {seed})", *more]
    return notes


def columns(found: dict[str, list[ImageFile]]) -> dict[str, list[dict[str, Any]]]:
    """What the source of each image says of it."""
    return {split: [file.about for file in part] for split, part in found.items()}


def table(found: dict[str, list[ImageFile]], label: str) -> Splits:
    """The rows as `label_set` takes them."""
    train, validation, test = (
        [{"": file.name, label: file.label} for file in found[split]] for split in SPLITS
    )
    return Splits(train, validation, test, notes=[], fingerprint="")


def split_texts(found: dict[str, list[ImageFile]]) -> SplitTexts:
    """Images are equal where they are stored byte for byte alike."""
    return SplitTexts(
        {split: [file.digest.hex() for file in part] for split, part in found.items()},
        {split: [file.name for file in part] for split, part in found.items()},
    )


def hash_of(found: dict[str, list[ImageFile]]) -> str:
    whole = hashlib.sha256()
    for split in SPLITS:
        for file in found[split]:
            whole.update(file.digest + str(file.label).encode() + b"\n")
    return whole.hexdigest()


def load_images(
    sources: dict[str, Given], image: str | None, label: str, subset: Any, seed: int, leaks: str
) -> tuple[dict[str, list[ImageFile]], list[str], str]:
    """The images of every split, notes, and a hash of all; a missing split is split off train."""
    notes: list[str] = []
    found: dict[str, list[ImageFile]] = {}
    for split, source in sources.items():
        found[split], more = images_of(source, image, label, split)
        notes += more
    notes += complete(found, subset, seed, leaks)
    for split in SPLITS:
        if len(found[split]) < 2:
            raise DataError(
                f"{split} has {counted(len(found[split]), 'image')};"
                " contrastive learning compares at least two"
            )
    notes += leak_notes(split_texts(found), leaks, "images")
    return {split: found[split] for split in SPLITS}, notes, hash_of(found)


def images_of(given: Given, image: str | None, label: str, split: str) -> tuple[list[ImageFile], list[str]]:
    """The images of a source, each with the name of its label or None, and notes."""
    found, notes = read_images(given, image, label, split)
    for file in found:
        file.label = named(file, spelled(given), label)
    return found, notes
