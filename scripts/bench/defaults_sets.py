"""The data sets of defaults.py, and their files."""

from __future__ import annotations

import random
from pathlib import Path

MOST = {"validation": 500, "test": 1000}  # rows
SETS: dict[str, list[str]] = {  # settings; the files stand in OUT/data/SET
    "sst2": ["task=classify", "task.text=sentence", "task.label=label"],
    "uci_sentiment": ["task=classify", "task.text=text", "task.label=label"],
    "rte": ["task=classify", "task.text=[sentence1,sentence2]", "task.label=label"],
    "stsb": ["task=regress", "task.text=[sentence1,sentence2]", "task.label=score"],
    "wnut17": ["task=ner"],
    "mnist": ["task=image", "task.size=28"],
    "usps": ["task=image", "task.size=28"],
    "cifar10_subset": ["task=image"],
    "docstrings": ["task=docstrings"],
    "digits": ["task=digits"],
}
IMAGES = ["mnist", "usps", "cifar10_subset"]


def prepare(source: Path, place: Path, name: str) -> None:
    """The files of a set as they are used: train whole, fewer rows to validate and test."""
    if name in ("docstrings", "digits") or place.exists():
        return
    fresh, chance = place.with_name(f".{name}"), random.Random(0)
    fresh.mkdir(parents=True, exist_ok=True)
    folder = source / name
    for split in ("train", "validation", "test"):
        for file in folder.glob(f"{split}.*"):
            if file.suffix in (".npz", ".zip"):
                (fresh / file.name).symlink_to(file.resolve())
                continue
            between = "\n\n" if file.suffix == ".conll" else "\n"
            parts = file.read_text(encoding="utf-8").strip().split(between)
            head, rows = (parts[:0], parts) if file.suffix == ".conll" else (parts[:1], parts[1:])
            chosen = chance.sample(rows, min(len(rows), MOST.get(split, len(rows))))
            (fresh / file.name).write_text(between.join([*head, *chosen]) + "\n", encoding="utf-8")
    if not list(fresh.glob("test.*")) and name == "rte":  # GLUE's validation is the test here
        lines = (fresh / "train.tsv").read_text(encoding="utf-8").splitlines()
        (fresh / "validation.tsv").rename(fresh / "test.tsv")
        rows = chance.sample(lines[1:], len(lines) - 1)
        for split, part in (("validation", rows[:277]), ("train", rows[277:])):
            (fresh / f"{split}.tsv").write_text("\n".join([lines[0], *part]) + "\n", encoding="utf-8")
    fresh.rename(place)
