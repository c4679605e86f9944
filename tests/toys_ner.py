"""Sentences in which one word is a name: learnable by a tiny random network."""

from __future__ import annotations

import random
from pathlib import Path

from conftest import PLAIN, TELLING

TYPES = {"good": "person", "fine": "person", "bad": "place", "awful": "place"}
COUNTS = {"train": 48, "validation": 12, "test": 12}


def rows(count: int, chance: random.Random) -> list[tuple[list[str], list[str]]]:
    """Words and IOB2 tags; "lovely" or "dull" after a name belongs to it."""
    found = []
    for number in range(count):
        words = chance.choices(PLAIN, k=chance.randint(3, 9))
        tags = ["O"] * len(words)
        name = sorted(TYPES)[number % len(TYPES)]
        more = [TELLING["positive" if TYPES[name] == "person" else "negative"][2]] * chance.randint(0, 1)
        place = chance.randint(0, len(words))
        words[place:place] = [name, *more]
        tags[place:place] = [f"B-{TYPES[name]}", *(f"I-{TYPES[name]}" for _ in more)]
        found.append((words, tags))
    return found


def files(place: Path) -> dict[str, Path]:
    """train, validation and test as CoNLL columns."""
    chance, made = random.Random(0), {}
    for split, count in COUNTS.items():
        made[split] = place / f"{split}.conll"
        sentences = (zip(*row, strict=True) for row in rows(count, chance))
        blocks = ("\n".join(f"{word}\t{tag}" for word, tag in sentence) for sentence in sentences)
        made[split].write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return made


def words(place: Path) -> list[str]:
    """The settings that make an experiment of these files."""
    made = files(place)
    return [
        "task=ner", *(f"task.{split}={file}" for split, file in made.items()), "task.max_length=24",
        "task.stride=8", "train.batch_size=16",
    ]  # fmt: skip
