"""A file of a saved model that has changed is noticed before it answers; files have the umask's mode."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from lab import ran, settings
from safetensors.torch import save_file
from saved import refused

from ftrun.errors import ConfigError
from ftrun.runs.manifest import SEAL, seal, verify
from ftrun.training import checkpoint

FILES = {
    "model.safetensors": "weights", "tokenizer.json": "{}", "2_Dense/model.safetensors": "head",
    "config.json": '{"hidden_size": 4, "ftrun_calibration": {"temperature": 2}}',
    "adapter_config.json": '{"r": 4, "base_model_name_or_path": "/a"}', "README.md": "hello",
    "ftrun.yaml": "a: 1",
}  # fmt: skip


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    seal(place)
    verify(place)
    return place


def write(path: Path, text: str) -> None:
    """With another time of change, however coarse the clock of the disk is."""
    path.write_text(text)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("README.md", "ftrun.yaml")])
def test_a_changed_a_shorter_and_a_lost_file_are_told(sealed: Path, name: str) -> None:
    text = FILES[name]
    write(sealed / name, text.replace("4", "5").replace("weights", "weightz").replace("head", "heat"))
    if name != "tokenizer.json":
        with pytest.raises(ConfigError, match=f"model is damaged: the content of {name} has changed since"):
            verify(sealed)
    write(sealed / name, text[:-1])
    with pytest.raises(ConfigError, match=f"damaged: ({name} has . bytes instead|the content of {name})"):
        verify(sealed)
    (sealed / name).unlink()
    with pytest.raises(
        ConfigError, match=f"{name} is missing since it was saved; restore it, or delete .*{SEAL}"
    ):
        verify(sealed)
    (sealed / SEAL).unlink()
    verify(sealed)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.md", "hello you"),
        ("ftrun.yaml", "a: 2"),
        ("notes.txt", "another file"),
        ("adapter_config.json", '{"r": 4, "base_model_name_or_path": "/moved"}'),
        ("config.json", '{"hidden_size": 4}'),
    ],
)
def test_what_decides_no_answer_may_change(sealed: Path, name: str, text: str) -> None:
    write(sealed / name, text)
    verify(sealed)


def test_adapters_beside_other_weights_are_told(tmp_path: Path) -> None:
    """Trained again in the same place, the base is another network, whatever its shapes."""
    for name in ("base", "lora", "copy"):
        (tmp_path / name).mkdir()
    save_file({"a": torch.zeros(2**20)}, tmp_path / "base" / "model.safetensors")
    settings = {"r": 4, "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(settings))
    seal(tmp_path / "lora")
    verify(tmp_path / "lora")
    shutil.copytree(tmp_path / "base", tmp_path / "moved")
    save_file({"a": torch.full((2**20,), 1e-3)}, tmp_path / "base" / "model.safetensors")
    os.utime(tmp_path / "base" / "model.safetensors", ns=(0, 0))
    with pytest.raises(
        ConfigError, match="lora holds adapters of other weights: .*/base: the content of model"
    ):
        verify(tmp_path / "lora")
    settings["base_model_name_or_path"] = str(tmp_path / "moved")
    write(tmp_path / "lora" / "adapter_config.json", json.dumps(settings))
    verify(tmp_path / "lora")


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "{", "{}", '{"files": {"a": 3}, "base": {}}', '{"files": {"a": {"size": 1}}, "base": {}}'],
)
def test_a_damaged_seal_is_said(sealed: Path, text: str) -> None:
    write(sealed / SEAL, text)
    with pytest.raises(ConfigError, match=f"{SEAL} is damaged"):
        verify(sealed)


@pytest.fixture
def umask():
    """`umask(0o027)`, for this test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)]
)
def test_files_have_the_mode_of_the_umask(tmp_path: Path, umask, mask: int, expected: int) -> None:
    umask(mask)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "chosen").touch(0o400)
    seal(tmp_path)
    assert mode(tmp_path / "model.safetensors") == mode(tmp_path / SEAL) == expected
    assert mode(tmp_path / "chosen") == 0o400
    checkpoint.save(tmp_path / "last", {"weights": {"w": torch.zeros(2)}}, {"step": 1})
    assert {mode(file) for file in (tmp_path / "last").iterdir()} == {expected}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the digits."""
    place = tmp_path_factory.mktemp("digits")
    words = "task=digits", "model=mlp", "task.subset=60", "train.max_steps=3", "device=cpu"
    return ran(place / "run", settings(*words))


def test_every_file_of_a_run_has_the_mode_of_the_umask(run) -> None:
    mask = os.umask(0o077)
    os.umask(mask)
    files = {path: mode(path) for path in run.path.rglob("*") if path.is_file()}
    assert set(files.values()) == {0o666 & ~mask}, files


def test_a_flipped_bit_is_told_by_every_command_that_reads_the_model(run, tmp_path, ftrun_inprocess) -> None:
    shutil.copytree(run.path, tmp_path / "done")
    assert ftrun_inprocess("evaluate", "done").returncode == 0
    weights = tmp_path / "done" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(bytes(content))
    os.utime(weights, ns=(0, 0))
    quick = "task=digits", "device=cpu", "train.max_steps=1"
    (tmp_path / "none.npz").touch()
    for words in (
        ["evaluate", "done"],
        ["calibrate", "done"],
        ["predict", "done", "--input", "none.npz", "--output", "out.csv"],
        [*quick, "model.name=done", "hydra.run.dir=again"],
        [*quick, "source=done", "hydra.run.dir=after", "model=mlp"],
    ):
        said = refused(ftrun_inprocess, *words)
        assert "done/model is damaged: the content of model.safetensors has changed since" in said
    assert not (tmp_path / "again").exists()
    (tmp_path / "done" / "model" / SEAL).unlink()
    assert ftrun_inprocess("evaluate", "done").returncode == 0


def test_what_is_sealed_is_what_is_saved(run) -> None:
    names = {path.name for path in run.model_dir.iterdir()}
    content = json.loads((run.model_dir / SEAL).read_text())
    assert {*content["files"]} == names - {SEAL, "README.md"} and {*content["told"]} == {"README.md"}
