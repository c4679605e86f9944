"""The changes that scripts/mutate tries are what they are called, one at a time, and only of what decides."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = '''"""A docstring of 1 sentence."""
LIMIT: float = 0.5

class Box:
    def held(self, size: int, name: str = "a sentence") -> bool:
        """Whether 1 is held."""
        assert size > 0
        if name and size < 3 + 1:
            raise ValueError(f"{size + 1} of 2")
        self.note("key", strict=True)
        return math.sqrt(size) > max(size, 2)
'''
EXPECTED = {
    ("constant", "0.5", "(1.0)"), ("operator", "name and size < 3 + 1", "(name or size < 3 + 1)"),
    ("operator", "size < 3 + 1", "(size <= 3 + 1)"), ("operator", "size < 3 + 1", "(size >= 3 + 1)"),
    ("operator", "3 + 1", "(3 - 1)"), ("constant", "3", "(4)"), ("constant", "1", "(2)"),
    ("condition", "name and size < 3 + 1", "(not (name and size < 3 + 1))"),
    ("call", 'self.note("key", strict=True)', "None"), ("constant", '"key"', "'keyx'"),
    ("value", "return math.sqrt(size) > max(size, 2)", "return None"),
    ("operator", "math.sqrt(size) > max(size, 2)", "(math.sqrt(size) >= max(size, 2))"),
    ("operator", "math.sqrt(size) > max(size, 2)", "(math.sqrt(size) <= max(size, 2))"),
    ("call", "math.sqrt(size)", "(size)"), ("call", "max(size, 2)", "(min(size, 2))"),
    ("constant", "2", "(3)"),
}  # fmt: skip


@pytest.fixture
def changes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts/mutation"))
    import changes

    yield changes
    del sys.modules["changes"]


def test_every_change_of_a_function_is_found_and_nothing_else(changes):
    found = changes.changes_of("box.py", SOURCE.encode())
    assert {(one.kind, one.before, one.after) for one in found} == EXPECTED and len(found) == len(EXPECTED)
    assert {one.function for one in found} == {"", "Box.held"}
    for one in found:
        ast.parse(one.applied(SOURCE.encode()))
    assert b"if name and size < (4) + 1:" in next(x for x in found if x.after == "(4)").applied(
        SOURCE.encode()
    )


def test_changes_that_read_alike_have_names_of_their_own(changes):
    found = changes.changes_of("two.py", "def f(x):\n    return 1 if x else 1  # é\n".encode())
    assert [one.key for one in found if one.kind == "constant"] == [
        "two.py f: 1 -> (2)", "two.py f: 1 -> (2) #2"
    ]  # fmt: skip
