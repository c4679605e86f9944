"""Small tables of text that can be learned: pairs, several labels per row, numbers; and their experiments."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

from conftest import PLAIN, TELLING

COUNTS = {"train": 96, "validation": 32, "test": 32}
GENRES = {"drama": "music", "comedy": "story", "crime": "plot"}  # label → the word that tells it
Make = Callable[[int, random.Random], list[dict[str, object]]]
FEW = ["train.batch_size=16", "train.epochs=1", "task.max_length=32", "device=cpu"]


def pair_rows(count: int, chance: random.Random) -> list[dict[str, object]]:
    """Two texts of plain words; which of them has the telling one is the label."""
    rows = []
    for number in range(count):
        texts = [chance.choices(PLAIN, k=chance.randint(2, 8)) for _ in range(2)]
        texts[number % 2].append(chance.choice(TELLING["positive"]))
        premise, hypothesis = map(" ".join, texts)
        rows.append({"premise": premise, "hypothesis": hypothesis, "label": ("first", "second")[number % 2]})
    return rows


def many_rows(count: int, chance: random.Random) -> list[dict[str, object]]:
    """Texts with the words of none to all of the genres."""
    words = [word for word in PLAIN if word not in GENRES.values()]
    rows = []
    for number in range(count):
        genres = [name for bit, name in enumerate(GENRES) if number >> bit & 1]
        text = [*chance.choices(words, k=chance.randint(2, 6)), *(GENRES[name] for name in genres)]
        chance.shuffle(text)
        rows.append({"text": " ".join(text), "genres": genres})
    return rows


def number_rows(count: int, chance: random.Random) -> list[dict[str, object]]:
    """Texts with none to three good words; the price is 1000 and 250 for each."""
    rows = []
    for number in range(count):
        good = number % 4
        text = [*chance.choices(PLAIN, k=5), *chance.choices(TELLING["positive"], k=good)]
        rows.append({"text": " ".join(text), "price": 1000.0 + 250 * good})
    return rows


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    """A jsonl, or a csv in which lists are joined by |."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        if file.suffix == ".jsonl":
            opened.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(opened, [*rows[0]], lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: "|".join(v) if isinstance(v, list) else v for k, v in row.items()})
    return file


def files(directory: Path, make: Make, suffix: str = ".jsonl") -> list[str]:
    """The three splits of rows that `make` gives, and the settings that name them."""
    chance = random.Random(0)
    return [
        f"task.{split}={write(directory / f'{split}{suffix}', make(count, chance))}"
        for split, count in COUNTS.items()
    ]


def pairs(directory: Path, suffix: str = ".csv") -> list[str]:
    words = ["task=classify", "task.text=[premise,hypothesis]", "task.label=label"]
    return [*words, *files(directory, pair_rows, suffix), *FEW]


def multilabel(directory: Path, suffix: str = ".jsonl") -> list[str]:
    separator = [] if suffix == ".jsonl" else ["task.separator='|'"]
    return ["task=multilabel", "task.label=genres", *separator, *files(directory, many_rows, suffix), *FEW]


def regress(directory: Path, suffix: str = ".csv") -> list[str]:
    return ["task=regress", "task.label=price", *files(directory, number_rows, suffix), *FEW]
