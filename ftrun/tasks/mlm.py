"""Masked language modelling: guess the tokens that are hidden in running text (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.data.documents import Columns, Document
from ftrun.errors import ConfigError, DataError
from ftrun.settings.checks import one_of
from ftrun.tasks.base import Answer, Batch, Example
from ftrun.tasks.metrics import tokens as guesses
from ftrun.tasks.parts.blocks import Blocks, Named, Pair, Pairs
from ftrun.tasks.parts.corpus import CorpusTask

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.text.document_tokens import Pieces
    from ftrun.data.text.packing import Corpus

NEXT = ("none", "nsp", "sop")


@dataclass
class Mlm(CorpusTask):
    """Blocks of full length, documents in them after one another with separators (Liu et al. 2019).

    With `next`, pairs of segments instead, of which it is also said whether the second follows the first.
    """

    name: str
    corpus: str | None
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
    next: str
    tokenizer: str | None
    vocab: int
    stream: bool
    subset: int | None
    leaks: str

    metrics: ClassVar[dict[str, str]] = guesses.WORDS
    default_metric: ClassVar[str] = "loss"
    answer_columns: ClassVar[tuple[str, ...]] = ("nats", "guessed", "right")
    auto_class: ClassVar[str] = "AutoModelForMaskedLM"
    masking: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.mask < 1:
            raise ConfigError(f"task.mask is a share above 0 and below 1, not {self.mask:g}")
        split = self.mask_split
        if len(split) != len(guesses.KINDS) or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
            raise ConfigError(
                f"task.mask_split is three shares, masked, random and kept, that add up to 1, not {split}"
            )
        if self.whole_words and self.spans:
            raise ConfigError("task.whole_words and task.spans are two ways to choose; set one of them")
        one_of("task.next", self.next, NEXT)
        self.epoch, self.seed = 0, 0
        if self.next != "none":
            self.auto_class = "AutoModelForPreTraining"  # type: ignore[misc]
            self.metrics = guesses.WORDS | guesses.ORDER  # type: ignore[misc]
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
        from ftrun.data.text.mask_ids import known

        self.known = known(tokenizer, self.whole_words)

    def options(self) -> list[Any]:
        return [self.next != "none", self.known.sep]

    @property
    def room(self) -> int:
        """Tokens in a block besides the special ones."""
        return self.block - (2 if self.next == "none" else 3)

    def encode(self, tokenizer: PreTrainedTokenizerBase, split: str) -> str:
        self.know(tokenizer)
        self.counts = {}
        corpus, there = self.packed(tokenizer, split, self.room, False)
        if split == "train" and len(corpus.tokens) < self.room:
            raise DataError(
                f"task.train has {len(corpus.tokens)} tokens, fewer than task.block={self.block};"
                " take a smaller block or more text"
            )
        many = "document" if corpus.documents == 1 else "documents"
        said = f"{split}: {corpus.documents:,} {many}, {len(corpus.tokens):,} tokens, "
        said += self.blocks(corpus, split) if self.next == "none" else self.pairs(corpus, split)
        return said + (" (tokenised before)" if there else "")

    def pieces(self, tokenizer: PreTrainedTokenizerBase, documents: Any) -> Pieces:
        from ftrun.data.text.document_tokens import ended, in_sentences

        return (ended if self.next == "none" else in_sentences)(tokenizer, documents)

    def blocks(self, corpus: Corpus, split: str) -> str:
        self.encoded[split] = Named(corpus, split)
        return f"{len(self.encoded[split]):,} blocks of {self.block}"

    def pairs(self, corpus: Corpus, split: str) -> str:
        """Segments of neighbouring sentences instead; DataError where there are none."""
        from ftrun.data.text.sentence_pairs import segmented

        segments = segmented(corpus, self.room)
        segments.refuse(self.next, split)
        self.encoded[split] = Pairs(segments, split)
        alone = 1 - int(self.encoded[split].lengths.sum()) / len(corpus.tokens)
        said = f"{len(segments):,} pairs of segments of up to {self.block}"
        return said + (f", {alone:.1%} of the tokens without a neighbour left out" if alone else "")

    def questions(
        self, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], file: str
    ) -> list[Example]:
        """Each row's text as blocks of its own; the gaps are the same every time."""
        from ftrun.data.documents import document_of
        from ftrun.data.text.document_tokens import ended
        from ftrun.data.text.packing import pack

        self.know(tokenizer)
        found: list[Example] = []
        for number, row in enumerate(rows):
            document: Document = document_of(row, number + 1, file, self.columns)
            corpus = pack(ended(tokenizer, [document]), self.block - 2, False)
            found += [replace(each, row=number, target="test") for each in Blocks(corpus)]
        return found

    def collate(self, examples: Sequence[Example]) -> Batch:
        from ftrun.data.batching import pad
        from ftrun.data.text.masking import IGNORED

        read = [self.drawn(example) for example in examples]
        made = [self.hidden(example, ids) for example, (ids, _, _) in zip(examples, read, strict=True)]
        ids, mask = pad([each[0] for each in made], self.known.pad)
        labels, _ = pad([each[1] for each in made], IGNORED)
        kinds, _ = pad([each[2] for each in made], -1)
        inputs = {"input_ids": ids, "attention_mask": mask, "positions": kinds >= 0}
        batch = {"inputs": inputs, "labels": labels, "kinds": kinds}
        return batch if self.next == "none" else batch | self.told(read, inputs)

    def told(self, read: list[tuple[list[int], int, int | None]], inputs: Batch) -> Batch:
        """Which tokens are of the second segment, among the inputs, and whether it is in order."""
        import torch

        place = torch.arange(inputs["input_ids"].shape[1])
        begins = torch.tensor([begin for _, begin, _ in read])[:, None]
        inputs["token_type_ids"] = ((place >= begins) & (inputs["attention_mask"] > 0)).long()
        false = [false for _, _, false in read]
        return {} if None in false else {"order": torch.tensor(false)}

    def chance(self, example: Example) -> tuple[int, int]:
        """Seed and epoch of what is drawn for an example; outside of training they are always the same."""
        return (self.seed, self.epoch) if example.target == "train" else (0, 0)

    def drawn(self, example: Example) -> tuple[list[int], int, int | None]:
        """An example's tokens, where its second segment begins, and 0 where that is in order, else 1."""
        known = self.known
        if isinstance(example, Pair):
            segments = self.encoded[example.target].segments
            one, other, false = segments.drawn(example.row, self.next, *self.chance(example))
            return [known.cls, *one, known.sep, *other, known.sep], len(one) + 2, false
        text = example.inputs.tolist()
        if text[-1] == known.sep:
            text.pop()
        return [known.cls, *text, known.sep], self.block, None

    def hidden(self, example: Example, text: list[int]) -> tuple[list[int], list[int], list[int]]:
        """Inputs, labels and kinds; by a stream of its own, so that a block is the same in every batch."""
        import torch

        from ftrun.data.text.mask_ids import hide
        from ftrun.settings.seeds import stream

        (seed, epoch), goes_on = self.chance(example), self.known.goes_on
        ids = torch.tensor(text)
        inputs, labels, kinds = hide(
            ids,
            self.known.special[ids],
            share=self.mask,
            split=self.mask_split,
            words=None if goes_on is None else goes_on[ids],
            spans=self.spans,
            mask_id=self.known.gap,
            ordinary=self.known.ordinary,
            generator=torch.Generator().manual_seed(stream(seed, "mask", epoch, example.row)),
        )
        return inputs.tolist(), labels.tolist(), kinds.tolist()

    def target_count(self, batch: Batch) -> int:
        return int(batch["inputs"]["positions"].sum())

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, int]:
        """Of the tokens, and of the pairs' order."""
        if self.next == "none":
            return guesses.word_loss(outputs, batch)
        lost, count = guesses.word_loss(outputs.words, batch)
        missed = guesses.order_nats(outputs.order, batch).sum()
        right = (outputs.order.argmax(-1) == batch["order"].to(missed.device)).sum()
        batch["parts"] = {
            "mlm_loss": (lost.detach(), count),
            "next_loss": (missed.detach(), count),
            "next_accuracy": (right, len(batch["order"])),
        }
        return lost + missed, count

    def answers(self, outputs: Any, batch: Batch) -> list[Answer]:
        found = guesses.word_answers(outputs if self.next == "none" else outputs.words, batch)
        if "order" not in batch:
            return found
        said = guesses.order_answers(outputs.order, batch)
        return [one | other for one, other in zip(found, said, strict=True)]

    def given(self, example: Example) -> Any:
        return None

    def score(self, answers: Sequence[Answer], examples: Sequence[Example]) -> dict[str, float]:
        return guesses.scores(list(answers))
