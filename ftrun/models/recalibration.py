"""The temperature and thresholds that calibrate a saved network's probabilities, kept in its config.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, told
from ftrun.models.files.reading import CONFIG, stored
from ftrun.runs.files import write_atomically
from ftrun.runs.manifest import CALIBRATION
from ftrun.runs.terminal import say
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from pathlib import Path

KEY = CALIBRATION  # plain transformers keeps it as one more attribute of the configuration


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
    found = stored(directory / CONFIG).get(KEY)
    if found is None:
        return None
    if not is_whole(found):
        raise ConfigError(
            f"{directory / CONFIG}: {KEY} has temperature and thresholds, not {told(ValueError(found), 100)};"
            f" to fit them anew: {command('calibrate', directory.parent)}"
        )
    return Recalibration(**found)


def is_whole(found: Any) -> bool:
    """Whether this is what `keep` writes."""
    if not isinstance(found, dict) or not found.keys() <= {"temperature", "thresholds"}:
        return False
    warmth: Any = found.get("temperature")
    own = found.get("thresholds") or {}
    numbers = [warmth, *own.values()] if isinstance(own, dict) else [None]
    return all(isinstance(each, int | float) for each in numbers) and warmth > 0


def keep(directory: Path, found: Recalibration | None) -> None:
    """Write it into config.json, whole or not at all; None takes it away, byte for byte."""
    path = directory / CONFIG
    config = {name: value for name, value in stored(path).items() if name != KEY}
    if found is not None:
        config[KEY] = asdict(found)
    # as transformers writes it
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def drop(directory: Path, why: str, output: Path) -> None:
    """Take away what was fitted on other logits, and say so; `output` is where the network will lie."""
    if recalibration_of(directory) is not None:
        keep(directory, None)
        say(f"{why} the calibration is not kept; to fit one: {command('calibrate', output)}")
