"""The network, the splits and the settings as training wants them, said before the first step."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ftrun.data.card import lines as card_lines
from ftrun.data.tables import write_table
from ftrun.errors import ConfigError
from ftrun.experiments.pooling import loading
from ftrun.models.load import on_outline
from ftrun.reports.numbers import share
from ftrun.runs import clock
from ftrun.runs.artifacts import BASELINES
from ftrun.runs.terminal import leads, say
from ftrun.runs.warm import once, sharing
from ftrun.settings.auto import Case, settle
from ftrun.settings.idle import idle
from ftrun.settings.schedules import Course, Length
from ftrun.settings.seeds import stream
from ftrun.tasks.dataset import SPLITS, rows_of
from ftrun.training.devices import describe
from ftrun.training.optim import groups, plan
from ftrun.training.reached import freeze_unreached
from ftrun.training.sharding import home
from ftrun.training.updates.rates import rates_of

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.scorer import Row


def prepare(
    settings: Settings, data: TaskData, model: Model, directory: Run, accelerator: Accelerator
) -> Settings:
    """The network as the strategy wants it, every split encoded for it, and the settings without `auto`."""
    with clock.phase("data"):
        for line in data.encode(model.tokenizer, *SPLITS):
            say(line)
        if accelerator.is_main_process:
            describe_data(settings, data, directory)
    settings = settled(with_choices(settings, model, directory), data, model, directory)
    open_weights(settings, data, model, accelerator)
    describe_model(settings, data, model, accelerator)
    return settings


def open_weights(settings: Settings, data: TaskData, model: Model, accelerator: Accelerator) -> None:
    """Freeze, wrap or add weights as the strategy wants it, with its own random stream.

    What no loss reaches stays frozen, and is said.
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream(settings.seed, "init", 1))
        settings.strategy.prepare(model)
    if note := freeze_unreached(model.to(home(settings, accelerator)), data, settings.strategy_name):
        say(note)


def refuse_untrained(settings: Settings, model: Model) -> None:
    """ConfigError where train.rates names weights that do not train, or train.frozen_dtype finds none frozen.

    The outline is used up.
    """
    on_outline(model, settings.strategy.prepare)
    rates_of(model, settings.train, settings.strategy.scale)
    if not settings.half or not all(parameter.requires_grad for parameter in model.parameters()):
        return
    raise ConfigError(
        f"train.frozen_dtype=bf16 rounds weights that never train, and strategy={settings.strategy_name}"
        " trains every weight before it ends; possible: train.frozen_dtype=fp32, or strategy=lora, adapter,"
        " bitfit, norms, freeze, linear_probe"
    )


def with_choices(settings: Settings, model: Model, directory: Run) -> Settings:
    """The settings with what the strategy's own come to at `auto`, said and kept in config.yaml."""
    changed, why = chosen(settings, model)
    for line in [*idle(settings.raw), *([why] if why else [])]:
        say(line)
    if leads() and (found := {k: v for k, v in changed.raw.items() if v != settings.raw[k]}):
        directory.settle(found)
    if changed.strategy.solved and (unused := without_effect(changed)):
        say(f"{' and '.join(unused)}: without effect, a head that is solved for takes no optimizer steps")
    return changed


def chosen(settings: Settings, model: Model) -> tuple[Settings, str]:
    """The settings with what the strategy's own come to at `auto`, and why; the model may be an outline."""
    found, why = settings.strategy.chosen(settings, model)
    strategy: Any = settings.strategy
    return replace(settings, strategy=replace(strategy, **found), raw=settings.raw | found), why


def without_effect(settings: Settings) -> list[str]:
    """The settings of optimizer steps that were set."""
    train = settings.train
    given = {name: getattr(train, name) for name in ("lr", "epochs") if name not in settings.auto}
    if train.max_steps is not None:
        given["max_steps"] = train.max_steps
    found = [f"train.{name}={value:g}" for name, value in given.items()]
    found += ["train.rates"] if train.rates else []
    return found if train.average == "none" else [*found, f"train.average={train.average}"]


def settled(settings: Settings, data: TaskData, model: Model, directory: Run) -> Settings:
    """The settings with numbers in the place of `auto`, said with their reasons and kept in config.yaml."""
    if not settings.auto or settings.strategy.solved:
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
        pace=settings.strategy.paced(),
        habits=settings.task.habits,
        classes=int(data.spec.config.get("num_labels", 0)),
    )


def describe_data(settings: Settings, data: TaskData, directory: Run) -> None:
    """The data card, once for a run: shown, and kept in data.json beside the fingerprint.

    The network's baseline, which needs a forward pass, joins it at the end of the run.
    """
    kept = directory.read_json("data.json") or {"fingerprint": data.rows.fingerprint}
    data.baselines = settings.baselines
    if "rows" not in kept and (card := card_of(data)):
        write_baselines(directory, data)
        directory.write_json("data.json", kept | card)
        for line in card_lines(card, data.metric):
            say(line)


def card_of(data: TaskData) -> dict[str, Any]:
    """The data card without the network's baseline, and in `data.answers` what its baselines answer.

    A sweep or a comparison, which trains on the same rows again and again, makes it once.
    """

    def make() -> tuple[dict[str, Any], dict[str, list[Row]]]:
        return data.rows.card(data), dict(data.answers)

    card, answers = once("card", [*data.content, data.baselines], make) if sharing() else make()
    data.answers |= answers
    return copy.deepcopy(card)


def write_baselines(directory: Run, data: TaskData) -> None:
    """For each test row the correct answer, and that of every baseline which answered all of them."""
    count = len(rows_of(data.dataset("test")))
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
    counts = f"{trained:,} of {total:,} parameters trained ({share(trained / total)})"
    say(f"{settings.strategy_name}: {counts}, {describe(accelerator)}")
    if settings.strategy.solved:
        say("  frozen but for the head, which is solved for by regression on the features below it")
        return
    length = Length.of(settings.train, len(data.dataset("train").epoch(settings.seed, 0)))
    course = Course(settings.train.lr, settings.schedule, length, model.depth)
    opens = {stage: settings.strategy.opens(stage, course) for stage in range(model.depth + 2)}
    for line in plan(
        model, groups(model, settings.train, settings.strategy.scale), settings.train.lr, opens, length.total
    ):
        say(f"  {line}")
    micro, batch = settings.train.micro_batch, settings.train.batch_size
    if model.batch_norms() and not model.statistics_fixed and micro is not None and micro < batch:
        say(f"batch normalisation: statistics over train.micro_batch={micro} images, not over {batch}")
    if (note := loading(model)) is not None:
        say(note)
