"""Pictures that can be learned, red above or blue below, and two tiny networks that read them."""

import json
from pathlib import Path

import numpy
from PIL import Image

LABELS = ("high", "low")
NETWORKS = {
    "resnet": {
        "model_type": "ftrun_resnet", "image_size": 8, "num_channels": 3, "embedding_size": 4,
        "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic",
    },
    "vit": {
        "model_type": "vit", "image_size": 8, "num_channels": 3, "patch_size": 4, "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "pooler_output_size": 16,
        "initializer_range": 0.2,  # of 0.02 the features of all pictures are nearly one
    },
}  # fmt: skip


def rows(count: int, seed: int = 0, side: int = 8) -> tuple[numpy.ndarray, list[str]]:
    """(count, side, side, 3) of uint8 and the labels, which take turns."""
    chance = numpy.random.default_rng(seed)
    pixels = chance.integers(0, 120, (count, side, side, 3))
    for number in range(count):
        half, colour = (slice(0, side // 2), 0) if number % 2 == 0 else (slice(side // 2, side), 2)
        pixels[number, half, :, colour] += 120
    return pixels.astype(numpy.uint8), [LABELS[number % 2] for number in range(count)]


def files(place: Path) -> Path:
    """Folders train, validation and test of class folders with png files of 8 x 8 pixels."""
    for seed, (split, count) in enumerate({"train": 64, "validation": 16, "test": 16}.items()):
        for number, (pixels, label) in enumerate(zip(*rows(count, seed), strict=True)):
            folder = place / split / label
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return place


def network(place: Path, name: str) -> Path:
    """A directory with the configuration of a tiny network, for random weights."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(NETWORKS[name]))
    return place


def words(place: Path, name: str = "vit") -> list[str]:
    """The settings that make an experiment of these files on a tiny network."""
    if not (place / "train").is_dir():
        files(place)
    net = network(place / name, name)
    splits = [f"task.{split}={place}/{split}" for split in ("train", "validation", "test")]
    return [
        "task=image", *splits, f"model.name={net}", "model.init=random", "train.batch_size=16",
        "train.epochs=2", "train.lr=1e-2", "device=cpu",
    ]  # fmt: skip
