"""The two networks for small images: shapes, first weights, stages, saving, and what does not fit."""

import itertools
import math

import pytest
import torch
from lab import ran, settings
from torch import nn
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from ftrun.errors import ConfigError
from ftrun.models.architecture import IMAGES
from ftrun.models.layers import adapted_layers
from ftrun.models.load import load, outline
from ftrun.models.reload import difference, reload
from ftrun.models.save import export
from ftrun.models.small import Cnn, CnnConfig, Mlp, MlpConfig, register
from ftrun.runs.manifest import SEAL
from ftrun.tasks.data import TaskData

pytestmark = pytest.mark.images

NETWORKS = {"mlp": (Mlp, MlpConfig), "cnn_small": (Cnn, CnnConfig)}
PIXELS = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BATCH = {"inputs": {"pixel_values": PIXELS}}


def digits(*words):
    """A quick experiment with digits, whose network and strategy are still to be said."""
    quick = "task.subset=100", "train.max_steps=6", "train.eval_every=3", "train.lr=1e-2", "device=cpu"
    return settings("task=digits", *quick, *words)


def loaded(experiment, seed=0):
    return load(experiment.model, TaskData.read(experiment.task, 0).spec, seed)


@pytest.mark.parametrize(("name", "weights"), [("mlp", 7_510), ("cnn_small", 38_282)])
def test_pixels_go_in_and_logits_come_out(name, weights):
    model = loaded(digits(f"model={name}"))
    assert model.counts()[1] == weights
    assert model(pixel_values=PIXELS).shape == (5, 10)
    assert model.tokenizer is None


def test_channels_are_last_in_memory_from_the_first_convolution_on():
    """In grey pictures too, where there is only one."""
    model = loaded(digits("model=cnn_small"))
    found = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, given, out: found.extend((given[0], out)))
    before = PIXELS.clone()
    with torch.no_grad():
        assert torch.allclose(model(pixel_values=PIXELS), model.net(PIXELS).logits, atol=1e-6)
    own, plain = found[: len(found) // 2], found[len(found) // 2 :]
    assert all(each.stride()[1] == 1 for each in own) and not any(each.stride()[1] == 1 for each in plain)
    assert torch.equal(PIXELS, before) and PIXELS.is_contiguous()


def test_widths_and_depth_are_the_configuration_s():
    mlp = Mlp(MlpConfig(hidden_sizes=[20, 30], image_size=4, num_channels=3, num_labels=3))
    assert [tuple(weight.shape) for weight in mlp.parameters() if weight.ndim == 2] == [
        (20, 48),
        (30, 20),
        (3, 30),
    ]
    assert mlp(torch.rand(2, 3, 4, 4)).logits.shape == (2, 3)
    cnn = Cnn(CnnConfig(filters=[2, 3, 4], hidden_size=5, num_labels=2))
    assert [tuple(weight.shape)[:2] for weight in cnn.parameters() if weight.ndim == 4] == [
        (2, 1),
        (3, 2),
        (4, 3),
    ]
    assert cnn(PIXELS).logits.shape == (5, 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_weights_are_torch_s_and_a_function_of_the_seed(name):
    one, again, other = (loaded(digits(f"model={name}"), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert not any(torch.equal(value, other[key]) for key, value in one.items())
    for key, value in one.items():
        if value.ndim > 1:  # uniform up to 1/sqrt(inputs)
            bound = 1 / math.sqrt(value[0].numel())
            assert 0.9 * bound < value.abs().max() <= bound, key
            assert abs(value.std() * math.sqrt(3) / bound - 1) < 0.1, key


@pytest.mark.parametrize(("name", "depth"), [("mlp", 1), ("cnn_small", 3)])
def test_every_layer_is_a_stage_and_nothing_is_below_the_first(name, depth):
    model = loaded(digits(f"model={name}"))
    assert model.depth == depth
    stages = [model.stage_of(key) for key, _ in model.named_parameters()]
    assert stages == sorted(stages) and set(stages) == set(range(1, depth + 2))
    assert {key for key, _ in model.head_parameters()} == {"net.classifier.weight", "net.classifier.bias"}
    assert len(adapted_layers(model, "all")) == depth  # convolutions too; the head is not among them
    assert len(adapted_layers(model, "all", linear=True)) == 1


@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        *(("mlp", ["lora", "targets=all", f"variant={variant}"]) for variant in ("dora", "rslora", "pissa")),
        *itertools.product(
            NETWORKS,
            [
                ["full"],
                ["freeze", "bottom=0"],
                ["freeze", "bottom=1"],
                ["linear_probe"],
                ["lora", "targets=all"],
            ],
        ),
    ],
)
def test_every_strategy_trains_it_and_what_is_saved_loads_to_the_same(name, strategy, tmp_path):
    run = ran(tmp_path / "run", digits(f"model={name}", f"strategy={strategy[0]}", *strategy[1:]))
    result = run.read_json("result.json")
    assert result["reload_difference"] < 1e-5
    if strategy[0] != "lora":
        assert result["reload_difference"] == 0.0
    assert {path.name for path in run.model_dir.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        SEAL,
    }
    frozen = {"full": 0, "freeze": 0, "linear_probe": 1, "lora": 1}[strategy[0]] or "bottom=1" in strategy
    assert (result["trained_parameters"] < result["total_parameters"]) == bool(frozen)


def test_saved_and_read_back_by_transformers_alone(tmp_path):
    model = loaded(digits("model=mlp", "task.labels=[0,1,2,3,4,5,6,7,8,9,ten]"))
    export(model, tmp_path, IMAGES)
    register()
    net = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(net(PIXELS).logits, model(pixel_values=PIXELS))
    assert net.config.id2label[10] == "ten"
    assert difference(model, tmp_path, IMAGES, BATCH) == 0.0


def test_what_is_random_under_an_adapter_is_saved_with_it(tmp_path):
    """The model in memory goes on with its adapter; the saved one needs none."""
    experiment = digits("model=mlp", "strategy=lora", "targets=all")
    model = loaded(experiment)
    experiment.strategy.prepare(model)
    for key, weight in model.trained().items():
        if "lora_B" in key:
            nn.init.normal_(weight)
    before = model(pixel_values=PIXELS)
    export(model, tmp_path, IMAGES)
    assert torch.equal(model(pixel_values=PIXELS), before)
    assert isinstance(reload(tmp_path, IMAGES).get_submodule("backbone.layers.0.linear"), nn.Linear)
    assert difference(model, tmp_path, IMAGES, BATCH) < 1e-5


def test_a_run_is_a_pretrained_network_for_the_next(tmp_path):
    first = ran(tmp_path / "first", digits("model=mlp", "task.classes=[0,1,2,3,4]"))
    net = reload(first.model_dir, IMAGES)
    same = loaded(digits(f"model.name={first.path}", "task.classes=[5,6,7,8,9]", "task.modulo=5"))
    for key, value in net.state_dict().items():
        assert torch.equal(same.net.state_dict()[key], value), key
    assert same.fresh == frozenset()
    more = loaded(digits(f"model.name={first.path}", "task.classes=[5,6,7]"))  # another head: fresh
    assert more.fresh == {"net.classifier.weight", "net.classifier.bias"}
    weight = more.net.classifier.weight
    assert weight.shape == (3, 100) and weight.abs().max() <= 0.1 and weight.std() > 0.05
    assert torch.equal(
        more.get_submodule("net.backbone.layers.0.linear").weight,
        net.get_submodule("backbone.layers.0.linear").weight,
    )
    adapted = digits(f"model.name={first.path}", "task.classes=[5,6,7]", "strategy=lora", "targets=all")
    run = ran(tmp_path / "second", adapted)
    assert (run.model_dir / "adapter_model.safetensors").is_file()
    assert run.read_json("result.json")["reload_difference"] < 1e-5


def test_without_attention_every_layer_is_a_target_of_lora_and_that_is_said():
    experiment = digits("model=cnn_small", "strategy=lora")
    model = outline(experiment.model, experiment.task.spec(None))
    assert experiment.strategy.layers(model) == adapted_layers(model, "all")
    said = "targets=attention: ftrun_cnn of random weights has no attention, so every layer is a target"
    assert experiment.strategy.chosen(experiment, model) == ({}, said)
    assert (
        digits("model=cnn_small", "strategy=lora", "targets=all").strategy.chosen(experiment, model)[1] == ""
    )


def test_weights_that_are_nowhere():
    with pytest.raises(ConfigError, match="embedded:mlp has no usable weights.*model.init=random needs none"):
        loaded(digits("model=mlp", "model.init=pretrained"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["task=digits"],
            "task=digits needs a network for images, model.name=embedded:tiny_bert reads text; "
            "model=mlp and model=cnn_small read images",
        ),
        (
            ["task=classify", "model=mlp"],
            "task=classify needs a network for text, model.name=embedded:mlp reads images",
        ),
        (
            ["task=classify", "model=mlp", "model.pooling=mean"],
            "task=classify needs a network for text, model.name=embedded:mlp reads images",
        ),
        (
            ["task=digits", "model=cnn_small", "model.pooling=mean"],
            "model.pooling=mean is for text; images take model.pooling=head",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(toy_files, words, message):
    files = [f"task.train={toy_files}/train.csv"] if "task=classify" in words else []
    with pytest.raises(ConfigError) as caught:
        loaded(settings(*words, *files))
    assert str(caught.value) == message


def test_other_networks_for_images(tmp_path):
    shape = dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, patch_size=4
    )
    ViTForImageClassification(ViTConfig(**shape, image_size=8, num_channels=1)).save_pretrained(
        tmp_path / "fits"
    )
    run = ran(tmp_path / "run", digits(f"model.name={tmp_path}/fits", "strategy=lora"))
    assert run.read_json("result.json")["reload_difference"] < 1e-5
    ViTForImageClassification(ViTConfig(**shape, image_size=32)).save_pretrained(tmp_path / "large")
    with pytest.raises(ConfigError, match="has images of 1 x 8 x 8, model.name=.*large takes 3 x 32 x 32"):
        loaded(digits(f"model.name={tmp_path}/large"))
