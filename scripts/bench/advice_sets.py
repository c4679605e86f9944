"""The data sets by which advice is judged: texts and labels, from the files of public sets."""

from __future__ import annotations

import csv
import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEST, VALIDATION = 400, 100  # rows, at most
ARTICLES, PER_ARTICLE = 8, 240  # of SQuAD, whose questions are to be told apart


def pooled(rows: list[tuple[str, str, str]]) -> dict[str, list[tuple[str, str]]]:
    """The splits of rows (split, text, label): those that name none are divided at random."""
    random.Random(0).shuffle(rows)
    own = {split: [row[1:] for row in rows if row[0] == split] for split in ("train", "test", "")}
    test = own["test"] or own[""]
    rest = own["train"] or own[""][TEST:]
    return {"test": test[:TEST], "validation": rest[:VALIDATION], "train": rest[VALIDATION:]}


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))


def phrases(source: Path, _: str) -> Iterator[tuple[str, str, str]]:
    for split in ("train", "test"):
        for row in lines(source / "sst2" / f"{split}.tsv"):
            yield split, row["sentence"], row["label"]


def reviews(source: Path, domain: str) -> Iterator[tuple[str, str, str]]:
    """Of one domain of uci_sentiment, which has a thousand of each."""
    for split in ("train", "validation", "test"):
        for row in lines(source / "uci_sentiment" / f"{split}.tsv"):
            if row["domain"] == domain:
                yield "", row["text"], row["label"]


def cipher(source: Path, _: str) -> Iterator[tuple[str, str, str]]:
    """Reviews of products in a language no network has read: every letter stands for another."""
    letters = list(string.ascii_lowercase)
    random.Random(0).shuffle(letters)
    others = str.maketrans(string.ascii_lowercase, "".join(letters))
    for split, text, label in reviews(source, "amazon"):
        yield split, text.lower().translate(others), label


def articles(source: Path, _: str) -> Iterator[tuple[str, str, str]]:
    """Questions, and which of a few articles of Wikipedia they are about."""
    whole = json.loads((source / "squad_v1" / "validation.json").read_text(encoding="utf-8"))["data"]
    asked = {
        article["title"]: sorted(
            {qa["question"].strip() for part in article["paragraphs"] for qa in part["qas"]}
        )
        for article in whole
    }
    for title in sorted(asked, key=lambda title: -len(asked[title]))[:ARTICLES]:
        for question in random.Random(0).sample(asked[title], PER_ARTICLE):
            yield "", question, title


def person(source: Path, _: str) -> Iterator[tuple[str, str, str]]:
    """Messages, and whether they name a person; as many that do as do not."""
    found: dict[bool, list[str]] = {True: [], False: []}
    for split in ("train", "validation", "test"):
        for part in (source / "wnut17" / f"{split}.conll").read_text(encoding="utf-8").strip().split("\n\n"):
            pairs = [line.split("\t") for line in part.splitlines()]
            named = any(pair[1].endswith("-person") for pair in pairs)
            found[named].append(" ".join(pair[0] for pair in pairs))
    for named, texts in found.items():
        for text in random.Random(0).sample(texts, min(map(len, found.values()))):
            yield "", text, "yes" if named else "no"


SETS: dict[str, Any] = {
    "sst2": phrases, "imdb": reviews, "yelp": reviews, "cipher": cipher, "articles": articles,
    "person": person,
}  # fmt: skip
