"""What of runs can go: what no later command needs, and what a run of the same settings makes anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ftrun.errors import InUse, UserError
from ftrun.runs import cache
from ftrun.runs.leases import holder
from ftrun.runs.publish import CHECKPOINTS
from ftrun.runs.run import Run

CHECKPOINT = "checkpoints of finished runs"
FAILED = "failed runs"
CACHED = "caches"
WHY = {
    CHECKPOINT: "what a run goes on from; model/ and all results stay",
    FAILED: "with all that they have written",
    CACHED: "computed again when a run needs them",
}


@dataclass(frozen=True)
class Removable:
    """One directory or file that can go, and of which kind it is."""

    kind: str
    place: Path

    def remove(self) -> bool:
        """Remove it; False where a process is using it by now, or it is gone."""
        if self.kind == CACHED:
            return removed_file(self.place)
        run = Run(self.place.parent if self.kind == CHECKPOINT else self.place)
        if self.kind == CHECKPOINT:
            if not whole(run):
                return False
            shutil.rmtree(self.place, ignore_errors=True)
            return not self.place.exists()
        try:
            run.hold()
        except (InUse, UserError):
            return False
        try:
            shutil.rmtree(self.place, ignore_errors=True)
        finally:
            run.release()
        return not self.place.exists()


def removable(paths: Iterable[Path], failed: bool, caches: bool) -> list[Removable]:
    """What can go of the runs at these paths; failed runs and the user's caches only where asked for."""
    found = []
    for path in paths:
        run = Run(path)
        if whole(run):
            found += [Removable(CHECKPOINT, run.checkpoints)] if (path / CHECKPOINTS).is_dir() else []
        elif failed and run.state == "failed":
            found.append(Removable(FAILED, path))
    return found + ([Removable(CACHED, file) for file in unused()] if caches else [])


def whole(run: Run) -> bool:
    """Whether a run has finished and what it left can be read: its result and its model."""
    try:
        return run.finished and bool(run.result()) and run.model_dir.is_dir()
    except UserError:
        return False


def unused() -> list[Path]:
    """Cached files that no process has used lately, as `cache.make_room` tells it."""
    top = cache.directory("")
    if not top.is_dir():
        return []
    now = holder.now(top)
    return [
        file
        for file in sorted(top.rglob("*"))
        if file.is_file() and now - file.stat().st_mtime > holder.SILENT
    ]


def removed_file(file: Path) -> bool:
    try:
        file.unlink()
    except OSError:
        return False
    return True
