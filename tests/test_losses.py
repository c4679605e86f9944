"""A run of the tests that loses a worker, or a test, is red from its last line to its exit code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SCRIPT = TESTS.parent / "scripts" / "test"
REGISTERS = """
from losses import Losses
def pytest_configure(config):
    if not hasattr(config, "workerinput"): config.pluginmanager.register(Losses())
"""
QUIET = "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_one(n): pass\n"
WAYS = {  # what the tests do, and what ends their workers; which words are said of it
    "in a test": (
        "import os\ndef test_one(): os.abort()\ndef test_two(): pass\n",
        "",
        ["worker 'gw", "crashed while running", "died: Not properly terminated"],
    ),
    "between tests": (
        QUIET,
        "def pytest_sessionfinish(session):\n"
        "    if hasattr(session.config, 'workerinput'): __import__('os').abort()\n",
        ["4 passed", "died: Not properly terminated"],
    ),
    "with tests left over": (
        "import os, pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_one(n): os.abort()\n",
        "",
        ["tests were not run", "  test_it.py::test_one[", "  …"],
    ),
    "all": (
        "import os, signal\ndef test_one(): os.kill(os.getppid(), signal.SIGKILL)\n",
        "",
        ["exit code 137"],
    ),
    "none": (QUIET, "", ["4 passed"]),
}


def scripted(place):
    """A checkout of nothing but `scripts/test`, whose interpreter is this one's."""
    (place / "scripts").mkdir()
    shutil.copy(SCRIPT, place / "scripts")
    python = place / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    for file, line in ((place / "scripts/setup", ":"), (python, f'exec "{sys.executable}" "$@"')):
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)
    return place


@pytest.mark.parametrize("way", WAYS)
def test_what_was_lost_is_said_and_the_last_line_is_of_failure(way, tmp_path):
    tests, hooks, said = WAYS[way]
    place = scripted(tmp_path)
    (place / "test_it.py").write_text(tests)
    (place / "conftest.py").write_text(f"{REGISTERS}{hooks}")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    alone = ["-p", "xdist.plugin", "-p", "no:cacheprovider", "-n", "1", "--max-worker-restart", "1"]
    result = subprocess.run(
        [str(place / "scripts/test"), *alone],
        env=own | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert all(words in result.stdout for words in said), result.stdout + result.stderr
    assert (result.returncode == 0) == (way == "none")
    assert (lines[-1] == f"FAILED: pytest ended with exit code {result.returncode}") == (way != "none")
