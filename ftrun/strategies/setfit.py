"""SetFit: the network learns which rows are alike, and the head is solved for (Tunstall et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError, DataError
from ftrun.strategies.full import Full

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData


@dataclass
class Setfit(Full):
    """In each epoch every row forms two pairs, one with a row of its label and one with a row of another.

    The cosine of a pair's vectors is trained towards 1 or 0 by its squared error, as in the paper, whose R is
    the number of epochs. Before each evaluation logistic regression on the vectors of train gives the head.
    """

    needs_new_head: ClassVar[bool] = True
    refits: ClassVar[bool] = True

    def check(self, settings: Settings) -> None:
        spec, name = settings.task.spec(None), settings.task.name
        if not spec.regression or spec.labels is None:
            raise ConfigError(
                f"strategy=setfit pairs rows that have labels, and task={name} gives rows none;"
                " possible: classify, multilabel, digits, and image with task.augment=none"
            )
        why = {
            "task.stream=true": settings.streamed,
            "task.long=windows": spec.windows,
            "train.shard=true": settings.train.shard,
            f"scenario={settings.scenario} with a source": settings.source is not None
            and settings.scenario != "task",
        }
        for words, found in why.items():
            if found:
                raise ConfigError(
                    f"strategy=setfit solves for a new head on the vectors of all training rows, which"
                    f" {words} does not allow; possible: strategy=full"
                )

    def fits(self, model: Model) -> None:
        from ftrun.models.features.head_input import unlike_one_layer

        if why := unlike_one_layer(model):
            raise ConfigError(f"strategy=setfit solves for the head, but {why}; possible: model.pooling=mean")

    def lesson(self, data: TaskData, model: Model) -> TaskData:
        from ftrun.tasks.contrastive.pairs import Cosine, Pairs

        train = Pairs(data.dataset("train"))
        if not any(train.both(example.target)[1] for example in train.examples):
            raise DataError("strategy=setfit pairs rows of different labels, and all training rows are alike")
        return data.taught(train, Cosine())
