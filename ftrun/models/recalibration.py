"""The temperature and thresholds that calibrate a saved network's probabilities, kept in its config.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.runs.files import write_atomically
from ftrun.runs.terminal import say
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ftrun_calibration"  # plain transformers keeps it as one more attribute of the configuration


@dataclass(frozen=True)
class Recalibration:
    """Logits are divided by the temperature; where a row has several labels, each has its threshold."""

    temperature: float
    thresholds: dict[str, float] | None = None  # of calibrated probabilities, by label

    def line(self) -> str:
        """A sentence for whoever reads the scores."""
        own = "" if self.thresholds is None else ", and every label has its own threshold"
        return f"calibrated: the logits are divided by the temperature {self.temperature:.3g}{own}"


def recalibration_of(directory: Path) -> Recalibration | None:
    """What the network of a directory was calibrated with; ConfigError where that is damaged."""
    found = _read(directory / "config.json").get(KEY)
    try:
        return None if found is None else Recalibration(**found)
    except TypeError:
        raise ConfigError(
            f"{directory / 'config.json'}: {KEY} has temperature and thresholds, not {found}"
        ) from None


def keep(directory: Path, found: Recalibration | None) -> None:
    """Write it into config.json, whole or not at all; None takes it away, byte for byte."""
    path = directory / "config.json"
    config = {name: value for name, value in _read(path).items() if name != KEY}
    if found is not None:
        config[KEY] = asdict(found)
    # as transformers writes it
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def drop(directory: Path, why: str, output: Path) -> None:
    """Take away what was fitted on other logits, and say so; `output` is where the network will lie."""
    if recalibration_of(directory) is not None:
        keep(directory, None)
        say(f"{why} the calibration is not kept; to fit one: {command('calibrate', output)}")


def _read(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    return config
