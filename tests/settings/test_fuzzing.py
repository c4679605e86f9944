"""Any value for any setting: understood, or refused at once in one line that names it."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from odd import places, settings, texts, values, with_value, words_of

from ftrun import cli
from ftrun.errors import ConfigError
from ftrun.runs.written import to_yaml
from ftrun.settings.read import checked

MANY = int(os.environ.get("FUZZ", "0"))  # examples of scripts/fuzz
SECONDS = 1.0  # of the processor, for one command line
checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


def fuzzed(number: int) -> examples:
    """So many examples, the same ones each time; many and always others by scripts/fuzz."""
    return examples(
        max_examples=MANY or number, derandomize=not MANY, deadline=None, database=None,
        suppress_health_check=checks, print_blob=False,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def call(monkeypatch, words: list[str]) -> tuple[int, str]:
    """The exit code and what is on standard error."""
    monkeypatch.setattr(sys, "argv", ["ftrun", *words])
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
        code = cli.main()
    return code, error.getvalue()


def quickly(action: Callable[[], Any]) -> Any:
    """What it returns; takes less than a second of the processor, though perhaps not when it is imported."""
    for _ in range(2):
        begin = time.process_time()
        found = action()
        if time.process_time() - begin < SECONDS:
            return found
    raise AssertionError(f"takes more than {SECONDS:g} s")


@fuzzed(25)
@given(place=st.sampled_from(places()), text=texts, quoted=st.booleans())
def test_any_text_of_a_command_line(monkeypatch, place, text, quoted):
    assume("\0" not in text)  # no word of a command line can hold one
    words = words_of(place, text, quoted)
    code, error = quickly(lambda: call(monkeypatch, ["config", "--", *words]))
    if code == 0:
        assert error == ""
    else:
        assert code == 2 and error.startswith("ftrun: ") and error.count("\n") == 1, error


@fuzzed(300)
@given(place=st.sampled_from(settings()), value=values)
def test_any_value_of_a_setting(place, value):
    raw = with_value(place, value)
    message = quickly(lambda: refusal(raw))
    if message is None:
        assert from_text(to_yaml(raw)) == raw  # config.yaml, from which the run is opened again
    else:
        assert place[1].rpartition(".")[2].removesuffix("_") in message, message


def refusal(raw: dict[str, Any]) -> str | None:
    """What a run says of these settings; None where it begins."""
    try:
        checked(raw)
    except ConfigError as error:
        return str(error)
    return None


def from_text(text: str) -> Any:
    return yaml.load(text.encode(), yaml.CSafeLoader)
