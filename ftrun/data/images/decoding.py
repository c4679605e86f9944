"""Images decoded with Pillow: upright, in the colours of the network, and what cannot be read is named."""

from __future__ import annotations

import struct
import warnings
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ftrun.data.content import UNREADABLE
from ftrun.data.images.sources import Member, bytes_in
from ftrun.errors import DataError, counted

if TYPE_CHECKING:
    from numpy import ndarray
    from PIL.Image import Image

    from ftrun.data.images.sources import ImageFile

CHUNK = 64  # images decoded at once
COLOURS = {1: "L", 3: "RGB"}  # channels → Pillow's mode


class ImageFormat(Protocol):
    """The images that a network takes: how many channels, and how decoded ones become arrays."""

    channels: int

    def arrays(self, images: Sequence[Image]) -> ndarray: ...

    def note(self) -> str: ...


def decode_all(
    files: Sequence[ImageFile], form: ImageFormat, split: str, unreadable: str, least: int = 1
) -> tuple[ndarray, list[int], str]:
    """What can be read, (images, channels, size, size) of uint8, its places among the images, and a line.

    `unreadable` says what becomes of the others: left out and named in the line, or a DataError. So is a
    image with a side of fewer than `least` pixels.
    """
    import numpy

    arrays, kept, bad, modes = [], [], [], Counter[str]()
    sizes: Counter[tuple[int, int]] = Counter()
    for start in range(0, len(files), CHUNK):
        found = []
        for place in range(start, min(start + CHUNK, len(files))):
            try:
                image = decoded(files[place].content)
                modes[image.mode] += 1
                sizes[image.size] += 1
                refuse_small(image, least, files[place].name, split)
                found.append(in_colours(image, form.channels))
                kept.append(place)
            except unreadable_errors() as error:
                bad.append(f"{files[place].name} ({reason(error)})")
        if found:
            arrays.append(form.arrays(found))
    if bad and (unreadable == "error" or not arrays):
        raise DataError(f"{split}: {len(bad)} of {len(files)} images cannot be read: {some(bad)}")
    whole = numpy.concatenate(arrays)
    line = described(split, whole, sizes, modes, COLOURS[form.channels]) + form.note()
    return whole, kept, line + (f"; {len(bad)} dropped that cannot be read: {some(bad)}" if bad else "")


def refuse_small(image: Image, least: int, name: str, split: str) -> None:
    if min(image.size) < least:
        raise DataError(
            f"{split}: {name} has {image.width} x {image.height} pixels, smaller than the crop of {least} x"
            f" {least} that is made of it; possible: task.size={min(image.size)}"
        )


def unreadable_errors() -> tuple[type[Exception], ...]:
    """What Pillow raises for files that are broken, empty, too large or no images."""
    from PIL.Image import DecompressionBombError, DecompressionBombWarning

    raised = (SyntaxError, TypeError, struct.error, LookupError, OverflowError, ZeroDivisionError)
    return (*UNREADABLE, *raised, DecompressionBombError, DecompressionBombWarning)


def decoded(content: Any) -> Image:
    """An image in its own mode, upright; raises what Pillow raises."""
    from PIL import Image, ImageOps

    if content is None:
        raise ValueError("no image")
    if not isinstance(content, bytes | Path | Member):
        return Image.fromarray(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about what stands beside the pixels
        with Image.open(BytesIO(bytes_in(content))) as image:
            return ImageOps.exif_transpose(image).copy()


def in_colours(image: Image, channels: int) -> Image:
    """Grey or RGB; transparency is left out, 16 bits of grey become 8."""
    import numpy
    from PIL import Image as pillow

    if image.mode.startswith("I"):
        image = pillow.fromarray((numpy.asarray(image).astype(numpy.int64) >> 8).clip(0, 255).astype("uint8"))
    if image.mode == "F":
        raise ValueError("pixels are fractions without a range")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == COLOURS[channels] else image.convert(COLOURS[channels])


def reason(error: Exception) -> str:
    text = (
        "not an image file"
        if type(error).__name__ == "UnidentifiedImageError"
        else (str(error).splitlines() or [type(error).__name__])[0]
    )
    return getattr(error, "strerror", None) or text[:60]


def some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def described(split: str, whole: ndarray, sizes: Counter, modes: Counter, wanted: str) -> str:
    """How many there are, in which shape, and what was done to make it so."""
    count, _, height, width = whole.shape
    shape = " x ".join(map(str, whole.shape[1:]))
    line = f"{split}: {counted(count, 'image')} of {shape} ({whole.nbytes / 1e6:,.1f} MB)"
    others = sorted(size for size in sizes if size != (width, height))
    if others:
        number = sum(sizes[size] for size in others)
        ends = [f"{w} x {h}" for w, h in ([others[0]] if len(others) == 1 else [others[0], others[-1]])]
        line += f"; {number:,} resized from {' to '.join(ends)}"
        line += f" ({len(others)} sizes)" if len(others) > 2 else ""
    converted = {mode: number for mode, number in sorted(modes.items()) if mode != wanted}
    if converted:
        line += f"; converted to {wanted} from " + ", ".join(f"{m} ({n:,})" for m, n in converted.items())
    return line
