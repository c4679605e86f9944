"""Documents as the tokens of a network that sees both sides, each token with a flag for what it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ftrun.data.documents import batched
from ftrun.data.text.encoding import parts, tokens_of
from ftrun.data.text.packing import SCORED, START
from ftrun.data.text.sentence_pairs import SENTENCE, sentences
from ftrun.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Pieces = Iterator[tuple[list[int], list[int]]]  # tokens and flags of each document


def ended(tokenizer: PreTrainedTokenizerBase, documents: Any) -> Pieces:
    """Each document's tokens and the separator behind them."""
    for cut in tokenised(tokenizer, documents, parts):
        tokens = [token for part in cut for token in part]
        yield [*tokens, tokenizer.sep_token_id], [START, *([SCORED] * len(tokens))]


def in_sentences(tokenizer: PreTrainedTokenizerBase, documents: Any) -> Pieces:
    """Each document's tokens, with a flag where a sentence begins."""
    for cut in tokenised(tokenizer, documents, sentences):
        flags = [flag for part in cut for flag in (SENTENCE, *([SCORED] * (len(part) - 1)))]
        yield [token for part in cut for token in part], [START, *flags[1:]]


def tokenised(
    tokenizer: PreTrainedTokenizerBase, documents: Any, cut: Callable[[str], list[str]]
) -> Iterator[list[list[int]]]:
    """The tokens of each document's parts, in batches that the tokenizer can share among its threads."""
    for held in batched(documents):
        texts = [cut(document.text) for document in held]
        flat = iter(tokens_of(tokenizer, [part for each in texts for part in each]))
        for each in texts:
            tokens = [part for part in (next(flat) for _ in each) if part]
            if tokens:
                yield tokens


def separators(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int, int]:
    """The token that begins a document, the one that ends it, and padding."""
    end = tokenizer.eos_token_id
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
    if begin is None or end is None:
        raise ConfigError("the tokenizer has no token that ends a text; task.tokenizer=train makes one")
    pad = tokenizer.pad_token_id
    return begin, end, end if pad is None else pad
