"""What a run of the tests lost: workers that died, and tests that nobody came to, of which none is green.

pytest-xdist says nothing of the first kind where no test was under way, and of the second kind never.
"""

from __future__ import annotations

from typing import Any

import pytest

SHOWN = 5  # tests by name


class Losses:
    """A plugin for the process that hands out the tests, or runs them all itself."""

    def __init__(self) -> None:
        self.died: list[str] = []
        self.due: dict[str, None] = {}  # the tests in their order
        self.reported: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.option.collectonly:
            self.due |= dict.fromkeys(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.due |= dict.fromkeys(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        if error:
            self.died.append(f"worker {node.gateway.id} died: {error}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reported.add(report.nodeid)

    def lines(self) -> list[str]:
        missing = [name for name in self.due if name not in self.reported]
        lost = [f"{len(missing)} of {len(self.due)} tests were not run:"] if missing else []
        more = ["…"] if len(missing) > SHOWN else []
        return [*self.died, *lost, *(f"  {name}" for name in [*missing[:SHOWN], *more])]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK and self.lines():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if lines := self.lines():
            terminalreporter.section("lost", red=True)
            for line in lines:
                terminalreporter.line(line, red=True)
