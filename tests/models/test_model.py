"""The network's stages, what each strategy trains of BERT-base, and what of it keeps its dropout off."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from ftrun.errors import ConfigError
from ftrun.models.files.locate import local, locate
from ftrun.models.layers import adapted_layers
from ftrun.models.load import positions
from ftrun.models.model import Model
from ftrun.settings.schema import ModelSettings
from ftrun.strategies.bitfit import Bitfit
from ftrun.strategies.freeze import Freeze
from ftrun.strategies.full import Full
from ftrun.strategies.linear_probe import LinearProbe
from ftrun.strategies.lora import Lora
from ftrun.strategies.norms import Norms
from ftrun.strategies.scratch import Scratch


@pytest.fixture
def bert_base():
    """BERT-base with two classes, as from a checkpoint without a head; no memory behind its weights."""
    with torch.device("meta"):
        net = BertForSequenceClassification(BertConfig())
    return Model(net, None, "bert-base", {"classifier.weight", "classifier.bias"})


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16])
def test_lora_on_bert_base_trains_73728_weights_per_rank(bert_base, rank):
    Lora(rank, 16.0, 0.0, "attention", "lora", 16.0).prepare(bert_base)
    adapters = [p for name, p in bert_base.trained().items() if ".lora_" in name]
    assert sum(p.numel() for p in adapters) == 73_728 * rank
    assert bert_base.counts()[0] == 73_728 * rank + 1_538


def test_a_lora_has_a_rank_and_a_strength_and_keeps_something():
    Lora(1, 0.5, 0.0, "all", "lora", 16.0)
    for rank, alpha, dropout, said in (
        (0, 1.0, 0.0, "rank is at least 1, not 0"),
        (1, 0.0, 0.0, "alpha is above 0, not 0"),
        (1, 1.0, 1.0, "dropout is at least 0 and below 1, not 1"),
        (1, 1.0, -0.1, "dropout is at least 0 and below 1, not -0.1"),
    ):
        with pytest.raises(ConfigError, match=f"strategy=lora: {said}"):
            Lora(rank, alpha, dropout, "all", "lora", 16.0)


def test_lora_by_names_trains_what_the_names_say(bert_base):
    Lora(8, 16.0, 0.0, ["query", "value"], "lora", 16.0).prepare(bert_base)
    assert bert_base.counts()[0] == 36_864 * 8 + 1_538


def test_a_target_that_is_nowhere_is_refused_with_the_names_there_are(bert_base):
    with pytest.raises(ConfigError, match="named q_proj; there are dense, key, query, value"):
        Lora(8, 16.0, 0.0, ["q_proj"], "lora", 16.0).prepare(bert_base)
    with pytest.raises(ConfigError, match="did you mean 'query'"):
        Lora(8, 16.0, 0.0, ["qeury"], "lora", 16.0).prepare(bert_base)


@pytest.mark.parametrize(
    ("strategy", "trained"),
    [
        (Full(), 109_483_778),
        (LinearProbe("adamw"), 1_538),
        (Freeze(0, None, None), 109_483_778 - 23_837_184),
        (Freeze(2, None, None), 71_470_850),
        (Freeze(4, None, None), 57_295_106),
        (Freeze(6, None, None), 43_119_362),
        (Freeze(8, None, None), 28_943_618),
        (Freeze(12, None, None), 592_130),
        (Freeze(2, [4, 5, 6, 7], None), 81_132_290),
        (Freeze(2, "4-7", None), 81_132_290),
        (Freeze(2, "middle", None), 109_483_778 - 6 * 7_087_872),
        (Bitfit(), 102_912 + 1_538),
        (Norms(), 38_400 + 1_538),
        (Scratch(), 109_483_778),
    ],
)
def test_what_trains_of_bert_base(bert_base, strategy, trained):
    strategy.prepare(bert_base)
    assert bert_base.counts() == (trained, 109_483_778)


@pytest.mark.parametrize(
    ("depth", "frozen"),
    [(4, [1, 2]), (5, [1, 2, 3]), (6, [1, 2, 3, 4]), (8, [2, 3, 4, 5]), (12, [3, 4, 5, 6, 7, 8])],
)
def test_the_middle_half_of_the_layers(depth, frozen):
    assert Freeze(2, "middle", None).frozen_stages(depth) == {layer + 1 for layer in frozen}


def test_bottom_and_top_train_around_the_frozen_middle(bert_base):
    Freeze(2, "middle", None).prepare(bert_base)
    assert {bert_base.stage_of(name) for name in bert_base.trained()} == {0, 1, 2, 3, 10, 11, 12, 13}


def test_biases_and_norms_train_all_of_their_kind_and_nothing_else(bert_base):
    Bitfit().prepare(bert_base)
    head = "net.classifier.weight"
    assert all(name.endswith(".bias") or name == head for name in bert_base.trained())
    assert (
        sum(name.endswith(".bias") for name, _ in bert_base.named_parameters())
        == len(bert_base.trained()) - 1
    )
    Norms().prepare(bert_base)
    assert all(".LayerNorm." in name or "classifier" in name for name in bert_base.trained())
    assert sum(".LayerNorm." in name for name in bert_base.trained()) == 2 * 25


def test_networks_without_what_shall_train_are_refused(tiny_dir):
    net = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(tiny_dir("modernbert")))
    model = Model(net, None, "modernbert", {"classifier.weight", "classifier.bias"})
    message = (
        "strategy=bitfit trains biases, but modernbert has none below its head; possible: strategy=norms"
    )
    with pytest.raises(ConfigError, match=message):
        Bitfit().fits(model)
    for name in [name for name, module in net.named_modules() if type(module).__name__ == "LayerNorm"]:
        net.set_submodule(name, torch.nn.Identity())
    with pytest.raises(
        ConfigError, match="strategy=norms .* modernbert has none with weights below its head"
    ):
        Norms().fits(model)
    model.source = None
    with pytest.raises(ConfigError, match="but modernbert of random weights has none"):
        Norms().fits(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((13, None), "bottom=13, but this network has 12 layers"),
        ((2, [12]), r"layers=\[12\], but this network has the layers 0 to 11"),
        ((2, "9-12"), "layers=9-12, but this network has the layers 0 to 11"),
    ],
)
def test_layers_outside_the_network_are_refused(bert_base, arguments, message):
    with pytest.raises(ConfigError, match=message):
        Freeze(*arguments, None).fits(bert_base)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_network_without_a_middle_is_refused(depth):
    with pytest.raises(
        ConfigError, match=f"layers=middle .* but this network has {depth} layers?; it takes 4"
    ):
        Freeze(2, "middle", None).frozen_stages(depth)


@pytest.mark.parametrize(
    "arguments",
    [(-1, None), (2, "7-4"), (2, [-1]), (2, []), (2, True), (2, "4,7"), (2, ["middle"])],
)
def test_freeze_settings_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ConfigError, match="strategy=freeze") as caught:
        Freeze(*arguments, None)
    assert "\n" not in str(caught.value) and (
        "layers" not in str(caught.value) or "middle" in str(caught.value)
    )


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert"])
def test_every_architecture_is_cut_into_stages(tiny_dir, name):
    config = AutoConfig.from_pretrained(tiny_dir(name))
    net = AutoModelForSequenceClassification.from_config(config)
    model = Model(net, None, name, set())
    stages = {parameter: model.stage_of(parameter) for parameter, _ in model.named_parameters()}
    assert set(stages.values()) == set(range(model.depth + 2))
    assert all("embed" in parameter for parameter, stage in stages.items() if stage == 0)
    assert adapted_layers(model, "attention")
    head = {parameter for parameter, _ in model.head_parameters()}
    assert head and all(stages[parameter] == model.depth + 1 for parameter in head)


def test_what_is_frozen_keeps_its_dropout_off(tiny_dir):
    net = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(tiny_dir("bert")))
    model = Model(net, None, "bert", {"classifier.weight", "classifier.bias"})
    Freeze(1, None, None).prepare(model)
    model.train()
    layers = net.bert.encoder.layer
    assert not net.bert.embeddings.dropout.training
    assert not any(module.training for module in layers[0].modules())
    assert all(module.training for module in layers[1].modules())
    LinearProbe("adamw").prepare(model)
    model.train()
    assert not any(module.training for module in net.bert.modules())
    assert net.dropout.training


def settings(name, init="pretrained"):
    return ModelSettings(str(name), init, "head", None, False, None, None, None, "auto", "full")


def test_a_directory_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="it has no config.json"):
        locate(settings(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"no usable weights: no \*.safetensors"):
        locate(settings(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="pickles are not loaded"):
        locate(settings(tmp_path))
    assert locate(settings(tmp_path, "random")).name == str(tmp_path)


def test_names_that_are_no_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match="no such directory"):
        local("./nowhere")
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="is a file"):
        local(str(file))
    with pytest.raises(
        ConfigError,
        match="embeds only embedded:cnn_small, embedded:gpt2_small_random, embedded:mlp, embedded:resnet",
    ):
        local("embedded:huge_bert")
    assert local("google-bert/bert-base-uncased") is None


def test_the_hub_out_of_reach_is_one_line():
    with pytest.raises(
        ConfigError, match="nobody/nothing: no such directory, and the Hub cannot be reached.*model.name=DIR"
    ) as caught:
        locate(settings("nobody/nothing"))
    assert "\n" not in str(caught.value)
    for suits in ("model=tiny_bert for texts", "model=resnet_small for images"):
        assert suits in str(caught.value)  # the same line goes for every task


def test_positions_of_roberta_leave_out_the_padding(tiny_dir):
    assert positions(AutoConfig.from_pretrained(tiny_dir("bert"))) == 64
    config = AutoConfig.from_pretrained(tiny_dir("roberta"))
    assert positions(config) == config.max_position_embeddings - config.pad_token_id - 1
