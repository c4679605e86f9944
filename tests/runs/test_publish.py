"""A directory is a run or is none, at whatever change of the disk its maker is killed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ftrun.errors import ConfigError, DiskFull, InUse, UserError, disk_full
from ftrun.runs.files import beside, write_atomically
from ftrun.runs.leases import process
from ftrun.runs.leases.lease import Lease
from ftrun.runs.ledger import Ledger
from ftrun.runs.publish import sweep
from ftrun.runs.run import Run, is_run

CONFIG, FIRST = {"seed": 3}, {"data.json": {"fingerprint": "a"}}


class Killed(BaseException):
    """Stands for SIGKILL: what is to be cleaned up is not."""


def dying(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """From the `moment`-th change of the disk on nothing changes it any more."""
    count = 0

    def counted(change: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count >= moment:
                raise Killed
            return change(*args, **options)

        return call

    for module, name in (
        (Path, "touch"), (Path, "unlink"), (os, "fsync"), (os, "link"), (os, "replace")
    ):  # fmt: skip
        monkeypatch.setattr(module, name, counted(getattr(module, name)))


def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is another one than before, which has ended."""
    number = str(int(process.own().started) + 1)
    monkeypatch.setattr(process, "began", lambda _: number)


def test_whatever_kills_its_birth_it_is_a_whole_run_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    born = []
    for moment in range(1, 40):
        place = tmp_path / str(moment)
        place.mkdir()
        (place / "log.txt").write_text("what a comparison says\n")
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, moment)
            try:
                Run.create(place, CONFIG, FIRST).release()
            except Killed:
                pass
            else:
                break
        dead(monkeypatch)
        born.append(is_run(place))
        if is_run(place):
            run = Run.open(place)
            with pytest.raises(
                ConfigError, match=f"already holds a run; to continue it: ftrun resume {place}"
            ):
                Run.create(place, {"seed": 4})
            run.hold()
        else:
            with pytest.raises(ConfigError, match="not a run directory"):
                Run.open(place)
            run = Run.create(place, CONFIG, FIRST)
        assert run.config == CONFIG and run.read_json("data.json") == {"fingerprint": "a"}
        run.write_json("result.json", {})
        run.release()
        names = {path.name for path in place.iterdir()}
        assert names == {"config.yaml", "metrics.jsonl", "data.json", "log.txt", "result.json"}
    assert born == sorted(born) and len(born) > 8 and True in born and False in born


def test_parts_of_a_run_are_not_made_another_one(tmp_path: Path) -> None:
    for name, text in (("metrics.jsonl", '{"step": 1}\n'), ("result.json", "{}")):
        place = tmp_path / name
        place.mkdir()
        (place / name).write_text(text)
        with pytest.raises(ConfigError, match=f"holds the {name} of a run without its config.yaml"):
            Run.create(place, CONFIG)
        assert [path.name for path in place.iterdir()] == [name]
    own = tmp_path / "mine" / "config.yaml"
    own.parent.mkdir()
    own.write_text("mine: true\n")
    with pytest.raises(ConfigError, match="holds a config.yaml but no run"):
        Run.create(own.parent, CONFIG)
    assert own.read_text() == "mine: true\n"


def test_a_directory_that_another_process_is_making_a_run(tmp_path: Path) -> None:
    lease = Lease(tmp_path, "it")
    with pytest.raises(InUse, match="is being made by process"):
        Run.create(tmp_path, CONFIG)
    lease.release(gone=True)
    assert not any(tmp_path.iterdir())
    Run.create(tmp_path, CONFIG)


def test_where_there_are_no_hard_links_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run = Run.create(tmp_path, CONFIG)
    assert Run.open(tmp_path).config == CONFIG and run.state == "running"
    assert not (tmp_path / ".config.yaml.new").exists()


def test_a_refused_run_goes_with_its_config_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in between it is none."""
    run = Run.create(tmp_path / "run", CONFIG, FIRST)
    honest, gone = Path.unlink, []

    def unlink(path: Path, **options: Any) -> None:
        gone.append(path.name)
        if len(gone) > 1:
            raise Killed
        honest(path, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "unlink", unlink)
        run.remove_unless_begun()
    assert gone[0] == "config.yaml" and not is_run(run.path)
    run.release()
    Run.create(run.path, CONFIG)


def test_what_killed_processes_left_goes_when_a_run_is_taken_up(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", CONFIG)
    inner = Run.create(run.path / "source", CONFIG)  # held by this process
    run.release()
    left = [".result.json.17", ".tmpAb12Cd", "rows/.few.jsonl.3", "domain/.merged.4/model.safetensors"]
    kept = [".hydra/config.yaml", ".pretraining.lock", "source/.result.json.5", "checkpoints/.a.1", "a.1"]
    for name in [*left, "preflight/model.safetensors", *kept]:
        (run.path / name).parent.mkdir(exist_ok=True, parents=True)
        (run.path / name).touch()
    run.hold()
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    own = {f"{place}{name}" for place in ("", "source/") for name in ("config.yaml", "metrics.jsonl")}
    assert found == own | {".lease-2", "source/.lease-1", *kept}
    assert not (run.path / "preflight").exists() and not (run.path / "domain" / ".merged.4").exists()
    inner.release()
    sweep(run.path)
    assert not (run.path / "source" / ".result.json.5").exists()


class SafetensorError(Exception):
    """As the library's own."""


RUST = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left on device: here"),
        (OSError(errno.EDQUOT, "x", "there"), "disk quota exceeded: there"),
        (OSError(errno.EFBIG, "x"), "file too large: here"),
        (SafetensorError(RUST), "no space left on device: here"),
        (
            shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]),
            "no space left on device: here",
        ),
        (OSError(errno.ENOENT, "x", "there"), None),
        (UserError(RUST), None),
        (ValueError("os error 28"), None),
    ],
)
def test_a_full_disk_is_told_whichever_library_meets_it(error: Exception, said: str | None) -> None:
    found = disk_full(error, "here")
    assert (found and str(found)) == said
    assert found is None or (found.exit_code == 1 and disk_full(found, "elsewhere") is found)


def test_it_names_the_file_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "result.json", "{}")
    assert caught.value.filename == str(tmp_path / "result.json")
    with pytest.raises(DiskFull, match=f"no space left on device: {tmp_path / 'run'}"):
        Run.create(tmp_path / "run", CONFIG)
    with (
        pytest.raises(DiskFull, match=f"no space left on device: {tmp_path / 'merged'}"),
        beside(tmp_path / "merged"),
    ):
        raise SafetensorError(RUST)


def test_a_finished_run_that_no_ledger_has_is_its_sweep_s(tmp_path: Path) -> None:
    """Killed between its result and the line that says so, a sweep trained it once more beside."""
    from ftrun.experiments.queue.places import is_free

    run = Run.create(tmp_path / "0-full", CONFIG)
    run.write_json("result.json", {})
    ledger = Ledger(tmp_path)
    raw = run.settings
    assert is_free(run.path, raw, ledger) and not is_free(run.path, raw | {"seed": 4}, ledger)
    ledger.write("key", run.path, "finished")
    assert not is_free(run.path, raw, ledger)
