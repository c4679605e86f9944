"""Settings to try for what a diagnosis finds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.reports.numbers import words
from ftrun.reports.rare import unbalanced

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.evidence import Evidence

MORE = 3  # times as many steps, or the rate: the spacing of a grid of rates (1e-4, 3e-4, 1e-3)


@dataclass(frozen=True)
class Remedy:
    """A setting and the value to try."""

    name: str
    value: Any
    now: Any = None
    said: str = ""  # instead of name=value, where the value is only a direction, or None: any other one
    auto: bool = False  # whether the value now came of `auto`

    def __str__(self) -> str:
        now = f" (now {_shown(self.now)}{', by auto' if self.auto else ''})" if self.now is not None else ""
        return (self.said or words({self.name: self.value})) + now


def _shown(value: Any) -> str:
    return words({"": value})[1:]


BESIDE = ("lora", "ia3", "vera", "adapter", "prompt", "prefix")  # the pretrained weights stay as they are


def against_overfitting(found: Evidence) -> list[Remedy]:
    """Settings that the run does not use yet."""
    config = found.config
    train, strategy, task = config["train"], config["strategy"], config["task"]
    tried = [Remedy("train.patience", 2)] if train.get("patience") is None and not found.solved else []
    if config.get("dropout") == 0:
        tried.append(Remedy("dropout", 0.1))
    if strategy in ("full", "scratch", "gradual_unfreeze", "lp_ft", "l2sp", "ewc", "replay"):
        tried += _strategies("freeze", "lora")
    elif strategy == "freeze" and isinstance(config.get("bottom"), int):
        tried += [Remedy("bottom", config["bottom"] + 1, config["bottom"]), *_strategies("lora")]
    elif strategy == "lora" and config.get("rank", 1) > 1:
        tried.append(Remedy("rank", max(1, config["rank"] // 2), config["rank"]))
    if strategy not in ("linear_probe", "l2sp"):
        tried += _strategies("linear_probe") if strategy in BESIDE else [Remedy("protect", "l2sp")]
    if "augment" in task and task["augment"] in ("none", False, None):
        tried.append(Remedy("task.augment", None, said="task.augment"))
    if task.get("subset") is not None:
        tried.append(Remedy("task.subset", None))
    return tried or ([] if found.solved else [Remedy("train.epochs", 0, said="fewer train.epochs")])


Larger = tuple[str, Callable[[int], int]]
LARGER: dict[
    str, tuple[Larger | None, tuple[str, ...]]
] = {  # a strategy → its own setting for more weights, by what it is changed, and the strategies above it
    "linear_probe": (None, ("full", "lora")),
    "bitfit": (None, ("lora", "full")),
    "norms": (None, ("lora", "full")),
    "ia3": (None, ("lora", "full")),
    "vera": (("rank", lambda rank: 2 * rank), ("lora", "full")),
    "lora": (("rank", lambda rank: 2 * rank), ("full",)),
    "adapter": (("bottleneck", lambda width: 2 * width), ("full",)),
    "prompt": (("tokens", lambda tokens: 2 * tokens), ("prefix", "lora", "full")),
    "prefix": (("tokens", lambda tokens: 2 * tokens), ("lora", "full")),
    "freeze": (("bottom", lambda layers: layers - 1), ("full",)),
    "gradual_unfreeze": (None, ("full",)),
    "lp_ft": (None, ("full",)),
    "l2sp": (None, ("full",)),
    "ewc": (None, ("full",)),
    "replay": (None, ("full",)),
}


def against_underfitting(found: Evidence, early: bool, wide: bool) -> list[Remedy]:
    """Settings for a longer, faster or larger training, in this order where it was ended `early`.

    Where the gap to validation is already `wide`, more weights would widen it.
    """
    config = found.config
    tried: list[Remedy] = []
    cut = Remedy("train.patience", None, config["train"].get("patience"))
    time = [] if found.solved else [cut if found.stopped else longer(found)]
    rate = [] if found.solved else tripled(found, "lr")
    if wide:
        return [*time, *rate]
    tried += balanced(found)
    own, others = LARGER.get(config["strategy"], (None, ()))
    if own and config.get(own[0]) and config.get("layers") is None:
        tried.append(Remedy(own[0], own[1](config[own[0]]), config[own[0]]))
    tried += _strategies(*others)
    if (config.get("protect") or {}).get("name", "none") != "none":
        tried.append(Remedy("protect", "none"))
    if config.get("dropout"):
        tried.append(Remedy("dropout", 0.0, config["dropout"]))
    if config["task"].get("subset") is not None:
        tried.append(Remedy("task.subset", None))
    return [*time, *rate, *tried] if early else [*tried, *rate, *time]


def against_nothing(found: Evidence) -> list[Remedy]:
    """Settings for a run that has learned nothing: its rate is too low or too high, or it has none."""
    weights = balanced(found)
    if found.solved:
        return [*weights, *_strategies(*LARGER.get(found.config["strategy"], (None, ()))[1])]
    rate, auto = found.config["train"].get("lr"), _by_auto(found, "lr")
    now = rate if isinstance(rate, float) else None  # of a composition it is auto, its runs' own
    if now is not None and not auto:
        return [*weights, Remedy("train.lr", "auto", now), longer(found)]
    return [*weights, Remedy("train.lr", None, now, "a different train.lr", auto), longer(found)]


def balanced(found: Evidence) -> list[Remedy]:
    """Weights by label, where nearly all rows have one label and the others do not weigh more yet."""
    if not found.classes or not found.labels:
        return []
    most = Counter(found.labels).most_common(1)[0][1] / len(found.labels)
    rare = unbalanced(most, found.config["task"])
    return [Remedy("task.balance", "weights", "none")] if rare else []


def longer(found: Evidence) -> Remedy:
    """Three times the budget, in the setting that limits it."""
    limited = isinstance(found.config["train"].get("max_steps"), int)
    known = tripled(found, "max_steps" if limited else "epochs")
    return known[0] if known else Remedy("train.epochs", math.inf, said="more train.epochs")


def tripled(found: Evidence, name: str) -> list[Remedy]:
    """A number of train, three times as large; nothing where the run has none."""
    now = found.config["train"].get(name)
    if isinstance(now, bool) or not isinstance(now, int | float):
        return []
    value = MORE * now if isinstance(now, int) else float(f"{MORE * now:.2g}")
    return [Remedy(f"train.{name}", value, now, auto=_by_auto(found, name))]


def _by_auto(found: Evidence, name: str) -> bool:
    return bool(found.asked.get("train", {}).get(name) == "auto")


def _strategies(*names: str) -> list[Remedy]:
    return [Remedy("strategy", name) for name in names]
