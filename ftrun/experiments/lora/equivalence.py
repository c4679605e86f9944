"""Two networks on the same examples: how far apart their logits are, and how many answers differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from ftrun.data.rows import read_rows
from ftrun.data.sources import Placed
from ftrun.errors import ConfigError, DataError
from ftrun.settings.schema import Settings
from ftrun.tasks.classify import Classify
from ftrun.tasks.data import TaskData
from ftrun.tasks.scorer import Answer
from ftrun.training.evaluate import batches_through, ordered

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

COMPARED = "validation"  # the split
INSTEAD = "embedded:docstrings:validation"  # real sentences, for a run whose own are gone


@dataclass
class Agreement:
    """What two networks make of the same rows."""

    what: str
    rows: int
    largest_difference: float  # of any logit, and of a text's cost per token with a large vocabulary
    flipped: int  # rows whose answer is another one

    def line(self) -> str:
        """Aligned under `HEADING`."""
        return f"{self.what:<34}{self.rows:>7,}{self.largest_difference:>27.1e}{self.flipped:>17,}"


HEADING = f"{'':<34}{'rows':>7}{'largest logit difference':>27}{'flipped answers':>17}"


def as_markdown(found: Sequence[Agreement]) -> str:
    """The same table for a model card."""
    lines = ["| | rows | largest logit difference | flipped answers |", "|---|---:|---:|---:|"]
    lines += [f"| {a.what} | {a.rows:,} | {a.largest_difference:.1e} | {a.flipped:,} |" for a in found]
    return "\n".join(lines)


def rows_to_compare(
    settings: Settings, tokenizer: PreTrainedTokenizerBase | None, config: PretrainedConfig
) -> tuple[TaskData, str]:
    """The run's validation examples, or embedded sentences when its data is gone; and in words which.

    Raises the DataError where the task is not one text per row and no other text would do.
    """
    task = settings.task
    try:
        data = TaskData.read(task, settings.seed, config)
        data.encode(tokenizer, COMPARED)
    except (DataError, ConfigError) as error:
        if not isinstance(task, Classify):
            raise
        columns = task.text if isinstance(task.text, list) else [task.text]
        rows = [
            Placed(dict.fromkeys(columns, row["text"]), row.file, row.number) for row in read_rows(INSTEAD)
        ]
        data = TaskData(task, task.unanswered(rows, INSTEAD), task.spec(config))
        data.encode(tokenizer, COMPARED)
        return data, f"sentences of {INSTEAD}, since the run's own data cannot be read ({error})"
    return data, f"validation rows of task={task.name}"


def agreement(
    what: str, pair: tuple[nn.Module, nn.Module], data: TaskData, size: int, accelerator: Accelerator
) -> Agreement:
    """Both networks on every example, in the order and the batches of an evaluation."""
    dataset, scorer = data.dataset(COMPARED), data.scorer
    largest = 0.0
    answers: tuple[list[tuple[int, Answer]], ...] = ([], [])
    for both in zip(*(batches_through(net, data, dataset, size, accelerator) for net in pair), strict=True):
        (here, _, _), (there, _, _) = both
        difference = float((here.float() - there.float()).abs().max())
        largest = max(largest, difference, key=lambda each: (math.isnan(each), each))  # nan is the largest
        for kept, (outputs, batch, places) in zip(answers, both, strict=True):
            kept += zip(places, scorer.answers(outputs, batch), strict=True)
    ours, theirs = (scorer.rows(ordered(each, accelerator), dataset.examples) for each in answers)
    pairs = zip(ours, theirs, strict=True)
    flipped = sum(without_measures(one.answer) != without_measures(other.answer) for one, other in pairs)
    return Agreement(what, len(ours), largest, flipped)


def without_measures(value: Any) -> Any:
    """What is answered, without probabilities and other measures, which differ in the last digit."""
    if isinstance(value, dict):
        return {key: without_measures(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_measures(each) for each in value]
    return None if isinstance(value, float) else value


def in_fp32(settings: Settings) -> Settings:
    """The same settings without autocast: a proof to the last digit needs full precision."""
    return replace(settings, train=replace(settings.train, precision="fp32"))
