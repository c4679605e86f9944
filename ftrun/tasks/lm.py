"""Language modelling: the next token of plain text, or of completions to prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftrun.data.documents import Columns, Document, batched
from ftrun.data.text.document_tokens import separators
from ftrun.errors import ConfigError, DataError, counted
from ftrun.settings.checks import at_least, one_of
from ftrun.tasks.dataset import Batch, Dataset, Draw, Example
from ftrun.tasks.losses import Loss
from ftrun.tasks.metrics.tokens import CAUSAL, bits_per_byte
from ftrun.tasks.parts.blocks import Blocks
from ftrun.tasks.parts.corpus import CorpusTask, Counts
from ftrun.tasks.parts.documents import added_up
from ftrun.tasks.scorer import Answer, Row, Scorer

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.packing import Corpus
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.generation import Generator
    from ftrun.tasks.objective import Objective


NONE = {"bytes": 0, "cut": 0, "dropped": 0}  # documents cut or dropped, bytes of all


@dataclass
class Lm(CorpusTask):
    """Documents packed into blocks with separators; no document sees another, each begins at position 0."""

    text: str
    prompt: str | None
    completion: str | None
    loss_on: str
    long: str
    sample: int
    sample_from: str | None

    def __post_init__(self) -> None:
        one_of("task.loss_on", self.loss_on, ["all", "completion"])
        one_of("task.long", self.long, ["truncate", "drop", "error"])
        at_least("task.sample", self.sample, 0)
        if (self.prompt is None) != (self.completion is None):
            raise ConfigError("task.prompt and task.completion belong together; set both or neither")
        if self.loss_on == "completion" and self.completion is None:
            raise ConfigError("task.loss_on=completion needs the columns task.prompt= and task.completion=")
        super().__post_init__()

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.prompt, self.completion)

    @property
    def auto_class(self) -> str:
        return "AutoModelForCausalLM"

    @property
    def whole(self) -> bool:
        """Whether a document stays in one block: an answer needs its question."""
        return self.completion is not None

    def options(self, tokenizer: PreTrainedTokenizerBase) -> list[Any]:
        begin, end, _ = separators(tokenizer)
        return [self.loss_on, self.long, self.whole and self.block, begin, end]

    def encode(self, data: TaskData, split: str) -> NextTokens:
        rows = data.rows
        _, _, padding = separators(data.processor)
        if not rows.answered:
            return NextTokens(self.encode_unanswered(data), "", padding)
        corpus, counts, cached = self.packed(data, split, self.block, self.whole, dict(NONE))
        corpus.bytes = counts["bytes"]
        if not corpus.scored:
            raise DataError(f"task.{split}: the {split} split has no documents left")
        if split == "train" and not self.whole:
            self.refuse_short(corpus, self.block)
        return NextTokens(Blocks(corpus), self.summary(split, corpus, counts, cached), padding)

    def summary(self, split: str, corpus: Corpus, counts: Counts, cached: bool) -> str:
        blocks = len(corpus.edges) - 1
        line = (
            f"{split}: {counted(corpus.documents, 'document')}, {corpus.bytes:,} bytes,"
            f" {counted(len(corpus.tokens), 'token')}, {counted(blocks, 'block')} of {self.block}"
        )
        for what, words in (("cut", "too long and cut"), ("dropped", "too long and dropped")):
            line += f", {counts[what]:,} {words}" if counts[what] else ""
        return line + (" (tokens from the cache)" if cached else "")

    def tokens(
        self, tokenizer: PreTrainedTokenizerBase, documents: Any, counts: Counts
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens and flags of each document, in batches that the tokenizer can share among its threads."""
        from ftrun.data.text.encoding import parts, tokens_of
        from ftrun.data.text.packing import GIVEN, SCORED, START

        begin, end, _ = separators(tokenizer)
        given = GIVEN if self.loss_on == "completion" else SCORED
        for held in batched(documents):
            prompts = tokens_of(tokenizer, [document.prompt for document in held])
            texts = [parts(document.text) for document in held]
            flat = iter(tokens_of(tokenizer, [part for each in texts for part in each]))
            for document, prompt, each in zip(held, prompts, texts, strict=True):
                text = [token for _ in each for token in next(flat)]
                fitted = self.fitted(prompt, text, document, counts)
                if fitted is None:
                    continue
                prompt, text = fitted
                scored = document.text if given == GIVEN else document.prompt + document.text
                counts["bytes"] += len(scored.encode())
                yield (
                    [begin, *prompt, *text, end],
                    [START, *([given] * len(prompt)), *([SCORED] * (len(text) + 1))],
                )

    def fitted(
        self, prompt: list[int], text: list[int], document: Document, counts: Counts
    ) -> tuple[list[int], list[int]] | None:
        """A document that must stay whole, cut to a block: its prompt from the left, then its text's end."""
        room = self.block - 2
        if not self.whole or len(prompt) + len(text) <= room:
            return prompt, text
        if self.long == "error":
            raise DataError(
                f"task.long=error: a document ({document.prompt[:30]!r}…) has {len(prompt) + len(text) + 2}"
                f" tokens, more than task.block={self.block}; possible: task.long=truncate, drop"
            )
        counts["dropped" if self.long == "drop" else "cut"] += 1
        if self.long == "drop":
            return None
        text = text[:room]
        return prompt[len(prompt) + len(text) - room :], text

    def encode_unanswered(self, data: TaskData) -> list[Example]:
        """Each row's text as blocks of its own; a prompt that stands alone is completed instead."""
        from ftrun.data.documents import document_of
        from ftrun.data.text.packing import pack

        rows = data.rows
        found: list[Example] = []
        for number, row in enumerate(rows.inputs):
            if self.prompt_of(row) is not None:
                continue
            document = document_of(row, number + 1, rows.source, self.columns)
            if document.text.strip():
                counts = dict(NONE)
                corpus = pack(self.tokens(data.processor, [document], counts), self.block, False)
                corpus.bytes = counts["bytes"]
                found += [replace(each, row=number) for each in Blocks(corpus)]
        return found

    def prompt_of(self, row: dict[str, Any]) -> str | None:
        """The prompt of a row with nothing after it."""
        prompt = row.get(self.prompt or "prompt")
        return prompt if prompt and not row.get(self.completion or self.text) else None

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.objective import Objective
        from ftrun.tasks.parts.next_tokens import LargeVocabulary

        kind = LargeVocabulary if len(data.processor) >= LargeVocabulary.words else Objective
        return kind(next_token_loss, scored_tokens)

    def scorer(self, data: TaskData) -> LikelihoodScorer:
        return LikelihoodScorer()

    def generator(self, data: TaskData) -> Generator:
        from ftrun.tasks.generation import Generator

        return Generator(self, data)


class NextTokens(Dataset):
    """Blocks of tokens whose labels are the next ones."""

    def __init__(self, examples: Sequence[Example], summary: str, padding: int) -> None:
        super().__init__(examples, summary)
        self.padding = padding

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        from ftrun.data.text.packing import together

        blocks: list[Any] = list(examples)
        triples: list[tuple[ndarray, ndarray, ndarray]] = [(e.inputs, e.target, e.starts) for e in blocks]
        inputs, labels = together(triples, self.padding)
        return {"inputs": inputs, "labels": labels, "bytes": [e.bytes for e in blocks]}


class LikelihoodScorer(Scorer):
    """How likely the network finds each row's text."""

    columns = ("log_likelihood", "tokens", "bits_per_byte", "answer")

    def __init__(self) -> None:
        self.metrics = CAUSAL

    def answers(self, outputs: Tensor, batch: Batch) -> list[Answer]:
        from ftrun.tasks.parts.next_tokens import surprise

        nats = surprise(outputs, batch).double().sum(1).tolist()
        counts = (batch["labels"] >= 0).sum(1).tolist()
        found = zip(nats, counts, batch["bytes"], strict=True)
        return [{"log_likelihood": -lost, "tokens": n, "bytes": size} for lost, n, size in found]

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        """The blocks of a row added up; `answer` is what a generator writes."""
        found = []
        for total, example in added_up(answers, examples):
            rate = bits_per_byte(-total["log_likelihood"], total["bytes"])
            answer = total | {"bits_per_byte": rate, "answer": None}
            found.append(
                Row(example.row, None, {name: answer[name] for name in self.columns}, example, total["bytes"])
            )
        return found

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        nats, tokens = (sum(row.answer[name] for row in rows) for name in ("log_likelihood", "tokens"))
        return {
            "perplexity": math.exp(min(-nats / max(1, tokens), 700.0)),
            "bits_per_byte": bits_per_byte(-nats, sum(row.detail for row in rows)),
        }


def scored_tokens(batch: Batch) -> int:
    return int((batch["labels"] >= 0).sum())


def next_token_loss(outputs: Tensor, batch: Batch) -> Loss:
    """Cross-entropy summed over the labels; see `surprise` for the outputs."""
    from ftrun.tasks.parts.next_tokens import surprise

    return Loss(surprise(outputs, batch).sum())
