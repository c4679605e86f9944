"""Imports point down the floors of the house, and what must start quickly loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ftrun

PACKAGE = Path(ftrun.__file__).parent

FLOORS = [  # from the ground up; a folder stands for the modules in it that are not named themselves
    ["ftrun", "errors", "seeds", "environment", "signals", "terminal"],
    ["files", "names", "values", "schedules", "mistakes", "arguments", "defaults"],
    ["data.hub", "data.content"],
    ["memory.forgetting", "reports.breakdown", "reports.rescoring", "reports.calibration", "reports.curves"],
    ["reports.significance"],
    ["rundir"],
    ["ledger", "byname"],
    [
        "config",
        "saved",
        "data",
        "images",
        "networks",
        "contrast",
        "text.vocabulary",
        "text.tokens",
        "reports",
    ],
    ["reports.study"],
    ["reports.verdicts", "reports.labelling"],
    ["reports.page"],
    ["reports.plots"],
    ["images.readers", "images.decoding"],
    [
        "models",
        "devices",
        "networks.adapters",
        "networks.loading",
        "contrast.momentum",
        "text",
        "memory.anchor",
    ],
    ["optim", "batching", "checkpoint", "trackers", "export", "state", "data.balance", "memory"],
    ["tasks"],
    ["evaluation"],
    ["strategies"],
    ["memory.objective"],
    ["memory.source"],
    ["coupled", "stepper", "engine", "preflight"],
    ["memory.retention"],
    ["outcome"],
    ["experiment", "inference", "advice", "familiarity"],
    ["lora"],
    ["sequence", "pretraining"],
    ["commands", "launch", "sweeps"],
    ["cli", "__main__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
QUICK = ["ftrun", "ftrun.errors", "ftrun.rundir", "ftrun.config", "ftrun.cli", "ftrun.commands.report"]
HEAVY = ("torch", "transformers", "hydra", "omegaconf")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floor(module: str) -> int | None:
    name = module.removeprefix("ftrun.")
    return FLOOR.get(name, FLOOR.get(name.split(".")[0]))


def imported(node: ast.AST) -> list[str]:
    """The modules one import statement names; of ftrun's, the module and not the thing taken from it."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom) and node.module and not node.level, ast.unparse(node)
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in MODULES else node.module for name in inner]


def for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node: ast.AST, functions: bool, typing: bool) -> Iterator[str]:
    """Every module imported below `node`; inside functions and under TYPE_CHECKING only where asked for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from imported(child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not functions:
            continue
        elif not for_typing(child) or typing:
            yield from imports(child, functions, typing)


def of(module: str, *, functions: bool, typing: bool = False) -> set[str]:
    return set(imports(ast.parse(MODULES[module].read_text()), functions, typing))


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "ftrun"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = floor(module)
    assert here is not None, f"give {module} a floor in tests/test_floors.py"
    for other in filter(is_ours, of(module, functions=True, typing=True)):
        below = floor(other)
        assert below is not None and below <= here, f"{module} imports {other}, which stands above it"


def test_imports_have_no_circle() -> None:
    graph = {module: set(filter(is_ours, of(module, functions=True))) - {module} for module in MODULES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", QUICK)
def test_what_starts_quickly_needs_the_standard_library_alone(module: str) -> None:
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = of(name, functions=False)
        waiting += filter(is_ours, found)
        foreign = {m for m in found if not is_ours(m) and m.split(".")[0] not in sys.stdlib_module_names}
        assert not foreign, f"{module} loads {name}, which imports {sorted(foreign)} when it is imported"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ftrun", "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "ftrun" in loaded and loaded.isdisjoint(HEAVY)
