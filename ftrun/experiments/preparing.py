"""The network, the splits and the settings as training wants them, said before the first step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ftrun.data.baselines import FEATURES_OF
from ftrun.data.card import lines as card_lines
from ftrun.data.tables import write_table
from ftrun.experiments.frozen import frozen_features
from ftrun.experiments.pooling import loading
from ftrun.runs.artifacts import BASELINES
from ftrun.runs.terminal import leads, say
from ftrun.settings.auto import Case, settle
from ftrun.settings.schedules import Course, Length
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import SPLITS
from ftrun.training.devices import describe
from ftrun.training.optim import groups, plan

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData


def prepare(
    settings: Settings, data: TaskData, model: Model, directory: Run, accelerator: Accelerator
) -> Settings:
    """The network as the strategy wants it, every split encoded for it, and the settings without `auto`."""
    for line in data.encode(model.tokenizer, *SPLITS):
        say(line)
    if accelerator.is_main_process:
        describe_data(settings, data, model, directory, accelerator)
    settings = settled(settings, data, model, directory)
    open_weights(settings, model)
    describe_model(settings, data, model, accelerator)
    return settings


def open_weights(settings: Settings, model: Model) -> None:
    """Freeze, wrap or add weights as the strategy wants it, with its own random stream."""
    with torch.random.fork_rng():
        torch.manual_seed(stream(settings.seed, "init", 1))
        settings.strategy.prepare(model)


def settled(settings: Settings, data: TaskData, model: Model, directory: Run) -> Settings:
    """The settings with numbers in the place of `auto`, said with their reasons and kept in config.yaml."""
    if not settings.auto:
        return settings
    found, lines = settle(settings.train, settings.auto, case_of(settings, data, model))
    if lines:
        say(f"auto: {'; '.join(lines)}")
    if leads():
        directory.settle({"train": found})
    raw = settings.raw | {"train": settings.raw["train"] | found}
    return replace(settings, train=replace(settings.train, **found), raw=raw, auto=frozenset())


def case_of(settings: Settings, data: TaskData, model: Model) -> Case:
    """What is to be trained, of which the model may be an outline."""
    return Case(
        rows=len(data.dataset("train").epoch(settings.seed, 0)),
        validation=len(data.dataset("validation")),
        width=model.width,
        pretrained=model.source is not None,
        strategy=settings.strategy_name,
        pace=settings.strategy.pace,
        habits=settings.task.habits,
    )


def describe_data(
    settings: Settings, data: TaskData, model: Model, directory: Run, accelerator: Accelerator
) -> None:
    """The data card, once for a run: shown, and kept in data.json beside the fingerprint."""
    kept = directory.read_json("data.json") or {"fingerprint": data.rows.fingerprint}
    data.baselines = settings.baselines
    if "rows" not in kept and (card := data.rows.card(data)):
        if settings.baselines and (found := frozen_features(data, model, accelerator)):
            card["baselines"] = card.get("baselines", {}) | {FEATURES_OF: found}
        write_baselines(directory, data)
        directory.write_json("data.json", kept | card)
        for line in card_lines(card, data.metric):
            say(line)


def write_baselines(directory: Run, data: TaskData) -> None:
    """For each test row the correct answer, and that of every baseline which answered all of them."""
    count = len(data.dataset("test"))
    whole = {name: rows for name, rows in data.answers.items() if len(rows) == count}
    if whole:
        lines = [
            {"row": same[0].row, "label": same[0].label}
            | {name: row.answer for name, row in zip(whole, same, strict=True)}
            for same in zip(*whole.values(), strict=True)
        ]
        write_table(directory.path / BASELINES, lines)


def describe_model(settings: Settings, data: TaskData, model: Model, accelerator: Accelerator) -> None:
    """What trains, from when on and how fast, for the person."""
    trained, total = model.counts()
    share = f"{trained:,} of {total:,} parameters trained ({trained / total:.2%})"
    say(f"{settings.strategy_name}: {share}, {describe(accelerator)}")
    length = Length.of(settings.train, len(data.dataset("train").epoch(settings.seed, 0)))
    course = Course(settings.train.lr, settings.schedule, length, model.depth)
    opens = {stage: settings.strategy.opens(stage, course) for stage in range(model.depth + 2)}
    for line in plan(model, groups(model, settings.train), settings.train.lr, opens, length.total):
        say(f"  {line}")
    micro, batch = settings.train.micro_batch, settings.train.batch_size
    if model.batch_norms() and micro is not None and micro < batch:
        say(f"batch normalisation: statistics over train.micro_batch={micro} images, not over {batch}")
    if (note := loading(model)) is not None:
        say(note)
