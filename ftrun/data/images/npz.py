"""Images and labels out of the arrays of an npz file."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from ftrun.data.content import UNREADABLE
from ftrun.errors import DataError, listed

if TYPE_CHECKING:
    from pathlib import Path

    from numpy import ndarray

IMAGES = ("images", "image", "x", "data", "pixels")  # usual names
LABELS = ("labels", "label", "y", "targets", "target")


def read_arrays(source: str, path: Path, part: str | None) -> tuple[ndarray, list[Any] | None]:
    """Pixels (images, height, width[, 3 or 4]) of uint8 and labels, None where there are none.

    The arrays are `images` and `labels` (or x, y …), or x_train, train_images and so on for FILE.npz:train.
    DataError says what is wrong with the file.
    """
    import numpy

    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no archive of arrays")
        with numpy.load(path, allow_pickle=False) as arrays:
            names = arrays.files
            images = named_array(names, IMAGES, part)
            if images is None:
                raise DataError(
                    f"{source} has the arrays {listed(names)}; images are called images or x, labels "
                    f"labels or y, in {path.name}:train also x_train, train_images and so on"
                )
            labels = named_array(names, LABELS, part)
            pixels = as_pixels(source, arrays[images])
            given = None if labels is None else numpy.atleast_1d(arrays[labels])
            given = None if given is None else given.reshape(len(given), -1)
    except (*UNREADABLE, SyntaxError, LookupError, MemoryError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source} cannot be read: {reason}") from None
    if given is not None and given.shape != (len(pixels), 1):
        raise DataError(f"{source}: {len(pixels)} images and labels of shape {given.shape}, not one for each")
    return pixels, None if given is None else given[:, 0].tolist()


def named_array(names: list[str], usual: tuple[str, ...], part: str | None) -> str | None:
    wanted = usual if part is None else [f for n in usual for f in (f"{n}_{part}", f"{part}_{n}")]
    by_name = {name.lower(): name for name in names}
    return next((by_name[name] for name in wanted if name in by_name), None)


def as_pixels(source: str, array: ndarray) -> ndarray:
    """(images, height, width[, 3 or 4]) of uint8; DataError for other shapes and values."""
    import numpy

    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        array = numpy.moveaxis(array, 1, -1)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (3, 4)) or 0 in array.shape:
        raise DataError(f"{source}: images of shape {array.shape}, not (images, height, width[, channels])")
    if array.dtype == numpy.uint8:
        return array
    if array.dtype.kind not in "iufb" or not numpy.isfinite(array).all():
        raise DataError(f"{source}: pixels are numbers, and these are {array.dtype}, not all of them finite")
    low, high = float(array.min()), float(array.max())
    scale = 255 if array.dtype.kind in "fb" and high <= 1 else 1
    if low < 0 or high * scale > 255:
        raise DataError(f"{source}: pixels from {low:g} to {high:g}; possible: 0 to 255, or fractions 0 to 1")
    return numpy.rint(array.astype(numpy.float64) * scale).astype(numpy.uint8)
