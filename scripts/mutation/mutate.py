"""Changes one thing of the core at a time, in a copy of the tree, and counts the changes no test notices.

A change is tried on the tests that run its function, the quickest first, until one fails; one outside of
functions on all tests of the files in which one runs its file. A trial that does not end counts as found.
What is listed in equal.txt is not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

from changes import Change, changes_of
from recorder import measured
from tree import ROOT, Tree, preload
from trials import Trials

EQUAL = Path(__file__).with_name("equal.txt")
CORE = [
    "training", "strategies", "reports/statistics", "tasks/metrics", "tasks/losses.py",
    "tasks/contrastive/losses.py", "data/text/masking.py", "data/leaks.py", "data/splits.py",
    "data/grouped_splits.py", "data/folds.py", "data/balance.py", "data/batching.py", "settings/schedules.py",
    *(f"experiments/lora/{name}.py" for name in ("blend", "compose", "equivalence", "lowrank", "merge")),
]  # fmt: skip
ELSEWHERE = {"training/gradients/graphs.py"}  # CUDA graphs, which only a GPU runs
OF_ALL = {  # files of tests that ask of all files at once, or of what is installed
    "test_bench", "test_floors", "test_moved", "test_mutation", "test_processors", "test_readme",
    "test_wheel",
}  # fmt: skip
HEAVY = ["torch", "transformers", "pytest", "sklearn", "scipy.stats"]
ONE_THREAD = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> int:
    options = asked_for()
    everything = candidates(options.only)
    drawn = sorted(everything, key=lambda change: place(options.seed, change))[: options.count]
    if options.key:
        drawn = [change for change in everything if change.key in options.key]
        if unknown := set(options.key) - {change.key for change in drawn}:
            sys.exit(f"--key: no such change: {', '.join(sorted(unknown))}")
    for key in sorted(equals().keys() - {change.key for change in everything}) if not options.only else []:
        print(f"{EQUAL.name} lists a change that is no longer there: {key}")
    os.environ.update(ONE_THREAD)
    with tempfile.TemporaryDirectory(prefix="mutate-") as scratch:
        tree = Tree(Path(scratch))
        preload(HEAVY)
        files = [file for file in tests_in(options.tests) if file.stem not in OF_ALL]
        each = []
        for file in files:
            each.append(measured(tree, file, options.quick))
            preload(each[-1]["modules"])
        for test in (test for one in each for test in one["failed"]):
            print(f"{test} fails without any change and is left out")
        tests = {name: test for one in each for name, test in one["tests"].items()}
        return told(Trials(tree, tests, options.seconds), drawn, options.log)


def place(seed: int, change: Change) -> str:
    """Where a change comes in the order of the draw, whatever others there are."""
    return sha256(f"{seed} {change.key}".encode()).hexdigest()


def asked_for() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=300, help="changes to draw (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATH", help="files or directories to change"
    )
    parser.add_argument(
        "--tests", nargs="+", default=["tests"], metavar="PATH", help="where tests are sought"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of tests that a change is tried on (20)")
    parser.add_argument("--quick", action="store_true", help="leave out the tests that train for long")
    parser.add_argument("--log", type=Path, help="what became of each; what it says to be found is not tried")
    parser.add_argument("--key", nargs="+", default=[], help="try these changes, as they are printed")
    return parser.parse_args()


def candidates(only: list[str]) -> list[Change]:
    """Every change of the core, or of the paths that are asked for."""
    paths = [Path(name).absolute() for name in only] or [ROOT / "ftrun" / name for name in CORE]
    for path in paths:
        if not path.exists() or not path.is_relative_to(ROOT / "ftrun"):
            sys.exit(f"--only: {path} is no file or directory in {ROOT / 'ftrun'}")
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    names = [
        file.relative_to(ROOT) for file in files if str(file.relative_to(ROOT / "ftrun")) not in ELSEWHERE
    ]
    return [change for name in names for change in changes_of(str(name), (ROOT / name).read_bytes())]


def tests_in(paths: list[str]) -> list[Path]:
    found = [Path(ROOT, path) for path in paths]
    for path in found:
        if not path.exists():
            sys.exit(f"--tests: {path} does not exist")
    return sorted(file for path in found for file in (path.rglob("test_*.py") if path.is_dir() else [path]))


def equals() -> dict[str, str]:
    """Changes after which what a user gets is the same: key → reason, which follows it, indented."""
    found: dict[str, str] = {}
    for line in EQUAL.read_text().splitlines():
        if line.startswith(" "):
            found[list(found)[-1]] += line.strip() + " "
        elif line and not line.startswith("#"):
            found[line] = ""
    return found


def told(trials: Trials, drawn: list[Change], log: Path | None) -> int:
    """Try each change and print what became of it; 1 if no test notices one."""
    known, before = equals(), logged(log)
    counted, began = Counter[tuple[str, str]](), time.monotonic()
    for change in drawn:
        if change.key in known:
            counted["equal", ""] += 1
            continue
        start, by = time.monotonic(), before.get(change.key)
        if not by:
            by, tests = trials.noticed(change)
            took = f"{time.monotonic() - start:.1f} s line {change.line}"
            print("found" if by else "survives", took, change.key, "|", by or f"{tests} tests", flush=True)
            if log is not None:
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"change": change.key, "by": by}) + "\n")
        counted["found" if by else "survives", change.kind] += 1
    for kind in sorted({kind for _, kind in counted if kind}):
        found = counted["found", kind]
        print(f"{kind}: {found} of {found + counted['survives', kind]} found")
    found, lost = (sum(n for (what, _), n in counted.items() if what == w) for w in ("found", "survives"))
    print(
        f"{len(drawn)} changes drawn, {counted['equal', '']} of them listed as equal; {found} of the other"
        f" {found + lost} found ({found / max(1, found + lost):.1%}), in {time.monotonic() - began:.0f} s"
    )
    return int(lost > 0)


def logged(log: Path | None) -> dict[str, str]:
    """What noticed the changes of an earlier run."""
    lines = log.read_text(encoding="utf-8").splitlines() if log is not None and log.exists() else []
    return {each["change"]: each["by"] for each in map(json.loads, lines) if each["by"]}


if __name__ == "__main__":
    sys.exit(main())
