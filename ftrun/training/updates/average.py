"""train.average: an average of the weights that were trained, scored and saved in their place.

Frozen weights are not averaged and not held twice. Running statistics of batch normalisation are averaged
with the weights, as timm does (ModelEmaV3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ftrun.models.split import own
from ftrun.training.state import better
from ftrun.training.tensor_files import read_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.metrics.metric import Metric
    from ftrun.training.state import State

POWER = 2 / 3  # of the warm-up of the decay: timm's and diffusers' default
Scores = dict[str, float]
Scoring = Callable[[], Scores]


class Plain:
    """train.average=none: the weights that are trained are the ones that are scored and saved."""

    def follow(self, updates: int) -> None:
        """Take in the weights after an optimizer step, the first of which is number 1."""

    @contextmanager
    def scored(self, score: Scoring, state: State, metric: Metric) -> Iterator[Scores]:
        """The scores of what is to be saved if these are the best; it is in the network until the end."""
        yield score()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """What would be saved now is in the network until the end."""
        yield

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint must hold beside the weights, by the stem of its file."""
        return {}

    def restore(self, place: Path) -> None:
        """Take the tensors of a checkpoint."""

    def choices(self, state: State) -> dict[str, float]:
        """What result.json says of it."""
        return {}


class Average(Plain):
    """A second value of each trained weight; where weights are split over processes, of this one's rows."""

    def __init__(self, places: Mapping[str, Tensor]) -> None:
        self.places = places
        self.values = {name: value.detach().clone() for name, value in places.items()}

    def pairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """The average and the network's own tensors, in the same order."""
        return [*map(own, self.values.values())], [*map(own, self.places.values())]

    @contextmanager
    def shown(self) -> Iterator[None]:
        exchange(*self.pairs())
        yield
        exchange(*self.pairs())

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        return {"average": self.values}

    def restore(self, place: Path) -> None:
        for name, value in read_tensors(place, "average", self.values.get).items():
            own(self.values[name]).copy_(value)


class Ema(Average):
    """An exponential moving average: after each step the share 1 - decay of the weights comes in.

    The decay after step t is the lesser of `decay` and 1 - t^(-2/3): 0 after the first one, so that the start
    has no weight, 0.978 after 300, 0.995 after 3,000 (timm's ModelEmaV3 with use_warmup and diffusers'
    EMAModel; both have 0.9999 as the most). So about the last t^(2/3) of t steps count.
    """

    def __init__(self, places: Mapping[str, Tensor], decay: float) -> None:
        super().__init__(places)
        self.decay = decay

    def follow(self, updates: int) -> None:
        get_ema_multi_avg_fn(min(self.decay, 1 - updates**-POWER))(*self.pairs(), None)

    @contextmanager
    def scored(self, score: Scoring, state: State, metric: Metric) -> Iterator[Scores]:
        with self.shown():
            yield score()


class Soup(Average):
    """A greedy soup of the weights at the run's evaluations (Wortsman et al. 2022, "Model soups").

    At each evaluation the weights are added to the mean of those that are in it, and scored on validation
    alone and so. The better of the two is the soup if it is better than the soup before. The paper sorts
    finished networks by their score; here they come as they are trained, and one that is better alone takes
    the place of all before it.
    """

    @contextmanager
    def scored(self, score: Scoring, state: State, metric: Metric) -> Iterator[Scores]:
        values, places = self.pairs()
        trained = [place.detach().clone() for place in places]
        found, count = score(), 1
        if state.soup:
            with torch.no_grad():
                for place, value in zip(places, values, strict=True):
                    place.lerp_(value, state.soup / (state.soup + 1))
            together = score()
            if better(found, together, metric):
                put(trained, places)
            else:
                found, count = together, state.soup + 1
        yield found
        if state.best.get("step") == state.step:
            put(places, values)
            state.soup = count
        put(trained, places)

    def choices(self, state: State) -> dict[str, float]:
        return {"soup": state.soup}


class Between(Plain):
    """train.optimizer=schedulefree: the average x, of which the weights hold y = (1 - β₁)·z + β₁·x."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @contextmanager
    def scored(self, score: Scoring, state: State, metric: Metric) -> Iterator[Scores]:
        with self.shown():
            yield score()

    @contextmanager
    def shown(self) -> Iterator[None]:
        trained = [
            (weight, self.optimizer.state[weight]["z"], 1 - 1 / group["betas"][0])
            for group in self.optimizer.param_groups
            for weight in group["params"]
            if self.optimizer.state.get(weight)
        ]
        places = [own(weight) for weight, _, _ in trained]
        values = [own(weight).detach().lerp(own(fast), share) for weight, fast, share in trained]
        exchange(values, places)
        yield
        exchange(values, places)


def average_of(
    model: Model, parameters: Mapping[str, nn.Parameter], settings: Settings, optimizer: Optimizer
) -> Plain:
    """What the settings ask for, of a model whose trained parameters and optimizer these are."""
    kind = settings.train.average
    if settings.train.optimizer == "schedulefree":
        return Between(optimizer)
    if kind == "none" or settings.strategy.solved:
        return Plain()
    statistics = {id(each) for norm in model.batch_norms() for each in norm.buffers()}
    moving = {
        name: value
        for name, value in model.named_buffers()
        if id(value) in statistics and value.is_floating_point()
    }
    places = {**parameters, **moving}
    return Ema(places, settings.train.ema_decay) if kind == "ema" else Soup(places)


@torch.no_grad()
def put(values: list[Tensor], places: list[Tensor]) -> None:
    """Copy each value to its place."""
    torch._foreach_copy_(places, values)


@torch.no_grad()
def exchange(ones: list[Tensor], others: list[Tensor]) -> None:
    """Swap what two lists of tensors hold, bit for bit, each staying where it is in memory."""
    for one, other in zip(ones, others, strict=True):
        kept = one.clone()
        one.copy_(other)
        other.copy_(kept)
