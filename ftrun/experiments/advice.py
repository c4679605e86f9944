"""Which strategy to begin with, by what can be measured before training.

Closeness of the task to the pre-training is measured: the accuracy of a linear probe and of nearest
neighbours on the frozen network's features, against that of a regression without the network (on TF-IDF of
the words, or on pixels); and, where the checkpoint has its pre-training head, its loss on the task's texts
(`familiarity`). What is recommended was chosen on some data sets and judged on others, by
`scripts/bench/advice.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, DataError
from ftrun.experiments.probing import FOLDS, out_of_fold

if TYPE_CHECKING:
    from ftrun.experiments.domain_gap import Familiarity
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Dataset, Example

FEW = 20  # labels per class; on SST-2 and docstrings freeze is ahead of full up to 17, level with it from 25
HELD = 2  # lowest layers that strategy=freeze holds by default
ROWS = 600  # training rows that are measured, at most
NEIGHBOURS = 10
BATCH = 32
SIDE = 16  # pixels to which images are reduced for the regression on pixels


@dataclass(frozen=True)
class Evidence:
    """What is known before training; accuracies are those on rows that the classifier has not seen."""

    labels_per_class: float
    classes: int
    rows: int  # that were measured
    neighbours: float  # leave-one-out, cosine distance of the features
    probe: float  # out-of-fold, logistic regression on the features as strategy=linear_probe fits it
    plain: float  # cross-validated, logistic regression without the network
    gap: float | None = None  # nats per token by which the texts are harder than the pre-training's
    of_images: bool = False
    depth: int = 12  # layers of the network
    trivial: float | None = None  # share of the most frequent label of the measured rows
    rarest: int | None = None  # labels of the class that has the fewest

    @property
    def lead(self) -> float:
        """How far the better of the two on features is ahead of what needs no network."""
        return max(self.neighbours, self.probe) - self.plain

    @property
    def blind(self) -> bool:
        """Whether no measurement is a row better than the most frequent label; then none tells anything."""
        best = max(self.neighbours, self.probe, self.plain)
        return self.trivial is not None and best < self.trivial + 0.5 / self.rows

    @property
    def unequal(self) -> bool:
        """Whether the mean of labels per class is no figure of the rarest."""
        return self.rarest is not None and 2 * self.rarest < self.labels_per_class


@dataclass(frozen=True)
class Advice:
    """What to begin with, and why."""

    close: bool
    few: bool
    strategy: str
    settings: list[str]
    others: list[list[str]]  # the settings of what to try next


def advise(known: Evidence | None, cut: float, most: float) -> Advice:
    """All but the lowest layers where a class has FEW labels, else every weight.

    Of images only where the task is close: a lead of `cut` or more. Texts count as close where they are also
    at most `most` nats harder, which is told and decides nothing: with few labels `freeze` was ahead of
    `full` by 2 to 3 points near and far. A network too shallow for that has its head trained where the task
    is close. None: the weights are random, and every one of them has to be trained.
    """
    every, probe, some = ["strategy=full"], ["strategy=linear_probe"], ["strategy=freeze"]
    if known is None:
        return Advice(False, False, "train everything", every, [])
    close = known.lead >= cut and (known.gap is None or known.gap <= most)
    few, deep = known.labels_per_class < FEW, known.depth > HELD
    if few and deep and (close or not known.of_images):
        return Advice(close, few, "train all but the embeddings and the lowest layers", some, [probe, every])
    if few and close:
        return Advice(close, few, "train the head alone, on frozen features", probe, [every])
    return Advice(close, few, "train everything", every, [some] if deep else [])


def examined(asked: str, settings: Settings, like: str) -> tuple[Evidence | None, Familiarity | None]:
    """What is measured of the settings' training rows and network, beside texts `like` its pre-training's.

    Nothing of random weights, in which there is nothing to measure. Raises ConfigError where the task or the
    network cannot be measured, DataError where the rows are too few; both begin with what was `asked`.
    """
    from ftrun.experiments.domain_gap import familiarity, like_its_own
    from ftrun.experiments.lora.starting import merge_first
    from ftrun.models.architecture import ONE_PER_TEXT
    from ftrun.models.load import load
    from ftrun.runs.terminal import say
    from ftrun.settings.seeds import stream
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.parts.table_rows import texts_of

    refuse_unmeasurable(asked, settings)
    if settings.model.init == "random":
        return None, None
    own = like_its_own(asked, like) if TaskData(settings.task).spec.auto_class == ONE_PER_TEXT else None
    merge_first(settings.model, settings.device)
    data = TaskData.read(settings.task, settings.seed)
    for note in data.rows.notes:
        say(note)
    model = load(settings.model, data.spec, stream(settings.seed, "init"))
    for line in data.encode(model.tokenizer, "train"):
        say(line)
    known = familiarity(settings.model, model, texts_of(data, "train"), own) if own else None
    return measure(asked, data, model, known.gap if known else None), known


def refuse_unmeasurable(asked: str, settings: Settings) -> None:
    """ConfigError unless the task is one label for each text or image, on the network as it is saved."""
    from ftrun.models.architecture import IMAGES, ONE_PER_TEXT
    from ftrun.tasks.data import TaskData

    source = settings.source is not None and settings.source.kind != "pretraining"
    others = {
        "pretrain": settings.pretrain is not None,
        "source": source,
        "sequence": settings.sequence is not None,
        "compose": settings.compose is not None,
    }
    if given := [name for name, there in others.items() if there]:
        raise ConfigError(
            f"{asked}: with {given[0]}= the network is changed before task={settings.task.name}, and only"
            " model.name as it is saved can be measured; possible: model.name=RUN, a finished run"
        )
    data = TaskData(settings.task)
    if settings.model.init == "random":
        return
    if data.spec.auto_class not in (ONE_PER_TEXT, IMAGES) or data.metric != "accuracy":
        raise ConfigError(
            f"{asked}: task={settings.task.name} does not give each text or image one label, which is all"
            " that can be measured; possible: strategy=full, the default, or ftrun compare, which tries"
            " several"
        )


def measure(asked: str, data: TaskData, model: Model, gap: float | None) -> Evidence:
    """From the encoded training rows and the network as its checkpoint left it.

    A class with one row among the sampled ones is left out, as no other row could answer for it.
    """
    from ftrun.training.devices import open_accelerator
    from ftrun.training.kept.features import features

    dataset = data.dataset("train")
    every = [example.target for example in dataset.examples]
    sampled = [dataset.examples[at] for at in range(0, len(every), max(1, -(-len(every) // ROWS)))]
    counts = Counter(example.target for example in sampled)
    examples = [example for example in sampled if counts[example.target] > 1]
    targets = [example.target for example in examples]
    if len(set(targets)) < 2:
        raise DataError(f"{asked}: fewer than two classes have two of the sampled training rows each")
    some = dataset.of(examples)
    found = features(model, some, open_accelerator("cpu", "fp32", True)).double().numpy()
    return Evidence(
        labels_per_class=len(every) / len(set(every)),
        classes=len(set(every)),
        rows=len(examples),
        neighbours=of_neighbours(found, targets),
        probe=of_probe(found, targets),
        plain=of_probe(pixels(some), targets) if images(data) else of_words(examples, targets),
        gap=gap,
        of_images=images(data),
        depth=model.depth,
        trivial=max(Counter(targets).values()) / len(targets),
        rarest=min(Counter(every).values()),
    )


def images(data: TaskData) -> bool:
    from ftrun.models.architecture import IMAGES

    return data.spec.auto_class == IMAGES


def pixels(dataset: Dataset) -> Any:
    """The images at SIDE x SIDE pixels or less, (examples, values), float64."""
    import torch

    found = []
    for at in range(0, len(dataset), BATCH):
        examples = [dataset.examples[place] for place in range(at, min(at + BATCH, len(dataset)))]
        batch = dataset.collate(examples)["inputs"]["pixel_values"]  # (examples, channels, y, x)
        if max(batch.shape[2:]) > SIDE:
            batch = torch.nn.functional.adaptive_avg_pool2d(batch, SIDE)
        found.append(batch.flatten(1).double())
    return torch.cat(found).numpy()


def of_neighbours(features: Any, targets: list[int]) -> float:
    """The share of rows whose nearest other rows vote for their label."""
    import numpy

    features = features - features.mean(0)  # or one direction that all texts share hides the others
    unit = features / numpy.maximum(numpy.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    alike = unit @ unit.T
    numpy.fill_diagonal(alike, -numpy.inf)
    nearest = numpy.argsort(-alike, axis=1)[:, : min(NEIGHBOURS, len(targets) - 1)]
    labels = numpy.array(targets)
    votes = [numpy.bincount(labels[row]).argmax() for row in nearest]
    return float((numpy.array(votes) == labels).mean())


def of_probe(features: Any, targets: list[int]) -> float:
    """The share of rows that a regression on the features of the others answers."""
    import numpy

    answers = out_of_fold(features, targets, max(targets) + 1).argmax(1)
    return float((answers == numpy.array(targets)).mean())


def of_words(examples: Sequence[Example], targets: list[int]) -> float:
    """Logistic regression on TF-IDF of the tokens."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    texts = [" ".join(map(str, example.inputs)) for example in examples]
    words = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    classifier = make_pipeline(words, LogisticRegression(C=10, max_iter=5000))
    folds = min(FOLDS, *Counter(targets).values())
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(classifier, texts, targets, cv=split).mean())
