"""A run of a sweep, recorded in the ledger of its directory: finished runs are not repeated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftrun.errors import Interrupted, disk_full
from ftrun.runs.ledger import Ledger, key_of
from ftrun.runs.run import RESULT, Run, is_run
from ftrun.settings.settled import agree

Settings = dict[str, Any]


class Failed(float):
    """What the sweep's search is told of a run that failed, whatever its score would have been: NaN."""


def noted(raw: Settings, path: Path, ledger: Ledger, make: Callable[[Settings, Path], float]) -> float:
    """The score of a run that was finished with these settings and this code, or that `make` makes now.

    Runs are numbered as a sweep names them, so another sweep in the same directory, of more seeds, finds
    other runs under its numbers; its own are then put beside them.
    """
    key = key_of(raw)
    there = ledger.place_of(key)
    if there is not None:
        vacate(path)
        print(f"already finished: {os.path.relpath(there)}", flush=True)
        return score_of(Run.open(there))
    place = path if is_free(path, raw, ledger) else path.with_name(f"{path.name}-{key[:6]}")
    if place != path:
        vacate(path)
    try:
        found = make(raw, place)
    except Exception as error:
        if not isinstance(error, Interrupted) and disk_full(error) is None:
            ledger.write(key, place, "failed", str(error))
        raise
    ledger.write(key, place, "finished")
    return found


def is_free(path: Path, raw: Settings, ledger: Ledger) -> bool:
    """Whether no run is there, or one of these settings without a result or whose end is in no ledger."""
    if not is_run(path):
        return True
    done = Run(path).finished and ledger.ended(path)
    return not done and agree(chosen(raw), chosen(Run(path).settings))


def chosen(raw: Settings) -> Settings:
    """The settings without the network where `pretrain` makes it: a run names the one that was made."""
    pretrain = raw.get("pretrain") or {"name": "none"}
    return raw if pretrain["name"] == "none" else raw | {"model": None}


def vacate(path: Path) -> None:
    """Remove the directory that Hydra makes for every run, where nothing will be in it."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def score_of(run: Run) -> float:
    """What the sweep's search is told: the score that chose the weights, of a sequence the average."""
    result = run.read_json(RESULT)
    value = result.get(result.get("metric"), result.get("average"))
    return float("nan") if value is None else float(value)
