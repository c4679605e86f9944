"""What a run will cost: a few steps and evaluations of the real network on real rows, timed and forgotten.

A run is begun in a directory of its own that is removed: loaded, checked by the preflight, a few batches of
different lengths taken, scored and saved. From these follow seconds as a line in the padded tokens of a
batch, memory as the highest level that was seen, and disk as what was written.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from ftrun.data.batching import epoch_batches, sorted_batches
from ftrun.experiments.finish import SEEN
from ftrun.experiments.frozen import FITTED, has_features
from ftrun.experiments.preparing import open_weights
from ftrun.experiments.retention import remember
from ftrun.experiments.single import accelerator_of, load_network, open_directory
from ftrun.experiments.sources import open_sources
from ftrun.experiments.study.memory import Level
from ftrun.models.reload import difference
from ftrun.models.save import export
from ftrun.runs.run import LOG
from ftrun.runs.terminal import logged
from ftrun.settings.schedules import Length
from ftrun.tasks.dataset import SPLITS
from ftrun.training.evaluate import SMALLEST, evaluate
from ftrun.training.loop import Loop
from ftrun.training.preflight import PROBE, preflight
from ftrun.training.step import Step
from ftrun.training.trackers import open_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.experiments.planning import Way
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData

T = TypeVar("T")

QUANTILES = (0.1, 0.5, 0.9)  # of the batches by length: those that are timed
REPEATS = 2  # of each; the quicker one counts
PATIENCE = 10.0  # seconds of timed steps, after which each batch left is taken once


@dataclass(frozen=True)
class Line:
    """Seconds as a line in the padded tokens of a batch."""

    fixed: float
    each: float  # per token

    @classmethod
    def through(cls, widths: Sequence[int], seconds: Sequence[float]) -> Line:
        """The least-squares line that neither falls nor begins below zero."""
        mean, level = sum(widths) / len(widths), sum(seconds) / len(seconds)
        spread = sum((width - mean) ** 2 for width in widths)
        if not spread:
            return cls(level, 0.0)
        pairs = zip(widths, seconds, strict=True)
        slope = max(sum((width - mean) * (second - level) for width, second in pairs) / spread, 0.0)
        slope = min(slope, level / mean)
        return cls(level - slope * mean, slope)

    def of(self, widths: Sequence[int]) -> float:
        """The seconds of all these batches."""
        return self.fixed * len(widths) + self.each * sum(widths)


@dataclass(frozen=True)
class Cost:
    """What one run costs; all in seconds, but memory and disk, which are bytes."""

    start: float  # loading and checking
    train: float  # all steps; fewer where patience ends the run early
    evaluate: float  # scoring and saving on the way
    end: float  # closing scores and the saved model
    features: float  # the baseline of the frozen network's features, which a process computes once
    memory: int | None  # the most at one time, above the level at the start; None where it cannot be measured
    disk: int

    @property
    def seconds(self) -> float:
        return self.start + self.train + self.evaluate + self.end


@dataclass(frozen=True)
class Timing:
    """What was measured of one kind of run, before it is scaled to a number of steps; in seconds."""

    start: float
    phases: list[tuple[int, float]]  # the step from which stages train, and its time by that of a late one
    batch: float  # the mean of an epoch's batches
    rows: int  # of an epoch
    splits: dict[str, float]  # scoring each of them, of train SEEN rows at most
    saving: float
    export: float
    features: float
    memory: int | None
    disk: int

    def cost(self, settings: Settings) -> Cost:
        """The cost of a run of these settings, with numbers for `auto`."""
        length = Length.of(settings.train, self.rows)
        ends = [*(begin for begin, _ in self.phases[1:]), length.total]
        steps = sum(
            max(0, min(end, length.total) - begin) * ratio
            for (begin, ratio), end in zip(self.phases, ends, strict=True)
        )
        closing = self.splits["test"] + self.splits["train"] + self.export
        on_the_way = length.evaluations * (self.splits["validation"] + self.saving)
        return Cost(
            self.start, self.batch * steps, on_the_way, closing, self.features, self.memory, self.disk
        )


def costs_of(ways: Sequence[Way], level: Level) -> dict[str, Cost | None]:
    """The cost of a run of each way, by its name; None where a source is trained first.

    Memory is counted from the `level` before the rows were read, as it is in a process of its own.

    Ways that differ in what does not change a step's time, as in their rates, are timed once.
    """
    known: dict[str, Timing] = {}
    found: dict[str, Cost | None] = {}
    for way in ways:
        settings = way.settings
        if settings.source is not None and settings.source.kind == "task":
            found[way.name] = None
            continue
        train, total = settings.train, way.length.total
        own = {name: value for name, value in settings.raw.items() if name not in ("seed", "train")}
        key = repr([own, train.batch_size, train.micro_batch, train.precision, train.warmup, total])
        if key not in known:
            known[key] = timing(settings, way.data.read, level)
        found[way.name] = known[key].cost(settings)
    return found


def timing(settings: Settings, data: TaskData, level: Level) -> Timing:
    """Measure a run of these settings, which have numbers for `auto`, on rows that are encoded."""
    data = copy.copy(data)
    data.__dict__.pop("objective", None)  # which is set up for a network
    settings = replace(settings, tracker="none", raw=settings.raw | {"tracker": "none"})
    with TemporaryDirectory(prefix="ftrun-plan-") as place, logged(Path(place) / LOG):
        accelerator = accelerator_of(settings)
        level.watch()
        begin = time.perf_counter()
        loop = begun(settings, data, Path(place) / "run", accelerator)
        start = time.perf_counter() - begin
        try:
            return measured(loop, start, level)
        finally:
            loop.run_directory.release()


def begun(settings: Settings, data: TaskData, path: Path, accelerator: Accelerator) -> Loop:
    """A run as it is before its first step, its preflight passed."""
    directory = open_directory(accelerator, path, settings, data)
    model = load_network(settings, data, directory)
    open_weights(settings, model)
    sources = open_sources(settings, data, model.to(accelerator.device))
    step = Step(model, data, settings, directory, accelerator)
    loop = Loop(step, data, open_tracker("none", directory), sources)
    remember(loop, settings, directory)
    preflight(loop)
    return loop


def measured(loop: Loop, start: float, level: Level) -> Timing:
    """The times of steps, evaluations and files; the run is of no use afterwards."""
    phases, batch = training_times(loop)
    splits = scoring_times(loop)
    loop.state.best = {"step": 0, loop.metric: 0.0}
    saving = seconds(loop.save, 1) + seconds(loop.save_best, 1)
    exported = seconds(lambda: saved(loop), 1)
    disk = sum(file.stat().st_size for file in loop.run_directory.path.rglob("*") if file.is_file())
    rows = len(loop.step.dataset.epoch(loop.settings.seed, 0))
    known = loop.settings.baselines and has_features(loop.data, loop.step.model)
    part = min(1.0, FITTED / len(loop.data.dataset("train")))
    features = splits["train"] * part + splits["validation"] + splits["test"] if known else 0.0
    splits["train"] *= min(1.0, SEEN / len(loop.data.dataset("train")))
    return Timing(start, phases, batch, rows, splits, saving, exported, features, level.risen(), disk)


def training_times(loop: Loop) -> tuple[list[tuple[int, float]], float]:
    """The phases of a Timing, and the mean seconds of an epoch's batches once all stages train."""
    step, train = loop.step, loop.settings.train
    places = step.dataset.epoch(loop.settings.seed, 0)
    lengths = [step.dataset[place].size for place in places]
    found = epoch_batches(lengths, train.batch_size, loop.settings.seed, 0, loop.pool)
    batches = sorted(found, key=lambda batch: padded(lengths, batch))
    step.wrapped.train()

    def take(batch: list[int], updates: int) -> None:
        step.state.updates = updates
        step.take([places[place] for place in batch])

    take(batches[-1], step.all_open)  # the longest: the most memory; and what is made once is made
    until = time.perf_counter() + PATIENCE
    chosen = spread(batches, QUANTILES)
    taken = [seconds(partial(take, batch, step.all_open), REPEATS, until) for batch in chosen]
    openings = {step.strategy.opens(stage, step.course) for stage in range(step.course.depth + 2)}
    phases = []
    for begin in sorted({0, *openings}):
        late = begin == step.all_open
        own = taken[1] if late else seconds(partial(take, chosen[1], begin), REPEATS, until)
        phases.append((begin, own / taken[1]))
    line = Line.through([padded(lengths, batch) for batch in chosen], taken)
    return phases, line.of([padded(lengths, batch) for batch in batches]) / len(batches)


def scoring_times(loop: Loop) -> dict[str, float]:
    """The seconds of scoring each split, by a long, a middling and a short batch of validation."""
    size = max(4 * loop.state.micro_batch, SMALLEST)
    widths, batches = {}, {}
    for split in SPLITS:
        lengths = [example.size for example in loop.data.dataset(split).examples]
        batches[split] = sorted_batches(lengths, size)
        widths[split] = [padded(lengths, batch) for batch in batches[split]]

    def score(split: str, batch: list[int]) -> None:
        dataset = loop.data.dataset(split)
        some = dataset.of([dataset[place] for place in batch])
        evaluate(loop.step.model, loop.data, some, size, loop.accelerator)

    score("test", batches["test"][0])  # the longest: the most memory
    chosen = spread(batches["validation"], (0.0, 0.5, 1.0))
    taken = [seconds(partial(score, "validation", batch), REPEATS) for batch in chosen]
    line = Line.through(spread(widths["validation"], (0.0, 0.5, 1.0)), taken)
    return {split: line.of(widths[split]) for split in SPLITS}


def saved(loop: Loop) -> None:
    """The trained network written and read back, as at the end of a run."""
    model, directory, data = loop.step.model, loop.run_directory.model_dir, loop.data
    validation = data.dataset("validation")
    export(model, directory, data.spec.auto_class)
    probe = validation.collate([validation[place] for place in range(min(PROBE, len(validation)))])
    difference(model, directory, data.spec.auto_class, probe)


def padded(lengths: Sequence[int], batch: Sequence[int]) -> int:
    """The tokens of a batch as long as its longest example."""
    return len(batch) * max(lengths[place] for place in batch)


def spread(values: Sequence[T], shares: Sequence[float]) -> list[T]:
    """The values at these shares of the way from the first to the last."""
    return [values[round(share * (len(values) - 1))] for share in shares]


def seconds(call: Callable[[], object], repeats: int, until: float = float("inf")) -> float:
    """The quickest of some calls; of one where the time is later than `until`."""
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
        if time.perf_counter() > until:
            break
    return min(found)
