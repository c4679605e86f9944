"""A run with kept features is the run without: the same bytes, on every kind of network and at any moment."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys_image
from lab import SMALL_SOURCE, one_of, ran, sampled, settings
from resuming import in_process, same
from toys_lm import tiny_decoder
from toys_tasks import words_of

from ftrun.errors import ConfigError
from ftrun.models.features.store import File, directory
from ftrun.training.kept.rows import KeptRows

Tiny = Callable[[str], Path]
STRATEGIES = {
    "linear_probe": ["strategy=linear_probe", "solver=adamw"],
    "freeze": ["strategy=freeze", "bottom=1"],
}
LONG = ["train.epochs=3", "train.eval_every=epoch", "train.checkpoint_every=epoch", "baselines=false"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many examples' features were computed, batch by batch."""
    counts: list[int] = []
    honest = KeptRows.values

    def values(self: KeptRows, addresses: list[bytes], inputs: Any) -> Any:
        counts.append(sum(address not in self.store for address in addresses))
        return honest(self, addresses, inputs)

    monkeypatch.setattr(KeptRows, "values", values)
    return counts


def toy(files: Path, model: Path, *words: str) -> list[str]:
    splits = [f"task.{split}={files}/{split}.csv" for split in ("train", "validation", "test")]
    return [
        "task=classify", *splits, f"model.name={model}", "task.max_length=32", "train.batch_size=16",
        "train.lr=1e-2", "device=cpu", *LONG, *words,
    ]  # fmt: skip


def both(place: Path, words: list[str]) -> None:
    for keep in ("true", "false"):  # two epochs: in the second what is kept is read
        ran(place / keep, settings(*words, "train.epochs=2", f"train.keep={keep}"))
    same(place / "true", place / "false")


@pytest.mark.parametrize(
    ("network", "strategy"),
    sampled(["bert", "roberta", "distilbert", "modernbert", "gpt2", "mean"], STRATEGIES, 2),
)
def test_texts(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, computed: list[int], network: str, strategy: str
) -> None:
    """train.keep=true is an error where features differ by a bit, so this also says that they were kept."""
    pooling = ["model.pooling=mean"] if network == "mean" else []
    named = {"mean": "bert", "gpt2": ""}.get(network, network)
    model = tiny_dir(named) if named else tiny_decoder("gpt2", tmp_path / "gpt2")
    both(tmp_path, toy(toy_files, model, *STRATEGIES[strategy], *pooling))
    assert sum(computed) < 2 * (120 + 40 + 40) and len(computed) > 2 * 120 / 16


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("network", ["vit", "resnet"])
def test_images(tmp_path: Path, computed: list[int], network: str, strategy: str) -> None:
    words = toys_image.words(tmp_path / "images", network)
    both(tmp_path, [*words, *LONG, *STRATEGIES[strategy]])
    assert sum(computed) == 64 + 16 + 16


@pytest.mark.parametrize("task", ["ner", "qa"])
def test_tokens(tmp_path: Path, tiny_dir: Tiny, computed: list[int], task: str) -> None:
    words = words_of(task, tmp_path, tiny_dir)
    both(tmp_path, [*words, *LONG, "train.batch_size=16", "strategy=freeze", "bottom=1"])
    assert sum(computed) < len(computed) * 16


def test_a_second_run_computes_nothing_and_an_emptied_cache_changes_nothing(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, computed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = toy(toy_files, tiny_dir("bert"), "strategy=linear_probe", "solver=adamw")
    for name in ("cold", "warm", "cold again"):
        if name == "cold again":
            for file in directory().iterdir():
                file.unlink()
        computed.clear()
        ran(tmp_path / name, settings(*words))
        line = "features of 160 rows kept: 20.48 kB, every layer computed " + (
            "before" if name == "warm" else "once"
        )
        assert line in capsys.readouterr().out
        assert (sum(computed) == 0) == (name == "warm")
    same(tmp_path / "cold", tmp_path / "warm")
    same(tmp_path / "cold", tmp_path / "cold again")


def test_in_parts_of_a_batch(toy_files: Path, tiny_dir: Tiny, tmp_path: Path) -> None:
    words = toy(toy_files, tiny_dir("bert"), "strategy=freeze", "bottom=1", "train.micro_batch=8")
    both(tmp_path, words)


@pytest.mark.parametrize("moment", one_of(8, 5, 12))
def test_killed_while_it_writes_and_resumed(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, moment: int
) -> None:
    words = tuple(toy(toy_files, tiny_dir("bert"), "strategy=freeze", "bottom=1"))
    assert in_process(tmp_path / "killed", words, moment) == -signal.SIGKILL
    assert in_process(tmp_path / "killed", words, 0) == 0
    assert in_process(tmp_path / "whole", (*words, "train.keep=false"), 0) == 0
    same(tmp_path / "whole", tmp_path / "killed")
    for file in directory().glob("[!.]*"):
        File(file)  # ValueError where one is torn


def test_one_frozen_weight_by_the_last_bit_is_another_key(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftrun.experiments import single

    words, honest = (
        toy(toy_files, tiny_dir("bert"), "strategy=linear_probe", "solver=adamw", "train.epochs=2"),
        single.load_network,
    )

    def nudged(*arguments: Any) -> Any:
        model = honest(*arguments)
        weight = model.get_parameter("net.bert.encoder.layer.0.output.dense.bias")
        with torch.no_grad():
            weight[0] = torch.nextafter(weight[0], torch.tensor(1.0))
        return model

    def keys() -> set[str]:
        return {file.name.partition("-")[0] for file in directory().iterdir()}

    ran(tmp_path / "one", settings(*words))
    ran(tmp_path / "same", settings(*words, "seed=1"))
    assert len(keys()) == 1
    monkeypatch.setattr(single, "load_network", nudged)
    ran(tmp_path / "other", settings(*words))
    assert len(keys()) == 2


def test_where_features_would_differ_they_are_not_kept(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A store that rounds is caught before the first step."""
    honest = KeptRows.values

    def values(self: KeptRows, *arguments: Any) -> Any:
        return {name: value.bfloat16().float() for name, value in honest(self, *arguments).items()}

    monkeypatch.setattr(KeptRows, "values", values)
    words = toy(toy_files, tiny_dir("bert"), "strategy=linear_probe", "solver=adamw")
    ran(tmp_path / "auto", settings(*words))
    assert re.search(
        r"features are not kept: they differ by .* from those of a plain batch", capsys.readouterr().out
    )
    ran(tmp_path / "false", settings(*words, "train.keep=false"))
    same(tmp_path / "auto", tmp_path / "false")
    with pytest.raises(ConfigError, match="train.keep=true: they differ by"):
        ran(tmp_path / "true", settings(*words, "train.keep=true"))


def test_where_the_cache_cannot_be_written_the_run_goes_on(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    words = toy(toy_files, tiny_dir("bert"), "strategy=linear_probe", "solver=adamw")
    ran(tmp_path / "auto", settings(*words))
    assert "features are not kept: " in capsys.readouterr().out
    ran(tmp_path / "false", settings(*words, "train.keep=false"))
    same(tmp_path / "auto", tmp_path / "false")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["strategy=full"], "strategy=full trains the network from its lowest layer on"),
        (
            ["strategy=linear_probe", "solver=adamw", "protect=replay", "protect.buffer=16", *SMALL_SOURCE],
            "earlier examples",
        ),
    ],
    ids=["full", "replay"],
)
def test_insisting_where_it_cannot_be(
    toy_files: Path, tiny_dir: Tiny, tmp_path: Path, words: list[str], why: str
) -> None:
    given = [word.replace("{files}", str(toy_files)) for word in words]
    with pytest.raises(ConfigError, match=f"train.keep=true: {why}.*; possible: train.keep=auto"):
        ran(tmp_path / "run", settings(*toy(toy_files, tiny_dir("bert"), *given, "train.keep=true")))


def test_augmented_images_are_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*toys_image.words(tmp_path / "images"), *LONG, "task.augment=flip", "strategy=linear_probe"]
    ran(tmp_path / "auto", settings(*words))
    assert "features are not kept: the inputs are drawn anew in every step" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="train.keep=true: the inputs are drawn anew in every step"):
        ran(tmp_path / "true", settings(*words, "train.keep=true"))


def test_keep_is_auto_true_or_false() -> None:
    with pytest.raises(ConfigError, match="train.keep is auto, true or false, not .always."):
        settings("train.keep=always")
