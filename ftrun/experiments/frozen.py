"""The baseline of frozen features: logistic regression on what the network makes of rows before training.

It is fitted at the end of a run, so that nobody waits for it before the first step. Features are pooled as
the run pools, and fitted as strategy=linear_probe fits them (`training/linear`). Whatever fine-tuning brings,
it brings on top of this.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch

from ftrun.data.baselines import FEATURES_OF, TITLES
from ftrun.data.card import SCORED, named_scores
from ftrun.data.tables import write_table
from ftrun.experiments.sources import load_network, start
from ftrun.models.architecture import IMAGES, ONE_PER_TEXT
from ftrun.models.files.sharing import sharing
from ftrun.runs import clock
from ftrun.runs.artifacts import BASELINES
from ftrun.runs.lines import read_lines
from ftrun.runs.terminal import say
from ftrun.runs.warm import once, stamps
from ftrun.tasks.dataset import labels_of
from ftrun.training.kept.features import features as features_of
from ftrun.training.linear import Fit, Scaling, fit, searched

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData

FITTED = 2_000  # training rows, at most
ANSWERED = 20_000  # rows of each scored split, at most

Array = Any  # numpy.ndarray


@clock.phase("data")
def add_features(
    settings: Settings, data: TaskData, model: Model, directory: Run, accelerator: Accelerator
) -> None:
    """The baseline into data.json and baselines.jsonl, once for a run, and said.

    `model` is the trained network; what the baseline reads is loaded again as training found it.
    """
    card = directory.read_json("data.json") or {}
    known = card.get("baselines", {})
    if not settings.baselines or "rows" not in card or FEATURES_OF in known or not has_features(data, model):
        return
    with sharing(model):
        scores = frozen_features(settings, data, directory, accelerator)
    add_answers(directory, data)
    directory.write_json("data.json", card | {"baselines": known | {FEATURES_OF: scores}})
    metric = f"test_{data.metric}"
    say(f"baseline: {metric} {scores[metric]:.3f} {TITLES[FEATURES_OF]}")


def frozen_features(
    settings: Settings, data: TaskData, directory: Run, accelerator: Accelerator
) -> dict[str, float]:
    """The scores of the baseline; what it answers to the test rows is kept in `data.answers`.

    A sweep or a comparison, which trains on the same rows from the same weights again and again, computes its
    outputs once.
    """
    checkpoint = start(settings, directory.path)
    where = [str(accelerator.device), accelerator.mixed_precision]
    kept = settings.train.frozen_dtype
    content = [checkpoint, stamps(checkpoint.name), kept, data.spec, where, *data.content]
    found = once(
        "frozen features",
        content,
        lambda: answered(data, load_network(settings, data, directory, all_frozen), accelerator),
    )
    scores: dict[str, float] = {}
    for split, (places, outputs) in found.items():
        dataset = data.dataset(split)
        batch = {"labels": labels_of(dataset, [dataset[at] for at in places])}
        answers = data.scorer.answers(outputs, batch)
        scores |= named_scores(data.judged(FEATURES_OF, answers, split, places), split)
    return scores


def all_frozen(model: Model) -> None:
    model.requires_grad_(False)


def add_answers(directory: Run, data: TaskData) -> None:
    """What the baseline answers to each test row, beside the other baselines' in baselines.jsonl."""
    rows = data.answers.get(FEATURES_OF, [])
    if len(rows) != len(data.dataset("test")):
        return
    lines = read_lines(directory.path / BASELINES) or [{"row": row.row, "label": row.label} for row in rows]
    write_table(
        directory.path / BASELINES,
        [line | {FEATURES_OF: row.answer} for line, row in zip(lines, rows, strict=True)],
    )


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
