"""Pictures lie channels last in memory, but for networks that torch's CPU kernels break in that order."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from toys_image import files
from transformers import AutoConfig, AutoModelForImageClassification, PoolFormerConfig, PoolFormerModel

from ftrun import ASSETS
from ftrun.models.memory_format import memory_format_of
from ftrun.models.small import register

BROKEN = {
    "3 channels": nn.Conv2d(3, 16, 1, 2, bias=False),
    "4 channels": nn.Conv2d(4, 16, 1, 2, bias=False),
    "6 channels": nn.Conv2d(6, 16, 1, 2, bias=False),
    "stride 3": nn.Conv2d(4, 16, 1, (1, 3)),
    "groups": nn.Conv2d(16, 16, 1, 2, groups=4),
    "group norm": nn.GroupNorm(1, 8),
}
SOUND = {
    "8 channels": nn.Conv2d(8, 16, 1, 2),
    "stride 1": nn.Conv2d(3, 16, 1),
    "kernel 3": nn.Conv2d(3, 16, 3, 2),
    "depthwise": nn.Conv2d(6, 6, 3, 2, groups=6),
    "batch norm": nn.BatchNorm2d(3),
}
POOLFORMER = PoolFormerConfig(num_channels=3, hidden_sizes=[8, 16], depths=[1, 1], num_encoder_blocks=2)

LOOP = """
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput
from ftrun.models.logits import logits_of

class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, 16, kernel_size=1, stride=2, bias=False)

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.layer(pixel_values))

for channels in (3, 4, 6, 8, 12, 16, 20):
    for _ in range(20):
        net = Net(channels)
        for _ in range(6):
            pixels = torch.randn(8, channels, 16, 16, requires_grad=True)
            logits_of(net, {"pixel_values": pixels}).sum().backward()
"""
RUNS = """
import sys
from lab import ran, settings

here, pictures, net = sys.argv[1:]
parts = [f"task.{part}={pictures}/{part}" for part in ("train", "validation", "test")]
for words in (["freeze", "bottom=1"], ["gradual_unfreeze", "every=0.2"]):
    experiment = settings(
        "task=image", *parts, f"model.name={net}", "model.init=random", "task.size=16", "task.subset=16",
        "train.batch_size=8", "train.epochs=2", "device=cpu", f"strategy={words[0]}", *words[1:],
    )
    ran(f"{here}/{words[0]}", experiment)
"""


def as_elsewhere(*command, **variables):
    """A process of its own, as on a processor with AVX2 only: what it breaks is its own memory."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", **variables}
    result = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120
    )
    died = signal.Signals(-result.returncode).name if result.returncode < 0 else result.returncode
    assert result.returncode == 0, f"{died}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"


@pytest.mark.parametrize("name", BROKEN)
def test_a_network_with_a_layer_that_breaks_is_left_as_it_is_on_a_cpu_alone(name):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(BROKEN[name]))
    assert memory_format_of(net, "cpu") == torch.contiguous_format
    assert memory_format_of(net, "cuda") == torch.channels_last


@pytest.mark.parametrize("name", SOUND)
def test_other_layers_take_channels_last(name):
    assert memory_format_of(nn.Sequential(SOUND[name]), "cpu") == torch.channels_last


@pytest.mark.parametrize("name", ["resnet_small", "resnet18_small", "cnn_small", "mlp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_networks_that_come_along_take_channels_last(name, channels):
    register()
    config = AutoConfig.from_pretrained(ASSETS / name, num_channels=channels)
    net = AutoModelForImageClassification.from_config(config)
    assert memory_format_of(net, "cpu") == torch.channels_last


def test_convolutions_that_leave_their_buffers_are_not_reached():
    as_elsewhere("-c", LOOP)


@pytest.mark.ci
def test_a_poolformer_trains_above_a_frozen_bottom(tmp_path):
    """Its group norms are the first to train there, and their input needs no gradient."""
    assert memory_format_of(PoolFormerModel(POOLFORMER), "cpu") == torch.contiguous_format
    POOLFORMER.save_pretrained(tmp_path / "net")
    as_elsewhere("-c", RUNS, str(tmp_path), str(files(tmp_path / "pictures")), str(tmp_path / "net"))
