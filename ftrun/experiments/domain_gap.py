"""How familiar texts are to a checkpoint: its pre-training's loss on them and on text like its corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, DataError
from ftrun.experiments.pretraining_head import pretrained_head
from ftrun.models.files.locate import locate
from ftrun.settings.read import pretraining, source_of
from ftrun.settings.schema import ModelSettings
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Rows
from ftrun.training.devices import open_accelerator
from ftrun.training.evaluate import evaluate

if TYPE_CHECKING:
    from ftrun.models.model import Model

BATCH = 32


@dataclass
class Familiarity:
    """Losses in nats per predicted token."""

    here: float  # on the task's texts
    own: float  # on texts like those of the pre-training
    like: str  # where these are from

    @property
    def gap(self) -> float:
        """How much harder the task's texts are; below 0 they are easier."""
        return self.here - self.own


def like_its_own(asked: str, like: str) -> TaskData:
    """Texts like those of the pre-training, as the task that it was; DataError where there are too few."""
    node = {name: value for name, value in pretraining().items() if name != "kind"}
    source = source_of({"kind": "pretraining", **node, "text": like})
    assert source is not None and source.task is not None
    try:
        return TaskData.read(source.task, 0)
    except DataError as error:
        raise DataError(
            f"{asked}: --text {like}: {str(error).removeprefix(f'source.text={like} ')}"
        ) from None


def familiarity(
    checkpoint: ModelSettings, model: Model, texts: list[str], like: TaskData
) -> Familiarity | None:
    """On as many of the texts as there are of its own; None where no head for that was saved."""
    try:
        spec = like.task.spec(locate(checkpoint).config({}))
    except ConfigError:  # an architecture that predicts no words
        return None
    head, fresh = pretrained_head(spec, checkpoint, model)
    if fresh or checkpoint.init == "random":
        return None
    own = like.rows.splits["test"]
    accelerator = open_accelerator("cpu", "fp32", True)
    losses = []
    for part in (texts[:: max(1, len(texts) // len(own))][: len(own)], own):
        data = TaskData(like.task, Rows({"test": part}), spec)
        data.encode(model.tokenizer, "test")
        losses.append(evaluate(head, data, data.dataset("test"), BATCH, accelerator)[0]["loss"])
    return Familiarity(losses[0], losses[1], like.task.text)
