"""LoRA+, VeRA and (IA)³ against their formulas and against peft."""

import sys
from pathlib import Path

import pytest
import torch
from lab import ran, settings, toy

from ftrun.errors import ConfigError
from ftrun.models.load import load
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.training.optim import groups, plan

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))
from tiny_networks import NETWORKS

QUERY, KEY = (f"bert.encoder.layer.0.attention.self.{name}" for name in ("query", "key"))
INPUTS = {
    "input_ids": torch.arange(5, 15).reshape(2, 5),
    "attention_mask": torch.ones(2, 5, dtype=torch.long),
}


def prepared(experiment, seed=0):
    spec = TaskData.read(experiment.task, 0).spec
    model = load(experiment.model, spec, stream(0, "init"))
    torch.manual_seed(seed)
    experiment.strategy.prepare(model)
    return model.eval()


def test_lora_plus_has_the_rates_of_pefts_own_optimizer(toy_files, tiny_dir):
    from peft.optimizers import create_loraplus_optimizer

    experiment = toy(
        toy_files, tiny_dir("bert"), "strategy=lora", "variant=lora_plus", "ratio=8", "train.lr=0.5"
    )
    model = prepared(experiment)
    own = {
        name: 0.5 * group.scale
        for group in groups(model, experiment.train, experiment.strategy.scale)
        for name in group.parameters
    }
    assert own.keys() == model.trained().keys()
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=0.5, loraplus_lr_ratio=8)
    rates = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    updates = [name for name in own if ".lora_" in name]
    assert {own[name] for name in updates} == {0.5, 4.0}
    assert all(own[name] == rates[id(model.get_parameter(name))] for name in updates)
    lines = plan(model, groups(model, experiment.train, experiment.strategy.scale), 0.5, {}, 1)
    assert any("rate 0.5 to 4," in line for line in lines) and any("rate 0.5," in line for line in lines)


def test_lora_plus_with_equal_rates_is_lora_byte_for_byte(toy_files, tiny_dir, tmp_path):
    words = "strategy=lora", "rank=2", "train.epochs=1", "train.lr=1e-2"
    plain = ran(tmp_path / "lora", toy(toy_files, tiny_dir("bert"), *words))
    plus = ran(tmp_path / "plus", toy(toy_files, tiny_dir("bert"), *words, "variant=lora_plus", "ratio=1"))
    assert plain.metrics() == plus.metrics()
    apart = ran(tmp_path / "apart", toy(toy_files, tiny_dir("bert"), *words, "variant=lora_plus", "ratio=4"))
    assert plain.metrics() != apart.metrics()
    told = [
        [line["learning_rate"] for line in run.metrics() if "learning_rate" in line] for run in (plain, apart)
    ]
    assert told[0] == told[1]  # that of A, which is train.lr


def test_the_rate_of_lora_plus_is_around_that_of_lora():
    lora, plus = (
        settings("strategy=lora", f"variant={name}").strategy.paced() for name in ("lora", "lora_plus")
    )
    assert plus.rate == lora.rate / 4 and plus.steps == lora.steps


def test_vera_scales_matrices_that_all_layers_share(toy_files, tiny_dir):
    model = prepared(toy(toy_files, tiny_dir("bert"), "strategy=vera", "rank=6", "targets=all"))
    layer, other = (model.net.get_submodule(name) for name in (QUERY, "bert.encoder.layer.1.output.dense"))
    assert layer.vera_A is other.vera_A and layer.vera_B is other.vera_B
    a, b = layer.vera_A["default"], layer.vera_B["default"]
    up, down = layer.vera_lambda_b["default"], layer.vera_lambda_d["default"]
    assert (up == 0).all() and torch.allclose(down, torch.full_like(down, 0.1))
    assert not any("vera_A" in name or "vera_B" in name for name in model.trained())
    with torch.no_grad():
        up.normal_()
        x = torch.randn(3, layer.in_features)
        expected = layer.base_layer(x) + up * ((down * (x @ a[:, : x.shape[1]].T)) @ b[: len(up)].T)
        torch.testing.assert_close(layer(x), expected)


def test_the_matrices_of_vera_are_those_of_the_seed(toy_files, tiny_dir):
    experiment = toy(toy_files, tiny_dir("bert"), "strategy=vera", "rank=6")
    first, again, other = (
        prepared(experiment, seed).net.get_submodule(QUERY).vera_A["default"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_ia3_scales_keys_values_and_what_feed_forward_blocks_hold_inside(toy_files, tiny_dir):
    model = prepared(toy(toy_files, tiny_dir("bert"), "strategy=ia3"))
    scaled = [name for name in model.trained() if "ia3_l" in name]
    endings = {".".join(name.split(".")[5:-2]) for name in scaled}
    assert endings == {"attention.self.key", "attention.self.value", "output.dense"} and len(scaled) == 6
    key, output = model.net.get_submodule(KEY), model.net.get_submodule("bert.encoder.layer.0.output.dense")
    with torch.no_grad():
        own, inner = key.ia3_l["default"].normal_().flatten(), output.ia3_l["default"].normal_().flatten()
        x, hidden = torch.randn(3, key.in_features), torch.randn(3, output.in_features)
        torch.testing.assert_close(key(x), own * key.base_layer(x))
        torch.testing.assert_close(output(hidden), output.base_layer(inner * hidden))


@pytest.mark.parametrize("network", ["DeBERTa", "T5", "GPT-2", "Swin", "XLNet", "FNet", "ResNet"])
def test_ia3_knows_the_keys_and_values_of_a_network_or_says_so(network):
    import transformers

    from ftrun.models.layers import scaled_layers
    from ftrun.models.model import Model

    family, shape = NETWORKS[network]
    kind = "Image" if network in ("Swin", "ResNet") else "Sequence"
    with torch.device("meta"):
        config = getattr(transformers, f"{family}Config")(**shape)
        net = getattr(transformers, f"AutoModelFor{kind}Classification").from_config(config)
    model = Model(net, None, "here", set())
    if network in ("XLNet", "FNet", "ResNet"):
        with pytest.raises(
            ConfigError, match=r"strategy=ia3 scales .* in here, a .*; possible: strategy=lora"
        ):
            scaled_layers(model)
    else:
        outputs, inputs = scaled_layers(model)
        assert outputs and inputs and not {*outputs} & {*inputs}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("strategy=vera rank=0", "strategy=vera: rank is at least 1, not 0"),
        ("strategy=vera d_initial=0", "strategy=vera: d_initial is above 0, not 0"),
        ("strategy=vera dropout=1", "strategy=vera: dropout is at least 0 and below 1, not 1"),
        ("strategy=lora variant=vera", "possible: strategy=vera"),
        ("strategy=lora ratio=0", "strategy=lora: ratio is above 0, not 0"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_a_line(words, said):
    with pytest.raises(ConfigError) as caught:
        settings(*words.split())
    assert said in str(caught.value)


@pytest.mark.parametrize("strategy", ["ia3", "vera"])
def test_what_rescales_weights_is_not_held(toy_files, tiny_dir, tmp_path, strategy):
    source = (
        "source=pretraining",
        f"source.text={toy_files}/train.csv",
        "source.rows=8",
        "source.max_length=16",
    )
    words = f"strategy={strategy}", "protect=l2sp", "protect.apply=loss", "train.max_steps=1", *source
    with pytest.raises(ConfigError, match="ia3, vera and variant=dora rescale them; possible: strategy=lora"):
        ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
