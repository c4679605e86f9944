"""What channels last in memory are worth: CPU seconds of the usual order over those of this one.

    python scripts/bench/memory_format.py [--threads 1] [--rounds 7]

The networks themselves, forward and backward and forward alone, one layout after the other in each round;
medians.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import TYPE_CHECKING

import torch

from ftrun import ASSETS
from ftrun.models.small import SmallResnet, SmallResnetConfig

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = {
    "ResNet-20, 28 x 28, grey": ("resnet_small", (512, 1, 28, 28)),
    "ResNet-18, 32 x 32, colour": ("resnet18_small", (128, 3, 32, 32)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| | precision | training | prediction |\n|---|---|---|---|")
    for name, (directory, shape) in NETWORKS.items():
        config = SmallResnetConfig.from_pretrained(ASSETS / directory, num_channels=shape[1])
        net, pixels = SmallResnet(config), torch.randn(shape)
        for precision in ("fp32", "bf16"):
            ratios = [
                f"{ratio(work, net, pixels, precision, options.rounds):.2f}" for work in (train, predict)
            ]
            print(f"| {name} | {precision} | {' | '.join(ratios)} |", flush=True)


def ratio(
    work: Callable[[SmallResnet, torch.Tensor], None],
    net: SmallResnet,
    pixels: torch.Tensor,
    precision: str,
    rounds: int,
) -> float:
    """CPU seconds with the channels first over those with the channels last."""
    layouts = [pixels, pixels.to(memory_format=torch.channels_last)]
    found: list[list[float]] = [[], []]
    for _ in range(rounds):
        for layout, seconds in zip(layouts, found, strict=True):
            before = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                work(net, layout)
            seconds.append(time.process_time() - before)
    return median(found[0]) / median(found[1])


def train(net: SmallResnet, pixels: torch.Tensor) -> None:
    net.train()
    net(pixel_values=pixels).logits.float().square().mean().backward()
    net.zero_grad()


def predict(net: SmallResnet, pixels: torch.Tensor) -> None:
    net.eval()
    with torch.inference_mode():
        net(pixel_values=pixels)


if __name__ == "__main__":
    main()
