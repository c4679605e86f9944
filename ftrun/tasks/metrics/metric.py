"""A metric as a value: its name, which direction is better, and its unit."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ftrun.tasks import metrics

PREFIX = re.compile(r"(eval|test|train|source\d*)_")  # a split's, or an earlier task's


@dataclass(frozen=True)
class Metric:
    """What the reports must know of a number to rank it and to print it."""

    name: str
    direction: Literal["max", "min"]  # which is better
    unit: str = ""  # "%": a share of 1 that is printed as a percentage; "bits", "nats"; or none
    ends: tuple[float, float] = (-math.inf, math.inf)  # between which every value is

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.direction == "max" else -1

    @property
    def is_share(self) -> bool:
        """Whether the values are shares of 1, printed as percentages."""
        return self.unit == "%"

    @property
    def factor(self) -> int:
        """What a value is multiplied by to be printed."""
        return 100 if self.is_share else 1


CORRELATION = (-1.0, 1.0)  # the ends of one
ERROR = (0.0, math.inf)
LOSS = Metric("loss", "min")  # every task has one; its unit is that of the task's loss


def named(*found: Metric) -> dict[str, Metric]:
    """The metrics by their names."""
    return {metric.name: metric for metric in found}


@cache
def known() -> dict[str, Metric]:
    """Every metric stated by a family, that is by the `METRICS` of a file in this folder."""
    families = [f"{metrics.__name__}.{module.name}" for module in pkgutil.iter_modules(metrics.__path__)]
    found = named(LOSS)
    for family in families:
        found |= getattr(importlib.import_module(family), "METRICS", {})
    return found


def lookup(name: str | None) -> Metric:
    """The metric that a column of result.json or metrics.jsonl is of.

    The name may carry a prefix (eval_, test_, train_, source2_) and what it is restricted to behind it
    (f1_person, exact_match_answerable). A name that no family states, as of somebody's own task, is guessed:
    lower is better where it ends like an error, and it has no unit.
    """
    name = PREFIX.sub("", name or "", count=1)
    parts = name.split("_")
    for length in range(len(parts), 0, -1):
        if found := known().get("_".join(parts[:length])):
            return found
    lower = name.endswith(("loss", "perplexity", "bits_per_byte", "error", "mae", "rmse"))
    return Metric(name, "min" if lower else "max")
