"""What `auto` means in train: a budget and a rate that fit the rows, the network and the strategy.

Small data needs steps, not epochs: with few rows three epochs end before fine-tuning has begun (Mosbach et
al. 2021, Zhang et al. 2021, on few-sample fine-tuning of BERT). Early stopping makes a generous budget cheap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import counted
from ftrun.settings.habits import Habits, Pace

if TYPE_CHECKING:
    from ftrun.settings.schema import Train

AUTO = "auto"
WIDTH, RATE, POWER = 384, 1e-4, 1.5  # full's rate on a network this wide, and how it falls with the width
HIGHEST = 3e-3  # rate of AdamW for all weights of a network
NEW = 2.0  # the rate of random weights by that of pretrained ones
SGD = 100.0  # the rate of SGD with momentum by AdamW's
LARS = 0.3  # for a batch of 256 (Chen et al. 2020, SimCLR)
BATCHES = {200: 8, 1000: 16}  # below so many rows; BATCH from there on
BATCH = 32
PER_CLASS = 15  # steps, of which each class needs so many
EVALUATIONS, PATIENCE = 10, 4
EVALUATION_COST = 0.5  # of the training's, at most; a forward pass is a third of a training step


@dataclass(frozen=True)
class Case:
    """What is to be trained: the numbers of rows, the width of the network, and who trains it on what."""

    rows: int
    validation: int  # rows
    width: int | None  # None: unknown
    pretrained: bool
    strategy: str
    pace: Pace
    habits: Habits
    classes: int = 0  # outputs of the head; 0: it has none of its own


def settle(train: Train, auto: frozenset[str], case: Case) -> tuple[dict[str, Any], list[str]]:
    """The settings of train that were `auto`, as numbers, and a line for each that says why."""
    found: dict[str, Any] = {}
    lines: list[str] = []
    if "batch_size" in auto:
        found["batch_size"] = max(batch_of(case), train.micro_batch or 1)
    batch = found.get("batch_size", train.batch_size)
    per_epoch = math.ceil(case.rows / batch)
    if "epochs" in auto:
        found["epochs"] = float(epochs_of(case, per_epoch))
    epochs = found.get("epochs", train.epochs)
    steps = train.max_steps or max(1, round(per_epoch * epochs))
    if found and train.max_steps is None:
        whole = f"{counted(round(epochs), 'epoch')} of {counted(per_epoch, 'step')}, {steps:,} in all"
        of = f" of {case.classes:,} classes" if PER_CLASS * case.classes > usual(case) else ""
        lines.append(f"{counted(case.rows, 'row')}{of} → {whole}, in batches of {batch}")
    elif found:
        lines.append(f"{counted(case.rows, 'row')} → batches of {batch}")
    if "lr" in auto:
        found["lr"], why = rate_of(train, case, batch)
        lines.append(f"rate {found['lr']:g} for {why}")
    passes = 2 if train.average == "soup" else 1  # over validation, of an evaluation
    times = evaluations(case, steps * batch // passes)
    if "eval_every" in auto:
        found["eval_every"] = max(1, math.ceil(steps / times))
    if "checkpoint_every" in auto:
        found["checkpoint_every"] = steps  # and after an evaluation, once a minute has passed
    if "patience" in auto:
        found["patience"] = PATIENCE
    return found, lines


def batch_of(case: Case) -> int:
    few = (size for rows, size in BATCHES.items() if case.rows < rows)
    return case.habits.batch or next(few, BATCH)


def epochs_of(case: Case, per_epoch: int) -> int:
    """As many epochs as the steps take that kind, classes and strategy need, within the kind's limits."""
    steps = max(usual(case), PER_CLASS * case.classes)
    fewest, most = case.habits.epochs
    return min(most, max(fewest, math.ceil(case.pace.steps * steps / per_epoch)))


def usual(case: Case) -> int:
    """The optimizer steps that the kind needs, whatever its classes and the strategy."""
    return case.habits.steps if case.pretrained else case.habits.random_steps


def rate_of(train: Train, case: Case, batch: int) -> tuple[float, str]:
    """The peak rate, rounded to two digits, and for what."""
    width = case.width or WIDTH
    rate = RATE * (WIDTH / width) ** POWER * (1.0 if case.pretrained else NEW)
    rate = min(HIGHEST, rate) * case.pace.rate
    what = "" if case.pretrained else " random weights of"
    why = f"{case.strategy} on{what} a network {width} wide"
    if case.pace.fixed_rate is not None:
        rate, why = case.pace.fixed_rate, f"{case.strategy}, whatever the network's width"
    if train.optimizer == "sgd":
        rate, why = rate * SGD, f"{why}, with SGD"
    if train.optimizer == "lars":
        rate, why = LARS * batch / 256, f"LARS and batches of {batch}"
    return float(f"{rate:.2g}"), why


def evaluations(case: Case, examples: int) -> int:
    """How often validation is scored: ten times, less where it would cost more than half the training.

    At least once, at the end, whatever it costs. `examples` are those of all steps.
    """
    affordable = EVALUATION_COST * 3 * examples / max(1, case.validation)
    return max(1, min(EVALUATIONS, math.floor(affordable)))
