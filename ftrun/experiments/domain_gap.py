"""How familiar texts are to a checkpoint: its pre-training's loss on them and on text like its corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, DataError
from ftrun.experiments.pretraining_head import pretrained_objective
from ftrun.models.locate import locate
from ftrun.settings.schema import ModelSettings, Source, pretraining
from ftrun.training.devices import open_accelerator
from ftrun.training.evaluate import evaluate

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.tasks.pretraining import Pretraining

BATCH = 32


@dataclass
class Familiarity:
    """Nats per token to be guessed."""

    here: float  # on the task's texts
    own: float  # on texts like those of the pre-training
    like: str  # where these are from

    @property
    def gap(self) -> float:
        """How much harder the task's texts are; below 0 they are easier."""
        return self.here - self.own


def like_its_own(like: str) -> Pretraining:
    """Texts like those of the pre-training, as the task that it was; DataError where there are too few."""
    node = {name: value for name, value in pretraining().items() if name != "kind"}
    task: Pretraining = Source("pretraining", "", node | {"text": like}).task()
    try:
        task.read(0)
    except DataError as error:
        raise DataError(f"advise: --text {like}: {str(error).removeprefix(f'source.text={like} ')}") from None
    return task


def familiarity(
    checkpoint: ModelSettings, model: Model, texts: list[str], task: Pretraining
) -> Familiarity | None:
    """On as many of the texts as there are of its own; None where no head for that was saved."""
    try:
        task.decide(locate(checkpoint).config({}))
    except ConfigError:  # an architecture that guesses no words
        return None
    objective, fresh = pretrained_objective(task, checkpoint, model)
    if fresh or checkpoint.init == "random":
        return None
    own = task.kept["test"]
    accelerator = open_accelerator("cpu", "fp32", True)
    losses = []
    for part in (texts[:: max(1, len(texts) // len(own))][: len(own)], own):
        task.kept = {"test": part}
        task.encode(model.tokenizer, "test")
        losses.append(evaluate(objective, task, task.examples("test"), BATCH, accelerator)[0]["loss"])
    return Familiarity(losses[0], losses[1], task.text)
