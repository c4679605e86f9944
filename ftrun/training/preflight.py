"""One real batch through everything a run will do, before its first step: what would fail late fails now."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, UserError
from ftrun.models.model import put_back
from ftrun.models.save import difference, export
from ftrun.training.evaluate import evaluate

if TYPE_CHECKING:
    from ftrun.training.loop import Loop

LARGEST_DIFFERENCE = 1e-3  # of a logit between the network and its reloaded copy, fp32
PROBE = 8  # rows


def preflight(loop: Loop) -> None:
    """Train, evaluate, score, save and reload on the longest rows; nothing of it stays behind.

    Raises ConfigError when a weight that shall train gets no gradient, UserError when what was saved does not
    load to the same network.
    """
    examples = loop.task.examples("train")
    rows = sorted(range(len(examples)), key=lambda i: -examples[i].size)[: loop.settings.train.batch_size]
    cost = dict(loop.state.cost)
    loop.wrapped.train()
    with put_back([*loop.model.buffers(), *loop.task.tensors().values()]):
        loop.gradient(rows)
    check_gradients(loop)
    loop.optimizer.zero_grad()
    loop.state.cost = cost
    evaluate(loop.model, loop.task, loop.task.examples("validation")[:PROBE], PROBE, loop.accelerator)
    if loop.accelerator.is_main_process:
        check_export(loop, rows[:PROBE])
    loop.accelerator.wait_for_everyone()


def check_gradients(loop: Loop) -> None:
    silent = [name for name, parameter in loop.parameters.items() if parameter.grad is None]
    if silent:
        some = ", ".join(name.removeprefix("net.") for name in silent[:3])
        raise ConfigError(
            f"{len(silent)} weights that shall train have no part in the loss: {some};"
            f" strategy={loop.settings.strategy_name} does not fit this network"
        )
    moved = [name for name, p in loop.model.named_parameters() if not p.requires_grad and p.grad is not None]
    assert not moved, f"frozen weights received a gradient: {moved[:3]}"


def check_export(loop: Loop, rows: list[int]) -> None:
    directory = loop.run_directory.path / "preflight"
    examples = loop.task.examples("train")
    try:
        export(loop.model, directory, loop.task.auto_class)
        found = difference(
            loop.model, directory, loop.task.auto_class, loop.task.collate([examples[row] for row in rows])
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if not found <= LARGEST_DIFFERENCE:
        raise UserError(f"the saved model does not load to the same network: a logit differs by {found:.2g}")
