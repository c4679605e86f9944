"""One experiment, from its settings to its result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import memory_told
from ftrun.experiments.ending import reason_kept
from ftrun.experiments.finish import finish
from ftrun.experiments.lora.starting import merge_first
from ftrun.experiments.pooling import for_task, with_pooling
from ftrun.experiments.preparing import chosen, prepare, refuse_untrained
from ftrun.experiments.retention import features_of, measure, measure_before, remember
from ftrun.experiments.sources import load_network, open_sources
from ftrun.experiments.surroundings import (
    compare,
    keep_network,
    refuse_other_data,
    refuse_other_weights,
    surroundings,
)
from ftrun.models.load import outline
from ftrun.reports.pages.run_page import show_result
from ftrun.runs import clock
from ftrun.runs.files import free_space_check
from ftrun.runs.run import ENVIRONMENT, Run, is_run
from ftrun.runs.terminal import leads, say
from ftrun.runs.warm import once, stamps
from ftrun.settings.read import FIXED, read, without_hold
from ftrun.settings.schema import Settings
from ftrun.tasks.base import check_metric
from ftrun.tasks.data import TaskData
from ftrun.training.devices import agreed, describe, open_accelerator
from ftrun.training.gradients.compiling import compiled, keep_key, refuse_without_compiler
from ftrun.training.gradients.recompute import refuse_batch_norms
from ftrun.training.memory import MemoryMeter
from ftrun.training.optim import refuse_optimizer
from ftrun.training.pausing import asked, wishes
from ftrun.training.preflight import preflight, sound
from ftrun.training.processes.launchers import refuse_other_precision
from ftrun.training.processes.ranks import together
from ftrun.training.refit import loop_of
from ftrun.training.restoring import restore
from ftrun.training.sharding import home, refuse_unsplittable, split
from ftrun.training.step import Step
from ftrun.training.tracking.tracker import check, open_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator


@clock.account()
def run(settings: Settings, path: Path) -> float:
    """Train, score and save in a new run directory; returns the score that chose the best weights."""
    check(settings.tracker)
    merge_first(settings.model, settings.device)
    return in_all(begun, with_pooling(settings), path)


def begun(settings: Settings, path: Path) -> float:
    """The part of `run` that all processes have."""
    accelerator = accelerator_of(settings)
    refuse(settings, accelerator)
    data = read_data(settings)
    directory = open_directory(accelerator, path, settings, data)
    return recorded(settings, data, directory, accelerator, again=False)


def refuse(settings: Settings, accelerator: Accelerator) -> None:
    """ConfigError for what does not go with the network or the machine, before the data is read."""
    spec = settings.task.spec(None)
    content = [settings.model, stamps(settings.model.name), spec]
    bits = 16 if settings.half else 32
    shape = once("outline", [*content, bits], lambda: outline(settings.model, spec, bits=bits))
    settings.strategy.fits(shape)
    settings.strategy.chosen(settings, shape)
    if settings.half or settings.train.rates:
        refuse_untrained(settings, outline(settings.model, spec, any_size=True))
    refuse_optimizer(settings.train, shape)
    if settings.train.checkpoint_layers is True:
        refuse_batch_norms(shape)
    if settings.train.shard:
        found, _ = chosen(settings, shape)
        refuse_unsplittable(shape, found.strategy)
    if settings.train.compile:
        refuse_without_compiler(accelerator.device)


@clock.account()
def resume(path: Path) -> float:
    """Continue a run from its newest checkpoint as if it had never stopped."""
    directory = Run.open(path)
    if directory.finished:
        say(f"{path} is finished; its result:")
        if directory.is_edited:
            say(
                "warning: config.yaml has changed since it began, so its settings are not those of its scores"
            )
        show_result(directory)
        return best_score(directory)
    directory.refuse_edited()
    return in_all(gone_on, path)


def gone_on(path: Path) -> float:
    """The part of `resume` that all processes have."""
    directory = Run.open(path)
    settings = read(directory.settings)
    accelerator = accelerator_of(settings)
    if accelerator.is_main_process:
        directory.hold()
    if directory.finished:  # by another process, meanwhile
        directory.release()
        return resume(path)
    data = read_data(settings)
    refuse_other_data(directory, data, accelerator)
    return recorded(settings, data, directory, accelerator, again=True)


def in_all(call: Callable[..., float], *args: Any) -> float:
    """What the call returns, made by all processes, which know what is asked of it."""
    return together(wished, wishes(), call, args)


def wished(wishes: dict[str, Any], call: Callable[..., float], args: tuple[Any, ...]) -> float:
    with asked(**wishes):
        return call(*args)


def made(raw: dict[str, Any], place: Path, note: str) -> Run:
    """The finished run at `place`: there already, continued, or made now with `raw` after the note."""
    if not is_run(place):
        say(note)
        run(read(raw), place)
    elif not Run.open(place).finished:
        resume(place)
    return Run.open(place)


def accelerator_of(settings: Settings) -> Accelerator:
    """The accelerator for the settings' device and precision; ConfigError where others are asked for."""
    train = settings.train
    accelerator = open_accelerator(settings.device, train.precision, train.deterministic)
    refuse_other_precision(accelerator.mixed_precision)
    return accelerator


@clock.phase("data")
@memory_told("when the rows are read", "fewer rows, such as task.subset=10000")
def read_data(settings: Settings) -> TaskData:
    """The task's rows, whose notes are printed; refuses a metric that they do not have."""
    if settings.guard.needs_source and settings.source is not None and settings.source.kind == "pretraining":
        say("source: the pre-training of the checkpoint (to set another: source=RUN or source=TASK)")
    data = TaskData.read(settings.task, settings.seed)
    for note in data.rows.notes:
        say(note)
    check_metric(data, settings)
    return data


def open_directory(accelerator: Accelerator, path: Path, settings: Settings, data: TaskData) -> Run:
    """The run directory, made by the first process and known to all."""
    if accelerator.is_main_process:
        own = surroundings(path, describe(accelerator))
        beginning = {ENVIRONMENT: own, "data.json": {"fingerprint": data.rows.fingerprint}}
        directory = Run.create(path, settings.raw, beginning)
    (place,) = agreed(accelerator, str(path))
    return directory if accelerator.is_main_process else Run(place)


def recorded(
    settings: Settings, data: TaskData, directory: Run, accelerator: Accelerator, again: bool
) -> float:
    """The experiment, with the reason kept in the run directory when it ends early."""
    with reason_kept(directory, begun=again), memory_told("in this run"), sound(settings, data):
        return train_and_score(settings, data, directory, accelerator, again)


def train_and_score(
    settings: Settings, data: TaskData, directory: Run, accelerator: Accelerator, again: bool
) -> float:
    settings = with_trained_source(settings, directory, accelerator)
    model = load_network(settings, data, directory)
    if accelerator.is_main_process:
        (refuse_other_weights if again else keep_network)(directory, model)
    if settings.model.rounded:
        model.to(accelerator.device)  # which rounds it
    settings = prepare(settings, data, model, directory, accelerator)
    sources = open_sources(settings, data, model.to(home(settings, accelerator)))
    with accelerator.main_process_first(), clock.phase("train"):
        measure(model, data, sources, settings, directory)
    sharded = split(settings, model, sources, accelerator)
    tracking = open_tracker(settings.tracker if leads() else "none", directory)
    meter = MemoryMeter(accelerator.device, model)
    with tracking as tracker, closing(meter):
        step = Step(model, data, settings, directory, accelerator, sharded)
        loop = loop_of(settings.strategy)(step, data, tracker, sources)
        free_space_check(directory.path, disk_needed(step))
        with clock.phase("train"):
            remember(loop, settings, directory)
        first = features_of(loop)
        with compiled(step):
            if again:
                restore(loop)
                if accelerator.is_main_process:
                    compare(directory, accelerator, model, loop.state.step)
            else:
                with meter.aside():
                    preflight(loop)
            keep_key(step)
            if sources and not loop.state.before:
                measure_before(loop)
            loop.run()
        return finish(loop, settings, directory, meter, first)


def with_trained_source(settings: Settings, directory: Run, accelerator: Accelerator) -> Settings:
    """source=TASK becomes source=RUN: the task is trained first, the same way and without a hold."""
    if settings.source is None or settings.source.kind != "task":
        return settings
    place, raw = directory.path / "source", without_hold(settings.raw)
    if not settings.strategy.foldable:  # what it adds cannot be folded into the weights
        raw = {name: raw[name] for name in FIXED} | {"strategy": "full"}
        raw["train"] = raw["train"] | {"frozen_dtype": "fp32", "rates": None}
    there, finished = agreed(accelerator, is_run(place), is_run(place) and Run(place).finished)
    if not there:
        say(f"training the source first: {settings.source.node['name']}")
        run(read(for_task(settings, raw | {"task": settings.source.node})), place)
    elif not finished:
        resume(place)
    own = {"source": {"kind": "run", "run": str(place)}}
    return replace(read(settings.raw | own), task=settings.task, raw=settings.raw)


def disk_needed(step: Step) -> int:
    """Bytes: two of `last` (weights, average, two moments, the objective's), two of `best`, the model."""
    trained, total = step.model.counts()
    own = sum(value.nbytes for value in step.objective.buffers())
    copies = 8 if step.settings.train.average == "none" else 10
    return 4 * (copies * trained + (trained if step.model.adapter else total)) + 2 * own


def best_score(directory: Run) -> float:
    """The score that chose the best weights of a finished run."""
    metric = directory.result("metric")["metric"]
    return float(directory.result(metric)[metric])
