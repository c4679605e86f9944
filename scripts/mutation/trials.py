"""One change, tried on the tests that run the function it is in."""

from __future__ import annotations

import os
from math import log2
from pathlib import Path
from typing import Any

from changes import Change
from tree import PYTEST, Tree

GROUP = 2.0  # seconds of tests that are collected together
WAIT = 5.0  # seconds beyond three times what the tests take, after which a change has made them hang
BY = "noticed by "


class Trials:
    """Tries changes on the tests that run them."""

    def __init__(self, tree: Tree, tests: dict[str, dict[str, Any]], seconds: float) -> None:
        self.tree, self.tests, self.seconds = tree, tests, seconds
        self.of: dict[str, list[str]] = {}
        ran: dict[str, set[str]] = {}  # by each file of tests, whose first test alone imports what all use
        for name, test in tests.items():
            for function in test["functions"]:
                self.of.setdefault(function, []).append(name)
            ran.setdefault(name.split("::")[0], set()).update(each.split()[0] for each in test["functions"])
        for name in tests:
            for path in ran[name.split("::")[0]]:
                self.of.setdefault(path, []).append(name)

    def belonging(self, change: Change) -> list[list[str]]:
        """The tests of a change in groups, of no more seconds in all than allowed.

        The quickest are first, and of those the ones that run the least besides.
        """
        found = self.of.get(f"{change.path} {change.function}" if change.function else change.path, [])
        groups: list[list[str]] = [[]]
        total = own = 0.0
        for name in sorted(found, key=self.order):
            total += self.cost(name)
            if total > self.seconds and groups[0]:
                break
            if own and own + self.cost(name) > GROUP:
                groups.append([])
                own = 0.0
            own += self.cost(name)
            groups[-1].append(name)
        return [group for group in groups if group]

    def order(self, name: str) -> tuple[int, int]:
        return round(log2(self.cost(name) + 0.02)), len(self.tests[name]["functions"])

    def cost(self, name: str) -> float:
        return self.tests[name]["seconds"]

    def noticed(self, change: Change) -> tuple[str, int]:
        """What noticed the change, empty if nothing did, and how many tests were asked."""
        groups = self.belonging(change)
        limit = 3 * sum(map(self.cost, sum(groups, []))) + WAIT
        with self.tree.changed(change):
            code, said = self.tree.forked(lambda: asked(groups, self.tree.scratch), limit)
        count = sum(map(len, groups))
        if code == 0:
            return "", count
        failed = [line.removeprefix(BY) for line in said.splitlines() if line.startswith(BY)]
        return "hangs" if code is None else (failed or [f"exit code {code}"])[0], count


def asked(groups: list[list[str]], scratch: Path) -> int:
    """The exit code of the first group of tests that fails, or 0."""
    import pytest

    for number, names in enumerate(groups):
        files = dict.fromkeys(name.split("::")[0] for name in names)
        words = [*files, "-x", *PYTEST, f"--basetemp={scratch}/tmp{number}"]
        code = pytest.main(words, plugins=[Only(names)])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return int(code)
    return 0


class Only:
    """A plugin that runs these tests, in their order."""

    def __init__(self, names: list[str]) -> None:
        self.order = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(chosen, key=lambda item: self.order[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            os.write(1, f"\n{BY}{report.nodeid}\n".encode())
