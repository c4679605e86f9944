"""The share of training tokens that a tokenizer does not know, such as those of another language's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.tasks.parts.blocks import Blocks, Pairs

if TYPE_CHECKING:
    from ftrun.tasks.dataset import Dataset

FEW = 0.03  # of the tokens; of texts in a tokenizer's own language far fewer are unknown
MOST = 2**22  # tokens of a corpus that are counted, its first
EXAMPLES = 10_000  # of a table that are counted, at least


def unknown_words(dataset: Dataset, tokenizer: Any) -> str:
    """A sentence where more than a few per cent of the tokens are unknown, special ones left out, else ""."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None:
        return ""
    special = {*tokenizer.all_special_ids} - {unknown}
    if unknown in {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}:
        return ""  # as of GPT-2, to which nothing is unknown
    found, words = counts(dataset, unknown, special)
    if found <= FEW * words:
        return ""
    return (
        f"warning: {found / words:.1%} of the training tokens are unknown to the tokenizer"
        f" ({tokenizer.unk_token}), as of texts in another language; possible: a checkpoint that was trained"
        " on texts like these"
    )


def counts(dataset: Dataset, unknown: int, special: set[int]) -> tuple[int, int]:
    """The unknown tokens, and all but special ones; of many examples those at equal distances are counted."""
    if isinstance(dataset.examples, Blocks | Pairs):
        import numpy

        tokens = numpy.asarray(dataset.examples.corpus.tokens[:MOST])
        return int((tokens == unknown).sum()), int((~numpy.isin(tokens, [*special])).sum())
    found = words = 0
    for place in range(0, len(dataset), max(1, len(dataset) // EXAMPLES)):
        ids = [token for token in dataset[place].inputs if token not in special]
        found, words = found + ids.count(unknown), words + len(ids)
    return found, words
