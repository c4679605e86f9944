"""The text tiny_bert learns from: docstrings of installed packages and of the library's training split."""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import distributions
from multiprocessing import Pool
from typing import TYPE_CHECKING

from ftrun.data.docstrings import FEWEST_WORDS, docstrings_in, normalise, prose, rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHINGLE = 8  # words
HELD_OUT = ("validation", "test")
SKIPPED_FOLDERS = {"test", "tests", "_vendor", "conformance"}


@dataclass
class Corpus:
    """Texts with the number of the file each stands in, and what the model card says of them."""

    texts: list[str]
    files: list[int]  # texts of one file share a number; the library's own texts have their own each
    packages: list[str]  # of each text
    words: dict[str, int]  # by package==version
    left_out: int  # texts that repeat a held-out one


def read_corpus(extra: Path) -> Corpus:
    """Every docstring of enough words once, without those that share eight words with a held-out one.

    Reads every package of this environment and those installed under `extra`; nothing is imported.
    """
    held_out = {shingle for split in HELD_OUT for row in rows(split) for shingle in shingles(row["text"])}
    texts = [row["text"] for row in rows("train")]
    numbers = list(range(len(texts)))
    packages = [f"python=={sysconfig.get_python_version()}"] * len(texts)
    seen = {normalise(text) for text in texts}
    left_out, known = 0, len(texts)
    files = list(source_files(extra))
    with Pool(2) as pool:
        for number, found in enumerate(pool.imap(_texts, files, chunksize=64), start=known):
            package = files[number - known][0]
            for text in found:
                key = normalise(text)
                if key in seen:
                    continue
                seen.add(key)
                if not held_out.isdisjoint(shingles(text)):
                    left_out += 1
                    continue
                texts.append(text)
                numbers.append(number)
                packages.append(package)
    words: Counter[str] = Counter()
    for package, text in zip(packages, texts, strict=True):
        words[package] += len(text.split())
    return Corpus(texts, numbers, packages, dict(words), left_out)


def source_files(extra: Path) -> Iterator[tuple[str, str]]:
    """(package==version, path) of the packages' own sources, in a fixed order, without their tests."""
    places = [str(extra), sysconfig.get_path("purelib")]
    found = {dist.metadata["Name"].lower(): dist for dist in reversed(list(distributions(path=places)))}
    for name in sorted(found):
        for file in sorted(str(file) for file in found[name].files or ()):
            if file.endswith(".py") and not SKIPPED_FOLDERS & set(file.split("/")) and ".." not in file:
                yield f"{name}=={found[name].version}", str(found[name].locate_file(file))


def _texts(file: tuple[str, str]) -> list[str]:
    from pathlib import Path

    path = Path(file[1])
    if not path.is_file():
        return []
    sys.setrecursionlimit(10_000)
    texts = [prose(doc) for _, doc in docstrings_in(path)]
    return [text for text in texts if len(text.split()) >= FEWEST_WORDS]


def shingles(text: str) -> Iterator[str]:
    """Every run of eight words, normalised."""
    words = normalise(text).split()
    return (" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))
