"""Rows that know the task that has read them, and whether they are those of a file to be answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.errors import DataError
from ftrun.tasks.dataset import Rows

if TYPE_CHECKING:
    from ftrun.data.leaks import SplitTexts
    from ftrun.tasks.dataset import Example


@dataclass
class TaskRows(Rows):
    """Rows of three splits; without `answered`, those of a file to be answered."""

    task: Any = None
    answered: bool = True
    source: str = ""  # of a file to be answered
    slices: dict[str, list[str]] = field(default_factory=dict)  # column → the slice of each test row

    def contents(self) -> SplitTexts:
        """What tells the rows of each split apart; DataError where they are not held."""
        raise DataError("rows of this kind are not compared")

    def lengths(self, examples: Sequence[Example]) -> dict[int, int]:
        """The tokens of each row of these examples; of rows that are no texts nothing."""
        return {}

    def slices_of(
        self, rows: Sequence[int], examples: Callable[[str], Sequence[Example]]
    ) -> list[dict[str, str]]:
        """The slices that each of these test rows is in, one for each column and one by length.

        A column named length takes the place of the latter. Rows under several permutations are counted on.
        `examples` are those of a split; with folds lengths are cut at those of all rows, as columns are.
        """
        from ftrun.data.slices import thirds

        found = []
        if lengths := self.lengths(examples("test")):
            others = ("train", "validation") if self.task.folds else ()
            more = [size for split in others for size in self.lengths(examples(split)).values()]
            cut = thirds([*(lengths[row] for row in rows), *more], " tokens")
            found = [("length", cut[: len(rows)])]
        found += [(name, [own[row % len(own)] for row in rows]) for name, own in self.slices.items()]
        return [dict(zip(dict(found), own, strict=True)) for own in zip(*dict(found).values(), strict=True)]


def tokens_of_rows(examples: Sequence[Example]) -> dict[int, int]:
    """The tokens of each row, special ones included; what its windows share counts once."""
    return {each.row: each.size if each.whole is None else each.whole for each in examples}
