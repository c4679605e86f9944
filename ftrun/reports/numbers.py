"""Numbers, settings and names as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ftrun.tasks.metrics.metric import lookup

MOST = 200  # lines of a section, the best ways first: nobody reads more, and the csv file has every run


def cut(lines: Sequence[str], of: int | None = None) -> list[str]:
    """The first lines, and in another one how many more there are; `of` so many where not all were made."""
    more = (len(lines) if of is None else of) - MOST
    return [*lines[:MOST], *([f"{more:,} more are not told here"] if more > 0 else [])]


def short(model: str) -> str:
    """The last part of a path, a Hub name or embedded:NAME."""
    return model.rstrip("/").replace(":", "/").rsplit("/", 1)[-1]


def distinct(names: Iterable[str], width: int) -> dict[str, str]:
    """Each name in at most `width` characters, cut where no two come to be the same; numbered if need be."""
    known = list(dict.fromkeys(names))
    for tail in range(width):
        cut = {name: _cut(name, width, tail) for name in known}
        if len(set(cut.values())) == len(known):
            return cut
    return {name: _cut(f"{number} {name}", width, 0) for number, name in enumerate(known, 1)}


def _cut(name: str, width: int, tail: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def filled(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, broken at blanks, or behind commas and brackets."""
    words = _lines(re.findall(r"[^ ]* ?", text), width)
    parts = _lines(re.findall(r"[^ ,\[]*[ ,\[]?", text), width)
    whole = all(len(word) <= width for word in text.split())
    return words if whole and len(words) <= len(parts) else parts


def _lines(parts: list[str], width: int) -> list[str]:
    lines = [""]
    for part in parts:
        for piece in [part[start : start + width] for start in range(0, len(part), width)]:
            if len((lines[-1] + piece).rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def words(settings: dict[str, Any]) -> str:
    """Settings as one would type them: rank=4 targets=[query,value]."""
    return " ".join(f"{name}={_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def score(value: float | None, metric: str | None, spread: float | None = None) -> str:
    """84.4 %, with its standard deviation 84.4 ± 0.3 %; a metric that is not a share as a plain number."""
    if value is None:
        return ""
    percent, factor = lookup(metric).is_share, lookup(metric).factor
    form = ".1f" if percent else ".3f" if 0.01 <= abs(value) < 1000 else ".3g"
    text = format(factor * value, form)
    if spread is not None:
        text += f" ± {format(factor * spread, '.1f' if percent else '.2g')}"
    return f"{text} %" if percent else text


def between(low: float, high: float, metric: str | None) -> str:
    """The ends of an interval: 82.1 to 86.5 %."""
    return f"{score(low, metric).removesuffix(' %')} to {score(high, metric)}"


def points(value: float, metric: str) -> str:
    """A difference of two scores: 3.9 points, or 0.031 of a metric that is no share."""
    if lookup(metric).is_share:
        text = f"{100 * value:.2g}"
        return f"{text} point{'' if text == '1' else 's'}"
    return f"{value:.2g}"


def share(value: float | None) -> str:
    """100 %, 3.38 %, 0.0673 %."""
    return "" if value is None else f"{100 * value:.3g} %"


def count(value: float | None) -> str:
    """512, 73.7 k, 2.18 M."""
    return "" if value is None else _scaled(value, ("", " k", " M", " G", " T"))


def size(value: float | None) -> str:
    """512 MB, 1.25 GB."""
    return "" if value is None else _scaled(value, (" B", " kB", " MB", " GB", " TB"))


def duration(seconds: float | None) -> str:
    """8.2 s, 72 s, 4:05 min, 2:05 h."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5999.5:
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d} min"
    return f"{round(seconds / 60) // 60}:{round(seconds / 60) % 60:02d} h"


def roughly(seconds: float) -> str:
    """40 s, 6 min, 2.5 h: for a time that is only estimated."""
    if seconds < 95:
        return f"{max(10, 10 * round(seconds / 10))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}{units[-1]}"
