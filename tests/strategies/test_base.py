"""What every strategy says of itself, without a network."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ftrun import CONF
from ftrun.settings.resolve import load_class
from ftrun.strategies.base import Memory, Strategy
from ftrun.strategies.full import Full

NAMES = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))


@dataclass
class Elastic(Full):
    """A strategy outside the package, which no file in conf/protect names."""

    def pull(self, rates: dict[str, float]) -> None:
        """Towards the start."""


@dataclass
class Remembering(Strategy):
    def remember(self, memory: Memory) -> None:
        """Looks at the earlier tasks."""


@pytest.mark.parametrize("name", NAMES)
def test_the_strategies_that_hold_are_those_of_protect(name: str) -> None:
    assert load_class("strategies", name).holds() is (CONF / f"protect/{name}.yaml").is_file()


def test_a_strategy_outside_the_package_holds_by_the_hooks_it_overrides() -> None:
    assert Elastic.holds() and Elastic().holds() and Remembering.holds()
    assert not Strategy.holds() and not Full.holds()


def test_what_stands_beside_a_network_cannot_be_folded_and_only_scratch_starts_at_random() -> None:
    classes = {name: load_class("strategies", name) for name in NAMES}
    assert [name for name, cls in classes.items() if not cls.foldable] == ["adapter", "prefix", "prompt"]
    assert [name for name, cls in classes.items() if cls.starts_random] == ["scratch"]
