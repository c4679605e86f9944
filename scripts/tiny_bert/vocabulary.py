"""The WordPiece vocabulary of tiny_bert, and the corpus as rows of 128 token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray
    from transformers import PreTrainedTokenizerBase

SIZE = 8192
LENGTH = 128
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


def blocks(tokenizer: PreTrainedTokenizerBase, texts: list[str], seed: int) -> ndarray:
    """The texts in random order, one after another, cut into [CLS] … [SEP] rows without padding."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(texts))
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    stream: list[int] = []
    for start in range(0, len(order), 1000):
        batch = [texts[i] for i in order[start : start + 1000]]
        for encoding in backend.encode_batch(batch, add_special_tokens=False):
            stream += [*encoding.ids, tokenizer.sep_token_id]
    inner = LENGTH - 2
    cut = np.array(stream[: len(stream) // inner * inner], dtype=np.int32).reshape(-1, inner)
    first = np.full((len(cut), 1), tokenizer.cls_token_id, dtype=np.int32)
    last = np.full((len(cut), 1), tokenizer.sep_token_id, dtype=np.int32)
    return np.concatenate([first, cut, last], axis=1)
