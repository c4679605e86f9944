"""The baseline of frozen features: logistic regression on what the network makes of rows before training.

They are pooled as the run pools, and standardised; the strength of regularisation is chosen on the
validation rows, as in the linear evaluation of CLIP (Radford et al. 2021). Whatever fine-tuning brings, it
brings on top of this.
"""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch

from ftrun.data.baselines import FEATURES_OF
from ftrun.data.card import SCORED, named_scores
from ftrun.experiments.probing import features_of, first_of_head, under_head
from ftrun.models.architecture import IMAGES, ONE_PER_TEXT

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.tasks.data import TaskData

FITTED = 2_000  # training rows, at most
ANSWERED = 20_000  # rows of each scored split, at most
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse regularisation, the strongest first
ITERATIONS = 200
NEVER = -1e4  # the logit of a label without training rows

Array = Any  # numpy.ndarray
Fitted = tuple[Array, Array]  # weights (outputs, width) and biases (outputs,)


def frozen_features(data: TaskData, model: Model, accelerator: Accelerator) -> dict[str, Any]:
    """The scores of the baseline; empty where a row has no vector of its own or the weights are random.

    What it answers to the test rows is kept in `data.answers`. A sweep or a comparison, which trains on the
    same rows from the same weights again and again, computes it once.
    """
    if not has_features(data, model):
        return {}
    assert model.source is not None
    weights = [model.source, *map(written, sorted(Path(model.source).glob("*.safetensors")))]
    key = json.dumps([weights, data.rows.fingerprint, data.spec.config, repr(data.task)], default=str)
    if key not in _known:
        _known.clear()  # of other rows or weights
        _known[key] = answered(data, model, accelerator)
    found = _known[key]
    scores: dict[str, Any] = {}
    for split, (places, outputs) in found.items():
        batch = {"labels": [data.dataset(split).examples[at].target for at in places]}
        answers = data.scorer.answers(outputs, batch)
        scores |= named_scores(data.judged(FEATURES_OF, answers, split, places), split)
    return scores


def has_features(data: TaskData, model: Model) -> bool:
    """Whether the network was pretrained and has one vector for a row."""
    single = data.spec.auto_class in (ONE_PER_TEXT, IMAGES) and data.spec.projection is None
    return single and model.source is not None and bool(data.spec.config)


_known: dict[str, dict[str, tuple[list[int], torch.Tensor]]] = {}


def written(file: Path) -> tuple[str, int, int]:
    """A file as it is now, without reading it."""
    found = file.stat()
    return file.name, found.st_size, found.st_mtime_ns


def answered(
    data: TaskData, model: Model, accelerator: Accelerator
) -> dict[str, tuple[list[int], torch.Tensor]]:
    """For each scored split the places of the examples and the outputs for them, (examples, outputs)."""
    place = next(model.parameters()).device
    model.to(accelerator.device)
    try:
        features, chosen = {}, {}
        for split in ("train", *SCORED):
            dataset = data.dataset(split)
            chosen[split] = part(len(dataset), FITTED if split == "train" else ANSWERED)
            examples = [dataset[at] for at in chosen[split]]
            found = features_of(dataset, model, examples, first_of_head(model), under_head)
            features[split] = found.astype(float)
    finally:
        model.to(place)
    mean, scale = features["train"].mean(0), features["train"].std(0)
    scale[scale < 1e-6] = 1.0  # of a unit that says the same of every row
    features = {split: (found - mean) / scale for split, found in features.items()}
    weights, biases = best_of(data, features, chosen)
    return {
        split: (chosen[split], torch.tensor(features[split] @ weights.T + biases).float()) for split in SCORED
    }


def part(count: int, most: int) -> list[int]:
    """All places, or as many random ones."""
    return list(range(count)) if count <= most else sorted(random.Random(0).sample(range(count), most))


def best_of(data: TaskData, features: dict[str, Array], chosen: dict[str, list[int]]) -> Fitted:
    """The fit whose loss on the validation rows is lowest."""
    labels = {
        split: data.dataset(split).collate([data.dataset(split)[at] for at in chosen[split]])["labels"]
        for split in ("train", "validation")
    }
    fits = [
        fit(features["train"], numpy.array(labels["train"]), strength, len(data.spec.labels or "1"))
        for strength in STRENGTHS
    ]

    def loss(fitted: Fitted) -> float:
        outputs = torch.tensor(features["validation"] @ fitted[0].T + fitted[1]).float()
        return float(data.objective.loss(outputs, {"labels": labels["validation"]}).sum)

    return min(fits, key=loss)


def fit(features: Array, labels: Array, strength: float, count: int) -> Fitted:
    """Logistic regression for one label of `count` or for each of several, ridge regression for a number."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    def logistic(own: Array) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, own)

    weights, biases = numpy.zeros((count, features.shape[1])), numpy.full(count, NEVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are limited on purpose
        if labels.dtype.kind == "i":
            classes = numpy.unique(labels)
            if len(classes) == 1:
                biases[classes] = 0.0
                return weights, biases
            found = logistic(labels)
            two = len(classes) == 2  # whose one row of weights is the second class's
            own = numpy.concatenate([0 * found.coef_, found.coef_]) if two else found.coef_
            bias = numpy.concatenate([0 * found.intercept_, found.intercept_]) if two else found.intercept_
            weights[classes], biases[classes] = own, bias
        elif labels.ndim == 2:
            for number, own in enumerate(labels.T):
                if 0 < own.sum() < len(own):
                    found = logistic(own)
                    weights[number], biases[number] = found.coef_[0], found.intercept_[0]
                elif own.all():
                    biases[number] = -NEVER
        else:
            ridge = Ridge(alpha=1 / strength).fit(features, labels)
            weights[0], biases[0] = ridge.coef_, ridge.intercept_
    return weights, biases
