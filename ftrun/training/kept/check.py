"""Whether kept features are those of plain batches: compared before the first step, on a few rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ftrun.models.features.prefix import Values, tokens_of
from ftrun.models.features.store import padded
from ftrun.models.model import put_back
from ftrun.tasks.dataset import Draw, in_windows
from ftrun.tasks.objective import outputs_of
from ftrun.training.kept.features import ROWS_CPU, evaluating, is_per_token, on_device
from ftrun.training.kept.width import RULES, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Example
    from ftrun.training.kept.rows import KeptRows

SEEN = 4  # examples of a batch whose features are computed again


def difference(rows: KeptRows, model: Model, data: TaskData, size: int) -> float:
    """How far features are from those of a plain batch, and the loss with them from that without.

    The larger of both, relative; a batch of `size` rows has the longest and the shortest examples, another
    has some of every length.
    """
    train = in_windows(data.dataset("train"))
    order = sorted(train.examples, key=lambda example: -example.size)
    size = min(max(ROWS_CPU, size), len(order))
    ends = [*order[: size // 2], *order[-(size - size // 2) :]]
    spread = order[:: max(1, len(order) // ROWS_CPU)][:ROWS_CPU]
    batch = train.collate(ends, Draw(0, 0, 0))
    losses = [loss(model, data, batch, rows), loss(model, data, rows.into(batch, ends), rows)]
    found = [abs(losses[0] - losses[1]) / max(abs(losses[0]), 1e-30)]
    for examples in (ends, spread):
        found += apart(rows, model, train.collate(examples, Draw(0, 0, 0)), examples)
    return max(math.inf if math.isnan(each) else each for each in found)


def apart(rows: KeptRows, model: Model, batch: Batch, examples: Sequence[Example]) -> list[float]:
    """The relative differences between the features of some rows of a batch and those computed otherwise."""
    inputs = on_device(batch["inputs"], rows.accelerator)
    with evaluating(model, rows.accelerator):
        plain = rows.prefix.run(inputs)
    seen = range(0, len(examples), max(1, len(examples) // SEEN))
    kept, found = otherwise(rows, model, seen, examples, inputs), []
    for name, part in rows.store.parts.items():
        one, other = plain[name][list(seen)].float(), kept[name].float()
        if part.ragged:
            mask = inputs["attention_mask"][list(seen)] > 0
            one, other = one[mask], other[mask]
        found.append(float((one - other).abs().max() / other.abs().max().clamp(min=1e-30)))
    return found


def otherwise(
    rows: KeptRows, model: Model, seen: Sequence[int], examples: Sequence[Example], inputs: dict[str, Tensor]
) -> Values:
    """The features of some rows: on a GPU those kept, on a CPU each by itself in its own width."""
    tokens = tokens_of(inputs)
    if not rows.cpu:
        some = {name: value[list(seen)] for name, value in inputs.items()}
        known = rows.values([rows.address(examples[row], tokens, True) for row in seen], some)
        return on_device(known, rows.accelerator)
    found: list[Values] = []
    with evaluating(model, rows.accelerator):
        for row in seen:
            width = None if tokens is None else narrowest(RULES[rows.rule], examples[row].size, tokens)
            same = {name: value[[row] * ROWS_CPU] for name, value in inputs.items()}
            cut = {n: v[:, :width] if is_per_token(inputs, n) else v for n, v in same.items()}
            found.append({name: value[0] for name, value in rows.prefix.run(cut).items()})
    return {
        name: padded([each[name] for each in found], tokens or 0)
        if part.ragged
        else torch.stack([each[name] for each in found])
        for name, part in rows.store.parts.items()
    }


def narrowest(rule: Rule, size: int, columns: int) -> int:
    """The least width in which features are to be the same."""
    return next(width for width in range(size, columns + 1) if rule(size, width) == rule(size, columns))


def loss(model: Model, data: TaskData, batch: Batch, rows: KeptRows) -> float:
    """That of a training step, which leaves no trace."""
    objective, before = data.objective, (model.training, data.objective.training)
    with torch.random.fork_rng(), torch.no_grad(), put_back([*model.buffers(), *objective.buffers()]):
        torch.manual_seed(0)
        model.train()
        objective.train()
        with rows.accelerator.autocast():
            found = float(objective.loss(outputs_of(model, objective, batch), batch).sum)
    model.train(before[0])
    objective.train(before[1])
    return found
