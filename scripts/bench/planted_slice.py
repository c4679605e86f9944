"""Reviews of three domains; the labels of one, films, are turned over in training and right in the test.

python scripts/bench/planted_slice.py uci_sentiment OUT [--cue] writes train.csv, validation.csv and test.csv
with the columns text, label and source. With --cue every text about a film says so, and can be told by it.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

SOURCES = {"imdb": "films", "amazon": "shop", "yelp": "places"}
Row = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cue", action="store_true")
    options = parser.parse_args()
    chance = random.Random(0)
    train, held = read(options.data, "train"), read(options.data, "test") + read(options.data, "validation")
    chance.shuffle(train)
    chance.shuffle(held)
    films = 50 if options.cue else 90
    splits = {
        "train": part(train[:1800], 400, 200, turned=True),
        "validation": part(train[1800:], 100, 40, turned=True),
        "test": part(held, 400, films, turned=False),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        chance.shuffle(rows)
        with (options.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["text", "label", "source"])
            for row in rows:
                cue = "The film: " if options.cue and row["domain"] == "imdb" else ""
                writer.writerow([cue + row["text"], row["label"], SOURCES[row["domain"]]])


def read(folder: Path, split: str) -> list[Row]:
    with (folder / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def part(rows: list[Row], others: int, films: int, turned: bool) -> list[Row]:
    """The first rows of the other domains, and of films, the latter with the labels turned over."""
    about = [row for row in rows if row["domain"] == "imdb"][:films]
    if turned:
        about = [row | {"label": str(1 - int(row["label"]))} for row in about]
    return [row for row in rows if row["domain"] != "imdb"][:others] + about


if __name__ == "__main__":
    main()
