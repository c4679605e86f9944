"""The WordPiece vocabulary of tiny_bert, and texts as rows of token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZE = 7168
LENGTH = 128
CHARACTERS = 1200  # of a text, enough for as many tokens
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def learn(texts: list[str]) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer in transformers' own form."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(
        texts, vocab_size=SIZE, min_frequency=3, limit_alphabet=200, special_tokens=list(SPECIAL.values())
    )
    vocabulary = pieces.get_vocab()
    ordered = dict(sorted(vocabulary.items(), key=lambda item: item[1]))
    return BertTokenizer(vocab=ordered, do_lower_case=True, model_max_length=LENGTH, **SPECIAL)


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """[CLS] text [SEP] of each, padded to 128 ids: (texts, 128), and the lengths."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(LENGTH)
    ids = np.full((len(texts), LENGTH), tokenizer.pad_token_id, dtype=np.int16)
    lengths = np.zeros(len(texts), dtype=np.int64)
    for start in range(0, len(texts), 4096):
        part = [text[:CHARACTERS] for text in texts[start : start + 4096]]
        for row, found in enumerate(backend.encode_batch_fast(part), start=start):
            ids[row, : len(found.ids)] = found.ids
            lengths[row] = len(found.ids)
    return ids, lengths
