"""Bottleneck adapters: how many weights, how near the identity, what stays as it was, and what is saved."""

import json
import shutil

import pytest
import torch
from lab import ran, settings, toy
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from ftrun.errors import ConfigError
from ftrun.experiments import finish as outcome
from ftrun.models.adapters import Adapted, Bottleneck
from ftrun.models.layers import output_layers
from ftrun.models.load import quiet
from ftrun.models.model import Model
from ftrun.models.reload import reload
from ftrun.runs.run import Run
from ftrun.strategies.adapter import Adapter

ARCHITECTURES = ["bert", "roberta", "distilbert", "modernbert"]
CLASSIFIER = "AutoModelForSequenceClassification"
INPUTS = {
    "input_ids": torch.arange(5, 15).reshape(2, 5),
    "attention_mask": torch.ones(2, 5, dtype=torch.long),
}


export = outcome.export


def on_meta(network, config, *head):
    """No memory behind its weights."""
    with torch.device("meta"):
        return Model(
            network(config), None, "a checkpoint", set(head or ["classifier.weight", "classifier.bias"])
        )


@pytest.mark.parametrize(
    ("bottleneck", "trained"),
    [(8, 313_536), (16, 608_640), (48, 1_789_056), (64, 2_379_264), (256, 9_461_760)],
)
def test_two_adapters_per_layer_of_bert_base_norms_and_head(bottleneck, trained):
    model = on_meta(BertForSequenceClassification, BertConfig())
    Adapter("houlsby", bottleneck, "gelu").prepare(model)
    adapters = sum(p.numel() for name, p in model.trained().items() if ".adapter." in name)
    assert adapters == trained
    assert model.counts() == (trained + 38_400 + 1_538, 109_483_778 + trained)


@pytest.mark.parametrize(("bottleneck", "trained"), [(48, 894_528), (64, 1_189_632)])
def test_one_adapter_per_layer_of_bert_base_and_head(bottleneck, trained):
    model = on_meta(BertForSequenceClassification, BertConfig())
    Adapter("pfeiffer", bottleneck, "gelu").prepare(model)
    assert model.counts() == (trained + 1_538, 109_483_778 + trained)


def test_an_adapter_computes_the_formula():
    torch.manual_seed(0)
    adapter = Bottleneck(6, 3, "tanh", torch.zeros(1))
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    h = torch.randn(2, 4, 6)
    down, up = adapter.down, adapter.up
    expected = h + torch.tanh(h @ down.weight.T + down.bias) @ up.weight.T + up.bias
    torch.testing.assert_close(adapter(h), expected)


def test_it_starts_at_a_thousandth_cut_at_two_deviations_and_without_biases():
    adapter = Bottleneck(768, 64, "gelu", torch.zeros(1))
    for layer in (adapter.down, adapter.up):
        assert layer.weight.abs().max() <= 2e-3
        assert layer.weight.std().item() == pytest.approx(
            0.88e-3, rel=0.02
        )  # the cut narrows 1e-3 to 0.88e-3
        assert not layer.bias.any()


def random_network(directory):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(directory)).eval()
    return Model(net, None, "random", {"classifier.weight", "classifier.bias"})


def outputs(model):
    found = model.net(**INPUTS, output_hidden_states=True)
    return [*found.hidden_states, found.logits]


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_it_starts_near_the_network_and_is_it_bit_for_bit_at_up_zero(tiny_dir, name, placement):
    model = random_network(tiny_dir(name))
    before, names = outputs(model), set(model.state_dict())
    Adapter(placement, 64, "gelu").prepare(model)
    assert names <= set(model.state_dict())  # the network's own weights keep their names
    adapted = [module for module in model.modules() if isinstance(module, Adapted)]
    assert len(adapted) == model.depth * (2 if placement == "houlsby" else 1)
    near = outputs(model)
    for one, other in zip(before, near, strict=True):
        assert (one - other).norm() < 1e-3 * one.norm()
    assert not torch.equal(near[-1], before[-1])
    for module in adapted:
        module.adapter.up.weight.zero_()
    assert all(torch.equal(one, other) for one, other in zip(before, outputs(model), strict=True))


def test_the_places_are_the_ends_of_attention_and_feed_forward(tiny_dir):
    ends = {
        "bert": ("bert.encoder.layer.1.attention.output.dense", "bert.encoder.layer.1.output.dense"),
        "roberta": ("roberta.encoder.layer.1.attention.output.dense", "roberta.encoder.layer.1.output.dense"),
        "distilbert": (
            "distilbert.transformer.layer.1.attention.out_lin", "distilbert.transformer.layer.1.ffn.lin2"
        ),
        "modernbert": ("model.layers.1.attn.Wo", "model.layers.1.mlp.Wo"),
    }  # fmt: skip
    for name, expected in ends.items():
        model = random_network(tiny_dir(name))
        both, feed_forward = (output_layers(model, placement) for placement in ("houlsby", "pfeiffer"))
        assert (both[1], both[-1]) == expected and len(both) == 4 and both[2:] == feed_forward


def test_a_vision_transformer_has_its_places():
    model = on_meta(ViTForImageClassification, ViTConfig(num_hidden_layers=3))
    assert [len(output_layers(model, placement)) for placement in ("houlsby", "pfeiffer")] == [6, 3]


def test_a_network_of_another_build_is_refused():
    model = on_meta(XLNetForSequenceClassification, XLNetConfig(n_layer=2), "logits_proj.weight")
    message = "a XLNetForSequenceClassification, none is known of attention; possible: placement=pfeiffer"
    with pytest.raises(ConfigError, match=message) as caught:
        Adapter("houlsby", 64, "gelu").fits(model)
    assert "\n" not in str(caught.value)
    Adapter("pfeiffer", 64, "gelu").fits(model)  # behind its feed-forward blocks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("placement=housby", "placement is one of houlsby, pfeiffer, not 'housby'; did you mean 'houlsby'"),
        ("bottleneck=0", "strategy=adapter: bottleneck is at least 1, not 0"),
        ("activation=swish", "activation is one of gelu, relu, tanh, silu, not 'swish'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        settings("strategy=adapter", words)


@pytest.mark.parametrize(
    ("pooling", "activation"), [("head", "gelu"), ("cls", "relu"), ("mean", "silu"), ("head", "tanh")]
)
def test_a_run_saves_what_it_trained_alone_and_reloads_to_the_bit(
    toy_files, tiny_dir, tmp_path, pooling, activation
):
    words = "strategy=adapter", f"model.pooling={pooling}", f"activation={activation}", "train.max_steps=3"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words, "bottleneck=4"))
    result = run.read_json("result.json")
    assert result["reload_difference"] == 0.0
    with safe_open(run.model_dir / "adapter.safetensors", "pt") as file:
        saved = {name: file.get_tensor(name).numel() for name in file.keys()}
    assert sum(saved.values()) == result["trained_parameters"]
    assert all(
        any(part in name for part in (".adapter.", "LayerNorm", "classifier", "pooler")) for name in saved
    )
    assert sorted(path.name for path in run.model_dir.iterdir()) == [
        "README.md", "adapter.json", "adapter.safetensors", "base", "config.json", "sha256.json",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert json.loads((run.model_dir / "adapter.json").read_text()) == {
        "kind": "bottlenecks", "placement": "houlsby", "bottleneck": 4, "activation": activation,
        "base_model": tiny_dir("bert").name,
    }  # fmt: skip
    assert "from ftrun.models.reload import reload" in (run.model_dir / "README.md").read_text()


def test_the_embedded_checkpoint_is_named_not_its_place(toy_files, tmp_path):
    words = "strategy=adapter", "train.max_steps=1", "task.subset=20"
    run = ran(tmp_path / "run", toy(toy_files, "embedded:tiny_bert", *words))
    assert json.loads((run.model_dir / "adapter.json").read_text())["base_model"] == "embedded:tiny_bert"
    assert run.read_json("result.json")["reload_difference"] == 0.0


@pytest.fixture(scope="module")
def trained(toy_files, tiny_dir, tmp_path_factory):
    """A finished run with its network as it was in memory at the end."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcome, "export", lambda model, *rest: kept.append(model) or export(model, *rest))
        path = tmp_path_factory.mktemp("adapters") / "run"
        run = ran(path, toy(toy_files, tiny_dir("bert"), "strategy=adapter", "train.lr=1e-2"))
    return run, kept[0]


def test_the_network_below_the_adapters_stays_bit_for_bit(trained, tiny_dir):
    _, model = trained
    pretrained = load_file(tiny_dir("bert") / "model.safetensors")
    own = model.net.bert.state_dict()
    same = {name for name, value in pretrained.items() if torch.equal(value, own[name])}
    assert {name for name in pretrained if "LayerNorm" not in name} == same


@torch.no_grad()
def test_tasks_swapped_on_one_network_keep_their_logits_to_the_bit(trained):
    run, model = trained
    model.eval()
    first = {name: value.clone() for name, value in model.trained().items()}
    logits = model(**INPUTS)
    for parameter in model.trained().values():  # another task learns
        parameter.add_(torch.randn_like(parameter))
    assert not torch.equal(model(**INPUTS), logits)
    for name, parameter in model.trained().items():
        parameter.copy_(first[name])
    assert torch.equal(model(**INPUTS), logits)
    with quiet():
        assert torch.equal(reload(run.model_dir, CLASSIFIER)(**INPUTS).logits, logits)


def test_a_run_in_the_house_of_evaluate_reads_adapters(trained):
    from ftrun.experiments.inference import FinishedRun

    run, model = trained
    finished = FinishedRun(Run.open(run.path))
    assert torch.equal(finished.model(**INPUTS), model.eval()(**INPUTS))


def test_a_checkpoint_that_is_gone_and_weights_of_another_network_are_one_line(trained, tmp_path):
    directory = shutil.copytree(trained[0].model_dir, tmp_path / "model")
    (directory / "sha256.json").unlink()
    adapters = json.loads((directory / "adapter.json").read_text())
    (directory / "adapter.json").write_text(json.dumps({**adapters, "base_model": str(tmp_path / "gone")}))
    (directory / "base").rename(directory / "apart")
    with pytest.raises(ConfigError, match="adapter.json: base_model=.*gone cannot be loaded"):
        reload(directory, CLASSIFIER)
    (directory / "apart").rename(directory / "base")
    (directory / "adapter.json").write_text(json.dumps(adapters))
    weights = load_file(directory / "adapter.safetensors")
    name = next(name for name in weights if ".adapter." in name)
    save_file(
        {key: value for key, value in weights.items() if key != name}, directory / "adapter.safetensors"
    )
    with pytest.raises(ConfigError, match=f"adapter.safetensors does not fit .*: {name}"), quiet():
        reload(directory, CLASSIFIER)
