"""What runs would come to, before any of them: their rows, what is `auto`, and their steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ftrun.data.card import lines as card_lines
from ftrun.errors import ConfigError
from ftrun.experiments.lora.starting import merge_first
from ftrun.experiments.pooling import pooled
from ftrun.experiments.preparing import card_of, case_of, chosen, refuse_untrained
from ftrun.models.files.locate import adapter_in, has_weights, local
from ftrun.models.files.reading import CONFIG
from ftrun.models.load import outline, reading
from ftrun.settings.auto import settle
from ftrun.settings.read import read
from ftrun.settings.schedules import Length
from ftrun.tasks.base import check_metric
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import SPLITS, rows_of
from ftrun.training.linear import MOST

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings

CARVED = 10  # times the rows of a test split that was split off: all rows


@dataclass
class Data:
    """The rows of a task as a run would read them."""

    read: TaskData
    card: dict[str, Any]
    lines: list[str]  # what a run says of them
    seconds: float  # of reading, encoding and the data card

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each split that are learned or scored."""
        return {split: len(rows_of(self.read.dataset(split))) for split in SPLITS}

    @property
    def longest(self) -> int:
        """The tokens of the longest row, of images how many numbers do not matter."""
        examples = [self.read.dataset(split).examples for split in SPLITS]
        return max(
            window.size
            for own in examples
            for example in (own if isinstance(own, list) else own[:1])
            for window in example.windows
        )

    @property
    def labels(self) -> dict[str, int] | None:
        """The test rows of each label; None where a row has not one label."""
        found = self.card.get("labels", {}).get("test")
        return found if found and sum(found.values()) == self.rows["test"] else None

    @property
    def error_rate(self) -> float | None:
        """The share of test rows on which TF-IDF is wrong; None where it was not fitted."""
        found = self.card.get("baselines", {}).get("tfidf", {}).get("test_accuracy")
        return None if found is None else 1 - found


@dataclass
class Way:
    """A way of training: its settings without `auto`, and why they are these."""

    name: str
    settings: Settings
    data: Data
    why: list[str]
    length: Length | None  # at most, where patience ends it early; None where no steps are taken

    @property
    def steps(self) -> int:
        """Optimizer steps, at most."""
        return 0 if self.length is None else self.length.total

    @property
    def metric(self) -> str:
        """The metric that runs are compared by."""
        return (self.settings.train.metric or self.data.read.metric).removeprefix("eval_")


@dataclass
class Outlook:
    """The ways that can be trained, and why others cannot."""

    ways: list[Way] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def outlook(raws: dict[str, dict[str, Any]]) -> Outlook:
    """What each of these settings, by the name of the way, would come to; raises what a run would raise.

    A strategy that does not fit the network is not raised but `refused`, as a comparison goes on without it.
    """
    found = Outlook()
    known: dict[str, Data] = {}
    for name, raw in raws.items():
        settings, network = outlined(raw)
        try:
            settings.strategy.fits(network)
            if settings.half or settings.train.rates:
                refuse_untrained(settings, outlined(raw)[1])
            settings, why = chosen(settings, network)
        except ConfigError as error:
            found.refused.append(f"{name} cannot be trained: {error}")
            continue
        key = repr([raw["task"], raw["model"]])
        data = known[key] = known.get(key) or data_of(settings)
        check_metric(data.read, settings)
        found.ways.append(way_of(name, settings, data, network, [why] if why else []))
    return found


def outlined(raw: dict[str, Any]) -> tuple[Settings, Model]:
    """The settings with their pooling, and the outline of their network."""
    settings = read(raw)
    merge_first(settings.model, settings.device)
    settings, _ = pooled(settings)
    return settings, outline(settings.model, settings.task.spec(None), any_size=True)


def without_weights(raw: dict[str, Any]) -> Settings | None:
    """The settings where their network is a directory with a configuration and no weights, else None."""
    settings = read(raw)
    directory = local(settings.model.name)
    own = settings.model.init == "pretrained" and directory is not None and (directory / CONFIG).is_file()
    if not own or directory is None or has_weights(directory) or adapter_in(directory):
        return None
    spec = settings.task.spec(None)
    settings.strategy.fits(outline(settings.model, spec, any_size=True))
    return settings


def data_of(settings: Settings) -> Data:
    """The rows, encoded for the network, which is not loaded."""
    begin = time.perf_counter()
    data = TaskData.read(settings.task, settings.seed)
    data.baselines = settings.baselines
    lines = list(data.rows.notes)
    lines += data.encode(reading(settings.model, data.spec)[2], *SPLITS)
    card = card_of(data)
    lines += card_lines(card, data.metric)
    return Data(data, card, lines, time.perf_counter() - begin)


def way_of(name: str, settings: Settings, data: Data, network: Any, why: list[str]) -> Way:
    """The settings with what `auto` comes to, for the outline of a network, after what is known of them."""
    if settings.strategy.solved:
        return Way(name, settings, data, [*why, f"at most {MOST} L2 strengths, no optimizer steps"], None)
    found, lines = settle(settings.train, settings.auto, case_of(settings, data.read, network))
    settings = replace(settings, train=replace(settings.train, **found))
    rows = len(data.read.dataset("train").epoch(settings.seed, 0))
    return Way(name, settings, data, [*why, *lines], Length.of(settings.train, rows))


def tested(way: Way, folds: int) -> int:
    """The test rows of all folds together, which are all rows."""
    rows, subset = way.data.rows, way.settings.raw["task"].get("subset")
    return sum(rows.values()) if folds > 1 and subset is None else rows["test"] * folds


def pool_of(way: Way) -> int | None:
    """All rows, each of which cross-validation would test once; None where it is not to be had."""
    task = way.settings.raw["task"]
    if "folds" not in task or task["folds"] is not None or way.settings.streamed:
        return None
    rows = way.data.rows
    if task.get("subset") is None:
        return sum(rows.values())
    return None if task.get("test") is not None else CARVED * rows["test"]
