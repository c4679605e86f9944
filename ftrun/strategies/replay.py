"""Replay: examples of the earlier tasks in every batch (Ratcliff 1990; Chaudhry et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError, counted
from ftrun.runs.terminal import say
from ftrun.settings.checks import at_least, auto_or, one_of
from ftrun.strategies.full import Full

if TYPE_CHECKING:
    from random import Random

    from ftrun.strategies.base import Memory, SourceTask


PART = 1 / 9  # of this task's weight in the loss, for each earlier task with share=auto


@dataclass
class Replay(Full):
    """A buffer of earlier training examples; each batch takes `share` of its loss from a draw out of it.

    The loss is (1 − share) times the task's mean and share times the mean over the drawn examples. A batch
    has batch_size of its own and batch_size · share / (1 − share) of these. Earlier heads stay as they are.
    share=auto gives each earlier task PART of the weight of this one, and the batch few more examples.
    """

    share: float | str
    buffer: int
    choose: str

    needs_source: ClassVar[bool] = True

    def __post_init__(self) -> None:
        auto_or("share", self.share)
        self.part = 0.5 if isinstance(self.share, str) else self.share  # until `remember` has found it
        if not 0 < self.part < 1:
            raise ConfigError(f"share is above 0 and below 1, not {self.part:g}")
        at_least("buffer", self.buffer, 1)
        one_of("choose", self.choose, ["reservoir", "balanced"])
        self.kept: list[tuple[SourceTask, list[int]]] = []

    def remember(self, memory: Memory) -> None:
        """Fill the buffer: an equal part for each earlier task, the same in every run of the seed."""
        from random import Random

        from ftrun.settings.seeds import stream

        part = self.buffer // len(memory.pasts)
        if part == 0:
            raise ConfigError(
                f"buffer={self.buffer} has no room for {counted(len(memory.pasts), 'earlier task')}"
            )
        self.seed, self.kept = memory.seed, []
        if isinstance(self.share, str):
            self.settle(len(memory.pasts))
        for number, past in enumerate(memory.pasts):
            chance = Random(stream(memory.seed, "buffer", number))
            targets = [example.target for example in past.data.dataset("train").examples]
            if self.choose == "balanced" and has_classes(past):
                if part < len(set(targets)):
                    raise ConfigError(
                        f"buffer={self.buffer} has room for {counted(part, 'example')} of {past.name},"
                        f" not for one of each of its {len(set(targets))} classes;"
                        " possible: a larger buffer or choose=reservoir"
                    )
                rows = balanced(targets, part, chance)
            else:
                rows = reservoir(len(targets), part, chance)
            self.kept.append((past, rows))

    def settle(self, tasks: int) -> None:
        """Find the share from how many tasks are to be remembered."""
        self.part = float(f"{tasks * PART / (1 + tasks * PART):.3g}")
        say(
            f"hold: share=auto is {self.part:g}: {counted(tasks, 'earlier task')}"
            f" of {PART:.3g} of this one's weight{' each' if tasks > 1 else ''}"
        )

    def settled(self) -> dict[str, float]:
        return {"share": self.part} if isinstance(self.share, str) else {}

    def replay(self, step: int, size: int) -> list[tuple[SourceTask, list[int]]]:
        """Which earlier examples go with a batch of `size`: (task, rows) for each task that has any."""
        from random import Random

        from ftrun.settings.seeds import stream

        chance = Random(stream(self.seed, "replay", step))
        everything = [(number, row) for number, (_, rows) in enumerate(self.kept) for row in rows]
        wanted = max(1, round(size * self.part / (1 - self.part)))
        drawn = [everything[chance.randrange(len(everything))] for _ in range(wanted)]
        parts = [(past, [row for of, row in drawn if of == n]) for n, (past, _) in enumerate(self.kept)]
        return [(past, rows) for past, rows in parts if rows]

    def replayed_share(self) -> float:
        return self.part


def has_classes(past: SourceTask) -> bool:
    """Whether the examples of an earlier task have labels out of a set."""
    return str(past.data.spec.config.get("problem_type")).endswith("label_classification")


def reservoir(count: int, size: int, chance: Random) -> list[int]:
    """`size` of the numbers below `count`, each as likely as any other, in one pass (Vitter 1985)."""
    kept: list[int] = []
    for number in range(count):
        if len(kept) < size:
            kept.append(number)
        elif (place := chance.randrange(number + 1)) < size:
            kept[place] = number
    return kept


def balanced(targets: list[int], size: int, chance: Random) -> list[int]:
    """As many rows of every class, floor(size / classes) where the class has them."""
    classes = sorted(set(targets))
    chosen = []
    for name in classes:
        members = [row for row, target in enumerate(targets) if target == name]
        chosen += [members[i] for i in reservoir(len(members), size // len(classes), chance)]
    return chosen
