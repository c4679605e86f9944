"""What every task promises: examples, a head, a loss, answers and their score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from accelerate import Accelerator
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.models.model import Model
    from ftrun.settings.schema import Train

Batch = dict[str, Any]
Answer = dict[str, Any]  # one per example; what `answer_columns` names is JSON-ready
SPLITS = ("train", "validation", "test")
SMALLEST = 32  # rows of an evaluation batch at least; no gradients are kept, so it may exceed the micro-batch


@dataclass
class Example:
    """One encoded example: what the network reads, the target, and the row of its split it came from."""

    inputs: Any  # a list of token ids, or an array of pixels
    target: Any
    row: int

    @property
    def size(self) -> int:
        """Tokens; an image counts as one."""
        return len(self.inputs) if isinstance(self.inputs, list) else 1


@dataclass
class Task(ABC):
    """What is learned. Its fields are the settings of its YAML file; a wrong value is a ConfigError."""

    metrics: ClassVar[dict[str, str]]  # name → max or min; `eval_` and `test_` are put before it
    default_metric: ClassVar[str]
    answer_columns: ClassVar[tuple[str, ...]]  # the keys of an answer
    auto_class: ClassVar[str]  # the transformers class that brings the network and its head
    shape: ClassVar[tuple[int, int, int] | None] = None  # channels, height, width; where the task fixes them
    shares_head: ClassVar[bool] = True  # whether tasks of this kind can have one head: it has labels
    unit: ClassVar[str] = "tokens"  # what an example's size counts
    writes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".jsonl")  # endings of files of answered rows
    moment: ClassVar[tuple[int, int] | None] = None  # seed and optimizer step of a batch that trains
    passed_over: ClassVar[tuple[str, ...]] = ()  # settings that a preset may bring and that mean nothing here
    new_head: ClassVar[bool] = True  # the network gets a head that no checkpoint brings
    joint: ClassVar[bool] = False  # the loss of an example depends on the others of its batch
    samples_at_random: ClassVar[bool] = False  # batches of examples of like length teach it less
    pretrains: ClassVar[bool] = False  # it answers nothing: what comes of it is a checkpoint

    def under(self, seed: int, train: Train) -> None:
        """Know the loop's settings; a ConfigError where the task cannot work with them."""
        return

    def dress(self, net: nn.Module, checkpoint: str | None) -> set[str]:
        """Give the network another head than its architecture's; returns the names of its new weights."""
        return set()

    def meet(self, model: Model, accelerator: Accelerator) -> None:
        """The network as it will be trained, on its device, before the first step and when resuming."""
        return

    @abstractmethod
    def read(self, seed: int) -> list[str]:
        """Read the rows and labels of every split; returns what to tell the person. Raises DataError."""

    @abstractmethod
    def head(self) -> dict[str, Any]:
        """What the network's configuration must say about the head, label names included."""

    @abstractmethod
    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        """Turn a split into examples; returns a line about their length or shape. Raises DataError."""

    @abstractmethod
    def restore(self, config: PretrainedConfig) -> None:
        """Know the labels from a saved network's configuration instead of from rows."""

    @abstractmethod
    def read_test(self, file: str) -> list[str]:
        """Like `read`, the rows of another file as the test split, labels as restored. Raises DataError."""

    @abstractmethod
    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        """Rows without answers as examples; a row with nothing to read is left out. Raises DataError."""

    def input_rows(self, file: str) -> list[dict[str, Any]]:
        """The rows of a file to be answered, as they will be written beside the answers. Raises DataError."""
        from ftrun.data.rows import read_rows

        return read_rows(file)

    def write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Write answered rows, whole or not at all."""
        from ftrun.data.tables import write_table

        write_table(path, rows)

    def at(self, seed: int, step: int) -> None:
        """The batches that follow are for this optimizer step, a position for chance in training examples."""
        self.moment = (seed, step)  # type: ignore[misc]

    @abstractmethod
    def examples(self, split: str) -> Sequence[Example]:
        """The encoded examples of train, validation or test."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Batch:
        """One batch: `inputs`, the padded tensors that the network takes by name, and `labels`."""

    def seen(self, inputs: dict[str, Tensor], batch: Batch, training: bool) -> dict[str, Tensor]:
        """What the network is shown, made of the batch's inputs where they have come to its device."""
        return inputs

    def target_count(self, batch: Batch) -> int:
        """How many targets the loss of a batch sums over."""
        return len(batch["labels"])

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """The summed loss in fp32 and the number of targets it sums over."""

    def training_count(self, batch: Batch) -> float:
        """What the summed training loss of a batch is divided by; where targets weigh, their weights."""
        return self.target_count(batch)

    def training_loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The summed loss that is trained on, in fp32; evaluation is on `loss`.

        What it leaves as `parts` of the batch, name → sum and count, is logged apart.
        """
        return self.loss(outputs, batch)[0]

    def stepped(self, norm: float) -> None:
        """An optimizer step was taken; `norm` is that of its gradient before clipping. Raises Diverged."""
        return

    def watched(self) -> dict[str, float]:
        """What of the last step is worth a line of metrics beside loss, rate and gradient norm."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """What changes in training besides the network and must be in a checkpoint; written into as it is."""
        return {}

    def bank(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Examples whose answers are needed to score those of `examples`; `recall` gets them."""
        return ()

    def recall(self, answered: list[tuple[Example, Answer]]) -> None:
        """The network's present answers for the bank."""
        return

    def epoch_rows(self, seed: int, epoch: int) -> Sequence[int]:
        """Indices of the training examples that an epoch goes through: a function of seed and epoch."""
        return range(len(self.examples("train")))

    @abstractmethod
    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        """What the network answers, one per example of the batch; `merged` makes it one per row."""

    def merged(
        self, answers: Sequence[Answer], examples: Sequence[Example]
    ) -> tuple[Sequence[Answer], Sequence[Example]]:
        """One answer for each row, and an example of that row; where a row is one example, what is given."""
        return answers, examples

    def reports(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
        """Further files of a run on its test split: name → what is written as JSON."""
        return {}

    @abstractmethod
    def given(self, example: Example) -> Any:
        """The right answer in the words of the data."""

    @abstractmethod
    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        """Every metric but the loss, without prefix."""

    def details(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, Any]:
        """Tables of what stands behind the scores: a table's name → a row's name → a column's → a number.

        They are kept as `details.json`, and the small ones shown under the result.
        """
        return {}

    def make_tokenizer(self, given: bool) -> PreTrainedTokenizerBase | None:
        """A tokenizer made for the task's texts; None takes the checkpoint's, if one is `given`."""
        return None

    def rows_at_once(self, size: int) -> int:
        """Examples in a batch of the evaluation, given four of training's micro-batches."""
        return max(size, SMALLEST)

    def turn(self, epoch: int) -> None:
        """Training has come to this epoch, counted from 0; what is drawn anew in each depends on it."""
        return

    def completed(
        self, net: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], seed: int
    ) -> dict[int, Answer]:
        """Answers, by row, for which the network must look more than once."""
        return {}

    def leave(self, net: nn.Module, tokenizer: PreTrainedTokenizerBase, directory: Path, seed: int) -> None:
        """Files beside the scores that the task leaves in the directory of a finished run."""
        return

    def card(self) -> dict[str, Any]:
        """What data.json keeps of the encoded splits, JSON-ready; `datacard.lines` tells some of it."""
        return {}

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of all rows, to notice that the data of a resumed run has changed."""
