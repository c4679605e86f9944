"""The shape of the house: rooms that import downwards only, small files, and a quick start."""

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
ROOMS = [  # from the ground up; those of a line do not import each other
    ["", "errors"], ["settings"], ["runs"], ["data"], ["models"], ["tasks"], ["strategies", "reports"],
    ["training"], ["experiments"], ["commands"], ["cli"], ["__main__"],
]  # fmt: skip
LEVEL = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
QUICK = [
    "ftrun",
    "ftrun.errors",
    "ftrun.runs.run",
    "ftrun.settings.schema",
    "ftrun.cli",
    "ftrun.commands.report",
]
HEAVY = ("torch", "transformers", "hydra", "omegaconf")
TOP = {"__init__", "__main__", "cli", "errors"}
KNOWN_UP = {  # still to be cut
    ("ftrun.data.images.decoding", "ftrun.models.image_processor"),
    ("ftrun.experiments.launch", "ftrun.commands.report"),
    ("ftrun.strategies.base", "ftrun.training.state"),
    ("ftrun.strategies.ewc", "ftrun.training.evaluate"),
    ("ftrun.strategies.gradual_unfreeze", "ftrun.training.state"),
    ("ftrun.strategies.lp_ft", "ftrun.training.state"),
    ("ftrun.tasks.contrastive.base", "ftrun.training.state"),
    ("ftrun.training.loop", "ftrun.experiments.sources"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(node: ast.AST) -> list[str]:
    """The modules one import statement names; of ftrun's, the module and not the thing taken from it."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom) and node.module and not node.level, ast.unparse(node)
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if name in MODULES else node.module for name in inner]


def for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node: ast.AST, late: bool) -> Iterator[str]:
    """Every module imported below `node`; those in functions and under TYPE_CHECKING only if `late`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from imported(child)
        elif late or not (
            isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or for_typing(child)
        ):
            yield from imports(child, late)


def imports_of(module: str, *, late: bool = True) -> set[str]:
    return set(imports(ast.parse(MODULES[module].read_text()), late))


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "ftrun"


def test_the_top_is_four_modules_and_at_most_ten_rooms() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(rooms) <= 10 and rooms <= {*LEVEL}
    for path in PACKAGE.rglob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path}: say what belongs there"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = room(module)
    for other in filter(is_ours, imports_of(module)):
        there = room(other)
        assert there in LEVEL, f"{module} imports {other}, which is in no room"
        below = LEVEL[there] < LEVEL[here] or there == here or there == ""
        assert below or (module, other) in KNOWN_UP, (
            f"{module} imports {other}, which does not stand below it"
        )


def test_imports_have_no_circle() -> None:
    graph = {module: set(filter(is_ours, imports_of(module, late=False))) - {module} for module in MODULES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", QUICK)
def test_what_starts_quickly_needs_the_standard_library_alone(module: str) -> None:
    waiting, seen = [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = imports_of(name, late=False)
        waiting += filter(is_ours, found)
        foreign = {m for m in found if not is_ours(m) and m.split(".")[0] not in sys.stdlib_module_names}
        assert not foreign, f"{module} loads {name}, which imports {sorted(foreign)} when it is imported"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ftrun", "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "ftrun" in loaded and loaded.isdisjoint(HEAVY)
