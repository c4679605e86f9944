"""Weights that are not those of a network are refused, by names, shapes and values; heads may be new."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import torch
import transformers
from lab import toy
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig

from ftrun.errors import ConfigError
from ftrun.models.files.locate import Checkpoint
from ftrun.models.files.pretrained import fill_biases, pretrained, refuse_other_shapes
from ftrun.models.files.stored import shapes
from ftrun.models.load import load, outline, quiet
from ftrun.models.reload import reload
from ftrun.tasks.data import TaskData

WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = WIDE | {"vocab_size": 40, "max_position_embeddings": 16, "num_labels": 3}
PIXELS = {"image_size": 8, "patch_size": 4, "num_labels": 3}
NETWORKS = {  # the class, its configuration, and the auto class it is read by
    "bert": ("BertForSequenceClassification", TEXT, "AutoModelForSequenceClassification"),
    "bert for tokens": ("BertForTokenClassification", TEXT, "AutoModelForTokenClassification"),
    "masked": ("RobertaForMaskedLM", TEXT, "AutoModelForMaskedLM"),
    "albert": ("AlbertForSequenceClassification", TEXT | {"embedding_size": 8}, "AutoModel"),
    "gpt2": (
        "GPT2LMHeadModel",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 40, "n_positions": 16},
        "AutoModelForCausalLM",
    ),
    "t5": (
        "T5ForConditionalGeneration",
        {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 40},
        "AutoModelForSeq2SeqLM",
    ),
    "xlnet": (
        "XLNetForSequenceClassification",
        {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16, "vocab_size": 40, "num_labels": 3},
        "AutoModelForSequenceClassification",
    ),
    "vit": ("ViTForImageClassification", WIDE | PIXELS, "AutoModelForImageClassification"),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"},
        "AutoModelForImageClassification",
    ),
    "clip": (  # its vision part is under no prefix of a base model
        "CLIPForImageClassification",
        {"vision_config": WIDE | PIXELS, "num_labels": 3},
        "AutoModelForImageClassification",
    ),
}
HEADS = ("classifier.", "lm_head.", "logits_proj.", "sequence_summary.", "pooler.", "predictions.")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`saved("bert")`: a directory with a tiny network of that name."""
    made = {}

    def make(name):
        if name not in made:
            kind, settings, _ = NETWORKS[name]
            network = getattr(transformers, kind)
            made[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
            with torch.random.fork_rng():
                torch.manual_seed(0)
                network(network.config_class(**settings)).save_pretrained(made[name])
        return made[name]

    return make


def auto_of(name):
    return getattr(transformers, NETWORKS[name][2])


def changed(place, to, change):
    """A copy of a checkpoint whose tensors are what `change` makes of them."""
    shutil.copytree(place, to)
    tensors = load_file(to / "model.safetensors")
    save_file(change(tensors), to / "model.safetensors", {"format": "pt"})
    return to


def read_both(name, place):
    """By the headers alone, then whole; what either says."""
    auto, checkpoint, said = auto_of(name), Checkpoint(str(place), {}), []
    with quiet():
        with torch.device("meta"):
            net = auto.from_config(AutoConfig.from_pretrained(place))
        for way in (
            lambda: refuse_other_shapes(net, shapes(checkpoint), "it"),
            lambda: pretrained(NETWORKS[name][2], checkpoint, "it"),
        ):
            try:
                way()
                said.append("")
            except ConfigError as error:
                said.append(str(error))
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_fits_is_read_and_what_lacks_a_tensor_below_the_head_is_not(saved, tmp_path, name):
    place = saved(name)
    assert read_both(name, place) == ""
    tensors = load_file(place / "model.safetensors")
    heads = {key for key in tensors if any(f".{head}" in f".{key}" for head in HEADS)}
    assert heads or name in ("gpt2", "t5")
    weights = [key for key, value in tensors.items() if value.is_floating_point()]
    for number, key in enumerate(weights[:: max(1, len(weights) // 5)] + sorted(heads)[:1]):
        without = changed(place, tmp_path / str(number), lambda own, key=key: own.pop(key) is None or own)
        found = read_both(name, without)
        if key in heads:
            assert found == "", key
        else:
            assert (
                found.startswith("it: 1 of ")
                and found.split("such as ")[1].split(";")[0].rpartition(".")[2] == key.rpartition(".")[2]
            )


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit", "resnet"])
def test_other_names_layers_and_widths(saved, tmp_path, name):
    place = saved(name)
    other = changed(place, tmp_path / "other", lambda own: {f"module.{key}": v for key, v in own.items()})
    found = read_both(name, other)
    assert "tensors below the head are not in its files, such as " in found
    assert "; the files have module." in found and found.endswith("saved with these weights")
    ((missing, _, whole),) = [found.split(": ")[1].split()[:3]]
    assert missing == whole  # all of all
    config = json.loads((place / "config.json").read_text())
    more = {"n_layer": 3, "num_hidden_layers": 3, "depths": [1, 1, 1], "hidden_sizes": [4, 8, 8]}
    deep = shutil.copytree(place, tmp_path / "deep")
    (deep / "config.json").write_text(json.dumps(config | {k: v for k, v in more.items() if k in config}))
    assert "below the head are not in its files, such as" in read_both(name, deep)
    more = {"n_embd": 32, "hidden_size": 32, "hidden_sizes": [4, 16]}
    wide = shutil.copytree(place, tmp_path / "wide")
    (wide / "config.json").write_text(json.dumps(config | {k: v for k, v in more.items() if k in config}))
    found = read_both(name, wide)
    assert "have another shape than config.json says, such as" in found and "stored, " in found


def test_a_prefix_that_transformers_knows_is_none_that_is_wrong(saved, tmp_path):
    """Weights of the bare network, of another head, in shards, and without counts that are no weights."""
    bare = tmp_path / "bare"
    transformers.BertModel.from_pretrained(saved("bert")).save_pretrained(bare)
    assert not any(key.startswith("bert.") for key in load_file(bare / "model.safetensors"))
    assert read_both("bert", bare) == read_both("bert for tokens", saved("bert")) == ""
    assert read_both("masked", saved("masked")) == ""
    parts = tmp_path / "parts"
    network = transformers.BertForSequenceClassification.from_pretrained(saved("bert"))
    network.save_pretrained(parts, max_shard_size="8kB")
    assert len([*parts.glob("model-*.safetensors")]) > 2 and read_both("bert", parts) == ""
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    file = parts / index["weight_map"]["bert.encoder.layer.1.output.dense.weight"]
    save_file({"other": torch.zeros(2)}, file, {"format": "pt"})
    assert "tensors below the head are not in its files" in read_both("bert", parts)
    former = {
        "LayerNorm.weight": "LayerNorm.gamma",
        "LayerNorm.bias": "LayerNorm.beta",
    }  # as BERT was published

    def renamed(own):
        for new, old in former.items():
            own = {key.replace(new, old): value for key, value in own.items()}
        return own

    assert read_both("bert", changed(saved("bert"), tmp_path / "former", renamed)) == ""
    uncounted = changed(
        saved("resnet"),
        tmp_path / "uncounted",
        lambda own: {key: value for key, value in own.items() if "num_batches_tracked" not in key},
    )
    assert read_both("resnet", uncounted) == ""


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit", "t5", "albert"])
def test_layers_that_are_left_out_are_said(saved, tmp_path, capsys, name):
    place = shutil.copytree(saved(name), tmp_path / "few")
    config = json.loads((place / "config.json").read_text())
    fewer = {"n_layer": 1, "num_hidden_layers": 1, "num_layers": 1, "num_decoder_layers": 1}
    (place / "config.json").write_text(json.dumps(config | {k: v for k, v in fewer.items() if k in config}))
    assert read_both(name, place) == ""
    said = "" if name == "albert" else "it: config.json asks for 1 of the 2 layers that are stored\n"
    assert capsys.readouterr().out == said  # the layers of ALBERT share their weights


@pytest.fixture
def bert(tiny_dir, tmp_path, toy_files):
    """`bert({"hidden_size": 64})`: an experiment with a tiny BERT whose config.json says something else."""

    def make(change):
        place = tmp_path / "bert"
        shutil.copytree(tiny_dir("bert"), place, dirs_exist_ok=True)
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(config | change))
        return toy(toy_files, place)

    return make


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_hidden_layers": 3}, "not in its files, such as "),
        ({"num_hidden_layers": 10**4}, "asks for more than .* tensors, and .* are stored"),
        ({"hidden_size": 10**9}, "1000000000|no machine holds"),
        ({"hidden_size": 10**9 + 1}, "1000000001"),  # whatever else is wrong with it
        ({"hidden_size": 10**8, "intermediate_size": 4}, "100000000"),
        ({"vocab_size": 10**9}, "1000000000"),
        ({"max_position_embeddings": 10**12}, "1000000000000"),
    ],
)
@pytest.mark.parametrize("pooling", ["head", "mean"])
def test_a_configuration_of_another_network_is_refused_at_once(bert, change, reason, pooling):
    """Before the data is read, and when a run is taken up again; no memory is asked for."""
    experiment = bert(change)
    experiment.model.pooling = pooling
    spec = experiment.task.spec(None)
    for way in (outline, lambda *given: load(*given, 0)):
        begin = time.process_time()
        with pytest.raises(ConfigError, match=f"model.name=.*/bert: .*({reason})"):
            way(experiment.model, spec)
        assert time.process_time() - begin < 1


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_no_numbers_are_said_when_they_are_loaded(bert, tmp_path, value):
    experiment = bert({})
    place = tmp_path / "bert"
    tensors = load_file(place / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][3, 5] = float(value)
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"1 of the 2,048 numbers in .*layer.1.output.dense.weight are NaN"):
        load(experiment.model, TaskData.read(experiment.task, 0).spec, 0)


def test_a_saved_network_has_its_head_too(saved, tmp_path):
    place = saved("bert")
    reload(place, NETWORKS["bert"][2])
    without = changed(
        place, tmp_path / "it", lambda own: {k: v for k, v in own.items() if "classifier" not in k}
    )
    with quiet(), pytest.raises(ConfigError, match=r"it: 2 of .* tensors are not in .*such as classifier"):
        reload(without, NETWORKS["bert"][2])


def test_a_fresh_bias_that_transformers_leaves_as_the_memory_was_is_zero() -> None:
    net = nn.Module()
    net.head, net.linear = nn.Module(), nn.Linear(2, 3)
    net.head.bias = nn.Parameter(torch.full((4,), torch.nan))
    before = net.linear.bias.detach().clone()
    fill_biases(net, {"head.bias", "linear.bias", "linear.weight"})
    assert not net.head.bias.any() and torch.equal(net.linear.bias, before)
