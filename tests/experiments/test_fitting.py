"""The memory that a run will need: its parts by arithmetic, a step by what torch counts, and what fits."""

import json
import re

import pytest
import torch
from lab import settings, toy

from ftrun.commands._studies.memory import bytes_of
from ftrun.commands.plan import main
from ftrun.errors import ConfigError
from ftrun.experiments.study import fitting
from ftrun.experiments.study.changes import that_fit
from ftrun.experiments.study.fitting import PROCESS, need_of, needed_bytes, sizes_of
from ftrun.models.load import load, outline
from ftrun.training.dry import step_bytes, without_numbers
from ftrun.training.memory import nbytes_of


@pytest.fixture
def small(toy_files, tiny_dir):
    return lambda *words: toy(toy_files, tiny_dir("bert"), "task.labels=[a,b]", *words)


def test_weights_and_moments_are_those_of_the_network(small):
    own = small("strategy=full")
    model = load(own.model, own.task.spec(None), 0)
    need = need_of(own, sizes_of(own, 8))
    assert need.weights == nbytes_of(model) and need.moments == 8 * model.counts()[1]
    assert needed_bytes(own, 8) == need.peak > PROCESS + need.weights + need.moments
    lora = small("strategy=lora", "train.frozen_dtype=bf16")
    half = load(lora.model, lora.task.spec(None), 0, lora.strategy.prepare)
    lora.strategy.prepare(half)
    need = need_of(lora, sizes_of(lora, 8))
    assert need.weights == nbytes_of(half) and need.moments == 8 * half.counts()[0]
    (few, much) = (
        need_of(small(f"train.optimizer={name}"), sizes_of(own, 8)) for name in ("adamw8bit", "adamw")
    )
    assert few.moments < much.moments and few.weights == much.weights


def test_a_step_without_numbers_keeps_what_autograd_keeps(small):
    """Counted on the real network; the rest of a step are gradients and what an operation needs meanwhile."""
    own = small("strategy=full")
    spec = own.task.spec(None)
    model, kept = load(own.model, spec, 0).train(), {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(value):
        store = value.untyped_storage()
        if store.data_ptr() not in weights:
            kept[store.data_ptr()] = store.nbytes()
        return value

    ids = torch.ones(64, 32, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        model(input_ids=ids, attention_mask=ids).sum()
    shape = outline(own.model, spec)
    with without_numbers(shape):
        found = [step_bytes(shape, spec, 64, 32, False, twice, False)[0] for twice in (False, True)]
    assert sum(kept.values()) < found[0] < 1.3 * sum(kept.values())
    assert found[1] < 0.8 * found[0]


def test_layers_that_are_alike_are_counted_from_few_of_them(small, monkeypatch):
    """The extrapolated step is that of the whole network."""
    deep = "model.init=random", "model.layers=6"
    few = sizes_of(small(*deep), 16)
    monkeypatch.setattr(fitting, "_KNOWN", {})
    monkeypatch.setattr(fitting, "alike", lambda model: None)
    whole = sizes_of(small(*deep), 16)
    assert few.step == pytest.approx(whole.step, rel=0.05) and few.trained == whole.trained
    assert few.scoring == pytest.approx(whole.scoring, rel=0.05)


def test_what_fits_is_the_smallest_change_and_needs_no_more(small):
    own = small("strategy=full", "train.batch_size=64")
    peak = needed_bytes(own, 32)
    assert needed_bytes(own) == peak and needed_bytes(own, 8) < peak
    found = that_fit(own, 32, peak - 1)
    assert [change.words for change in found] == [
        "train.micro_batch=32", "train.optimizer=adamw8bit", "train.shard=true over 2"
    ]  # fmt: skip
    assert all(change.peak < peak for change in found)
    assert (
        needed_bytes(small("strategy=full", "train.batch_size=64", "train.micro_batch=32"), 32)
        == found[0].peak
    )


def test_a_network_without_weights_is_planned_in_seconds(tmp_path, capsys):
    config = {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    words = "task=lm", "task.corpus=docstrings", f"model.name={tmp_path}", "train.batch_size=1", "device=cpu"
    assert main([*words, "--strategies", "full", "--memory", "24GB"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"full: does not fit in 24 GB: .*strategy=lora train.frozen_dtype=bf16 does \(1\d", said)
    assert "has no weights" in said
    assert sizes_of(settings(*words), None).trained == 6_738_415_616  # as published (Touvron et al. 2023)


def test_sizes_are_read_in_words():
    sizes = {"24GB": 24 * 10**9, "1.5 GiB": 3 * 2**29, "512M": 512 * 10**6, "24gb": 24 * 10**9}
    assert {text: bytes_of(text) for text in sizes} == sizes
    for text in ("much", "0GB", "24 apples", "24", "", "-1GB", "nanGB"):
        with pytest.raises(ConfigError, match=f"--memory '{text}' is no size; possible: 24GB"):
            bytes_of(text)


@pytest.mark.parametrize("words", [("task=digits", "model=mlp"), ("strategy=scratch", "model.layers=1")])
def test_changes_that_cannot_be_had_are_not_proposed(words):
    """Of random weights none are rounded."""
    found = that_fit(settings(*words, "train.batch_size=8", "device=cpu"), 16, 1)
    assert found == []
