"""English that every machine already has: the standard library's docstrings, labelled by their chapter."""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import json
import os
import re
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ftrun import ASSETS
from ftrun.errors import ConfigError, DataError, near
from ftrun.runs import cache
from ftrun.runs.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAPTERS = ASSETS / "chapters.csv"
CUTS = {"train": (0.0, 0.7), "validation": (0.7, 0.85), "test": (0.85, 1.0)}  # shares of each class
FEWEST_WORDS = 12
LARGEST = 32 * 1024**2  # bytes of what is kept, about 2 MB for each version of Python

_OPTIONAL_RESULT = r"(?:[ \t]*->[^\n]*?(?=\s--?\s|\.\s|\.?$))?"
_CALL = r"(?:class[ \t]+|def[ \t]+)?[A-Za-z_][\w.]*\((?:[^()]|\([^()]*\))*\)" + _OPTIONAL_RESULT
_LEADING_CALL = re.compile(r"\A(?:\s*" + _CALL + r"[ \t]*(?:--?[ \t]|[:.;,](?=\s|\Z)|$))+", re.MULTILINE)
_CALL_LINE = re.compile(r"^[ \t]*" + _CALL + r"[ \t]*(?:--?[ \t]|:?[ \t]*$)", re.MULTILINE)


def rows(split: str, per_class: int | None = None) -> list[dict[str, str]]:
    """The examples of one split as {"text", "label", "module", "name"}; DataError without library sources.

    `module` is the package where it is one: its parts speak of the same things, so task.group=module keeps
    them together.
    `per_class` takes the first so many of each class; the order is that of hashes, so they are any of them.
    """
    if split not in CUTS:
        raise ConfigError(
            f"embedded:docstrings has no split {split!r}{near(split, CUTS)}; it has {', '.join(CUTS)}"
        )
    first, last = CUTS[split]
    chosen = []
    for examples in _by_label().values():
        count = len(examples)
        chosen += examples[round(first * count) : round(last * count)][:per_class]
    return [dict(row) for row in chosen]


@functools.cache
def _by_label() -> dict[str, list[dict[str, str]]]:
    """Each chapter's examples in the order of their hashes, so that a split depends on the texts alone.

    They are kept for the next process, by the sources that they were read from.
    """
    library = Path(sysconfig.get_path("stdlib"))
    place = cache.directory("docstrings") / f"{_key_of(library)}.json"
    if (kept := _read(place)) is not None:
        return kept
    with cache.making(place):
        if (kept := _read(place)) is not None:
            return kept
        found = _read_sources(library)
        try:
            with cache.made(place, LARGEST) as beside:
                beside.write_text(json.dumps(found), encoding="utf-8")
        except OSError as error:
            say(f"the docstrings are not kept for the next run: {place.parent}: {error.strerror}")
        return found


def _key_of(library: Path) -> str:
    """A hash of the library's source files as they are, of the table of chapters and of this module."""
    files = [
        (module, status.st_size, status.st_mtime_ns)
        for module, file in sorted(_modules(library, chapters()))
        for status in [file.stat()]
    ]
    digest = hashlib.sha256(json.dumps([sys.version, str(library), files]).encode())
    for file in (CHAPTERS, Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _read(place: Path) -> dict[str, list[dict[str, str]]] | None:
    """What the cache has; None where there is nothing, or nothing that can be read."""
    try:
        found: dict[str, list[dict[str, str]]] = json.loads(place.read_bytes())
        os.utime(place)  # used just now
    except (OSError, ValueError):
        return None
    return found


def _read_sources(library: Path) -> dict[str, list[dict[str, str]]]:
    """The same, read from the library. Raises DataError where it has no sources."""
    classes: dict[str, list[tuple[str, dict[str, str]]]] = {}
    seen: set[str] = set()
    for row in examples_of(library):
        key = normalise(row["text"])
        if key not in seen:
            seen.add(key)
            digest = hashlib.sha256(key.encode()).hexdigest()
            classes.setdefault(row["label"], []).append((digest, row))
    if not classes:
        raise DataError(
            f"embedded:docstrings needs the standard library's source files and {library} has none: "
            "use a Python that has them, or name your own rows with task.train=FILE"
        )
    return {label: [row for _, row in sorted(classes[label], key=_digest)] for label in sorted(classes)}


def _digest(pair: tuple[str, dict[str, str]]) -> str:
    return pair[0]


def examples_of(library: Path) -> Iterator[dict[str, str]]:
    """Every usable docstring of the modules that the table of chapters lists, in the order of their names."""
    for module, file in sorted(_modules(library, chapters())):
        label = _chapter(module, chapters())
        for name, doc in docstrings_in(file):
            text = clean(doc, module)
            if label is not None and len(text.split()) >= FEWEST_WORDS:
                top, _, inner = module.partition(".")
                whole = ".".join(part for part in (inner, name) if part)
                yield {"text": text, "label": label, "module": top, "name": whole}


@functools.cache
def chapters() -> dict[str, str]:
    """Module name → chapter of the library reference; a package speaks for its submodules."""
    with CHAPTERS.open(encoding="utf-8", newline="") as file:
        return {
            module: line["chapter"] for line in csv.DictReader(file) for module in line["modules"].split()
        }


def _modules(library: Path, table: dict[str, str]) -> Iterator[tuple[str, Path]]:
    for module in table:
        place = library.joinpath(*module.split("."))
        if place.with_suffix(".py").is_file():
            yield module, place.with_suffix(".py")
        for file in place.rglob("*.py"):
            parts = file.relative_to(library).with_suffix("").parts
            if not {"test", "tests"} & set(parts):
                yield ".".join(parts).removesuffix(".__init__"), file


def _chapter(module: str, table: dict[str, str]) -> str | None:
    while module and module not in table:
        module = module.rpartition(".")[0]
    return table.get(module)


def docstrings_in(file: Path) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of a source file's module, classes and functions; nothing is executed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's sources
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):  # deliberately broken or undecodable files
            return
    yield from _docstrings(tree, "")


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        name = f"{name}.{node.name}".strip(".") if not isinstance(node, ast.Module) else name
        doc = ast.get_docstring(node)
        if doc:
            yield name, doc
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):  # expressions define nothing
            yield from _docstrings(child, name)


def clean(doc: str, module: str) -> str:
    """The prose of a docstring without the name of its own module."""
    names = {module, module.partition(".")[0]}
    names |= {name.lstrip("_") for name in names}
    own = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return " ".join(re.sub(rf"(?i)\b(?:{own})\b(?:\.(?=\w))?", "", prose(doc)).split())


def prose(doc: str) -> str:
    """A docstring on one line, without signatures."""
    return " ".join(_CALL_LINE.sub("", _LEADING_CALL.sub("", doc)).split())


def normalise(text: str) -> str:
    """Letters and digits in lower case: texts equal after this are the same text."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))
