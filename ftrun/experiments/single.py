"""One experiment, told from its settings to its result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ftrun import CONF
from ftrun.data.card import lines as card_lines
from ftrun.errors import ConfigError, DataError, Interrupted, UserError
from ftrun.experiments.finish import finish
from ftrun.experiments.retention import features_of, measure_before, memory_of
from ftrun.experiments.sources import open_pasts, start, with_fresh_head, with_head_of
from ftrun.models.load import load, outline
from ftrun.reports.summary import show_result
from ftrun.runs.environment import describe as describe_environment
from ftrun.runs.run import FAILURE, RESULT, Run, free_space_check, is_run
from ftrun.runs.terminal import leads, say
from ftrun.settings.schema import FIXED, Settings, read
from ftrun.settings.seeds import stream
from ftrun.tasks.base import SPLITS, Task
from ftrun.training.devices import describe, open_accelerator
from ftrun.training.loop import Loop
from ftrun.training.optim import groups, plan
from ftrun.training.preflight import preflight
from ftrun.training.state import Course, Length
from ftrun.training.trackers import check, open_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ftrun.models.model import Model


def run(settings: Settings, path: Path) -> float:
    """Train, score and save in a new run directory; returns the score that chose the best weights."""
    check(settings.tracker)
    accelerator = open_accelerator(settings.device, settings.train.precision, settings.train.deterministic)
    settings.strategy.fits(outline(settings.model, settings.task))
    prepare_data(settings)
    directory = open_directory(accelerator, path, settings)
    return recorded(settings, directory, accelerator, again=False)


def resume(path: Path) -> float:
    """Go on with a run from its newest checkpoint as if it had never stopped."""
    directory = Run.open(path)
    settings = read(directory.settings)
    if directory.finished:
        say(f"{path} is finished; its result:")
        show_result(directory)
        return best_score(directory, settings)
    accelerator = open_accelerator(settings.device, settings.train.precision, settings.train.deterministic)
    if accelerator.is_main_process:
        directory.hold()
    prepare_data(settings)
    before = (directory.read_json("data.json") or {}).get("fingerprint", settings.task.fingerprint())
    if before != settings.task.fingerprint():
        raise DataError(f"{path}: the data has changed since this run began; start a new run with it")
    return recorded(settings, directory, accelerator, again=True)


def prepare_data(settings: Settings) -> None:
    if settings.guard.needs_source and settings.source is not None and settings.source.kind == "pretraining":
        say("source: what the checkpoint was pretrained for (for another: source=RUN or source=TASK)")
    for note in settings.task.read(settings.seed):
        say(note)
    settings.check_metric()  # some are scores of the data's labels


def open_directory(accelerator: Accelerator, path: Path, settings: Settings) -> Run:
    """The run directory, made by the first process and known to all."""
    if accelerator.is_main_process:
        directory = Run.create(path, settings.raw)
        directory.write_json("environment.json", describe_environment(describe(accelerator)))
        directory.write_json("data.json", {"fingerprint": settings.task.fingerprint()})
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        path = Path(broadcast_object_list([str(path)])[0])
    return directory if accelerator.is_main_process else Run(path)


def recorded(settings: Settings, directory: Run, accelerator: Accelerator, again: bool) -> float:
    """The experiment, with the reason kept in the run directory when it ends early."""
    with reason_kept(directory, begun=again):
        return train_and_score(settings, directory, accelerator, again)


@contextmanager
def reason_kept(directory: Run, to_go_on: str = "to go on", begun: bool = True) -> Iterator[None]:
    """Why a run ends early is kept in its directory, which is given back at the end.

    A directory that is not yet `begun` is taken away when settings or data are refused.
    """
    try:
        yield
    except BaseException as error:
        refused = isinstance(error, ConfigError | DataError) and not begun
        if leads() and not (refused and directory.removed_unless_begun()):
            message = str(error) or type(error).__name__
            with suppress(OSError):  # on a full disk the first error is the one to show
                directory.write_json(FAILURE, {"message": message, "exit_code": exit_code(error)})
        if isinstance(error, Interrupted):
            say(f"{to_go_on}: ftrun resume {directory.path}")
        raise
    finally:
        directory.release()


def exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, UserError) else 1


def train_and_score(settings: Settings, directory: Run, accelerator: Accelerator, again: bool) -> float:
    settings = with_trained_source(settings, directory, accelerator)
    model = prepare_model(settings, directory, accelerator)
    pasts = open_pasts(settings, model.to(accelerator.device))
    with closing(open_tracker(settings.tracker if leads() else "none", directory)) as tracker:
        loop = Loop(model, settings, directory, accelerator, tracker, pasts)
        free_space_check(directory.path, disk_needed(model, settings.task))
        with accelerator.main_process_first():
            settings.guard.remember(memory_of(loop, settings, directory))
        first = features_of(loop)
        if again:
            loop.restore()
        else:
            preflight(loop)
        if pasts and not loop.state.before:
            measure_before(loop)
        loop.run()
        return finish(loop, settings, directory, first)


def describe_data(settings: Settings, directory: Run) -> None:
    """The data card, once for a run: told, and kept in data.json beside the fingerprint."""
    kept = directory.read_json("data.json") or {"fingerprint": settings.task.fingerprint()}
    if "rows" not in kept and (card := settings.task.card()):
        directory.write_json("data.json", kept | card)
        for line in card_lines(card, settings.task.default_metric):
            say(line)


def with_trained_source(settings: Settings, directory: Run, accelerator: Accelerator) -> Settings:
    """source=TASK becomes source=RUN: the task is trained first, the same way and without a hold."""
    if settings.source is None or settings.source.kind != "task":
        return settings
    place, raw = directory.path / "source", settings.raw
    begun = is_run(place)
    accelerator.wait_for_everyone()  # all have looked before one of them makes it
    if not begun:
        plain = {name: raw[name] for name in FIXED}
        protecting = (CONF / f"protect/{settings.strategy_name}.yaml").is_file()
        own = (
            {"strategy": "full"}
            if protecting or settings.strategy_name == "adapter"
            else {n: v for n, v in raw.items() if n not in FIXED}
        )
        nothing = {"source": {"kind": "none"}, "protect": {"name": "none"}}
        say(f"the source first: {settings.source.node['name']}")
        run(read(plain | own | nothing | {"task": settings.source.node}), place)
    elif not Run.open(place).finished:
        resume(place)
    return replace(
        read(raw | {"source": {"kind": "run", "run": str(place)}}), task=settings.task, raw=settings.raw
    )


def prepare_model(settings: Settings, directory: Run, accelerator: Accelerator) -> Model:
    """The network as the strategy wants it, and every split encoded for it."""
    task, seed = settings.task, stream(settings.seed, "init")
    model = load(start(settings, directory.path), task, seed)
    if settings.source is not None and settings.source.kind == "run":
        run = Run.open(settings.source.run)
        if settings.scenario == "task" and task.new_head:
            model = with_fresh_head(model, task.auto_class, seed)
        elif task.new_head:
            model = with_head_of(model, run, read(run.settings).task)
    for split in SPLITS:
        say(task.encode(model.tokenizer, split))
    if accelerator.is_main_process:
        describe_data(settings, directory)
    with torch.random.fork_rng():
        torch.manual_seed(stream(settings.seed, "init", 1))
        settings.strategy.prepare(model)
    trained, total = model.counts()
    share = f"{trained:,} of {total:,} parameters train ({trained / total:.2%})"
    say(f"{settings.strategy_name}: {share}, {describe(accelerator)}")
    length = Length.of(settings.train, len(task.epoch_rows(settings.seed, 0)))
    course = Course(settings.train.lr, settings.schedule, length, model.depth)
    opens = {stage: settings.strategy.opens(stage, course) for stage in range(model.depth + 2)}
    for line in plan(model, groups(model, settings.train), settings.train.lr, opens, length.total):
        say(f"  {line}")
    micro, batch = settings.train.micro_batch, settings.train.batch_size
    if model.batch_norms() and micro is not None and micro < batch:
        say(f"batch normalisation: its statistics are of train.micro_batch={micro} images, not of {batch}")
    if settings.model.pooling != "head":
        say(f"model.pooling={settings.model.pooling}: transformers alone cannot load the saved model")
    return model


def disk_needed(model: Model, task: Task) -> int:
    """Bytes: two of `last` (weights, two moments, the task's own), two of `best`, and the exported model."""
    trained, total = model.counts()
    own = sum(value.nbytes for value in task.tensors().values())
    return 4 * (8 * trained + (trained if model.adapter else total)) + 2 * own


def best_score(directory: Run, settings: Settings) -> float:
    metric = settings.train.metric or f"eval_{settings.task.default_metric}"
    return float((directory.read_json(RESULT) or {})[metric])
