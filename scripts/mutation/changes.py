"""Single changes of a source file that tests should notice: an operator, constant, condition, call or value.

Not changed is what decides nothing (annotations, docstrings, sentences), what only holds an assumption
(`assert`, `zip(strict=True)`), and what an error says. Joining a path is no division.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

COMPARED = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
EXCHANGED = {"max": "min", "min": "max", "any": "all", "all": "any", "sum": "mean", "mean": "sum"}
DROPPED = {"square", "sqrt", "abs", "exp", "log", "softmax", "sigmoid", "casefold", "sort", "nan_to_num"}
KEPT = {  # calls that convert, whose argument often does as well, or no value
    "bool", "dict", "float", "frozenset", "int", "isinstance", "len", "list", "repr", "set", "str", "tuple",
    "array", "asarray", "Path", "cast", "hasattr", "getattr", "type", "super", "print", "open", "iter",
    "next", "enumerate", "range", "zip", "map", "filter", "classmethod",
}  # fmt: skip
LAYOUT = {"strict", "indent"}  # arguments that decide no number
KEY = re.compile(r"[\w./-]*")  # a string that is no sentence


@dataclass(frozen=True)
class Change:
    """One change; `start` and `stop` are its place in the bytes of the file."""

    path: str
    kind: str  # operator | constant | condition | call | value
    function: str  # its qualified name, of the outermost function; empty outside of any
    line: int
    start: int
    stop: int
    before: str
    after: str
    number: int = 1  # among those of the function that read the same

    @property
    def key(self) -> str:
        """What names it whatever line it stands in."""
        again = f" #{self.number}" if self.number > 1 else ""
        return f"{self.path} {self.function or '-'}: {self.before} -> {self.after}{again}"

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.stop :]


def changes_of(path: str, source: bytes) -> list[Change]:
    """All changes of a file, in the order of its lines."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found, seen = [], Counter[str]()
    for function, node in nodes(ast.parse(source), ""):
        for place, kind, after in [*((node, *each) for each in rewritten(node)), *conditions(node)]:
            start = starts[place.lineno - 1] + place.col_offset
            stop = starts[place.end_lineno - 1] + place.end_col_offset
            before = re.sub(r"\s+", " ", source[start:stop].decode())
            one = Change(path, kind, function, place.lineno, start, stop, before, after)
            seen[one.key] += 1
            found.append(replace(one, number=seen[one.key]))
    return sorted(found, key=lambda change: (change.start, change.stop, change.after))


def nodes(node: ast.AST, function: str, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every node that may be changed, with the name of the function it is in."""
    for child in children(node):
        inner, within = names, function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (*names, child.name)
            if not function and not isinstance(child, ast.ClassDef):
                within = ".".join(inner)
        yield within, child
        yield from nodes(child, within, inner)


def children(node: ast.AST) -> Iterator[ast.AST]:
    """Those below a node that decide something."""
    if isinstance(node, ast.Assert | ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
        yield node.args[0]
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, ast.AST) or (isinstance(each, ast.keyword) and each.arg in LAYOUT):
                continue
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                continue  # a docstring
            yield each


def rewritten(node: Any) -> Iterator[tuple[str, str]]:
    """The kind and the text of each change of one node."""
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in COMPARED[type(operator)]:
                    yield "operator", text(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
        case ast.BinOp() if type(node.op) in COMPUTED and not is_path(node):
            yield "operator", text(node, op=COMPUTED[type(node.op)]())
        case ast.BoolOp():
            yield "operator", text(node, op=COMPUTED[type(node.op)]())
        case ast.UnaryOp():
            yield "operator", f"({ast.unparse(node.operand)})"
        case ast.AugAssign() if type(node.op) in COMPUTED:
            yield "operator", text(node, op=COMPUTED[type(node.op)]())[1:-1]
        case ast.Constant(value=bool() as value):
            yield "constant", str(not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", f"({value + 1 if isinstance(value, int) else 2 * value or 1.0!r})"
        case ast.Constant(value=str() as value) if KEY.fullmatch(value):
            yield "constant", repr(f"{value}x")
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield "value", "return None"
        case ast.Expr(value=ast.Call()):
            yield "call", "None"
        case ast.Call():
            yield from of_call(node)


def conditions(node: ast.AST) -> Iterator[tuple[Any, str, str]]:
    """The conditions of a node turned round; a comparison is turned round by its operator."""
    tests = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else getattr(node, "ifs", [])
    for test in tests:
        if not isinstance(test, ast.Compare | ast.UnaryOp) and ast.unparse(test) != "TYPE_CHECKING":
            yield test, "condition", f"(not ({ast.unparse(test)}))"


def of_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    """A call exchanged for another, or for what it is called on."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in EXCHANGED:
        function = copy.copy(node.func)
        plain = isinstance(function, ast.Name)
        if plain and name == "sum":  # there is no other of its kind
            return
        setattr(function, "id" if plain else "attr", EXCHANGED[name])
        yield "call", text(node, func=function)
    elif isinstance(node.func, ast.Attribute) and not is_module(node.func.value):
        if name in DROPPED:
            yield "call", f"({ast.unparse(node.func.value)})"
    elif name not in KEPT:
        if node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp) and name[:1].islower():
            yield "call", f"({ast.unparse(node.args[0])})"


def is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("math", "numpy", "torch", "functional")


def is_path(node: ast.BinOp) -> bool:
    """Whether a division joins a path, as far as can be seen."""
    ends = (node.left, node.right)
    return isinstance(node.op, ast.Div) and any(
        isinstance(end, ast.JoinedStr) or (isinstance(end, ast.Constant) and isinstance(end.value, str))
        for end in ends
    )


def text(node: ast.AST, **fields: object) -> str:
    """The source of a node with other fields, in parentheses."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return f"({ast.unparse(other)})"
