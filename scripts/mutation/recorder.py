"""Which tests run which functions, and how long each takes; measured once, kept in .pytest_cache/mutate."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from tree import PYTEST, ROOT, Tree

KEPT = ROOT / ".pytest_cache" / "mutate"
LONGEST = 600  # seconds of the processor that a file of tests may take


@dataclass
class Measured:
    """One test: its seconds with those of its fixtures, and the functions they run, as `path name`."""

    seconds: float  # of the processor
    functions: list[str]


@dataclass(eq=False)  # pytest hashes it
class Recorder:
    """A plugin that notes them; a fixture that several tests share counts for each of them."""

    place: str  # the tree, with a separator at its end
    found: dict[str, Measured] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.package = f"{self.place}ftrun{os.sep}"
        self.seen: set[CodeType] = set()
        self.of_fixture: dict[int, tuple[float, set[CodeType]]] = {}
        self.shared = 0.0  # seconds of the fixtures set up for the test under way

    def note(self, frame: FrameType, event: str, value: Any) -> None:
        if frame.f_code.co_filename.startswith(self.package):
            self.seen.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, Any, Any]:
        self.seen, self.shared, began = set(), 0.0, time.process_time()
        sys.settrace(self.note)
        threading.settrace(self.note)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            seconds = time.process_time() - began - self.shared
            codes = set(self.seen)
            definitions = item._fixtureinfo.name2fixturedefs
            for each in {id(one) for name in item.fixturenames for one in definitions.get(name, ())}:
                own, theirs = self.of_fixture.get(each, (0.0, set()))
                seconds, codes = seconds + own, codes | theirs
            self.found[item.nodeid] = Measured(round(seconds, 3), sorted(map(self.name, codes)))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        before, self.seen, began = self.seen, set(), time.process_time()
        try:
            return (yield)
        finally:
            own = time.process_time() - began
            self.shared += own
            took, codes = self.of_fixture.get(id(fixturedef), (0.0, set()))
            self.of_fixture[id(fixturedef)] = max(took, own), codes | self.seen
            self.seen = before | self.seen

    def name(self, code: CodeType) -> str:
        return f"{code.co_filename.removeprefix(self.place)} {code.co_qualname.split('.<locals>')[0]}"

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def measured(tree: Tree, file: Path, quick: bool) -> dict[str, Any]:
    """What a file of tests runs, from an earlier time if neither the file nor the fixtures have changed.

    A test that fails without any change is left out.
    """
    name = str(file.relative_to(ROOT))
    own = [each.read_bytes() for each in [file, *sorted(ROOT.glob("tests/fixtures/*.py"))]]
    kept = KEPT / name.replace(os.sep, ".") / f"{sha256(b''.join(own)).hexdigest()[:16]}.json"
    if not kept.is_file() and quick:
        kept = kept.with_suffix(".quick")
    if not kept.is_file():
        if not quick:
            shutil.rmtree(kept.parent, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        words = [str(tree.place / name), *PYTEST, f"--basetemp={tree.scratch}/tmp"] + ["--quick"] * quick
        _, said = tree.forked(lambda: recorded(words, kept, f"{tree.place}{os.sep}"), LONGEST)
        if not kept.is_file():
            sys.exit(f"{name} hangs or breaks without any change\n{said[-3000:]}")
        print(f"measured {name} in {time.monotonic() - began:.0f} s", flush=True)
    return json.loads(kept.read_text())


def recorded(words: list[str], kept: Path, place: str) -> int:
    recorder = Recorder(place)
    code = int(pytest.main(words, plugins=[recorder]))
    tests = {name: asdict(one) for name, one in recorder.found.items() if name not in recorder.failed}
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    modules = [name for name, file in files.items() if place not in file and name != "__main__"]
    kept.write_text(json.dumps({"tests": tests, "failed": sorted(recorder.failed), "modules": modules}))
    return code
