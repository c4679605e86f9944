"""The checkpoint below adapters: one file on the disk however many runs keep it, and never the wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ftrun.models import shards
from ftrun.models.saved import below
from ftrun.runs.ledger import LEDGER, WRITTEN


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of one file that counts as large."""
    monkeypatch.setattr(below, "LEAST_BYTES", 1)
    place = tmp_path / "bert"
    place.mkdir()
    save_file({"a": torch.ones(4), "b": torch.zeros(2)}, place / "model.safetensors")
    (place / "config.json").write_text('{"model_type": "bert", "_name_or_path": "/home/somebody/bert"}')
    (place / "README.md").write_text("not ours")
    return place


def kept(place: Path, source: Path) -> Path:
    place.mkdir(parents=True)
    assert below.keep(str(source), None, place) == ["base/model.safetensors"]
    return place / "base" / "model.safetensors"


def test_a_large_file_takes_no_space_and_outlives_the_checkpoint(base, tmp_path):
    file = kept(tmp_path / "run" / "model", base)
    assert file.samefile(base / "model.safetensors")
    assert sorted(path.name for path in file.parent.iterdir()) == ["config.json", "model.safetensors"]
    assert "_name_or_path" not in (file.parent / "config.json").read_text()
    save_file({"a": torch.full((4,), 7.0)}, base / "model.safetensors")  # trained again: another file
    assert torch.equal(load_file(file)["a"], torch.ones(4))
    assert below.lies(tmp_path / "run" / "model", "bert") == str(file.parent)
    assert below.lies(tmp_path, "bert") == "bert"


def test_on_another_disk_the_runs_of_a_study_share_a_copy(base, tmp_path, monkeypatch):
    study = tmp_path / "study"
    (study / LEDGER / WRITTEN).mkdir(parents=True)
    link = shards.linked
    monkeypatch.setattr(below, "linked", lambda one, other: one.parent != base and link(one, other))
    first, second = (kept(study / name / "model", base) for name in ("0", "1"))
    assert not first.samefile(base / "model.safetensors") and second.samefile(first)
    save_file({"a": torch.full((4,), 7.0), "b": torch.zeros(2)}, base / "model.safetensors")
    third = kept(study / "2" / "model", base)  # the same name and size, other weights
    assert not third.samefile(first) and torch.equal(load_file(third)["a"], torch.full((4,), 7.0))


def test_an_index_names_what_is_kept(base, tmp_path):
    file = kept(tmp_path / "model", base)
    shards.write_index(tmp_path / "model", ["base/model.safetensors"])
    text = (tmp_path / "model" / "model.safetensors.index.json").read_text()
    assert '"a": "base/model.safetensors"' in text and str(tmp_path) not in text and file.is_file()
