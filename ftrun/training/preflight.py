"""A preflight check: one batch through every part of a run before its first step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, UserError, counted
from ftrun.models.files.reading import computing
from ftrun.models.heads import Pooled
from ftrun.models.load import load
from ftrun.models.model import put_back
from ftrun.models.reload import shown
from ftrun.models.save import export
from ftrun.runs import clock
from ftrun.runs.warm import once
from ftrun.tasks.dataset import sizes_of
from ftrun.training.evaluate import evaluate, one_row

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.training.loop import Loop
    from ftrun.training.step import Step

LARGEST_DIFFERENCE = 1e-3  # of a logit between the model and its reloaded copy, in fp32
PROBE = 8  # rows
PROOFS = 64  # kinds of networks and strategies whose export was proved


@clock.phase("preflight")
def preflight(loop: Loop) -> None:
    """Train, evaluate, save and reload on the longest rows, then undo all of it.

    Raises ConfigError when a trained weight receives no gradient, UserError when the saved model differs
    from the model in memory.
    """
    step, data = loop.step, loop.data
    train = step.dataset
    sizes = sizes_of(train)
    rows = nlargest(loop.settings.train.batch_size, range(len(train)), key=sizes.__getitem__)
    cost = dict(step.state.cost)
    step.wrapped.train()
    with put_back([*step.model.buffers(), *step.objective.buffers()]), same_scale(loop.accelerator):
        step.gradient(rows)
    check_gradients(step)
    step.optimizer.zero_grad()
    step.state.cost = cost
    step.set_open(step.opened(0))  # as in the first step: what can be kept is computed and compared now
    validation = data.dataset("validation")
    evaluate(step.model, data, validation.of(validation.examples[:PROBE]), PROBE, loop.accelerator)
    if step.sharded is not None:
        check_export(step, data, rows[:PROBE])
    elif loop.accelerator.is_main_process:
        once("export", kind_of(step, data), lambda: check_export(step, data, rows[:PROBE]), PROOFS)
    loop.accelerator.wait_for_everyone()


@contextmanager
def sound(settings: Settings, data: TaskData) -> Iterator[None]:
    """ConfigError where what fails inside fails with the plain network too: its files make it so.

    And where a batch of one row does.
    """

    def alone() -> None:
        if data.encoded:
            dataset = next(iter(data.encoded.values()))
            one_row(load(settings.model, data.spec, 0), data, dataset)

    with rows_enough(settings), computing(f"model.name={settings.model.name}", settings.model.name, alone):
        yield


@contextmanager
def rows_enough(settings: Settings) -> Iterator[None]:
    """ConfigError where batch normalisation gets a single value of each channel, which has no variance."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        replayed = ", a larger share= of replayed rows" if settings.guard.replayed_share() else ""
        raise ConfigError(
            f"train.batch_size={settings.train.batch_size}: a batch of one row comes to the batch"
            f" normalisation of {settings.model.name}, which has no variance; possible: another"
            f" train.batch_size or train.micro_batch{replayed}"
        ) from None


@contextmanager
def same_scale(accelerator: Accelerator) -> Iterator[None]:
    """Leave the scaler of fp16, if any, as it was: no gradient unscaled and the same scale."""
    scaler = accelerator.scaler
    before = scaler.state_dict() if scaler is not None else {}
    yield
    if scaler is not None:
        scaler.update()  # an optimizer's gradients are unscaled once between two updates
        scaler.load_state_dict(before)


def check_gradients(step: Step) -> None:
    silent = [name for name, parameter in step.parameters.items() if parameter.grad is None]
    if silent:
        some = ", ".join(name.removeprefix("net.") for name in silent[:3])
        raise ConfigError(
            f"{counted(len(silent), 'trained weight')} without a gradient: {some};"
            f" strategy={step.settings.strategy_name} does not fit this model"
        )
    moved = [name for name, p in step.model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not moved, f"frozen weights received a gradient: {moved[:3]}"


def kind_of(step: Step, data: TaskData) -> list[Any]:
    """What the way of saving depends on, whatever the values and the shapes: runs alike need one proof."""
    model = step.model
    pooling = model.net.pooling if isinstance(model.net, Pooled) else None
    kinds = [
        type(each).__qualname__ for each in (model.net, model.net.config, model.adapter, model.tokenizer)
    ]
    trained = [(name, parameter.requires_grad) for name, parameter in model.named_parameters()]
    owner = type(step.settings.strategy).__qualname__
    return [kinds, pooling, data.spec.auto_class, data.task.name, owner, model.source is None, trained]


def check_export(step: Step, data: TaskData, rows: list[int]) -> None:
    """UserError when the saved model differs from the one in memory; of a split one all processes call it."""
    directory, auto_class = step.run_directory.path / "preflight", data.spec.auto_class
    probe = step.dataset.collate([step.dataset[row] for row in rows])
    main = step.accelerator.is_main_process
    found = 0.0
    try:
        with in_one_piece(step) as model:
            if main:
                export(model, directory, auto_class)
                here = shown(model, probe)
        if main:
            found = here.differ(directory, auto_class, step.model)
    finally:
        if main:
            shutil.rmtree(directory, ignore_errors=True)
    if not found <= LARGEST_DIFFERENCE:
        raise UserError(f"the saved model differs from the trained one: a logit by {found:.2g}")


def in_one_piece(step: Step) -> AbstractContextManager[Model]:
    """The network in one piece: as it is, or gathered on the CPU of the first process; all call this."""
    return nullcontext(step.model) if step.sharded is None else step.sharded.whole()
