"""A finished run as a teacher: what it answers to the training rows of another run, and what it has seen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ftrun.data.leaks import Leak
from ftrun.errors import ConfigError, DataError, UserError, counted, listed
from ftrun.models.architecture import IMAGES
from ftrun.models.files.reading import read_config
from ftrun.models.load import positions, quiet
from ftrun.models.logits import logits_of
from ftrun.models.reload import processor_of, reload
from ftrun.runs.run import Run, is_run
from ftrun.runs.terminal import say
from ftrun.runs.typed import continuing
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData, learned
from ftrun.tasks.dataset import Dataset, sizes_of
from ftrun.tasks.parts import taught

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings
    from ftrun.tasks.objective import Objective

ROWS = 32  # of a batch of its answers
HELD = ("validation", "test")  # of the student


def refuse_unfit(path: Path, settings: Settings) -> None:
    """ConfigError, before the data is read, for what is no finished run of the same kind of task."""
    if not is_run(path):
        raise ConfigError(f"teacher={path} is no run directory; possible: a finished run on the same task")
    run = Run.open(path)
    if not run.finished:
        raise ConfigError(f"teacher={path} is not finished; {continuing(path)}")
    if run.config.get("sequence") or not run.model_dir.is_dir():
        raise ConfigError(
            f"teacher={path} has no saved model; possible: a finished run, or one of a sequence"
        )
    kind, own = (raw["task"].get("kind") for raw in (run.settings, settings.raw))
    if kind != own:
        raise ConfigError(f"teacher={path} was trained on a task of kind {kind}, and this one is {own}")


class Teacher:
    """The network of a finished run, on a device, and the settings and rows that it was trained with."""

    def __init__(self, path: Path, device: torch.device) -> None:
        run = Run.open(path)
        self.path, self.device, self.settings = path, device, read(run.settings)
        model, self.auto_class = self.settings.model, self.settings.task.spec(None).auto_class
        with quiet():
            net = reload(run.model_dir, self.auto_class, trust=model.trust_remote_code)
        self.net = net.to(device).requires_grad_(False)
        self.config = read_config(run.model_dir, **model.trust)
        images = self.auto_class == IMAGES
        self.processor: Any = processor_of(run.model_dir, self.config, images, **model.trust)

    def lesson(self, data: TaskData, share: float, temperature: float) -> TaskData:
        """The data with its answers to the training rows, which are computed now, and the loss with both.

        ConfigError where it has other labels, or reads the rows otherwise.
        """
        train = data.dataset("train")
        whole = answered(train, self.read(data), self.answers(data), self.net, self.device)
        objective = data.task.objective(data)
        rows = taught.Answered(train, whole, weights_of(train, objective))
        say(f"teacher: {self.path} has answered {counted(len(train), 'training row')}")
        return data.taught(rows, taught.Taught(objective, self.apart(data), share, temperature))

    def apart(self, data: TaskData) -> taught.Apart:
        """How far two outputs are apart, by the kind of head."""
        kinds = {"regression": taught.of_numbers, "multi_label_classification": taught.of_labels}
        return kinds.get(str(data.spec.config.get("problem_type")), taught.of_classes)

    def read(self, data: TaskData) -> Dataset:
        """The training rows as the teacher reads them, with its own tokenizer or image processor."""
        length = getattr(data.spec.inputs, "max_length", 0)
        if length > (most := positions(self.config)):
            raise ConfigError(
                f"task.max_length={length}, but teacher={self.path} has {most} positions; possible: at most"
                f" task.max_length={most}"
            )
        rows = copy.copy(data.rows)
        rows.notes = []
        own = TaskData(data.task, rows, data.spec)
        own.processor = self.processor
        return own.dataset("train")

    def answers(self, data: TaskData) -> Any:
        """Outputs of the teacher, (batch, outputs), as this task's head would have them."""
        if data.spec.config.get("problem_type") == "regression":
            scale, mean = data.spec.config["target_scale"], data.spec.config["target_mean"]
            ratio = self.config.target_scale / scale
            shift = (self.config.target_mean - mean) / scale
            return lambda outputs: outputs * ratio + shift
        ours = list(data.spec.config["label2id"])
        theirs = [self.config.id2label[at] for at in range(self.config.num_labels)]
        if {*ours} != {*theirs}:
            lacks = [name for name in ours if name not in theirs]
            more = [name for name in theirs if name not in ours]
            told = [f"lacks {listed(lacks)}"] * bool(lacks) + [f"has {listed(more)} besides"] * bool(more)
            raise ConfigError(
                f"teacher={self.path} was trained on other labels than this task's: it {' and '.join(told)};"
                " possible: a teacher trained on the same labels"
            )
        order = [theirs.index(name) for name in ours]
        return lambda outputs: outputs[:, order]

    def refuse_leaks(self, data: TaskData) -> None:
        """Say which rows of validation and test it was trained on; DataError unless task.leaks=warn."""
        way = vars(data.task).get("leaks", "warn")
        try:
            found = self.seen(data)
        except UserError as error:
            told = (
                f"teacher={self.path}: its training rows cannot be compared with validation and test: {error}"
            )
            if way != "warn":
                raise DataError(f"task.leaks={way}: {told}") from None
            say(f"warning: {told}")
            return
        if found and way != "warn":
            raise DataError(
                f"task.leaks={way}: {'; '.join(leak.line() for leak in found)}; possible: a teacher that was"
                " trained on this task's own splits, or task.leaks=warn"
            )
        for leak in found:
            say(f"warning: LEAK: {leak.line()}; its answers tell the student of them")

    def seen(self, data: TaskData) -> list[Leak]:
        """What of validation and test it was trained on. UserError where its rows are gone."""
        theirs = TaskData.read(self.settings.task, self.settings.seed)
        return learned(theirs, data, HELD, f"the rows that teacher={self.path} was trained on")


@torch.no_grad()
def answered(train: Dataset, read: Dataset, answers: Any, net: Any, device: torch.device) -> Tensor:
    """The outputs for each example of `train`, (examples, outputs) in fp32, on the host."""
    places = {example.row: place for place, example in enumerate(read.examples)}
    lost = [example.row for example in train.examples if example.row not in places]
    if lost:
        raise ConfigError(
            f"strategy=distil: {counted(len(lost), 'training row')} too long for the teacher's tokenizer"
            " under task.long=drop; possible: task.long=truncate"
        )
    chosen = [places[example.row] for example in train.examples]
    sizes = sizes_of(read)
    order = sorted(range(len(chosen)), key=lambda at: (sizes[chosen[at]], at))
    found: list[Tensor | None] = [None] * len(chosen)
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        batch = read.collate([read[chosen[at]] for at in part])
        inputs = {name: value.to(device) for name, value in batch["inputs"].items()}
        outputs = answers(logits_of(net, inputs).float().cpu())
        for at, own in zip(part, outputs, strict=True):
            found[at] = own
    return torch.stack([own for own in found if own is not None])


def weights_of(train: Dataset, objective: Objective) -> Tensor:
    """The weight of each example in the task's training loss, (examples,)."""
    objective.train()
    known: dict[Any, float] = {}
    for example in train.examples:
        if example.target not in known:
            known[example.target] = float(objective.count([train.collate([example])]))
    objective.eval()
    return torch.tensor([known[example.target] for example in train.examples])
