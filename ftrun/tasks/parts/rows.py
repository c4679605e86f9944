"""Rows that know the task that has read them, and whether they are those of a file to be answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftrun.tasks.dataset import Rows


@dataclass
class TaskRows(Rows):
    """Rows of three splits; without `answered`, those of a file to be answered."""

    task: Any = None
    answered: bool = True
    source: str = ""  # of a file to be answered
