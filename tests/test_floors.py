"""The shape of the house: rooms that import downwards only, small files, and a quick start."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TypeGuard

import pytest
from finished import finished

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
    "ftrun.settings.read",
    "ftrun.cli",
    "ftrun.commands.report",
]
HEAVY = ("torch", "transformers", "hydra", "omegaconf")
TOP = {"__init__", "__main__", "cli", "errors"}


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


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports_of(module: str, *, late: bool = True) -> frozenset[str]:
    return frozenset(imports(tree(MODULES[module]), late))


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "ftrun"


def test_the_top_is_four_modules_and_at_most_ten_rooms() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == TOP
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(rooms) <= 10 and rooms <= {*LEVEL}
    for path in PACKAGE.rglob("*/__init__.py"):
        assert ast.get_docstring(tree(path)), f"{path}: say what belongs there"


def test_imports_point_down() -> None:
    """But for the package itself, which says to a type checker what it is from Python."""
    for module in MODULES:
        here = room(module)
        for other in filter(is_ours, imports_of(module, late=module != "ftrun")):
            there = room(other)
            assert there in LEVEL, f"{module} imports {other}, which is in no room"
            below = LEVEL[there] < LEVEL[here] or there == here or there == ""
            assert below, f"{module} imports {other}, which does not stand below it"


def test_imports_have_no_circle() -> None:
    """Those for typing and those in functions count too, but for the package's own, see above."""
    found = {module: imports_of(module, late=module != "ftrun") for module in MODULES}
    graph = {module: set(filter(is_ours, others)) - {module} for module, others in found.items()}
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


def loaded(command: list[str], place: Path) -> set[str]:
    """The packages that Python imports when it does this."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=place, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()}


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    found = loaded(["-m", "ftrun", "--help"], tmp_path)
    assert "ftrun" in found and found.isdisjoint(HEAVY)


def test_a_report_needs_no_torch_and_draws_nothing_that_is_not_shown(tmp_path: Path) -> None:
    for seed in range(2):
        finished(tmp_path / str(seed), "full", seed, items=50)
    found = loaded(["-m", "ftrun", "report", str(tmp_path)], tmp_path)
    assert "rich" in found and found.isdisjoint({*HEAVY, "matplotlib", "sklearn", "pandas"})


def test_a_run_says_what_it_is_and_what_is_not_there_before_anything_heavy_is_imported(
    tmp_path: Path,
) -> None:
    code = """if True:
        from ftrun.errors import DataError
        from ftrun.experiments import launch, making
        said = []
        making.say = said.append
        for words in (
            ["task=classify", "task.train=gone.csv"],
            ["task=image", "task.train=gone", "model=vit_tiny"],
            ["task=qa", "task.train=[gone.json,gone.jsonl]"],
            ["task=ner", "task.train='gone*.conll'"],
            ["task=classify", "sequence=[gone.csv,away.csv]"],
            ["task=digits", "model=mlp", "pretrain=mlm", "pretrain.task.train=gone.txt"],
            ["task=digits", "model=mlp", "source=pretraining", "source.text=gone.txt"],
            ["compose=domain", "strategy=lora", "compose.rows=gone.csv", "compose.text.train=gone.txt"],
        ):
            try:
                launch.launch([*words, "seed=7", "hydra.run.dir=here"])
                raise SystemExit(f"{words}: nothing was said")
            except DataError as error:
                assert "gone" in str(error), error
        assert said[0].endswith("seed 7: here") and len(said) == 8"""
    found = loaded(["-c", code], tmp_path)
    assert "hydra" in found and found.isdisjoint({"torch", "transformers", "numpy", "sklearn", "accelerate"})


KINDS = {  # a file of these rooms is found by its name, and knows no other of them but what all build on
    "tasks": ({"base", "data", "dataset", "generation", "losses", "objective", "scorer"}, set()),
    "strategies": ({"base", "anchored", "penalty", "strength"}, {"full", "lora"}),
    "commands": ({"_parser"}, set()),
}


def kinds_of(folder: str) -> dict[str, Path]:
    """The files of a room that are found by their names."""
    shared, _ = KINDS[folder]
    return {
        path.stem if path.stem != "__init__" else path.parent.name: path
        for path in [*(PACKAGE / folder).glob("*.py"), *(PACKAGE / folder).glob("ewc/__init__.py")]
        if path != PACKAGE / folder / "__init__.py" and path.stem not in shared
    }


@pytest.mark.parametrize("folder", KINDS)
def test_kinds_do_not_know_each_other(folder: str) -> None:
    kinds, (_, built_on) = kinds_of(folder), KINDS[folder]
    for name, path in kinds.items():
        others = {f"ftrun.{folder}.{other}" for other in {*kinds} - {name, *built_on}}
        found = imports_of(module_name(path)) & others
        assert not found, f"{path} imports {sorted(found)}"


@pytest.mark.parametrize("folder", ["tasks", "strategies"])
def test_settings_of_a_kind_need_nothing_heavy(folder: str) -> None:
    """Its class is imported to check its settings: a misspelt one is said at once."""
    waiting, seen = [module_name(path) for path in kinds_of(folder).values()], set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            found = imports_of(name, late=False)
            waiting += filter(is_ours, found)
            assert not {other.split(".")[0] for other in found} & {*HEAVY}, f"{name} imports {found}"


def test_what_is_to_be_typed_is_quoted() -> None:
    """`ftrun resume {path}` is no command where the path has a blank; runs/typed makes them."""
    names = "|".join(kinds_of("commands"))
    unquoted = re.compile(rf"\bftrun (?:{names}) $")
    for module, path in MODULES.items():
        for node in ast.walk(tree(path)):
            for part in node.values if isinstance(node, ast.JoinedStr) else []:
                text = part.value if isinstance(part, ast.Constant) else ""
                assert not unquoted.search(str(text)), f"{module}: {ast.unparse(node)}"


ADVICE = {"reports", "commands"}  # they recommend strategies, and name them on command lines
NAMED = {"pretraining"}  # also a kind of source, which settings and experiments may ask for


def words_in(path: Path) -> set[str]:
    """Every string of a module that stands alone, and those a value is compared with."""
    return {
        side.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Compare)
        for part in [node.left, *node.comparators]
        for side in ast.walk(part)
        if isinstance(side, ast.Constant) and isinstance(side.value, str)
    }


@pytest.mark.parametrize(("folder", "group"), [("strategies", "strategy"), ("tasks", "task")])
def test_nobody_else_asks_for_a_name(folder: str, group: str) -> None:
    """What differs between strategies or kinds is said by their classes."""
    names = {*kinds_of(folder)} - {*NAMED}
    for module, path in MODULES.items():
        if room(module) not in {folder, *ADVICE}:
            assert not (found := words_in(path) & names), f"{module} compares with {sorted(found)}"


def public(cls: type) -> set[str]:
    """What a class promises: what its body defines, and what its objects have from the start."""
    made = {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }
    own = {*vars(cls), *vars(cls).get("__annotations__", {}), *made}
    return {name for name in own if not name.startswith("_")}


def test_a_task_promises_little_and_its_parts_less() -> None:
    from ftrun.tasks.base import Task
    from ftrun.tasks.dataset import Dataset, Rows
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.scorer import Scorer

    assert len(public(Task)) <= 12, sorted(public(Task))
    for part in (Dataset, Rows, Objective, Scorer):
        assert len(public(part)) <= 6, sorted(public(part))


def length_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without the docstring."""
    first = function.body[0]
    told = ast.get_docstring(function) is not None
    document = (first.end_lineno or 0) - first.lineno + 1 if told else 0
    return (function.end_lineno or 0) - function.lineno + 1 - document


def test_files_and_functions_are_small_and_types_are_kept() -> None:
    for module, path in MODULES.items():
        text = path.read_text()
        assert text.count("\n") <= 250, f"{module} has {text.count(chr(10))} lines"
        assert "type: ignore[misc]" not in text, module
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert length_of(node) <= 40, f"{module}.{node.name} has {length_of(node)} lines"
            if asks(node):
                asked = ast.unparse(node.args[0]).rpartition(".")[2]
                assert asked not in ("task", "strategy", "guard"), f"{module}: {ast.unparse(node)}"


def test_files_of_scripts_are_small() -> None:
    for path in (Path(__file__).parents[1] / "scripts").rglob("*.py"):
        assert path.read_text().count("\n") <= 250, path


def asks(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether it is getattr(…) or hasattr(…)."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and bool(node.args)
    return named and node.func.id in ("getattr", "hasattr")


def test_rooms_are_small() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        count = len([*folder.glob("*.py")])
        assert count <= 25, f"{folder} has {count} files"


HYDRA = {
    "callbacks",
    "composing",
    "hydra_errors",
    "launch",
    "launcher",
    "overrides",
    "ranges",
}  # of experiments; the only ones to know it


def test_hydra_stays_at_the_door() -> None:
    for module in MODULES:
        if not (room(module) == "experiments" and module.rpartition(".")[2] in HYDRA):
            found = {name.split(".")[0] for name in imports_of(module)} & {"hydra"}
            assert not found, f"{module} imports hydra"
