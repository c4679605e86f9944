"""The pre-training task of a checkpoint on held-out text: predict masked tokens or the next token.

As a source it measures how much of the pre-training is kept: loss in nats per token, and accuracy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, DataError, counted
from ftrun.models.device import onto
from ftrun.models.spec import Spec, TextInput
from ftrun.settings.checks import at_least
from ftrun.tasks.base import Task
from ftrun.tasks.dataset import Batch, Dataset, Draw, Example, Rows
from ftrun.tasks.losses import IGNORED, Loss
from ftrun.tasks.metrics.tokens import PRETRAINING
from ftrun.tasks.scorer import Answer, Row, Scorer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective

EMBEDDED = "embedded:docstrings"
HELD_OUT = 10  # of a file's texts one in ten is held out, chosen by its hash
DRAWS = 10  # masks of every training text (Devlin et al. 2019, reference code: dupe_factor)
SHARE = 0.15  # of the tokens are predicted (Devlin et al. 2019)
CAUSAL, MASKED = "AutoModelForCausalLM", "AutoModelForMaskedLM"


@dataclass
class Pretraining(Task):
    """Masked or causal language modelling, whichever the architecture was made for."""

    text: str  # embedded:docstrings, or a file with one text per line or a column `text`
    rows: int  # held-out texts that are scored
    max_length: int  # tokens of a text

    def __post_init__(self) -> None:
        self.name = "pretraining"
        at_least("source.rows", self.rows, 1)
        at_least("source.max_length", self.max_length, 8)

    def spec(self, source: Any) -> Spec:
        """Masked or causal, by what the architecture has; ConfigError when it has neither."""
        known = source is not None and not isinstance(source, Rows)
        auto_class = objective_of(source) if known else MASKED
        return Spec(self.name, auto_class, TextInput(self.max_length, "source.max_length"), new_head=False)

    def load(self, seed: int) -> Rows:
        held, train = self.texts()
        if not held or not train:
            raise DataError(f"source.text={self.text} has too few texts for a held-out split")
        kept = {"train": train, "validation": held[: self.rows], "test": held[: self.rows]}
        texts = "\n".join(text for split in kept.values() for text in split)
        return Rows(kept, [], hashlib.sha256(texts.encode()).hexdigest())

    def load_file(self, file: str, answered: bool, spec: Spec) -> Rows:
        raise ConfigError("the pre-training task is only a source; it cannot read another file")

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

    def encode(self, data: TaskData, split: str) -> PretrainingTexts:
        tokenizer, causal = data.processor, data.spec.auto_class == CAUSAL
        if tokenizer.mask_token_id is None and not causal:
            raise ConfigError("source=pretraining: the checkpoint's tokenizer has no mask token")
        texts = data.rows.splits[split]
        whole = tokenizer(texts, truncation=True, max_length=self.max_length, verbose=False)
        draws = DRAWS if split == "train" and not causal else 1
        found = [
            Example(ids, draw * len(texts) + row, row)
            for draw in range(draws)
            for row, ids in enumerate(whole["input_ids"])
            if len(ids) > 3
        ]
        if not found:
            raise DataError(f"source.text={self.text}: no {split} text is longer than a word")
        return PretrainingTexts(
            found, f"{split}: {counted(len(texts), 'text')} of {self.text}", tokenizer, causal
        )

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.parts.positions import AtPositions, positions_in

        return AtPositions(token_loss, positions_in)

    def scorer(self, data: TaskData) -> TokenScorer:
        return TokenScorer()


class PretrainingTexts(Dataset):
    """Texts, each masked in several ways that are its own, or with the next token as the label of each."""

    def __init__(
        self, examples: list[Example], summary: str, tokenizer: PreTrainedTokenizerBase, causal: bool
    ) -> None:
        super().__init__(examples, summary)
        self.tokenizer, self.causal = tokenizer, causal

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        from ftrun.data.batching import pad
        from ftrun.tasks.parts.positions import positions_of

        if self.causal:
            pairs = [(example.inputs, [*example.inputs[1:], IGNORED]) for example in examples]
        else:
            pairs = [self.masked(example.inputs, example.target) for example in examples]
        ids, mask = pad([ids for ids, _ in pairs], self.tokenizer.pad_token_id)
        labels, _ = pad([labels for _, labels in pairs], IGNORED)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return {"inputs": inputs, "labels": labels, "positions": positions_of(labels != IGNORED)}

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


class TokenScorer(Scorer):
    """How many tokens are predicted correctly."""

    columns = ("right", "guessed")

    def __init__(self) -> None:
        self.metrics = PRETRAINING

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        labels = batch["labels"]
        right = (outputs.argmax(-1).cpu() == labels.flatten()[batch["positions"]]).tolist()
        found, start = [], 0
        for count in (labels != IGNORED).sum(1).tolist():
            found.append({"right": sum(right[start : start + count]), "guessed": count})
            start += count
        return found

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        pairs = zip(answers, examples, strict=True)
        return [Row(example.row, None, answer, example) for answer, example in pairs]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        predicted = sum(row.answer["guessed"] for row in rows)
        return {"accuracy": sum(row.answer["right"] for row in rows) / max(1, predicted)}


def token_loss(outputs: Tensor, batch: Batch) -> Loss:
    """Cross-entropy summed over the chosen positions; outputs are theirs, or of all positions."""
    import torch

    labels = onto(batch["labels"].flatten()[batch["positions"]], outputs.device)
    return Loss(torch.nn.functional.cross_entropy(outputs.float(), labels, reduction="sum"))


def objective_of(config: PretrainedConfig) -> str:
    """The class of the architecture's own pre-training; ConfigError when it has none."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    if type(config) in AutoModelForMaskedLM._model_mapping:
        return MASKED
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ConfigError(
            f"source=pretraining needs a language model, and {config.model_type} has neither a masked nor"
            " a causal head; possible: source=RUN, source=TASK"
        )
    return CAUSAL


def number_of(text: str) -> int:
    """A number that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def lines_of(source: str) -> list[str]:
    """The texts of a plain file, one per line, or of the column `text` of a table."""
    from ftrun.data.rows import read_rows, texts_of

    return texts_of(read_rows(source), "text", source)
