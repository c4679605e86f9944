"""model.load=8bit and 4bit: what is refused, and a LoRA that learns beside rounded layers."""

import importlib.util
import sys

import pytest
import torch
from lab import ran, settings, toy

from ftrun.errors import ConfigError
from ftrun.models.few_bits.quantized import refuse_unquantizable


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["strategy=full", "model.load=4bit"],
            "at few bits, where strategy=full cannot",
        ),
        (["strategy=lora", "model.load=4bit", "protect=l2sp"], "model.load=4bit goes without protect="),
        (["strategy=lora", "model.load=8bit", "model.init=random"], "model.init=random has none"),
        (["strategy=lora", "model.load=4bit", "variant=pissa"], "variant=pissa splits the weights"),
        (["strategy=lora", "model.load=4bits"], "model.load is one of full, 8bit, 4bit, not '4bits'"),
        (["model.attention=flash"], "model.attention is one of auto, eager, sdpa"),
        (["train.precision=tf32", "device=cpu"], "train.precision=tf32 needs a GPU"),
        (["train.checkpoint_layers=yes"], "train.checkpoint_layers is auto, true or false, not 'yes'"),
    ],
)
def test_what_does_not_go_together_is_said(words, said):
    with pytest.raises(ConfigError) as caught:
        settings(*words)
    assert said in str(caught.value)


def test_a_missing_package_and_other_layers_are_said(monkeypatch):
    layers = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1))])
    monkeypatch.setitem(sys.modules, "bitsandbytes", object())
    with pytest.raises(ConfigError, match="those of a CNN are no torch.nn.Linear"):
        refuse_unquantizable("a CNN", layers, "4bit")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes: pip install 'ftrun\[quantized\]'"):
        refuse_unquantizable("a CNN", layers, "4bit")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_attention_that_is_asked_for_is_told(toy_files, tiny_dir, tmp_path, implementation):
    words = "train.max_steps=1", "task.subset=16", "baselines=false", f"model.attention={implementation}"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    assert run.read_json("environment.json")["attention"] == implementation


def test_attention_that_is_not_installed_is_said(toy_files, tiny_dir, tmp_path):
    if importlib.util.find_spec("flash_attn") is not None:
        pytest.skip("it is installed here")
    with pytest.raises(ConfigError, match="model.attention=flash_attention_2 is not possible"):
        ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), "model.attention=flash_attention_2"))


@pytest.mark.parametrize("load", ["4bit", "8bit"])
def test_a_lora_beside_rounded_layers_learns_and_comes_back(toy_files, tiny_dir, tmp_path, load):
    """The export is compared with the network in memory, rounded alike; folded it is the same network too."""
    pytest.importorskip("bitsandbytes")
    from ftrun.experiments.lora.merge import merge, of_run

    words = "strategy=lora", f"model.load={load}", "train.epochs=6", "train.lr=0.01", "baselines=false"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    losses = [line["eval_loss"] for line in run.metrics() if "eval_loss" in line]
    assert losses[-1] < losses[0] - 0.05
    result = run.read_json("result.json")
    assert result["reload_difference"] < 1e-3
    plain = "strategy=lora", "train.max_steps=1", "baselines=false"
    whole = ran(tmp_path / "whole", toy(toy_files, tiny_dir("bert"), *plain))
    assert result["total_parameters"] == whole.read_json("result.json")["total_parameters"]
    assert "relative to these rounded layers" in (run.model_dir / "README.md").read_text()
    if load == "4bit":  # LLM.int8 rounds what goes through the layers as well
        (found,) = merge(of_run(run), tmp_path / "merged", "fp32", 1e-4)
        assert found.largest_difference < 1e-4
        assert "rounded by model.load=4bit" in (tmp_path / "merged" / "README.md").read_text()
