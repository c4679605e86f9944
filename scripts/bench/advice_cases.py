"""What advice.py trains, and the lines that are kept of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrun.experiments.advice import Evidence


@dataclass(frozen=True, order=True)
class Case:
    """What is trained: a set, a network, and the number of training rows."""

    data: str
    network: str
    rows: int


@dataclass(frozen=True, order=True)
class Run:
    """One way of training a case, and the seed, which draws other training rows too."""

    case: Case
    way: str
    seed: int

    @property
    def name(self) -> str:
        return "-".join(
            map(str, [*astuple(self.case), self.way.replace(", ", " ").replace(" ", "_"), self.seed])
        )


def add(file: Path, line: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")


def lines_of(file: Path) -> list[dict[str, Any]]:
    return (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    )


def made(file: Path) -> Iterator[tuple[Run, str]]:
    """The runs that were made, and whether each of their test rows was answered right."""
    for line in lines_of(file):
        own = line["run"]
        yield Run(Case(**own["case"]), own["way"], own["seed"]), line["right"]


def measured(file: Path) -> Iterator[tuple[tuple[Case, int], Evidence | None]]:
    """What was measured for each case and seed; None of random weights."""
    from ftrun.experiments.advice import Evidence

    for line in lines_of(file):
        found = line["evidence"]
        yield (Case(**line["case"]), line["seed"]), Evidence(**found) if found else None
