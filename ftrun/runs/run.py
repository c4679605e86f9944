"""A run directory: the config, metrics, checkpoints, model and result of one run."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, UserError
from ftrun.runs.config import as_written, common, digest, merged, to_yaml, trained_with
from ftrun.runs.content import CURVES, TIMES, changes, lines_of, read_object
from ftrun.runs.files import as_json, write_atomically
from ftrun.runs.home import home_of, located, source_beside, source_found
from ftrun.runs.leases.holder import Holder, holder
from ftrun.runs.leases.lease import Lease
from ftrun.runs.lines import Lines
from ftrun.runs.publish import CHECKPOINTS, METRICS, only_begun, publish, remove_begun, taken_up
from ftrun.runs.publish import CONFIG as CONFIG
from ftrun.runs.publish import ENVIRONMENT as ENVIRONMENT
from ftrun.runs.publish import FAILURE as FAILURE
from ftrun.runs.publish import LOG as LOG
from ftrun.runs.publish import RESULT as RESULT
from ftrun.runs.publish import SETTLED as SETTLED

TIMING = "timing.jsonl"
DETAILS = "details.json"
PREDICTIONS = "predictions.jsonl"
PAUSE = "pause.json"  # where it waited at half, and its validation rows' losses there


class Run:
    """One run directory. Everything stored in it is relative, so that it may be moved and copied."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lease: Lease | None = None
        self._metrics, self._timing = Lines(self.path / METRICS), Lines(self.path / TIMING)

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
        run._lease = publish(run.path, text, first)
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

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The settings as they were asked for, the same for all seeds: `auto` where `settle` put a number."""
        return merged(self.config, self.read_json(SETTLED) or {})

    def settle(self, found: dict[str, Any]) -> None:
        """Put numbers that were found for settings of `auto` into config.yaml; groups as nested dicts."""
        self.refuse_edited()
        stored = self.stored
        asked = merged(self.read_json(SETTLED) or {}, common(stored, found))
        self.write_json(SETTLED, asked)  # first: without it nobody knows what was asked for
        write_atomically(self.path / CONFIG, to_yaml(merged(stored, found)))
        for name in ("config", "_written", "asked"):
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
        if (by := self.holder()) is not None and by.lives:
            return "running"
        failure = self.read_json(FAILURE) or {}
        return "failed" if 0 < (failure.get("exit_code") or 0) < 128 else "interrupted"

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def model_dir(self) -> Path:
        return self.path / "model"

    def holder(self) -> Holder | None:
        """The process that makes it, or did last; None where none does, or it has finished."""
        return holder(self.path)

    @property
    def ours(self) -> bool:
        """Whether this process makes it, and none has taken it over as far as is known."""
        return self._lease is not None and self._lease.ours

    def hold(self) -> None:
        """Claim the directory for this process until `release` or its end; forgets an earlier failure.

        InUse where another process makes it.
        """
        if self._lease is None:
            self._lease = taken_up(self.path)

    def keep(self) -> None:
        """Before what only one process may write: InUse where another has taken the run over meanwhile."""
        if self._lease is not None:
            self._lease.renew()

    def release(self) -> None:
        """Give the directory back; harmless when it is not held."""
        if self._lease is not None:
            self._metrics.close()
            self._timing.close()
            self._lease.release(gone=self.finished or not is_run(self.path))
            self._lease = None

    def remove_unless_begun(self) -> bool:
        """Remove the directory if it holds only what every run begins with; whether it was removed."""
        if not only_begun(self.path):
            return False
        remove_begun(self.path)
        self.release()
        self.path.rmdir()
        return True

    def log(self, values: dict[str, Any]) -> None:
        """Append one line of numbers to metrics.jsonl; on the disk with the next checkpoint or the result."""
        if self._lease is not None:
            self._lease.check()
        self._metrics.append(values)

    def log_time(self, *lines: dict[str, Any]) -> None:
        """Append lines to timing.jsonl: seconds, tokens or images per second, what the clock decides."""
        self._timing.append(*lines)

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
        """Bytes in metrics.jsonl, on the disk; a checkpoint keeps it for `truncate_metrics`."""
        return self._metrics.size()

    def truncate_metrics(self, size: int) -> None:
        """Drop what came after the checkpoint that recorded `size`, and a last line that was cut off."""
        self._metrics.truncate(size)

    def write_json(self, name: str, value: Any) -> None:
        """Write a file such as result.json whole or not at all; the result as its one maker, or InUse."""
        assert name.endswith(".json"), name
        if name == RESULT:
            self.keep()
            self._metrics.sync()
            self._timing.sync()
        write_atomically(self.path / name, as_json(value))

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run; None when it has none of that name."""
        assert name.endswith(".json"), name
        return read_object(self.path / name)


def is_run(path: Path) -> bool:
    """Whether a directory is a run: settings, and what came of them."""
    return (path / CONFIG).is_file() and ((path / METRICS).is_file() or (path / RESULT).is_file())
