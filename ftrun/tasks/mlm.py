"""Masked language modelling: guess the tokens that are hidden in running text (Devlin et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.documents import Columns, Document, batched
from ftrun.errors import ConfigError, DataError
from ftrun.tasks.base import Answer, Batch, Example
from ftrun.tasks.blocks import Block, Blocks
from ftrun.tasks.corpus import CorpusTask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

KINDS = ("masked", "random", "kept")


@dataclass
class Mlm(CorpusTask):
    """Blocks of full length, documents in them after one another with separators (Liu et al. 2019)."""

    name: str
    train: Any  # a source or a list of them
    validation: Any
    test: Any
    text: str
    documents: str | None
    block: int
    mask: float
    mask_split: list[float]  # masked, random, kept
    whole_words: bool
    spans: bool
    tokenizer: str | None
    vocab: int
    stream: bool
    subset: int | None
    leaks: str

    metrics: ClassVar[dict[str, str]] = {
        "loss": "min",
        "perplexity": "min",
        "accuracy": "max",
        **{f"accuracy_{kind}": "max" for kind in KINDS},
    }
    default_metric: ClassVar[str] = "loss"
    answer_columns: ClassVar[tuple[str, ...]] = ("nats", "guessed", "right")
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    masking: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise ConfigError(f"task.mask is a share above 0 and below 1, not {self.mask:g}")
        split = self.mask_split
        if len(split) != len(KINDS) or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
            raise ConfigError(
                f"task.mask_split is three shares, masked, random and kept, that add up to 1, not {split}"
            )
        if self.whole_words and self.spans:
            raise ConfigError("task.whole_words and task.spans are two ways to choose; set one of them")
        self.epoch, self.seed = 0, 0
        super().__post_init__()

    @property
    def columns(self) -> Columns:
        return Columns(self.text, None, None)

    def read(self, seed: int) -> list[str]:
        self.seed = seed
        return super().read(seed)

    def turn(self, epoch: int) -> None:
        """Another epoch, other gaps."""
        self.epoch = epoch

    def know(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """What of the tokenizer the gaps depend on."""
        import torch

        from ftrun.text.gaps import continuing

        if (
            tokenizer.mask_token_id is None
            or tokenizer.cls_token_id is None
            or tokenizer.sep_token_id is None
        ):
            raise ConfigError(
                "task=mlm: the tokenizer has no token for a gap, a beginning or an end;"
                " task.tokenizer=train makes one"
            )
        self.cls, self.sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self.gap, self.pad = tokenizer.mask_token_id, tokenizer.pad_token_id
        special = torch.zeros(len(tokenizer), dtype=torch.bool)
        special[torch.tensor(sorted(set(tokenizer.all_special_ids)))] = True
        self.special, self.ordinary = special, (~special).nonzero().squeeze(1)
        self.goes_on = continuing(tokenizer) if self.whole_words else None

    def options(self) -> list[Any]:
        return [self.sep]

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        self.know(tokenizer)
        self.counts = {}
        corpus, there = self.packed(tokenizer, split, self.block - 2, False)
        if split == "train" and len(corpus.tokens) < self.block - 2:
            raise DataError(
                f"task.train has {len(corpus.tokens)} tokens, fewer than task.block={self.block};"
                " take a smaller block or more text"
            )
        self.encoded[split] = Named(corpus, split)
        blocks = len(corpus.edges) - 1
        many = "document" if corpus.documents == 1 else "documents"
        said = f"{split}: {corpus.documents:,} {many}, {len(corpus.tokens):,} tokens, {blocks:,} blocks"
        return f"{said} of {self.block}" + (" (tokenised before)" if there else "")

    def pieces(
        self, tokenizer: PreTrainedTokenizerBase, documents: Any
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Each document's tokens and the separator behind them."""
        from ftrun.text.encoding import parts, tokens_of
        from ftrun.text.packing import SCORED, START

        for held in batched(documents):
            texts = [parts(document.text) for document in held]
            flat = iter(tokens_of(tokenizer, [part for each in texts for part in each]))
            for each in texts:
                tokens = [token for _ in each for token in next(flat)]
                if tokens:
                    yield [*tokens, self.sep], [START, *([SCORED] * len(tokens))]

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        """Each row's text as blocks of its own; the gaps are the same every time."""
        from ftrun.data.documents import document_of
        from ftrun.text.packing import pack

        self.know(tokenizer)
        found: list[Example] = []
        for number, row in enumerate(rows):
            document: Document = document_of(row, number + 1, file, self.columns)
            corpus = pack(self.pieces(tokenizer, [document]), self.block - 2, False)
            found += [replace(each, row=number, target="test") for each in Blocks(corpus)]
        return found

    def collate(self, examples: Sequence[Example]) -> Batch:
        from ftrun.batching import pad
        from ftrun.text.masking import IGNORED

        made = [self.hidden(example) for example in examples]
        ids, mask = pad([each[0] for each in made], self.pad)
        labels, _ = pad([each[1] for each in made], IGNORED)
        kinds, _ = pad([each[2] for each in made], -1)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return {"inputs": inputs, "labels": labels, "kinds": kinds}

    def hidden(self, example: Example) -> tuple[list[int], list[int], list[int]]:
        """Inputs, labels and kinds; by a stream of its own, so that a block is the same in every batch."""
        import torch

        from ftrun.seeds import stream
        from ftrun.text.gaps import hide

        trained = example.target == "train"
        place = (self.seed, "mask", self.epoch, example.row) if trained else (0, "mask", 0, example.row)
        text = example.inputs.tolist()
        if text[-1] == self.sep:
            text.pop()
        ids = torch.tensor([self.cls, *text, self.sep])
        inputs, labels, kinds = hide(
            ids,
            self.special[ids],
            share=self.mask,
            split=self.mask_split,
            words=None if self.goes_on is None else self.goes_on[ids],
            spans=self.spans,
            mask_id=self.gap,
            ordinary=self.ordinary,
            generator=torch.Generator().manual_seed(stream(*place)),
        )
        return inputs.tolist(), labels.tolist(), kinds.tolist()

    def target_count(self, batch: Batch) -> int:
        return int((batch["kinds"] >= 0).sum())

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        from torch.nn.functional import cross_entropy

        chosen = batch["kinds"] >= 0
        labels = batch["labels"][chosen].to(outputs.device)
        logits = outputs[chosen.to(outputs.device)].float()
        return cross_entropy(logits, labels, reduction="sum"), len(labels)

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        import torch

        right = outputs.argmax(-1).cpu() == batch["labels"]
        kinds = batch["kinds"]
        labels = batch["labels"].clamp(min=0).to(outputs.device)
        nats = torch.nn.functional.cross_entropy(
            outputs.float().transpose(1, 2), labels, reduction="none"
        ).cpu()
        found = []
        for row in range(len(kinds)):
            answer: Answer = {"nats": float(nats[row][kinds[row] >= 0].sum())}
            answer["guessed"] = int((kinds[row] >= 0).sum())
            answer["right"] = int(right[row][kinds[row] >= 0].sum())
            for number, kind in enumerate(KINDS):
                own = kinds[row] == number
                answer |= {kind: int(own.sum()), f"right_{kind}": int(right[row][own].sum())}
            found.append(answer)
        return found

    def given(self, example: Example) -> Any:
        return None

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        total = {name: sum(answer[name] for answer in answers) for name in answers[0]}
        found = {
            "perplexity": math.exp(min(700.0, total["nats"] / max(1, total["guessed"]))),
            "accuracy": total["right"] / max(1, total["guessed"]),
        }
        for kind in KINDS:
            if total[kind]:
                found[f"accuracy_{kind}"] = total[f"right_{kind}"] / total[kind]
        return found


class Named(Blocks):
    """Blocks that know which split they are of, made when they are looked at."""

    def __init__(self, corpus: Any, split: str) -> None:
        super().__init__(corpus)
        self.split = split

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return replace(found, target=self.split) if isinstance(found, Block) else found
