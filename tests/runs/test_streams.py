"""What is printed: any text in any encoding, no character of a user controls the terminal, readers may go."""

from __future__ import annotations

import errno
import io
import os
import re
import shlex
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrun.runs.console import Console
from ftrun.runs.streams import Output, outputs, shown
from ftrun.runs.typed import command, setting, typed, word

TITLE = "\x1b]0;stolen\x07"  # sets the title of a terminal


def test_exactly_what_controls_is_escaped():
    everything = [chr(number) for number in range(0x3000) if not 0xD800 <= number < 0xE000]
    changed = {each for each in everything if shown(each) != each}
    controls = {each for each in everything if unicodedata.category(each) == "Cc"} - {"\t", "\n"}
    directions = {each for each in everything if unicodedata.bidirectional(each) in
        ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")}  # fmt: skip
    assert changed == controls | directions
    assert all(eval(f"'{shown(each)}'") == each for each in changed)  # as Python writes it
    assert shown(TITLE) == r"\x1b]0;stolen\x07"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r", "shift_jis", "utf-8"])
def test_every_text_can_be_printed_in_every_encoding(encoding):
    raw = io.BytesIO()
    stream = Output(io.TextIOWrapper(raw, encoding=encoding))
    text = "step 1 of 2 · loss 0.5 → 0.4 ± 0.1 … ä 日本 🙂 \ud800 Ω\n"
    assert stream.write(text) == len(text)
    stream.flush()
    written = raw.getvalue().decode(encoding)
    assert written.startswith("step 1 of 2 ") and written.endswith("\n") and r"\ud800" in written
    if encoding == "ascii":
        assert (
            written
            == r"step 1 of 2 - loss 0.5 -> 0.4 +- 0.1 ... \u00e4 \u65e5\u672c \U0001f642 \ud800 \u03a9" + "\n"
        )
    if encoding == "utf-8":
        assert written == text.replace("\ud800", r"\ud800")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_shows_the_escapes_of_names_and_keeps_its_own(encoding, terminal):
    from rich.table import Table
    from rich.text import Text

    raw = io.BytesIO()
    stream = Output(io.TextIOWrapper(raw, encoding=encoding))
    screen = Console(
        force_terminal=terminal, width=60, no_color=False, color_system="standard" if terminal else None
    )
    screen.file = stream.styled
    table = Table()
    table.add_column("label")
    table.add_column("score")
    for label in (TITLE, ":bug: [red]x[/red]", "ä"):
        table.add_row(label, "1", style="red")
    screen.print(table)
    screen.print(Text(TITLE), style="bold")
    stream.flush()
    text = raw.getvalue().decode(encoding)
    assert text.count(r"\x1b]0;stolen") == 2 and ":bug: [red]x[/red]" in text
    assert ("\x1b[" in text) is terminal
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert "\x1b" not in plain and "\x07" not in plain
    if encoding == "utf-8":
        assert len({len(line) for line in plain.splitlines()[:-1]}) == 1  # measured as it is shown


def test_the_streams_of_a_process_are_such_streams_and_given_back(capsys):
    before = sys.stdout, sys.stderr
    with outputs() as (out, error):
        print(TITLE)
        print(TITLE, file=sys.stderr)
        with outputs() as again:
            assert again == (out, error)
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == (shown(TITLE) + "\n", shown(TITLE) + "\n")


def test_a_download_bar_of_a_library_still_moves(monkeypatch):
    raw = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", raw)
    Output(raw).write("\r 10%|█  " + TITLE)
    assert raw.getvalue() == "\r 10%|█  " + shown(TITLE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_stream_outlives_its_file(number):
    if number == errno.EPIPE:
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    stream = Output(open(writing, "w", encoding="utf-8"))
    for _ in range(3):
        stream.write("x" * 10_000)
        stream.flush()
    assert stream.failure is not None and stream.failure.errno == number
    stream.stream.close()


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.one_of(st.text(max_size=20), st.text("ab\\\"'${}[]=,: \t\n#()!x1-.~", max_size=12)))
def test_a_setting_means_its_value_to_hydra(text):
    """Neither a sweep nor a number, a list or an interpolation, whatever is in it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    override = OverridesParser.create().parse_override(setting("key", text))
    assert not override.is_sweep_override()
    assert OmegaConf.create({"key": override.value()}).key == text


def test_commands_are_quoted_for_the_shell():
    assert command("resume", "outputs/a") == "ftrun resume outputs/a"
    assert command("resume", "my runs/a") == "ftrun resume 'my runs/a'"
    assert typed("model.name", "runs/a") == "model.name=runs/a"
    assert typed("task.train", "a,b.csv") == """'task.train="a,b.csv"'"""
    assert typed("model.name", "007") == """'model.name="007"'"""
    odd = [
        "it's",
        'a "b"',
        "$HOME",
        "a\nb",
        TITLE,
        "\x85",
        "\u202e",
        "\\x41'\x1b",
        "a\tb",
        "*",
        "-x",
        "~",
        "ä",
    ]
    spelt = " ".join(map(word, odd))
    assert shown(spelt) == spelt  # can be copied from the terminal
    found = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {spelt}"], capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"}
    )
    assert found.stdout.decode().split("\0")[:-1] == odd
    assert shlex.split(word("a b")) == ["a b"]
