"""Views of images: random crops, flips, colour jitter and blur (Chen et al. 2020, appendix A).

The random numbers are a function of seed, step and image; kornia applies the changes to a batch at once, on
its device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, needs
from ftrun.models.device import onto
from ftrun.settings.checks import above

if TYPE_CHECKING:
    from torch import Tensor

DRAWS = 13  # random numbers from 0 to 1 for each view
LONGEST = 4 / 3  # ratio of the sides
SHARE_BLURRED = 10  # the kernel is a tenth of the side


@dataclass
class Views:
    """The probabilities and strengths of the changes."""

    crop: list[float] | None  # lowest and highest share of the area, None = no crop
    flip: float  # share of the views
    jitter: list[float]  # brightness, contrast, saturation, hue
    jitter_share: float
    grey: float
    blur: float
    blur_sigma: list[float]  # pixels

    def __post_init__(self) -> None:
        crop = self.crop
        if crop is not None and not (len(crop) == 2 and 0 < crop[0] <= crop[1] <= 1):
            raise ConfigError(
                f"task.crop is two shares of the area, low and high, such as [0.2,1], not {crop}"
            )
        for name in ("flip", "jitter_share", "grey", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"task.{name} is a share from 0 to 1, not {getattr(self, name)}")
        if len(self.jitter) != 4 or min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ConfigError(
                "task.jitter is four strengths of at least 0, brightness, contrast, saturation and hue (at"
                f" most 0.5), not {self.jitter}"
            )
        if len(self.blur_sigma) != 2 or self.blur_sigma[0] > self.blur_sigma[1]:
            raise ConfigError(f"task.blur_sigma is two widths, low and high, not {self.blur_sigma}")
        above("task.blur_sigma", self.blur_sigma[0], 0)

    def refuse(self, channels: int, side: int) -> None:
        """Raises ConfigError for colour changes of grey images and for crops of less than 2 pixels."""
        needs("contrastive pre-training", "contrastive", "kornia")
        if channels == 1 and (self.grey or self.jitter[2] or self.jitter[3]):
            raise ConfigError(
                f"task.jitter={self.jitter} and task.grey={self.grey:g}: images of one channel have no"
                " saturation and no hue; possible: task.jitter=[0.4,0.4,0,0] task.grey=0, as in"
                " task=simclr_28 and task=moco_28"
            )
        if self.crop is not None and side * math.sqrt(self.crop[0] / LONGEST) < 2:
            raise ConfigError(
                f"task.crop={self.crop} crops less than 2 pixels from images of {side} x {side}"
            )

    def shown(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """A view of each image, (images, channels, side, side) from 0 to 1; draws (images, DRAWS).

        Brightness, contrast, saturation and hue change in this order.
        """
        if self.crop is not None:
            pixels = cropped(pixels, draws[:, :4], self.crop)
        pixels = chosen(draws[:, 4] < self.flip, pixels.flip(-1), pixels)
        if self.jitter_share and any(self.jitter):
            on = draws[:, 5] < self.jitter_share
            pixels = chosen(on, recoloured(pixels, 2 * draws[:, 6:10] - 1, self.jitter), pixels)
        if self.grey:
            from kornia.color import rgb_to_grayscale

            pixels = chosen(draws[:, 10] < self.grey, rgb_to_grayscale(pixels).expand_as(pixels), pixels)
        if self.blur:
            low, high = self.blur_sigma
            blurry = blurred(pixels, low + (high - low) * draws[:, 12])
            pixels = chosen(draws[:, 11] < self.blur, blurry, pixels)
        return pixels


def draw(seeds: Sequence[int], views: int) -> Tensor:
    """Random numbers from 0 to 1, (images, views, DRAWS), those of an image by its own seed."""
    import numpy
    import torch

    drawn = [numpy.random.default_rng(seed).random((views, DRAWS), dtype=numpy.float32) for seed in seeds]
    return torch.from_numpy(numpy.stack(drawn))


def chosen(on: Tensor, changed: Tensor, plain: Tensor) -> Tensor:
    return changed.where(on.view(-1, 1, 1, 1), plain)


def cropped(pixels: Tensor, draws: Tensor, crop: Sequence[float]) -> Tensor:
    """A crop of each image, of a ratio between 3:4 and 4:3 and within its sides, resized to the whole."""
    import torch
    from kornia.geometry.transform import crop_and_resize

    area = crop[0] + (crop[1] - crop[0]) * draws[:, 0]
    ratio = torch.exp((2 * draws[:, 1] - 1) * math.log(LONGEST))
    size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)  # width, height
    first = draws[:, 2:4] * (1 - size)
    (left, top), (right, bottom) = first.unbind(1), (first + size).unbind(1)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    boxes = torch.stack([torch.stack(corner, 1) for corner in corners], 1)  # (images, 4, x and y)
    height, width = pixels.shape[-2:]
    scale = onto(torch.tensor([width - 1, height - 1]), pixels.device)
    return crop_and_resize(pixels, boxes * scale, (height, width)).clamp(0, 1)


def recoloured(pixels: Tensor, by: Tensor, strengths: Sequence[float]) -> Tensor:
    """Colour jitter; `by` (images, 4) from -1 to 1, a hue of 0.5 is half the colour circle."""
    from kornia import enhance

    brightness, contrast, saturation, hue = strengths
    if brightness:
        factor = (1 + by[:, 0] * brightness).clamp(min=0)
        pixels = enhance.adjust_brightness_accumulative(pixels, factor)
    if contrast:
        pixels = enhance.adjust_contrast_with_mean_subtraction(pixels, (1 + by[:, 1] * contrast).clamp(min=0))
    if saturation:
        factor = (1 + by[:, 2] * saturation).clamp(min=0)
        pixels = enhance.adjust_saturation_with_gray_subtraction(pixels, factor)
    if hue:
        pixels = enhance.adjust_hue(pixels, 2 * math.pi * by[:, 3] * hue)
    return pixels


def blurred(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of `sigma` (images) pixels."""
    import torch
    from kornia.filters import gaussian_blur2d

    width = max(3, pixels.shape[-1] // SHARE_BLURRED // 2 * 2 + 1)
    return gaussian_blur2d(pixels, (width, width), torch.stack([sigma, sigma], 1))
