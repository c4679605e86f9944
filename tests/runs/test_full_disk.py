"""A disk that takes no more is said as one and ends with 1, wherever it is met: it is no wrong setting."""

from __future__ import annotations

import errno
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftrun.commands.compare import refuse_places
from ftrun.data.conll import write_columns
from ftrun.data.tables import check_writable, write_table
from ftrun.errors import ConfigError, DiskFull, UserError
from ftrun.experiments.launch import unwritable
from ftrun.reports import table
from ftrun.runs.leases import lease
from ftrun.runs.protected import refuse_existing
from ftrun.runs.publish import publish, taken_up

FULL = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]
LOOKS = [  # before the work is done, whether a place can be written to
    lambda place: check_writable(place / "predictions.jsonl"),
    lambda place: write_table(place / "predictions.jsonl", [{"a": 1}]),
    lambda place: refuse_existing(place / "merged"),
    lambda place: refuse_places(Namespace(dir=None), place / "study"),
]
WRITES = [
    lambda place: write_table(place / "predictions.jsonl", [{"a": 1}]),
    lambda place: write_columns(place / "predictions.conll", [], "tags"),
    lambda place: table._save(place / "comparison.md", "a table"),
    lambda place: table.save_plots(
        place,
        [SimpleNamespace(plots=[SimpleNamespace(name="a", png=b"")])],  # type: ignore[list-item]
    ),
]


def refusing(number: int) -> Callable[..., None]:
    """As the system call does: with its reason, and for a file that it names itself or not at all."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_a_place_on_a_full_disk_says_so(
    look: Callable[[Path], None], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(number))
    with pytest.raises(DiskFull) as caught:
        look(tmp_path)
    reason = os.strerror(number)
    assert str(caught.value) == f"{reason[0].lower()}{reason[1:]}: {tmp_path}"
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("look", LOOKS)
def test_a_place_without_the_right_to_write_is_still_a_wrong_setting(
    look: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", refusing(errno.EACCES))
    with pytest.raises(ConfigError, match=r"nothing can be written there \(permission denied\)"):
        look(tmp_path)


@pytest.mark.parametrize("number", [*FULL, errno.EACCES])
@pytest.mark.parametrize("write", WRITES)
def test_a_table_that_finds_the_disk_full_says_so(
    write: Callable[[Path], None], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    monkeypatch.setattr(Path, "write_bytes", refusing(number))
    with pytest.raises(UserError) as caught:
        write(tmp_path)
    assert isinstance(caught.value, DiskFull) is (number in FULL) and caught.value.exit_code == 1
    assert os.strerror(number).lower() in str(caught.value).lower()


@pytest.mark.parametrize("words", [[], ["hydra.run.dir=/here/run"], ["-m", "hydra.sweep.dir=/here/runs"]])
def test_a_directory_that_a_full_disk_refuses_is_no_wrong_setting(words: list[str]) -> None:
    for number in FULL:
        found = unwritable(OSError(number, os.strerror(number), "/here/run"), words)
        assert isinstance(found, DiskFull) and str(found).endswith(": /here/run")
    found = unwritable(OSError(errno.EACCES, "Permission denied", "/here/run"), words)
    assert isinstance(found, ConfigError) is bool(words) and "permission denied" in str(found)


@pytest.mark.parametrize("number", [*FULL, errno.EACCES])
def test_a_run_that_a_full_disk_keeps_from_going_on_says_how_it_does(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot be held, and so has nobody else to say it; of what is no run yet nothing is said."""
    publish(tmp_path / "run", "seed: 0\n", {}).release()
    monkeypatch.setattr(lease, "exclusive", refusing(number))
    with pytest.raises(UserError) as caught:
        taken_up(tmp_path / "run")
    assert isinstance(caught.value, DiskFull) is (number in FULL)
    line = f"to continue: ftrun resume {tmp_path / 'run'}\n"
    assert capsys.readouterr().out == (line if number in FULL else "")
    with pytest.raises(UserError):
        publish(tmp_path / "other", "seed: 0\n", {})
    assert capsys.readouterr().out == ""
