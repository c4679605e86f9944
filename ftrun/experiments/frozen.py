"""The baseline of frozen features: logistic regression on what the network makes of rows before training.

They are pooled as the run pools, and fitted as strategy=linear_probe fits them (`training/linear`). Whatever
fine-tuning brings, it brings on top of this.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch

from ftrun.data.baselines import FEATURES_OF
from ftrun.data.card import SCORED, named_scores
from ftrun.models.architecture import IMAGES, ONE_PER_TEXT
from ftrun.models.heads import Pooled
from ftrun.runs.warm import once, sharing, stamps
from ftrun.tasks.dataset import labels_of
from ftrun.training.kept.features import features as features_of
from ftrun.training.linear import Fit, Scaling, fit, searched

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData

FITTED = 2_000  # training rows, at most
ANSWERED = 20_000  # rows of each scored split, at most

Array = Any  # numpy.ndarray


def frozen_features(data: TaskData, model: Model, accelerator: Accelerator) -> dict[str, Any]:
    """The scores of the baseline; empty where a row has no vector of its own or the weights are random.

    What it answers to the test rows is kept in `data.answers`. A sweep or a comparison, which trains on the
    same rows from the same weights again and again, computes it once.
    """
    if not has_features(data, model):
        return {}
    pooling = model.net.pooling if isinstance(model.net, Pooled) else None
    network = [model.source, stamps(model.source), repr(model.net), pooling] if sharing() else []
    found = once("frozen features", [network, *data.content], lambda: answered(data, model, accelerator))
    scores: dict[str, Any] = {}
    for split, (places, outputs) in found.items():
        dataset = data.dataset(split)
        batch = {"labels": labels_of(dataset, [dataset[at] for at in places])}
        answers = data.scorer.answers(outputs, batch)
        scores |= named_scores(data.judged(FEATURES_OF, answers, split, places), split)
    return scores


def has_features(data: TaskData, model: Model) -> bool:
    """Whether the network was pretrained and has one vector for a row."""
    single = data.spec.auto_class in (ONE_PER_TEXT, IMAGES) and data.spec.projection is None
    return single and model.source is not None and bool(data.spec.config)


def answered(
    data: TaskData, model: Model, accelerator: Accelerator
) -> dict[str, tuple[list[int], torch.Tensor]]:
    """For each scored split the places of the examples and the outputs for them, (examples, outputs)."""
    features, chosen = {}, {}
    for split in ("train", *SCORED):
        dataset = data.dataset(split)
        chosen[split] = part(len(dataset), FITTED if split == "train" else ANSWERED)
        some = dataset.of([dataset[at] for at in chosen[split]])
        features[split] = features_of(model, some, accelerator).double().numpy()
    scaling = Scaling.of(features["train"])
    features = {split: scaling(found) for split, found in features.items()}
    best = best_of(data, features, chosen)
    return {split: (chosen[split], torch.tensor(best.logits(features[split])).float()) for split in SCORED}


def part(count: int, most: int) -> list[int]:
    """All places, or as many random ones."""
    return list(range(count)) if count <= most else sorted(random.Random(0).sample(range(count), most))


def best_of(data: TaskData, features: dict[str, Array], chosen: dict[str, list[int]]) -> Fit:
    """The fit whose loss on the validation rows is lowest."""
    labels = {
        split: labels_of(data.dataset(split), [data.dataset(split)[at] for at in chosen[split]])
        for split in ("train", "validation")
    }
    targets, outputs = labels["train"].numpy(), len(data.spec.labels or "1")

    def loss(fitted: Fit) -> float:
        logits = torch.tensor(fitted.logits(features["validation"])).float()
        return float(data.objective.loss(logits, {"labels": labels["validation"]}).sum)

    found: Fit = searched(lambda strength: fit(features["train"], targets, strength, outputs), loss)
    return found
