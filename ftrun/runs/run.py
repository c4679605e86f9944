"""A run directory: the config, metrics, checkpoints, model and result of one run."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, UserError, disk_full
from ftrun.runs.config import as_written, common, digest, merged, to_yaml, trained_with
from ftrun.runs.content import CURVES, TIMES, changes, lines_of, read_object
from ftrun.runs.files import (
    Lock,
    append_line,
    as_json,
    drop_torn_line,
    flush,
    is_locked,
    replace_locked,
    write_atomically,
)
from ftrun.runs.home import home_of, located, source_beside, source_found
from ftrun.runs.publish import CHECKPOINTS, METRICS, UNPUBLISHED, publish, taken_up
from ftrun.runs.publish import CONFIG as CONFIG
from ftrun.runs.publish import FAILURE as FAILURE
from ftrun.runs.publish import RESULT as RESULT

TIMING = "timing.jsonl"
DETAILS = "details.json"
PREDICTIONS = "predictions.jsonl"
LOG = "log.txt"  # what a run of a comparison says
PAUSE = "pause.json"  # where it waited at half, and its validation rows' losses there
SETTLED = "settled.json"  # what was asked for where config.yaml has the number found for it
ENVIRONMENT = "environment.json"
BEGINNING = (CONFIG, METRICS, SETTLED, LOG, ENVIRONMENT, "data.json")


class Run:
    """One run directory. Everything stored in it is relative, so that it may be moved and copied."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: Lock | None = None

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], config: dict[str, Any], beginning: dict[str, Any] | None = None
    ) -> Run:
        """Make the directory a run in one step, and hold it; see `publish`, which raises what this raises.

        `beginning`, name → value, are the JSON files that it has from then on.
        """
        run = cls(path)
        text = to_yaml(source_beside(config, run.path.resolve()))
        first = {name: as_json(value) for name, value in (beginning or {}).items()}
        run._lock = publish(run.path, text, first)
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """An existing run, finished or not."""
        run = cls(path)
        if not run.path.is_dir():
            raise ConfigError(f"{run.path} is not a directory; a run directory is expected")
        if not is_run(run.path):
            raise ConfigError(f"{run.path} is not a run directory: it has no {CONFIG} and {METRICS}")
        return run

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved settings, as they were written when the run began."""
        return source_found(self._written[0], self.path.resolve())

    @property
    def is_edited(self) -> bool:
        """Whether config.yaml has other settings than the run was trained with."""
        return not self._written[1]

    @cached_property
    def _written(self) -> tuple[dict[str, Any], bool]:
        return as_written(self.path / CONFIG)

    @property
    def asked(self) -> dict[str, Any]:
        """The settings as they were asked for, the same for all seeds: `auto` where `settle` put a number."""
        return merged(self.config, self.read_json(SETTLED) or {})

    def settle(self, found: dict[str, Any]) -> None:
        """Put numbers that were found for settings of `auto` into config.yaml; groups as nested dicts."""
        self.refuse_edited()
        stored = self.stored
        asked = merged(self.read_json(SETTLED) or {}, common(stored, found))
        self.write_json(SETTLED, asked)  # first: without it nobody knows what was asked for
        replace_locked(self.path / CONFIG, to_yaml(merged(stored, found)), self._lock)
        for name in ("config", "_written"):
            self.__dict__.pop(name, None)

    @property
    def stored(self) -> dict[str, Any]:
        """What config.yaml held when it was read, or settled, last."""
        return self._written[0]

    @property
    def key(self) -> str:
        """A hash of what its numbers follow from, its settings and its rows; its checkpoints have it too."""
        return digest([self.stored, (self.read_json("data.json") or {}).get("fingerprint")])[:16]

    def refuse_edited(self) -> None:
        """ConfigError where config.yaml has other settings than the run has trained with."""
        now, unchanged = as_written(self.path / CONFIG)
        if unchanged:
            return
        before = trained_with(self.checkpoints / "last")
        found = changes(before, now) if before else []
        raise ConfigError(
            f"{self.path / CONFIG} has changed since the run began{': ' if found else ''}"
            f"{', '.join(found[:4])}; a run goes on with the settings that it began with: undo the change, or"
            " start a new run"
        )

    @property
    def environment(self) -> dict[str, Any]:
        """Where it began, of environment.json; empty where there is none."""
        return self.read_json(ENVIRONMENT) or {}

    @property
    def home(self) -> Path:
        """The directory that the relative names of files in its settings count from."""
        return home_of(self.config, self.path, self.environment)

    @property
    def settings(self) -> dict[str, Any]:
        """The same, with settings that are newer than the run at their defaults, its files where they are."""
        from ftrun.settings.upgrade import completed

        return completed(located(self.config, self.home))

    @property
    def finished(self) -> bool:
        return (self.path / RESULT).is_file()

    @property
    def state(self) -> str:
        """finished, running, failed or interrupted; interrupted also when the process was killed."""
        if self.finished:
            return "finished"
        if self._lock is not None or is_locked(self.path / CONFIG):
            return "running"
        failure = self.read_json(FAILURE) or {}
        return "failed" if 0 < (failure.get("exit_code") or 0) < 128 else "interrupted"

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def model_dir(self) -> Path:
        return self.path / "model"

    def hold(self) -> None:
        """Claim the directory for this process until `release` or its end; forgets an earlier failure."""
        if self._lock is None:
            try:
                self._lock = Lock(self.path / CONFIG)
            except BlockingIOError:
                raise ConfigError(f"{self.path} is in use by another process; wait or stop it") from None
            except OSError as error:
                reason = UserError(f"cannot write to {self.path}: {error.strerror}")
                raise disk_full(error, self.path) or reason from None
            (self.path / UNPUBLISHED).unlink(missing_ok=True)
            taken_up(self.path)

    def release(self) -> None:
        """Give the directory back; harmless when it is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove_unless_begun(self) -> bool:
        """Remove the directory if it holds only what every run begins with; whether it was removed."""
        names = {file.name for file in self.path.iterdir()}
        if not names <= set(BEGINNING) or (self.path / METRICS).stat().st_size:
            return False
        for name in sorted(names, key=CONFIG.__ne__):  # which makes it a run
            (self.path / name).unlink()
        self.release()
        self.path.rmdir()
        return True

    def log(self, values: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; it is on the disk when this returns. Numbers only, no times."""
        append_line(self.path / METRICS, values)

    def log_time(self, *lines: dict[str, Any]) -> None:
        """Append lines to timing.jsonl: seconds, tokens or images per second, what the clock decides."""
        append_line(self.path / TIMING, *lines)

    def metrics(self) -> list[dict[str, Any]]:
        """The complete lines of metrics.jsonl, each with its step and numbers."""
        return lines_of(self.path / METRICS, CURVES)

    def timing(self) -> list[dict[str, Any]]:
        """The complete lines of timing.jsonl; empty when nothing was timed."""
        return lines_of(self.path / TIMING, TIMES)

    def result(self, *names: str) -> dict[str, Any]:
        """result.json of a finished run, which has all of these; UserError where it lacks one."""
        found = self.read_json(RESULT) or {}
        if missing := [name for name in names if found.get(name) is None]:
            raise UserError(f"{self.path / RESULT} is damaged: it has no {', '.join(missing)}")
        return found

    def metrics_size(self) -> int:
        """Bytes in metrics.jsonl; a checkpoint keeps it for `truncate_metrics`."""
        path = self.path / METRICS
        return path.stat().st_size if path.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Drop what came after the checkpoint that recorded `size`, and a last line that was cut off."""
        path, have = self.path / METRICS, self.metrics_size()
        if have < size:
            raise UserError(f"{path} has {have} bytes, but had {size} at the checkpoint; restore the file")
        if path.exists():
            with open(path, "r+b") as file:
                file.truncate(size)
                drop_torn_line(file)
                flush(file)

    def write_json(self, name: str, value: Any) -> None:
        """Write a file such as result.json whole or not at all."""
        assert name.endswith(".json"), name
        write_atomically(self.path / name, as_json(value))

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run; None when it has none of that name."""
        assert name.endswith(".json"), name
        return read_object(self.path / name)


def is_run(path: Path) -> bool:
    """Whether a directory is a run: settings, and what came of them."""
    return (path / CONFIG).is_file() and ((path / METRICS).is_file() or (path / RESULT).is_file())
