"""Where a run ran: versions, machine, git commit and command line, for environment.json."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

from ftrun.runs.content import changes
from ftrun.runs.ledger import code_version
from ftrun.runs.warm import once

PACKAGES = (
    "ftrun", "torch", "transformers", "peft", "accelerate", "datasets", "safetensors", "tokenizers",
    "hydra-core", "omegaconf", "numpy", "scikit-learn",
)  # fmt: skip

# what a run's numbers may depend on beside its settings and its rows
DECIDES = ("device", "cpu", "python", "machine", "attention", "versions", "code")


def describe(device: str) -> dict[str, Any]:
    """What is needed to repeat a run elsewhere, and to notice that it goes on in another environment."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "directory": os.getcwd(),  # which the relative names of files in its settings count from
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": {name: _version(name) for name in PACKAGES},
        "code": code_version()[:16],  # of ftrun
        "git": once("git", [os.getcwd()], git_state),
    }


def resumed(known: dict[str, Any], now: dict[str, Any], step: int) -> tuple[dict[str, Any], list[str]]:
    """environment.json of a run that goes on at this step, and what has another value than before.

    What an earlier version did not record is not compared. `changes` holds the new values, with the step from
    which on they are true.
    """
    latest = dict(known)
    for change in known.get("changes", []):
        latest |= change
    both = [name for name in DECIDES if name in latest and name in now]
    other = {name: now[name] for name in both if now[name] != latest[name]}
    if not other:
        return known, []
    found = changes({name: latest[name] for name in other}, other)
    about = {"step": step, "started": now["started"], "command": now["command"]}
    return known | {"changes": [*known.get("changes", []), about | other]}, found


def git_state() -> dict[str, Any] | None:
    """Commit of the current working directory and whether it has uncommitted changes; None outside of git."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet, or a slow disk
        return None
    return done.stdout.strip()


@cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
