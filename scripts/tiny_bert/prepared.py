"""What training reads from the work folder: made once, and enough for a machine without the packages."""

from __future__ import annotations

import json
import lzma
from typing import TYPE_CHECKING

from tiny_bert import vocabulary
from tiny_bert.corpus import HELD_OUT, Corpus, read_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


def corpus(work: Path) -> Corpus:
    """The corpus, read from work/packages at the first call."""
    kept = work / "corpus.json.xz"
    if not kept.exists():
        write(kept, vars(read_corpus(work / "packages")))
    return Corpus(**read(kept))


def tokenizer(work: Path, texts: list[str]) -> PreTrainedTokenizerBase:
    """The tokenizer, learned from the texts at the first call."""
    from transformers import AutoTokenizer

    if not (work / "tokenizer").exists():
        vocabulary.learn(texts).save_pretrained(work / "tokenizer")
    return AutoTokenizer.from_pretrained(work / "tokenizer")


def labelled(work: Path) -> dict[str, list[dict[str, str]]]:
    """The embedded docstrings by split, as this Python's library had them when the corpus was read."""
    from ftrun.data.docstrings import rows

    kept = work / "labelled.json.xz"
    if not kept.exists():
        write(kept, {split: rows(split) for split in ("train", *HELD_OUT)})
    return read(kept)


def write(path: Path, value: object) -> None:
    """JSON, compressed."""
    with lzma.open(path, "wt", encoding="utf-8") as file:
        json.dump(value, file)


def read(path: Path) -> dict:
    """What `write` wrote."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)
