"""The smallest changes of settings with which a run fits in a memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.experiments.study.fitting import PAIR, need_of, needed_bytes, sizes_of
from ftrun.settings.read import FIXED, read
from ftrun.settings.upgrade import preset

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings

SHARDS = (PAIR, 4, 8, 16, 32, 64)
HALF: dict[str, Any] = {"frozen_dtype": "bf16"}
LESS = "lora"  # the strategy that trains least and still every layer


@dataclass(frozen=True)
class Change:
    """Settings that differ, in words as they are typed, and the memory with them."""

    words: str
    peak: int


def that_fit(settings: Settings, length: int | None, limit: int) -> list[Change]:
    """The smallest changes with which a run needs no more: one with the same numbers, one with others.

    And the fewest processes that share the network, in halves of their number.
    """
    found = []
    for changes in (same(settings), other(settings)):
        for words, changed in changes:
            peak = needed_bytes(changed, length)
            if peak <= limit:
                found.append(Change(words, peak))
                break
    sizes = sizes_of(settings, length)
    for processes in SHARDS:
        peak = need_of(settings, sizes, processes, shard=True).peak
        if peak <= limit and not settings.strategy.solved:
            found.append(Change(f"train.shard=true over {processes}", peak))
            break
    return found


def same(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Changes with which a run gives the same numbers: examples in smaller parts, layers twice, both."""
    train = settings.train
    size = train.micro_batch or train.batch_size
    twice = replace(train, checkpoint_layers=True)
    for each, more in ((train, ""), (twice, " train.checkpoint_layers=true")):
        if more:
            yield more.strip(), replace(settings, train=each)
        part = size // 2
        while part:
            yield f"train.micro_batch={part}{more}", replace(settings, train=replace(each, micro_batch=part))
            part //= 2


def other(settings: Settings) -> Iterator[tuple[str, Settings]]:
    """Changes with which its numbers are others: fewer bits, then fewer weights that train."""
    pretrained = settings.model.init == "pretrained"
    if sizes_frozen(settings) and not settings.half:
        with suppress(ConfigError):  # of what has no frozen weights to be rounded
            yield "train.frozen_dtype=bf16", replace(settings, train=replace(settings.train, **HALF))
    if settings.train.optimizer == "adamw" and not settings.strategy.solved:
        yield (
            "train.optimizer=adamw8bit",
            replace(settings, train=replace(settings.train, optimizer="adamw8bit")),
        )
    if settings.strategy_name == LESS or not pretrained:
        return
    raw = {name: settings.raw[name] for name in FIXED} | preset("strategy", LESS)
    raw.pop("defaults", None)
    with suppress(ConfigError):  # of what the task or the network does not have with it
        lora = replace(read(raw), train=settings.train, auto=settings.auto, model=settings.model)
        twice = {"checkpoint_layers": True}
        for words, train in (
            ("", {}),
            (" train.frozen_dtype=bf16", HALF),
            (" train.frozen_dtype=bf16 train.checkpoint_layers=true", HALF | twice),
        ):
            yield f"strategy={LESS}{words}", replace(lora, train=replace(lora.train, **train))


def sizes_frozen(settings: Settings) -> bool:
    return sizes_of(settings, 1).frozen > 0
