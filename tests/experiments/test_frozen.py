"""The baseline of frozen features: scikit-learn's regression on what the network makes of the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import ran
from lab import toy as bare_toy

from ftrun.experiments import frozen
from ftrun.experiments.single import resume
from ftrun.runs.run import Run
from ftrun.runs.warm import shared
from ftrun.settings.schema import Settings


def toy(files: Path, model: Path, *words: str) -> Settings:
    return bare_toy(files, model, "baselines=true", *words)


def test_a_run_scores_them_and_keeps_the_answers(
    tmp_path: Path, toy_files: Path, tiny_model_dir: Path
) -> None:
    run = ran(tmp_path / "with", toy(toy_files, tiny_model_dir, "train.max_steps=1"))
    card = run.read_json("data.json")["baselines"]
    lines = [json.loads(line) for line in (run.path / "baselines.jsonl").read_text().splitlines()]
    for name in ("majority", "tfidf", "features"):
        right = sum(line[name]["answer"] == line["label"] for line in lines) / len(lines)
        assert right == pytest.approx(card[name]["test_accuracy"], abs=1e-5)
    kept = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["row"] for line in kept] == [line["row"] for line in lines]
    assert [line["label"] for line in kept] == [line["label"] for line in lines]


def test_without_baselines_nothing_else_changes(
    tmp_path: Path, toy_files: Path, tiny_model_dir: Path
) -> None:
    whole = ran(tmp_path / "with", toy(toy_files, tiny_model_dir, "train.max_steps=2"))
    bare = ran(tmp_path / "without", toy(toy_files, tiny_model_dir, "train.max_steps=2", "baselines=false"))
    assert "features" in whole.read_json("data.json")["baselines"]
    assert bare.read_json("data.json")["baselines"] == {}
    assert not (bare.path / "baselines.jsonl").exists()
    for file in ("metrics.jsonl", "result.json", "predictions.jsonl"):
        assert (whole.path / file).read_bytes() == (bare.path / file).read_bytes()


def test_a_sweep_computes_them_once_for_the_same_rows(
    tmp_path: Path, toy_files: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, seen = frozen.answered, []
    monkeypatch.setattr(frozen, "answered", lambda *given: seen.append(given) or honest(*given))
    cards = []
    with shared():
        for number, word in enumerate(("strategy=full", "strategy=linear_probe", "task.subset=40")):
            run = ran(tmp_path / str(number), toy(toy_files, tiny_model_dir, "train.max_steps=1", word))
            cards.append(run.read_json("data.json")["baselines"]["features"])
    assert len(seen) == 2  # fewer rows are others
    assert cards[0] == cards[1]


def interrupted(*given: Any) -> None:
    raise KeyboardInterrupt


def test_they_are_of_the_weights_before_training_also_after_a_kill(
    tmp_path: Path, toy_files: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = toy(toy_files, tiny_model_dir, "train.max_steps=2", "train.lr=0.1")
    whole = ran(tmp_path / "whole", words)
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "add_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ran(tmp_path / "killed", words)
    assert "features" not in Run.open(tmp_path / "killed").read_json("data.json")["baselines"]
    resume(tmp_path / "killed")
    other = ran(tmp_path / "other", toy(toy_files, tiny_model_dir, "strategy=linear_probe"))
    for place in (tmp_path / "killed", other.path):
        for file in ("data.json", "baselines.jsonl"):
            assert (place / file).read_bytes() == (whole.path / file).read_bytes()
