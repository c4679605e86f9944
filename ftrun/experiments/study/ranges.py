"""Ranges that a search draws settings from: choices, or numbers between two ends.

They are written as sweeps are in Hydra's grammar: `choice(2, 4, 8)`, `interval(0.0, 0.2)`,
`tag(log, interval(1e-4, 1e-2))`, `int(interval(8, 256))`, and `tag(times, interval(0.1, 10))` for multiples
of the default, which are drawn on a log scale too.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

from ftrun.errors import ConfigError, told
from ftrun.experiments.hydra_errors import COMPOSITION
from ftrun.experiments.overrides import composed_once, spelt, value_of
from ftrun.experiments.study.values import Choice, Interval, Range, interval, is_base
from ftrun.settings.auto import AUTO
from ftrun.settings.checks import found_in, in_yaml
from ftrun.settings.read import checked, read
from ftrun.settings.suggest import RANGES, meant

MOST = 1000  # values of a choice
POSSIBLE = (
    "choice(2, 4, 8), interval(0, 0.2), int(interval(8, 256)), tag(log, interval(1e-4, 1e-2)),"
    " tag(times, interval(0.1, 10))"
)
# what decides which rows are scored, how, or by whom: scores of trials that differ in it cannot be compared
SAME = ("task", "source", "sequence", "scenario", "seed", "device", "tracker", "baselines", "train.metric",
    "pretrain", "compose", "strategy")  # fmt: skip


def ranges_of(words: list[str]) -> dict[str, Range]:
    """What a search of the strategy in these words draws from, by setting: what its YAML says of it."""
    node = composed_once(spelt(words), None).get(RANGES) or {}
    if not isinstance(node, dict):
        raise ConfigError(f"{RANGES} is a group of ranges, each of a setting, not {in_yaml(node)}")
    found = {}
    for key, text in node.items():
        if text is None:
            continue
        if (each := range_of(f"{key}={text}")) is None:
            raise ConfigError(f"{RANGES}: {key}: {in_yaml(text)} is no range; possible: {POSSIBLE}")
        found[str(key)] = each
    return found


def range_of(word: str) -> Range | None:
    """The range that key=value means where the value is a sweep; None for a single value."""
    key, _, text = word.partition("=")
    try:
        override = OverridesParser.create().parse_override(word)
        sweep = override.value()
        if isinstance(sweep, RangeSweep) and len(sweep.range()) > MOST:
            raise ConfigError(f"{word} has more than {MOST:,} values; possible: {key}=int(interval(…))")
        if isinstance(sweep, ChoiceSweep | RangeSweep) and not sweep.shuffle:
            words = tuple(dict.fromkeys(override.sweep_string_iterator()))
            if not words:
                raise ConfigError(f"{word} has no value; possible: {POSSIBLE}")
            return Choice(text, words, tuple(value_of(f"a={each}") for each in words))
    except COMPOSITION as error:
        raise ConfigError(f"{word} is no range ({told(error, 80)}); possible: {POSSIBLE}") from None
    if isinstance(sweep, IntervalSweep):
        return interval(word, text, sweep.start, sweep.end, set(sweep.tags))
    if override.is_sweep_override():
        raise ConfigError(f"{word} is no range; possible: {POSSIBLE}")
    return None


def with_value(raw: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of the settings with another value for a dotted key that they have."""
    whole: dict[str, Any] = deepcopy(dict(raw))
    node, names = whole, key.split(".")
    for name in names[:-1]:
        node = node[name]
    node[names[-1]] = value
    return whole


def check(name: str, raw: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """ConfigError where the settings of a strategy, `name`, have no such key or cannot have such a value."""
    for key, each in ranges.items():
        there, default = found_in(raw, key)
        if not there:
            raise ConfigError(f"{key}={each.text}: strategy={name} has no setting '{key}'{meant(key)}")
        if isinstance(default, dict):
            raise ConfigError(f"{key}={each.text}: {key} is a group of settings; name one of them, {key}.…")
        if key.startswith(tuple(f"{same}." for same in SAME)) or key in SAME:
            raise ConfigError(
                f"{key}={each.text}: trials are compared by their scores, so {key} is the same for all"
            )
        if default != AUTO and not is_base(each, default):
            raise ConfigError(
                f"{key}={each.text}: there are no multiples of its default, {in_yaml(default)}; give numbers,"
                f" as in {key}=interval(0.01,0.1)"
            )
        for value in each.values:
            try:
                checked(with_value(raw, key, value))
            except ConfigError as error:
                whole = isinstance(value, float) and "whole number" in str(error)
                hint = f"; possible: {key}=int({each.text})" if whole else ""
                raise ConfigError(f"{key}={each.text}: {error}{hint}") from None


def fitting(raw: Mapping[str, Any], ranges: Mapping[str, Range]) -> tuple[dict[str, Range], list[str]]:
    """The ranges without choices that the network has no parts for, and what was left out."""
    from ftrun.experiments.planning import outlined

    _, network = outlined(dict(raw))
    found: dict[str, Range] = {}
    left: list[str] = []
    for key, each in ranges.items():
        found[key] = each
        if isinstance(each, Interval):
            continue
        pairs = list(zip(each.words, each.values, strict=True))
        good = [pair for pair in pairs if fits(with_value(raw, key, pair[1]), network)]
        if good and len(good) < len(pairs):
            found[key] = Choice(each.text, *zip(*good, strict=True))
            left += [f"{key}={word}" for word, value in pairs if (word, value) not in good]
    return found, left


def fits(raw: dict[str, Any], network: Any) -> bool:
    """Whether a strategy of these settings has what it trains in a network."""
    try:
        read(raw).strategy.fits(network)
    except ConfigError:
        return False
    return True
