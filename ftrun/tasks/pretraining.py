"""What a checkpoint was pretrained for, on held-out text: guess masked tokens, or the next one.

As a source it says how well the network still knows language: loss in nats per token, and accuracy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError, DataError
from ftrun.settings.checks import at_least
from ftrun.tasks.base import Answer, Batch, Example, Task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

EMBEDDED = "embedded:docstrings"
HELD_OUT = 10  # of a file's texts one in ten is held out, chosen by its hash
DRAWS = 10  # masks of every training text (Devlin et al. 2019, reference code: dupe_factor)
SHARE = 0.15  # of the tokens are guessed (Devlin et al. 2019)


@dataclass
class Pretraining(Task):
    """Masked or causal language modelling, whichever the architecture was made for."""

    text: str  # embedded:docstrings, or a file with one text per line or a column `text`
    rows: int  # held-out texts that are scored
    max_length: int  # tokens of a text

    metrics: ClassVar[dict[str, str]] = {"loss": "min", "accuracy": "max"}
    default_metric: ClassVar[str] = "loss"
    answer_columns: ClassVar[tuple[str, ...]] = ("right", "guessed")
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"  # or AutoModelForCausalLM; see `decide`

    def __post_init__(self) -> None:
        at_least("source.rows", self.rows, 1)
        at_least("source.max_length", self.max_length, 8)
        self.name = "pretraining"
        self.causal = False
        self.encoded: dict[str, list[Example]] = {}

    def decide(self, config: PretrainedConfig) -> None:
        """Masked or causal, by what the architecture has; ConfigError when it has neither."""
        from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

        if type(config) in AutoModelForMaskedLM._model_mapping:
            return
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise ConfigError(
                f"source=pretraining needs a language model; {config.model_type} has neither a masked nor a"
                " causal one. Possible: source=RUN or source=TASK"
            )
        self.causal = True
        self.auto_class = "AutoModelForCausalLM"  # type: ignore[misc]

    def read(self, seed: int) -> list[str]:
        held, train = self.texts()
        if not held or not train:
            raise DataError(f"source.text={self.text} has too few texts to hold some out")
        self.kept = {"train": train, "validation": held[: self.rows], "test": held[: self.rows]}
        return []

    def texts(self) -> tuple[list[str], list[str]]:
        """Held-out and training texts."""
        if self.text == EMBEDDED:
            from ftrun.data.docstrings import rows

            held = sorted((row["text"] for row in rows("test")), key=number_of)  # of all chapters
            return held, [row["text"] for row in rows("train")]
        found = list(dict.fromkeys(text.strip() for text in lines_of(self.text) if text.strip()))
        out = [number_of(text) % HELD_OUT == 0 for text in found]
        pairs = list(zip(found, out, strict=True))
        return [text for text, held in pairs if held], [text for text, held in pairs if not held]

    def head(self) -> dict[str, Any]:
        return {}

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        if tokenizer.mask_token_id is None and not self.causal:
            raise ConfigError(
                "source=pretraining: the checkpoint's tokenizer has no token that stands for a gap"
            )
        self.tokenizer = tokenizer
        whole = tokenizer(self.kept[split], truncation=True, max_length=self.max_length, verbose=False)
        draws = DRAWS if split == "train" and not self.causal else 1
        self.encoded[split] = [
            Example(ids, draw * len(self.kept[split]) + row, row)
            for draw in range(draws)
            for row, ids in enumerate(whole["input_ids"])
            if len(ids) > 3
        ]
        if not self.encoded[split]:
            raise DataError(f"source.text={self.text}: no {split} text is longer than a word")
        return f"{split}: {len(self.kept[split]):,} texts of {self.text}"

    def examples(self, split: str) -> Sequence[Example]:
        return self.encoded[split]

    def collate(self, examples: Sequence[Example]) -> Batch:
        from ftrun.data.batching import pad
        from ftrun.data.text.masking import IGNORED

        if self.causal:
            pairs = [(example.inputs, [*example.inputs[1:], IGNORED]) for example in examples]
        else:
            pairs = [self.masked(example.inputs, example.target) for example in examples]
        ids, mask = pad([ids for ids, _ in pairs], self.tokenizer.pad_token_id)
        labels, _ = pad([labels for _, labels in pairs], IGNORED)
        inputs = {"input_ids": ids, "attention_mask": mask, "positions": labels != IGNORED}
        return {"inputs": inputs, "labels": labels}

    def masked(self, ids: list[int], draw: int) -> tuple[list[int], list[int]]:
        """By a stream of its own and before any padding, so that a text is the same in every batch."""
        import torch

        from ftrun.data.text.masking import mask_tokens
        from ftrun.settings.seeds import stream

        inputs, labels = mask_tokens(
            torch.tensor([ids]),
            share=SHARE,
            mask_id=self.tokenizer.mask_token_id,
            special_ids=self.tokenizer.all_special_ids,
            vocabulary=len(self.tokenizer),
            generator=torch.Generator().manual_seed(stream(0, "mask", draw)),
        )
        return inputs[0].tolist(), labels[0].tolist()

    def target_count(self, batch: Batch) -> int:
        return int(batch["inputs"]["positions"].sum())

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        import torch

        chosen = batch["inputs"]["positions"]
        labels = batch["labels"][chosen].to(outputs.device)
        logits = outputs if outputs.ndim == 2 else outputs[chosen.to(outputs.device)]
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum"), len(labels)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        chosen = batch["inputs"]["positions"]
        right = (outputs.argmax(-1).cpu() == batch["labels"][chosen]).tolist()
        found, start = [], 0
        for count in chosen.sum(1).tolist():
            found.append({"right": sum(right[start : start + count]), "guessed": count})
            start += count
        return found

    def given(self, example: Example) -> Any:
        return self.kept["test"][example.row]

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        guessed = sum(answer["guessed"] for answer in answers)
        return {"accuracy": sum(answer["right"] for answer in answers) / max(1, guessed)}

    def fingerprint(self) -> str:
        texts = "\n".join(text for split in self.kept.values() for text in split)
        return hashlib.sha256(texts.encode()).hexdigest()

    def restore(self, config: PretrainedConfig) -> None:
        raise ConfigError("pretraining is a source, it has no labels")

    def read_test(self, file: str) -> list[str]:
        raise ConfigError("pretraining is a source, it reads no test file")

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        raise ConfigError("pretraining is a source, it answers nothing")


def number_of(text: str) -> int:
    """A number that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def lines_of(source: str) -> list[str]:
    """The texts of a plain file, one per line, or of the column `text` of a table."""
    if source.endswith(".txt"):
        try:
            return Path(source).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"source.text={source} cannot be read: {error}") from None
    from ftrun.data.rows import read_rows, texts_of

    return texts_of(read_rows(source), "text", source)
