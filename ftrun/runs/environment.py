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

from ftrun.runs.warm import once

PACKAGES = (
    "ftrun", "torch", "transformers", "peft", "accelerate", "datasets", "safetensors", "tokenizers",
    "hydra-core", "omegaconf", "numpy", "scikit-learn",
)  # fmt: skip


def describe(device: str) -> dict[str, Any]:
    """What is needed to repeat a run elsewhere; no number of the run depends on it."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": once("git", [os.getcwd()], git_state),
    }


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
