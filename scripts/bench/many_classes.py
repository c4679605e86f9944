"""A task of many classes without a download: the first sentences of docstrings, and the module they are from.

Writes train.csv and test.csv, columns text and label, from the packages that are installed.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from ftrun.data.docstrings import docstrings_in

PACKAGES = ("scipy", "sklearn", "matplotlib", "numpy", "pandas", "torch")
LETTERS = range(31, 300)  # of a text
TRAIN, TEST = 20, 25  # rows of a class


def texts(package: str) -> dict[str, set[str]]:
    """The first paragraphs of all docstrings, by the module below the package."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed"
    root, found = Path(spec.origin).parent, defaultdict(set)
    for file in sorted(root.rglob("*.py")):
        inside = file.relative_to(root).with_suffix("").parts
        if {"tests", "testing"} & {*inside}:
            continue
        for name, docstring in docstrings_in(file):
            text = " ".join(docstring.partition("\n\n")[0].split())
            if name and len(text) in LETTERS:  # of a class or a function
                found[f"{package}.{inside[0]}"].add(text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder, draw = parser.parse_args().folder, random.Random(0)
    every = {name: found for package in PACKAGES for name, found in texts(package).items()}
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for name in sorted(name for name, found in every.items() if len(found) >= TRAIN + TEST):
        chosen = [(text, name) for text in draw.sample(sorted(every[name]), TRAIN + TEST)]
        rows["train"] += chosen[:TRAIN]
        rows["test"] += chosen[TRAIN:]
    folder.mkdir(parents=True, exist_ok=True)
    for split, found in rows.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *found])
        print(f"{folder / split}.csv: {len(found):,} rows of {len({label for _, label in found})} classes")


if __name__ == "__main__":
    main()
