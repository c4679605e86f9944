"""What a run will cost: a few steps and evaluations of the real network on real rows, timed and forgotten.

A run is begun in a directory of its own that is removed: loaded, checked by the preflight, a few batches of
different lengths taken, scored and saved. From these follow seconds as a line in the padded tokens of a
batch, memory as the highest level that was seen, and disk as what was written.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from ftrun.data.batching import EpochBatches, sorted_batches
from ftrun.experiments.finish import SEEN
from ftrun.experiments.frozen import FITTED, has_features
from ftrun.experiments.preparing import open_weights
from ftrun.experiments.retention import remember
from ftrun.experiments.single import accelerator_of, open_directory
from ftrun.experiments.sources import load_network, open_sources
from ftrun.experiments.study.cost import Cost, Line, Timing
from ftrun.models.reload import difference
from ftrun.models.save import export
from ftrun.runs.run import LOG
from ftrun.runs.terminal import logged
from ftrun.tasks.dataset import SPLITS, sizes_of
from ftrun.training import checkpoint
from ftrun.training.evaluate import SMALLEST, evaluate
from ftrun.training.loop import Loop
from ftrun.training.memory import MemoryMeter
from ftrun.training.preflight import PROBE, preflight
from ftrun.training.solve import Solve
from ftrun.training.step import Step
from ftrun.training.tracking.tracker import open_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.experiments.planning import Way
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData

T = TypeVar("T")

QUANTILES = (0.1, 0.5, 0.9)  # of the batches by length: those that are timed
REPEATS = 2  # of each; the quicker one counts
SAMPLED = 4096  # batches of an epoch whose lengths are looked at
LOOKED_AT = 5_000  # examples of a split, about, whose lengths are read
LONG = 0.3  # seconds of a call that is not repeated
PATIENCE = 10.0  # seconds of timed steps, after which each batch left is taken once


def costs_of(ways: Sequence[Way]) -> dict[str, Cost | None]:
    """The cost of a run of each way, by its name; None where a source is trained first.

    Ways that differ in what does not change a step's time, as in their rates, are timed once.
    """
    known: dict[str, Timing] = {}
    found: dict[str, Cost | None] = {}
    for way in ways:
        settings = way.settings
        if settings.source is not None and settings.source.kind == "task":
            found[way.name] = None
            continue
        train, total = settings.train, way.steps
        own = {name: value for name, value in settings.raw.items() if name not in ("seed", "train")}
        key = repr([own, train.batch_size, train.micro_batch, train.precision, train.warmup, total])
        if key not in known:
            known[key] = timing(settings, way.data.read)
        found[way.name] = known[key].cost(settings)
    return found


def timing(settings: Settings, data: TaskData) -> Timing:
    """Measure a run of these settings, which have numbers for `auto`, on rows that are encoded."""
    data = copy.copy(data)
    data.__dict__.pop("objective", None)  # which is set up for a network
    settings = replace(settings, tracker="none", raw=settings.raw | {"tracker": "none"})
    with TemporaryDirectory(prefix="ftrun-plan-") as place, logged(Path(place) / LOG):
        accelerator = accelerator_of(settings)
        begin = time.perf_counter()
        loop, meter = begun(settings, data, Path(place) / "run", accelerator)
        start = time.perf_counter() - begin
        try:
            return measured(loop, start, meter)
        finally:
            meter.close()
            loop.run_directory.release()


def begun(
    settings: Settings, data: TaskData, path: Path, accelerator: Accelerator
) -> tuple[Loop, MemoryMeter]:
    """A run as it is before its first step, its preflight passed, and what measures its memory."""
    directory = open_directory(accelerator, path, settings, data)
    model = load_network(settings, data, directory)
    open_weights(settings, data, model, accelerator)
    sources = open_sources(settings, data, model.to(accelerator.device))
    meter = MemoryMeter(accelerator.device, model)
    step = Step(model, data, settings, directory, accelerator)
    kind = Solve if settings.strategy.solved else Loop
    loop = kind(step, data, open_tracker("none", directory), sources)
    remember(loop, settings, directory)
    with meter.aside():
        preflight(loop)
    return loop, meter


def measured(loop: Loop, start: float, meter: MemoryMeter) -> Timing:
    """The times of steps, evaluations and files; the run is of no use afterwards."""
    phases: list[tuple[int, float]] = []
    batch = 0.0
    if loop.settings.strategy.solved:
        with meter.aside():  # it scores by features
            splits = scoring_times(loop)
    else:
        splits = scoring_times(loop)
        phases, batch = training_times(loop)
    loop.state.best = {"step": 0, loop.metric: 0.0}
    saving = seconds(loop.save, 1) + seconds(loop.save_best, 1)
    exported = seconds(lambda: saved(loop), 1)
    disk = sum(file.stat().st_size for file in loop.run_directory.path.rglob("*") if file.is_file())
    rows = len(loop.step.dataset.epoch(loop.settings.seed, 0))
    known = loop.settings.baselines and has_features(loop.data, loop.step.model)
    passes = splits["train"] + splits["validation"]
    part = min(1.0, FITTED / len(loop.data.dataset("train")))
    features = splits["train"] * part + splits["validation"] + splits["test"] if known else 0.0
    splits["train"] *= min(1.0, SEEN / len(loop.data.dataset("train")))
    if loop.step.kept.rows is not None:  # every row is computed once
        start += passes
    return Timing(start, phases, batch, rows, splits, saving, exported, passes, features, meter.bytes, disk)


def training_times(loop: Loop) -> tuple[list[tuple[int, float]], float]:
    """The phases of a Timing, and the mean seconds of an epoch's batches once all stages train."""
    step, train = loop.step, loop.settings.train
    places = step.dataset.epoch(loop.settings.seed, 0)
    lengths = sizes_of(step.dataset, places)
    found = EpochBatches(lengths, train.batch_size, loop.settings.seed, 0, loop.pool)[:SAMPLED]
    batches = sorted(found, key=lambda batch: padded(lengths, batch))
    step.wrapped.train()

    def take(batch: list[int], updates: int) -> None:
        step.state.updates = updates
        step.take([places[place] for place in batch])
        step.settle()

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
    """The seconds of scoring each split, by the longest batch of all and two of validation."""
    size = max(4 * loop.state.micro_batch, SMALLEST)
    widths, batches, shares = {}, {}, {}  # the share of the examples that are looked at
    for split in SPLITS:
        examples = loop.data.dataset(split).examples
        places = range(0, len(examples), max(1, len(examples) // LOOKED_AT))
        shares[split] = len(places) / len(examples)
        lengths = [examples[place].size for place in places]
        batches[split] = sorted_batches(lengths, size)
        widths[split] = [padded(lengths, batch) for batch in batches[split]]

    def score(split: str, batch: list[int]) -> None:
        dataset = loop.data.dataset(split)
        some = dataset.of([dataset[place] for place in batch])
        evaluate(loop.step.model, loop.data, some, size, loop.accelerator)

    longest = max(SPLITS, key=lambda split: widths[split][0])  # the most memory
    middle = spread(batches["validation"], (0.5, 1.0))
    chosen = [(longest, batches[longest][0]), *(("validation", batch) for batch in middle)]
    taken = [seconds(partial(score, *pair), REPEATS) for pair in chosen]
    line = Line.through([widths[longest][0], *spread(widths["validation"], (0.5, 1.0))], taken)
    return {split: line.of(widths[split]) / shares[split] for split in SPLITS}


def saved(loop: Loop) -> None:
    """The best weights loaded, the network written and read back, as at the end of a run."""
    model, directory, data = loop.step.model, loop.run_directory.model_dir, loop.data
    best = loop.run_directory.checkpoints / "best"
    checkpoint.read_weights(best, model, loop.step.parameters)
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
    """The quickest of some calls; of one where it takes long, or the time is later than `until`."""
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
        if found[-1] > LONG or time.perf_counter() > until:
            break
    return min(found)
