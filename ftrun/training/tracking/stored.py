"""What services know a run by, and its settings as they take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrun.runs.run import Run

STORED = "tracker.json"  # the service's id of the run, under which a resumed run continues


def stored_id(run: Run, name: str) -> str | None:
    """The run's id at the service of this name; None before it was there."""
    return (run.read_json(STORED) or {}).get(name)


def store_id(run: Run, name: str, known: str) -> None:
    """Keep the run's id, beside those at other services."""
    run.write_json(STORED, (run.read_json(STORED) or {}) | {name: known})


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names: train.lr."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
