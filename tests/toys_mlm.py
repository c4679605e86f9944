"""The text of toys_lm and the settings that make guessing its hidden tokens an experiment."""

from pathlib import Path

from toys_lm import files

__all__ = ["files", "words"]


def words(place: Path) -> list[str]:
    """The settings of a quick experiment on files(place), with a BERT from random weights."""
    return [
        "task=mlm", f"task.train={place}/text.txt", "task.documents=line", "task.block=32", "task.vocab=256",
        "task.tokenizer=train", "model.init=random", "model.layers=2", "model.width=32", "model.heads=2",
        "train.batch_size=16", "train.max_steps=2", "device=cpu",
    ]  # fmt: skip
