"""A checkpoint's image processor taken apart: images to bytes once, bytes to numbers in every batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.data.images.transforms import BRIGHTEST
from ftrun.errors import ConfigError
from ftrun.models.architecture import shape_of
from ftrun.models.device import onto
from ftrun.models.files.reading import CONFIG, loading, stored

if TYPE_CHECKING:
    from numpy import ndarray
    from PIL.Image import Image
    from torch import Tensor
    from transformers import PretrainedConfig

    from ftrun.models.files.locate import Checkpoint
    from ftrun.settings.schema import ModelSettings

PROCESSOR = "preprocessor_config.json"
LARGEST = 4096  # pixels of a side
HALF = 0.5  # mean and deviation where a checkpoint has none, so that pixels go from -1 to 1, as ViT has it


@dataclass
class ImageProcessor:
    """A checkpoint's image processor, by which images become arrays of bytes and bytes become numbers.

    It stands where a text network has its tokenizer. `scale(arrays(…))` is what the processor itself gives;
    it is taken apart so that memory holds bytes.
    """

    processor: Any
    channels: int
    size: int  # pixels, height and width
    own: bool  # whether the checkpoint brought it

    def arrays(self, images: Sequence[Image]) -> ndarray:
        """(images, channels, size, size) of uint8."""
        options = {
            "do_rescale": False,
            "do_normalize": False,
            "do_convert_rgb": False,
            "return_tensors": "np",
        }
        return self.processor(images=list(images), **options)["pixel_values"]

    def scale(self, arrays: Tensor) -> Tensor:
        """(images, channels, height, width): float32, (x · factor - mean) / deviation by channel."""
        import torch

        own = self.processor
        pixels = arrays.to(torch.float32)
        if own.do_rescale:
            pixels = pixels * own.rescale_factor
        if own.do_normalize:
            mean, deviation = self.moments(pixels)
            pixels = (pixels - mean) / deviation
        return pixels

    def unscale(self, pixels: Tensor) -> Tensor:
        """Scaled pixels as shares of the brightest, from 0 to 1."""
        own = self.processor
        if own.do_normalize:
            mean, deviation = self.moments(pixels)
            pixels = pixels * deviation + mean
        return (pixels / (BRIGHTEST * (own.rescale_factor if own.do_rescale else 1))).clamp(0, 1)

    def moments(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation by channel, where the pixels are."""
        import torch

        mean, deviation = (
            onto(torch.tensor(each), pixels.device).view(-1, 1, 1)
            for each in (self.processor.image_mean, self.processor.image_std)
        )
        return mean, deviation

    def note(self) -> str:
        """How it scales, where it is not the checkpoint's own; for the line about the images."""
        if self.own:
            return ""
        return f", scaled to mean {HALF} and deviation {HALF} (the model does not specify any)"

    def save_pretrained(self, directory: Path) -> None:
        self.processor.save_pretrained(directory)


def open_processor(
    settings: ModelSettings,
    checkpoint: Checkpoint,
    config: PretrainedConfig,
    size: int | None,
    channels: int | None,
) -> ImageProcessor:
    """The checkpoint's image processor, or a plain one; random weights take `size` and `channels` as theirs.

    Raises ConfigError when pretrained weights take images of another shape than was asked for, or when the
    processor does what a ImageProcessor cannot.
    """
    if settings.init == "random":
        wanted = {"image_size": size, "num_channels": channels}
        config.update({name: value for name, value in wanted.items() if value is not None})
    refuse_other_shape(settings, config, size, channels)
    own = stored_processor(checkpoint)
    with loading(checkpoint.label, checkpoint.name, PROCESSOR if own else CONFIG):
        reader = adjusted(own, config, size) if own else plain(settings, config, size)
        refuse_other_steps(f"model.name={settings.name}", reader, config)
    return reader


def refuse_other_shape(
    settings: ModelSettings, config: PretrainedConfig, size: int | None, channels: int | None
) -> None:
    has = getattr(config, "num_channels", 3)
    if channels is not None and channels != has:
        raise ConfigError(
            f"task.channels={channels}, but the weights of model.name={settings.name} take {has};"
            " task.channels=null converts the images"
        )
    shape = shape_of(config)
    if size is not None and shape is not None and shape[1:] != (size, size):
        raise ConfigError(
            f"task.size={size}, but the positions of model.name={settings.name} are those of "
            f"{shape[1]} x {shape[2]} pixels; task.size=null resizes the images to that"
        )


def stored_processor(checkpoint: Checkpoint | Path) -> Any:
    """The checkpoint's own processor, on Pillow whatever is installed; None where it has none."""
    from transformers import AutoImageProcessor

    if isinstance(checkpoint, Path):
        name, label, options = str(checkpoint), str(checkpoint), {}
    else:
        name, label, options = checkpoint.name, checkpoint.label, checkpoint.options
    local = Path(name).is_dir()
    if local and not (Path(name) / PROCESSOR).is_file():
        return None
    if local:
        stored(Path(name) / PROCESSOR)
    with loading(label, name, PROCESSOR):
        try:
            return AutoImageProcessor.from_pretrained(name, backend="pil", **options)
        except OSError:  # a Hub checkpoint without one
            if local:
                raise
            return None


def reopen(directory: Path, config: PretrainedConfig) -> ImageProcessor | None:
    """The reader saved beside a network; None for a task that scales its images itself."""
    processor = stored_processor(directory)
    if processor is None:
        return None
    with loading(directory, directory, PROCESSOR):
        reader = adjusted(processor, config, None)
        refuse_other_steps(str(directory), reader, config)
    return reader


def adjusted(processor: Any, config: PretrainedConfig, size: int | None) -> ImageProcessor:
    if size is not None:
        edge = {"shortest_edge": size} if processor.size.shortest_edge else {"height": size, "width": size}
        processor.size = type(processor.size)(**edge)
        if getattr(processor, "do_center_crop", None):
            processor.crop_size = type(processor.size)(height=size, width=size)
    final = processor.crop_size if getattr(processor, "do_center_crop", None) else processor.size
    side = final.height or final.shortest_edge
    if not (type(side) is int and 0 < side <= LARGEST):
        raise ValueError(f"images of {side} pixels; possible: 1 to {LARGEST:,}")
    return ImageProcessor(processor, getattr(config, "num_channels", 3), side, own=True)


def plain(settings: ModelSettings, config: PretrainedConfig, size: int | None) -> ImageProcessor:
    from transformers import ViTImageProcessorPil

    shape, channels = shape_of(config), getattr(config, "num_channels", 3)
    side = size or (shape[1] if shape else None)
    if side is None:
        raise ConfigError(
            f"model.name={settings.name} does not specify the size of its images; set task.size"
        )
    half = [HALF] * channels
    square = {"height": side, "width": side}
    return ImageProcessor(
        ViTImageProcessorPil(size=square, image_mean=half, image_std=half), channels, side, own=False
    )


def refuse_other_steps(name: str, reader: ImageProcessor, config: PretrainedConfig) -> None:
    """One made-up image through the processor and through the ImageProcessor must come out the same."""
    import numpy
    import torch
    from PIL import Image

    side = reader.size + 5
    shape = (side, side) if reader.channels == 1 else (side, side, reader.channels)
    image = Image.fromarray((numpy.arange(numpy.prod(shape)) % 251).astype(numpy.uint8).reshape(shape))
    try:
        whole = torch.as_tensor(reader.processor(images=[image], return_tensors="np")["pixel_values"])
        ours = reader.scale(torch.as_tensor(reader.arrays([image])))
        same = whole.shape == ours.shape and torch.allclose(whole.float(), ours, atol=1e-5)
    except (ValueError, RuntimeError):  # as for three means and one channel
        same = False
    expected = shape_of(config) or (reader.channels, reader.size, reader.size)
    if not same or tuple(whole.shape[1:]) != tuple(expected):
        raise ConfigError(
            f"{name}: its image processor, {type(reader.processor).__name__} of {PROCESSOR}, does not "
            f"make {' x '.join(map(str, expected))} by resizing, rescaling and normalising alone"
        )
