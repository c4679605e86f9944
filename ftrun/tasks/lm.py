"""Language modelling: the next token of plain text, or of completions to prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.documents import Columns, Document, batched
from ftrun.errors import ConfigError, DataError
from ftrun.settings.checks import at_least, one_of
from ftrun.tasks.base import Answer, Batch, Example
from ftrun.tasks.parts.blocks import Blocks
from ftrun.tasks.parts.corpus import CorpusTask

if TYPE_CHECKING:
    from pathlib import Path

    from numpy import ndarray
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.packing import Corpus

PROMPT_SHARE = 8  # an eighth of a block is shown to a network that has no prompt
TEMPERATURE, TOP = 0.8, 200  # of sampled text, as in nanoGPT's sample.py


@dataclass
class Lm(CorpusTask):
    """Documents packed into blocks with separators; no document sees another, each begins at position 0."""

    name: str
    corpus: str | None
    train: Any  # a source or a list of them
    validation: Any
    test: Any
    text: str
    prompt: str | None
    completion: str | None
    loss_on: str
    documents: str | None
    block: int
    long: str
    tokenizer: str | None
    vocab: int
    stream: bool
    subset: int | None
    leaks: str
    sample: int
    sample_from: str | None

    metrics: ClassVar[dict[str, str]] = {"loss": "min", "perplexity": "min", "bits_per_byte": "min"}
    default_metric: ClassVar[str] = "bits_per_byte"  # the same whatever the tokenizer
    answer_columns: ClassVar[tuple[str, ...]] = ("log_likelihood", "tokens", "bits_per_byte", "answer")
    auto_class: ClassVar[str] = "AutoModelForCausalLM"

    def __post_init__(self) -> None:
        one_of("task.loss_on", self.loss_on, ["all", "completion"])
        one_of("task.long", self.long, ["truncate", "drop", "error"])
        at_least("task.sample", self.sample, 0)
        if (self.prompt is None) != (self.completion is None):
            raise ConfigError("task.prompt and task.completion go together: set both columns or neither")
        if self.loss_on == "completion" and self.completion is None:
            raise ConfigError("task.loss_on=completion needs the columns task.prompt= and task.completion=")
        super().__post_init__()

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.prompt, self.completion)

    def options(self) -> list[Any]:
        return [self.loss_on, self.long, self.whole and self.block, self.begin, self.end]

    @property
    def whole(self) -> bool:
        """Whether a document stays in one block: an answer needs its question."""
        return self.completion is not None

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        self.ends(tokenizer)
        self.counts = {"bytes": 0, "cut": 0, "dropped": 0}
        corpus, there = self.packed(tokenizer, split, self.block, self.whole)
        corpus.bytes = self.counts["bytes"]
        if not corpus.scored:
            raise DataError(f"task.{split}: no document of the {split} split is left")
        if split == "train" and len(corpus.tokens) < self.block and not self.whole:
            raise DataError(
                f"task.train has {len(corpus.tokens)} tokens, fewer than task.block={self.block};"
                " take a smaller block or more text"
            )
        self.encoded[split] = Blocks(corpus)
        return self.line(split, corpus, there)

    def line(self, split: str, corpus: Corpus, there: bool) -> str:
        blocks = len(corpus.edges) - 1
        many = "document" if corpus.documents == 1 else "documents"
        said = (
            f"{split}: {corpus.documents:,} {many}, {corpus.bytes:,} bytes, {len(corpus.tokens):,} tokens,"
            f" {blocks:,} blocks of {self.block}"
        )
        for what, words in (("cut", "too long and cut"), ("dropped", "too long and dropped")):
            said += f", {self.counts[what]:,} {words}" if self.counts[what] else ""
        return said + (" (tokenised before)" if there else "")

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """The separators: a document begins with `begin` and is over with `end`."""
        end = tokenizer.eos_token_id
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
        if begin is None or end is None:
            raise ConfigError("the tokenizer has no token that ends a text; task.tokenizer=train makes one")
        pad = tokenizer.pad_token_id
        self.begin, self.end, self.pad = begin, end, end if pad is None else pad

    def pieces(
        self, tokenizer: PreTrainedTokenizerBase, documents: Any
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens and flags of each document, in batches that the tokenizer can share among its threads."""
        from ftrun.data.text.encoding import parts, tokens_of
        from ftrun.data.text.packing import GIVEN, SCORED, START

        given = GIVEN if self.loss_on == "completion" else SCORED
        for held in batched(documents):
            prompts = tokens_of(tokenizer, [document.prompt for document in held])
            texts = [parts(document.text) for document in held]
            flat = iter(tokens_of(tokenizer, [part for each in texts for part in each]))
            for document, prompt, each in zip(held, prompts, texts, strict=True):
                text = [token for _ in each for token in next(flat)]
                fitted = self.fitted(prompt, text, document)
                if fitted is None:
                    continue
                prompt, text = fitted
                scored = document.text if given == GIVEN else document.prompt + document.text
                self.counts["bytes"] += len(scored.encode())
                yield (
                    [self.begin, *prompt, *text, self.end],
                    [START, *([given] * len(prompt)), *([SCORED] * (len(text) + 1))],
                )

    def fitted(
        self, prompt: list[int], text: list[int], document: Document
    ) -> tuple[list[int], list[int]] | None:
        """A document that must stay whole, cut to a block: its prompt from the left, then its text's end."""
        room = self.block - 2
        if not self.whole or len(prompt) + len(text) <= room:
            return prompt, text
        if self.long == "error":
            raise DataError(
                f"task.long=error: a document ({document.prompt[:30]!r}…) has {len(prompt) + len(text) + 2}"
                f" tokens, more than task.block={self.block}; set task.long=truncate or drop"
            )
        self.counts["dropped" if self.long == "drop" else "cut"] += 1
        if self.long == "drop":
            return None
        text = text[:room]
        return prompt[len(prompt) + len(text) - room :], text

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        """Each row's text as blocks of its own."""
        from ftrun.data.documents import document_of
        from ftrun.data.text.packing import pack

        self.ends(tokenizer)
        found: list[Example] = []
        for number, row in enumerate(rows):
            if not row.get(self.completion or self.text) and row.get(self.prompt or "prompt"):
                continue  # a prompt to be completed; see `write`
            document = document_of(row, number + 1, file, self.columns)
            if document.text.strip():
                self.counts = {"bytes": 0, "cut": 0, "dropped": 0}
                corpus = pack(self.pieces(tokenizer, [document]), self.block, False)
                corpus.bytes = self.counts["bytes"]
                found += [replace(each, row=number) for each in Blocks(corpus)]
        return found

    def collate(self, examples: Sequence[Example]) -> Batch:
        from ftrun.data.text.packing import together

        blocks: list[Any] = list(examples)
        triples: list[tuple[ndarray, ndarray, ndarray]] = [(e.inputs, e.target, e.starts) for e in blocks]
        inputs, labels = together(triples, self.pad)
        return {"inputs": inputs, "labels": labels, "bytes": [e.bytes for e in blocks]}

    def target_count(self, batch: Batch) -> int:
        return int((batch["labels"] >= 0).sum())

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        return self.surprise(outputs, batch).sum(), self.target_count(batch)

    def surprise(self, outputs: Tensor, batch: Batch) -> Tensor:
        """-log p of every label, (batch, length), zero where there is none; kept for whoever asks again."""
        from torch.nn.functional import cross_entropy

        if "surprise" not in batch:
            labels = batch["labels"].to(outputs.device)
            found = cross_entropy(outputs.float().flatten(0, 1), labels.flatten(), reduction="none")
            if outputs.requires_grad:
                return found.view_as(labels)
            batch["surprise"] = found.view_as(labels)
        return batch["surprise"]

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        nats = self.surprise(outputs, batch).double().sum(1).tolist()
        counts = (batch["labels"] >= 0).sum(1).tolist()
        return [
            {"log_likelihood": -lost, "tokens": count, "bytes": size}
            for lost, count, size in zip(nats, counts, batch["bytes"], strict=True)
        ]

    def given(self, example: Example) -> Any:
        return None

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        nats, tokens, size = (sum(a[name] for a in answers) for name in ("log_likelihood", "tokens", "bytes"))
        return {
            "perplexity": math.exp(min(-nats / max(1, tokens), 700.0)),
            "bits_per_byte": bits_per_byte(-nats, size),
        }

    def merged(
        self, answers: Sequence[Answer], examples: Sequence[Example]
    ) -> tuple[Sequence[Answer], Sequence[Example]]:
        rows, some = super().merged(answers, examples)
        rates = [bits_per_byte(-row["log_likelihood"], row["bytes"]) for row in rows]
        return [
            row | {"bits_per_byte": rate, "answer": None} for row, rate in zip(rows, rates, strict=True)
        ], some

    def completed(
        self, net: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], seed: int
    ) -> dict[int, Answer]:
        """For rows with a prompt and nothing after it, the likeliest continuation."""
        from ftrun.tasks.generation import continued

        self.ends(tokenizer)
        found: dict[int, Answer] = {}
        for number, row in enumerate(rows):
            prompt, text = row.get(self.prompt or "prompt"), row.get(self.completion or self.text)
            if isinstance(prompt, str) and prompt and not text:
                ids = [self.begin, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
                written = continued(net, ids, self.block // 2, self.end, 0.0, 1, seed)
                answer = tokenizer.decode(written, skip_special_tokens=True)
                found[number] = dict.fromkeys(self.answer_columns) | {"answer": answer}
        return found

    def leave(self, net: nn.Module, tokenizer: PreTrainedTokenizerBase, directory: Path, seed: int) -> None:
        """sample.txt: what the finished network writes on from a prompt or the beginning of validation."""
        from ftrun.tasks.generation import continued

        if not self.sample:
            return
        if self.sample_from is not None:
            prompt = tokenizer(self.sample_from, add_special_tokens=False)["input_ids"]
        else:
            tokens = self.encoded["validation"][0].inputs
            prompt = tokens[1 : max(2, self.block // PROMPT_SHARE)].tolist()
        written = continued(net, [self.begin, *prompt], self.sample, self.end, TEMPERATURE, TOP, seed)
        text = f"{tokenizer.decode(prompt)}|{tokenizer.decode(written, skip_special_tokens=True)}\n"
        (directory / "sample.txt").write_text(text, encoding="utf-8")


def bits_per_byte(nats: float, size: float) -> float:
    """nats / (bytes·ln 2); separators cost nats and have no bytes."""
    return nats / (max(1.0, size) * math.log(2))
