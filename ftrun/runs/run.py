"""A run directory: the config, metrics, checkpoints, model and result of one run."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from ftrun.errors import ConfigError, UserError, disk_full
from ftrun.runs.files import (
    Lock,
    append_line,
    as_json,
    drop_torn_line,
    flush,
    is_locked,
    read_lines,
    replace_locked,
    write_atomically,
)
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
BEGINNING = (CONFIG, METRICS, SETTLED, LOG, "environment.json", "data.json")


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
        text = _to_yaml(_source_beside(config, run.path.resolve()))
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
        return _source_found(from_yaml(self.path / CONFIG), self.path.resolve())

    @property
    def asked(self) -> dict[str, Any]:
        """The settings as they were asked for, the same for all seeds: `auto` where `settle` put a number."""
        return _merged(self.config, self.read_json(SETTLED) or {})

    def settle(self, found: dict[str, Any]) -> None:
        """Put numbers that were found for settings of `auto` into config.yaml; groups as nested dicts."""
        stored = from_yaml(self.path / CONFIG)
        asked = _merged(self.read_json(SETTLED) or {}, _common(stored, found))
        self.write_json(SETTLED, asked)  # first: without it nobody knows what was asked for
        replace_locked(self.path / CONFIG, _to_yaml(_merged(stored, found)), self._lock)
        self.__dict__.pop("config", None)

    @property
    def settings(self) -> dict[str, Any]:
        """The same, with settings that are newer than the run at their defaults."""
        from ftrun.settings.upgrade import completed

        return completed(self.config)

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
        return "failed" if 0 < failure.get("exit_code", 0) < 128 else "interrupted"

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
        """The complete lines of metrics.jsonl."""
        return read_lines(self.path / METRICS)

    def timing(self) -> list[dict[str, Any]]:
        """The complete lines of timing.jsonl; empty when nothing was timed."""
        return read_lines(self.path / TIMING)

    def metrics_size(self) -> int:
        """Bytes in metrics.jsonl; a checkpoint keeps it for `truncate_metrics`."""
        path = self.path / METRICS
        return path.stat().st_size if path.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Drop what came after the checkpoint that recorded `size`, and a last line that was cut off."""
        path = self.path / METRICS
        have = self.metrics_size()
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
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}") from None


def is_run(path: Path) -> bool:
    """Whether a directory is a run: settings, and what came of them."""
    return (path / CONFIG).is_file() and ((path / METRICS).is_file() or (path / RESULT).is_file())


def _source_beside(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A source run that stands beside this one is stored as such, so that both may be moved together."""
    source = config.get("source") or {}
    if not source.get("run") or Path(source["run"]).resolve().parent != path.parent:
        return config
    return config | {"source": source | {"run": f"../{Path(source['run']).name}"}}


def _source_found(config: dict[str, Any], path: Path) -> dict[str, Any]:
    source = config.get("source") or {}
    if not str(source.get("run", "")).startswith("../"):
        return config
    return config | {"source": source | {"run": str((path / source["run"]).resolve())}}


def _merged(config: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The config with the values of another, group by group."""
    return config | {
        name: _merged(config.get(name, {}), value) if isinstance(value, dict) else value
        for name, value in other.items()
    }


def _common(config: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The config's own values for what another has."""
    return {
        name: _common(config[name], value) if isinstance(value, dict) else config[name]
        for name, value in other.items()
    }


def _to_yaml(config: dict[str, Any]) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(config)


def from_yaml(path: Path) -> dict[str, Any]:
    import yaml  # ten times as fast as OmegaConf.load, for a report of many runs

    try:
        config = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is damaged: it holds no settings")
    return config
