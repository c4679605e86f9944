"""Masked language modelling: predict the tokens that are masked in running text (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.documents import Columns, Document
from ftrun.errors import ConfigError, counted
from ftrun.models.device import onto
from ftrun.settings.checks import one_of
from ftrun.tasks.dataset import Batch, Example
from ftrun.tasks.losses import Loss
from ftrun.tasks.metrics import tokens
from ftrun.tasks.parts.blocks import Blocks, Pairs
from ftrun.tasks.parts.corpus import CorpusTask, Counts
from ftrun.tasks.parts.documents import added_up
from ftrun.tasks.parts.masked import Masked
from ftrun.tasks.scorer import Answer, Row, Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.masking import MaskingTokens
    from ftrun.data.text.packing import Corpus
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective

NEXT = ("none", "nsp", "sop")


@dataclass
class Mlm(CorpusTask):
    """Blocks of full length, documents in them after one another with separators (Liu et al. 2019).

    With `next`, the examples are pairs of segments, and the model also predicts their order.
    """

    text: str
    mask: float
    mask_split: list[float]  # masked, random, kept
    whole_words: bool
    spans: bool
    next: str

    masking: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise ConfigError(f"task.mask is a share above 0 and below 1, not {self.mask:g}")
        split = self.mask_split
        if len(split) != len(tokens.KINDS) or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
            raise ConfigError(
                f"task.mask_split is three shares, masked, random and kept, that add up to 1, not {split}"
            )
        if self.whole_words and self.spans:
            raise ConfigError(
                "task.whole_words=true and task.spans=true exclude each other; set only one of them"
            )
        one_of("task.next", self.next, NEXT)
        super().__post_init__()

    @property
    def columns(self) -> Columns:
        return Columns(self.text, None, None)

    @property
    def pairs(self) -> bool:
        return self.next != "none"

    @property
    def auto_class(self) -> str:
        return "AutoModelForPreTraining" if self.pairs else "AutoModelForMaskedLM"

    @property
    def room(self) -> int:
        """Tokens in a block besides the special ones."""
        return self.block - (3 if self.pairs else 2)

    def options(self, tokenizer: PreTrainedTokenizerBase) -> list[Any]:
        return [self.pairs, tokenizer.sep_token_id]

    def known(self, tokenizer: PreTrainedTokenizerBase) -> MaskingTokens:
        from ftrun.data.text.masking import masking_tokens

        return masking_tokens(tokenizer, self.whole_words)

    def encode(self, data: TaskData, split: str) -> Masked:
        rows = data.rows
        known = self.known(data.processor)
        if not rows.answered:
            return Masked(self.encode_unanswered(data), "", self, known)
        corpus, _, cached = self.packed(data, split, self.room, False, {})
        if split == "train":
            self.refuse_short(corpus, self.room)
        line = f"{split}: {counted(corpus.documents, 'document')}, {counted(len(corpus.tokens), 'token')}, "
        examples, made = self.segments(corpus, split) if self.pairs else self.blocks(corpus)
        return Masked(examples, line + made + (" (tokens from the cache)" if cached else ""), self, known)

    def tokens(
        self, tokenizer: PreTrainedTokenizerBase, documents: Any, counts: Counts
    ) -> Iterator[tuple[list[int], list[int]]]:
        from ftrun.data.text.document_tokens import ended, in_sentences

        return (in_sentences if self.pairs else ended)(tokenizer, documents)

    def blocks(self, corpus: Corpus) -> tuple[Sequence[Example], str]:
        found = Blocks(corpus)
        return found, f"{counted(len(found), 'block')} of {self.block}"

    def segments(self, corpus: Corpus, split: str) -> tuple[Sequence[Example], str]:
        """Pairs of segments of neighbouring sentences; DataError where there are none."""
        from ftrun.data.text.sentence_pairs import segmented

        segments = segmented(corpus, self.room)
        segments.refuse(self.next, split)
        found = Pairs(segments)
        alone = 1 - int(found.lengths.sum()) / len(corpus.tokens)
        line = f"{counted(len(segments), 'pair')} of segments of up to {self.block} tokens"
        return found, line + (
            f", {alone:.1%} of the tokens unused, in segments without a neighbour" if alone else ""
        )

    def encode_unanswered(self, data: TaskData) -> list[Example]:
        """Each row's text as blocks of its own; the masks are the same every time."""
        from ftrun.data.documents import document_of
        from ftrun.data.text.document_tokens import ended
        from ftrun.data.text.packing import pack

        rows = data.rows
        found: list[Example] = []
        for number, row in enumerate(rows.inputs):
            document: Document = document_of(row, number + 1, rows.source, self.columns)
            corpus = pack(ended(data.processor, [document]), self.block - 2, False)
            found += [changed(each, row=number) for each in Blocks(corpus)]
        return found

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.parts.positions import AtPositions, positions_in

        return AtPositions(pair_loss if self.pairs else masked_loss, positions_in)

    def scorer(self, data: TaskData) -> MaskedScorer:
        return MaskedScorer(self.pairs)


class MaskedScorer(Scorer):
    """What the masked tokens cost and how many are predicted correctly; of pairs also their order."""

    columns = ("nats", "guessed", "right")

    def __init__(self, pairs: bool) -> None:
        self.metrics, self.pairs = tokens.MASKED | (tokens.ORDER if pairs else {}), pairs

    def answers(self, outputs: Any, batch: Batch) -> list[Answer]:
        found = tokens.word_answers(outputs.words if self.pairs else outputs, batch)
        if "order" not in batch:
            return found
        order = tokens.order_answers(outputs.order, batch)
        return [one | other for one, other in zip(found, order, strict=True)]

    def rows(
        self, answers: Sequence[Answer], examples: Sequence[Example], reference: Sequence[Row] = ()
    ) -> list[Row]:
        return [
            Row(example.row, None, {name: total[name] for name in self.columns}, example, total)
            for total, example in added_up(answers, examples)
        ]

    def score(self, rows: Sequence[Row]) -> dict[str, float]:
        return tokens.scores([row.detail for row in rows])


def masked_loss(outputs: Any, batch: Batch) -> Loss:
    """Of the masked tokens."""
    return Loss(tokens.word_loss(outputs, batch)[0])


def pair_loss(outputs: Any, batch: Batch) -> Loss:
    """Of the masked tokens, and of the pairs' order."""
    lost, count = tokens.word_loss(outputs.words, batch)
    missed = tokens.order_nats(outputs.order, batch).sum()
    right = (outputs.order.argmax(-1) == onto(batch["order"], missed.device)).sum()
    parts = {
        "mlm_loss": (lost.detach(), count),
        "next_loss": (missed.detach(), count),
        "next_accuracy": (right, len(batch["order"])),
    }
    return Loss(lost + missed, parts)
