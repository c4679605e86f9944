"""Several tasks in one network: their examples together, and a head for each or one for all.

Batches are drawn from all training rows together, so that each task has its share of them (proportional
mixing; joint training of van de Ven & Tolias 2019). Heads of their own are the rows of one linear layer: a
task is learned and answered by its own outputs alone, which is what separate layers do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from ftrun.tasks.dataset import Batch, Dataset, Draw, Example
from ftrun.tasks.losses import Loss
from ftrun.tasks.objective import Objective, targets_of
from ftrun.tasks.scorer import Answer, Row, Scorer

TASKS = "tasks"  # of a batch: the parts of each task in it
Part = tuple[int, list[int], Batch]  # a task's number, the places of its examples in a batch, what is theirs


@dataclass
class Shared(Example):
    """An example of one of several tasks; `row` counts through all of them."""

    task: int
    own: Example

    @property
    def size(self) -> int:
        return self.own.size


class SharedDataset(Dataset):
    """The examples of several tasks, of which all have the same kind of inputs."""

    def __init__(self, datasets: Sequence[Dataset], apart: bool) -> None:
        examples: list[Example] = []
        self.starts, first = [], 0  # the place of each task's first example, the number of its first row
        for number, dataset in enumerate(datasets):
            self.starts.append(len(examples))
            examples += [
                Shared(own.inputs, own.target, first + own.row, place=own.place, task=number, own=own)
                for own in dataset.examples
            ]
            first += max((own.row for own in dataset.examples), default=-1) + 1
        super().__init__(examples, "; ".join(dataset.summary for dataset in datasets))
        self.datasets, self.apart = list(datasets), apart

    def epoch(self, seed: int, epoch: int) -> Sequence[int]:
        return [
            start + place
            for start, dataset in zip(self.starts, self.datasets, strict=True)
            for place in dataset.epoch(seed, epoch)
        ]

    def of(self, examples: Sequence[Example], multiple: int = 1) -> SharedDataset:
        other = super().of(examples, multiple)
        assert isinstance(other, SharedDataset)
        other.datasets = [dataset.of(dataset.examples, multiple) for dataset in self.datasets]
        return other

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        """One batch of all inputs; with heads apart also what each task's objective compares with."""
        shared = [example for example in examples if isinstance(example, Shared)]
        batch = self.datasets[0].collate([example.own for example in shared], draw)
        if not self.apart:
            return batch
        parts: list[Part] = []
        for number, dataset in enumerate(self.datasets):
            places = [place for place, example in enumerate(shared) if example.task == number]
            if places:
                own = dataset.collate([shared[place].own for place in places], draw)
                parts.append((number, places, {name: own[name] for name in own if name != "inputs"}))
        return batch | {TASKS: parts}


def split(outputs: Tensor, batch: Batch, columns: Sequence[slice]) -> Iterator[tuple[int, Tensor, Batch]]:
    """Each task's number, its outputs for its examples of a batch, and what belongs to these."""
    for number, places, own in batch[TASKS]:
        found = outputs[places][..., columns[number]]
        if found.ndim == 3:  # of tokens: of the longest text of this task, not of all
            found = found[:, : own["labels"].shape[1]]
        yield number, found, own


class SharedObjective(Objective):
    """The sum of the tasks' losses, each on its own outputs, over the sum of their counts."""

    def __init__(self, objectives: Sequence[Objective], columns: Sequence[slice]) -> None:
        super().__init__(self._of_all, self._counted)
        self.objectives, self.columns = nn.ModuleList(objectives), list(columns)

    def _of_all(self, outputs: Tensor, batch: Batch) -> Loss:
        found = [
            self.objectives[number].loss(mine, own).sum
            for number, mine, own in split(outputs, batch, self.columns)
        ]
        return Loss(sum(found[1:], found[0]))

    def _counted(self, batch: Batch) -> float:
        return sum(targets_of(self.objectives[number], own) for number, _, own in batch[TASKS])


class SharedScorer(Scorer):
    """The mean of the tasks' scores, each of which details.json has by itself."""

    def __init__(
        self, names: Sequence[str], scorers: Sequence[Scorer], columns: Sequence[slice] | None
    ) -> None:
        self.names, self.scorers, self.outputs = list(names), list(scorers), columns
        first = scorers[0].metrics
        self.metrics = {
            name: metric for name, metric in first.items() if all(name in own.metrics for own in scorers)
        }
        self.columns = ("task", *scorers[0].columns)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        if self.outputs is None:
            return self.scorers[0].answers(outputs, batch)
        found: list[Answer] = [{} for _ in range(len(outputs))]
        places = {number: at for number, at, _ in batch[TASKS]}
        for number, mine, own in split(outputs, batch, self.outputs):
            for place, answer in zip(places[number], self.scorers[number].answers(mine, own), strict=True):
                found[place] = answer
        return found

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        """Each row with its task's own row as its detail."""
        rows = []
        pairs = [(a, e) for a, e in zip(answers, examples, strict=True) if isinstance(e, Shared)]
        for number, (name, scorer) in enumerate(zip(self.names, self.scorers, strict=True)):
            mine = [(answer, example) for answer, example in pairs if example.task == number]
            firsts = {example.own.row: example for _, example in reversed(mine)}
            for own in scorer.rows([answer for answer, _ in mine], [example.own for _, example in mine]):
                example = firsts[own.row]
                rows.append(Row(example.row, own.label, {"task": name, **own.answer}, example, own))
        return rows

    def by_task(self, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
        """Every metric of each task that has rows."""
        found = {}
        for name, scorer in zip(self.names, self.scorers, strict=True):
            if mine := [row.detail for row in rows if row.answer["task"] == name]:
                scores = scorer.score(mine)
                found[name] = {metric: scores[metric] for metric in self.metrics if metric in scores}
        return found

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        each = [*self.by_task(rows).values()]
        return {metric: fmean(scores[metric] for scores in each) for metric in each[0]}

    def tables(self, rows: Sequence[Row]) -> dict[str, Any]:
        return {"details.json": {"tasks": self.by_task(rows)}}
