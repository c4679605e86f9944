"""Which tests run which functions, and how long each takes; measured once, kept in .pytest_cache/mutate.

A process that a test starts notes its functions too: Python imports `sitecustomize` before anything else.
"""

from __future__ import annotations

import json
import os
import resource
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
NOTES, PACKAGE = "MUTATE_NOTES", "MUTATE_PACKAGE"  # of the environment: where processes note, and of what
IN_PROCESSES = f"""
import os, sys, threading

seen = set()

def note(frame, event, value):
    code = frame.f_code
    if code not in seen and code.co_filename.startswith(package):
        seen.add(code)
        line = f"{{code.co_filename}}\\t{{code.co_qualname}}\\n".encode()
        place = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(place, line)
        os.close(place)

notes, package = os.environ.get("{NOTES}"), os.environ.get("{PACKAGE}")
if notes and package:
    sys.settrace(note)
    threading.settrace(note)
"""


@dataclass
class Measured:
    """One test: its seconds with those of its fixtures, and the functions they run, as `path name`."""

    seconds: float  # of the processor
    functions: list[str]


@dataclass(eq=False)  # pytest hashes it
class Recorder:
    """A plugin that notes them; a fixture that several tests share counts for each of them."""

    place: str  # the tree, with a separator at its end
    notes: Path  # of the processes that tests start
    found: dict[str, Measured] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.package = f"{self.place}ftrun{os.sep}"
        os.environ |= {NOTES: str(self.notes), PACKAGE: self.package}
        self.process = os.getpid()
        self.seen: set[CodeType] = set()
        self.of_fixture: dict[int, tuple[float, set[str]]] = {}
        self.shared = 0.0  # seconds of the fixtures set up for the test under way

    def note(self, frame: FrameType, event: str, value: Any) -> None:
        code = frame.f_code
        if code in self.seen or not code.co_filename.startswith(self.package):
            return
        self.seen.add(code)
        if os.getpid() != self.process:  # a fork of this one, whose memory is its own
            with self.notes.open("a") as notes:
                notes.write(f"{code.co_filename}\t{code.co_qualname}\n")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, Any, Any]:
        self.seen, self.shared, began, noted = set(), 0.0, seconds_taken(), self.noted()
        sys.settrace(self.note)
        threading.settrace(self.note)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            seconds = seconds_taken() - began - self.shared
            functions = self.names(self.seen, noted)
            definitions = item._fixtureinfo.name2fixturedefs
            for each in {id(one) for name in item.fixturenames for one in definitions.get(name, ())}:
                own, theirs = self.of_fixture.get(each, (0.0, set()))
                seconds, functions = seconds + own, functions | theirs
            self.found[item.nodeid] = Measured(round(seconds, 3), sorted(functions))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        before, self.seen, began, noted = self.seen, set(), seconds_taken(), self.noted()
        try:
            return (yield)
        finally:
            own = seconds_taken() - began
            self.shared += own
            took, functions = self.of_fixture.get(id(fixturedef), (0.0, set()))
            self.of_fixture[id(fixturedef)] = max(took, own), functions | self.names(self.seen, noted)
            self.seen = before | self.seen

    def noted(self) -> int:
        """The bytes of what processes have noted so far."""
        return self.notes.stat().st_size if self.notes.exists() else 0

    def names(self, codes: set[CodeType], noted: int) -> set[str]:
        """Of the functions run here, and of those that processes have noted since."""
        own = {(code.co_filename, code.co_qualname) for code in codes}
        lines = self.notes.read_bytes()[noted:].decode().splitlines() if self.notes.exists() else []
        pairs = own | {(path, name) for path, _, name in (line.partition("\t") for line in lines)}
        return {f"{path.removeprefix(self.place)} {name.split('.<locals>')[0]}" for path, name in pairs}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def seconds_taken() -> float:
    """Of the processor, by this process and those it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


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
    offline = Path(place, "tests/fixtures/offline/sitecustomize.py")  # which processes of tests import
    offline.write_text(offline.read_text().partition(IN_PROCESSES)[0] + IN_PROCESSES)
    notes = Path(place, "notes.txt")
    notes.unlink(missing_ok=True)
    recorder = Recorder(place, notes)
    code = int(pytest.main(words, plugins=[recorder]))
    tests = {name: asdict(one) for name, one in recorder.found.items() if name not in recorder.failed}
    files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    modules = [name for name, file in files.items() if place not in file and name != "__main__"]
    kept.write_text(json.dumps({"tests": tests, "failed": sorted(recorder.failed), "modules": modules}))
    return code
