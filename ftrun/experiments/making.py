"""One run from its resolved settings, however it was asked for."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.data.sources import look
from ftrun.errors import UserError
from ftrun.reports.numbers import short
from ftrun.runs.collector import importing
from ftrun.runs.home import files_of
from ftrun.runs.publish import Begun
from ftrun.runs.run import Run, is_run
from ftrun.runs.terminal import say
from ftrun.runs.typed import command, setting
from ftrun.settings.read import checked, inner, read
from ftrun.training.processes.ranks import continued_by

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings


def one(raw: dict[str, Any], path: Path, again: bool) -> float:
    """One run; with `again`, one of the same settings that is there already is continued."""
    settings = checked(raw)
    if not again:
        say(f"{opening(settings)}: {os.path.relpath(path)}")
    if not is_run(path):
        looked(raw)
    with importing("torch"):
        import transformers.modeling_utils  # noqa: F401  # with its compiler; every network needs it later

        from ftrun.experiments import start
    from ftrun.settings.settled import agree

    if raw["pretrain"]["name"] != "none":
        from ftrun.experiments.pretrain import pretrained

        own = [word for word in sys.argv[1:] if not word.startswith("hydra.run.dir=")]
        whole = command(*own, setting("hydra.run.dir", path))
        with continued_by(f"to continue the whole: {whole}"):
            raw = pretrained(raw, beside=path.parent if again else path)
        settings = read(raw)
    if again and not is_run(path):
        with suppress(Begun):  # by another process, which has ended since
            return start.run(settings, path)
    if again and is_run(path) and agree(raw, Run(path).settings):
        return start.resume(path)
    return start.run(settings, path)


def refusal(raw: dict[str, Any], path: Path) -> str:
    """Why a run of these settings cannot be made at `path`, as far as they and the names of its files say."""
    try:
        checked(raw)
        if not is_run(path):
            looked(raw)
    except UserError as error:
        return str(error)
    return ""


def looked(raw: dict[str, Any]) -> None:
    """Refuse a run whose files are not there, before anything heavy is imported."""
    compose = raw["compose"]
    others = raw["source"], raw["pretrain"].get("task"), compose, compose.get("text")
    tasks = [*(raw["sequence"] or []), *(raw["task"].get("tasks") or [])]
    look(raw["task"], *tasks, *others)


def examined(raw: dict[str, Any]) -> list[str]:
    """Refuse what a run of these settings would refuse before its first step; the names of what it looks at.

    These are its data files, whose rows are read, its network, and the runs that it starts from; nothing is
    written.
    """
    settings = checked(raw)
    looked(raw)
    with importing("torch"):
        from ftrun.experiments.pooling import pooled
        from ftrun.experiments.single import accelerator_of, read_data, refuse
        from ftrun.experiments.sources import chain
        from ftrun.models.files.locate import unmerged

    for each in (settings, *(read(node) for _, node in inner(settings))):
        if each.source is not None and each.source.kind == "run":
            chain(each.source.run)
        if each.model.init == "random" or unmerged(each.model.name) is None:  # else a run merges it first
            refuse(pooled(each)[0], accelerator_of(each))
        read_data(each)
    source = settings.source.run if settings.source is not None else ""
    return [*dict.fromkeys(name for name in (*files_of(raw), source) if name)]


def opening(settings: Settings) -> str:
    """What a run is, in the order of its command line; said before anything heavy is imported."""
    model = short(settings.model.name)
    return f"{settings.strategy_name} · {settings.task.name} · {model} · seed {settings.seed}"
