"""Pixels moved by chance, of an image mirrored or shifted, or by a fixed permutation of their places."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.settings.seeds import stream

if TYPE_CHECKING:
    from numpy import ndarray

BRIGHTEST = 255  # of a byte
PADDING = 8  # a crop moves an image by up to an eighth of its side, 4 of 32 pixels


def moved(pixels: ndarray, seed: int, crop: bool) -> ndarray:
    """An image (channels, height, width) mirrored or not and, with `crop`, shifted; black comes in.

    Mirroring and shifts by up to 4 of 32 pixels: He et al. 2016 (arXiv:1512.03385, section 4.2).
    """
    import numpy

    if seed & 1:
        pixels = pixels[:, :, ::-1]
    if not crop:
        return pixels
    edge = max(1, pixels.shape[1] // PADDING)
    places, number = 2 * edge + 1, seed >> 1
    down, right = number % places, number // places % places
    wide = numpy.pad(pixels, ((0, 0), (edge, edge), (edge, edge)))
    return wide[:, down : down + pixels.shape[1], right : right + pixels.shape[2]]


def seeds_of(permute: Any) -> list[int | None]:
    """The seeds of one permutation or several, None for the pixels as they are."""
    seeds = permute if isinstance(permute, list) else [permute]
    if (
        not all(seed is None or (type(seed) is int and seed >= 0) for seed in seeds)
        or len(set(seeds)) != len(seeds)
        or not seeds
    ):
        raise ConfigError(
            f"task.permute is a seed of at least 0, null for none, or a list of different ones, not {permute}"
        )
    return seeds


def order_of(seed: int | None, places: int) -> list[int]:
    """Where the pixel of each place comes from; a function of the seed and the number of places."""
    order = list(range(places))
    if seed is not None:
        random.Random(stream(seed, "permute")).shuffle(order)
    return order
