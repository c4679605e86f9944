"""Settings whose value is auto, which a run settles when it begins and keeps in its config.yaml."""

from __future__ import annotations

from typing import Any


def agree(asked: Any, settled: Any) -> bool:
    """Whether a run's settings are those that were asked for; auto agrees with whatever came of it."""
    if asked == "auto":
        return True
    if isinstance(asked, dict) and isinstance(settled, dict):
        return asked.keys() == settled.keys() and all(agree(asked[name], settled[name]) for name in asked)
    return bool(asked == settled)
