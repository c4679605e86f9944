"""What is cut from a very long text before it is tokenised changes none of the tokens that a limit leaves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from toys import PLAIN, tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from ftrun.data.text import encoding, needed, windows
from ftrun.data.text.encoding import encode, encode_pairs
from ftrun.errors import DataError

WORDS = [*PLAIN, "a", "aaa", "naïve", "日本語", "2024-05-31", "don't", "...", "x" * 30]
BLANKS = [" "] * 8 + ["  ", "\n", "\n\n", "\t"]


def text_of(count: int, chance: random.Random) -> str:
    return "".join(chance.choice(WORDS) + chance.choice(BLANKS) for _ in range(count))


def trained(model: Any, trainer: Any, before: Any, normalizer: Any = None) -> Any:
    tokenizer = Tokenizer(model)
    if before is not None:
        tokenizer.pre_tokenizer = before
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([text_of(400, random.Random(seed)) for seed in range(5)], trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", ends)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tokenizers() -> dict[str, Any]:
    """A word piece, a byte-level one, and sentence pieces that part words or see the whole text as one."""
    special = {"special_tokens": ["<pad>", "<s>", "</s>", "<unk>"], "show_progress": False}
    bytewise = pre_tokenizers.ByteLevel.alphabet()
    joined = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    pairs = trainers.BpeTrainer(vocab_size=400, initial_alphabet=bytewise, **special)
    pieces = trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", **special)
    return {
        "wordpiece": tiny_tokenizer("bert"),
        "bytes": trained(models.BPE(), pairs, pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "unigram": trained(models.Unigram(), pieces, pre_tokenizers.Metaspace()),
        "whole": trained(
            models.BPE(unk_token="<unk>"), trainers.BpeTrainer(vocab_size=300, **special), None, joined
        ),
    }


TOKENIZERS = tokenizers()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is very long is a few lines."""
    monkeypatch.setattr(needed, "LEAST", 200)
    monkeypatch.setattr(needed, "PER_TOKEN", 4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_tokens_are_those_of_the_whole_text(
    name: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = TOKENIZERS[name]
    monkeypatch.setattr(tokenizer, "truncation_side", side)
    chance = random.Random(0)
    texts = [text_of(chance.randrange(1, 600), chance) for _ in range(24)] + [
        "a" * 900,
        " " * 900 + "a",
        "a" + "\n" * 900,
    ]
    pairs = [(text, text_of(chance.randrange(1, 20), chance)) for text in texts]
    limits: dict[str, Any] = {"split": "train", "max_length": 12, "long": "truncate"}
    found, _, report = encode(tokenizer, texts, **limits)
    both = encode_pairs(tokenizer, pairs, **limits)
    assert found == tokenizer(texts, truncation=True, max_length=12)["input_ids"]
    assert (
        both[0]
        == tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True, max_length=12)["input_ids"]
    )
    assert report.begun > 10 and both[3].begun > 10  # and cut they were
    assert f"{report.begun} very long and counted in part" in report.line()


def test_only_what_is_needed_is_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, most = TOKENIZERS["bytes"], 0

    class Counting:
        truncation_side = "right"

        def __call__(self, text: str, **options: Any) -> Any:
            nonlocal most
            most = max(most, len(text))
            return tokenizer(text, **options)

    columns, rows = needed.needed(Counting(), [["short", text_of(5000, random.Random(0))]], 12)
    assert rows == {1} and most <= 400 and len(columns[0][1]) <= 200 and columns[0][0] == "short"


def test_a_text_whose_beginning_depends_on_its_end_is_left_whole() -> None:
    class Mirrored:
        truncation_side = "right"

        def __call__(self, text: str, **options: Any) -> Any:
            return {"input_ids": [*map(ord, reversed(text))]}

    text = text_of(2000, random.Random(0))
    assert needed.needed(Mirrored(), [[text]], 12) == ([[text]], set())


@pytest.mark.parametrize("name", ["wordpiece", "bytes", "unigram"])
def test_a_corpus_of_one_line_is_tokenised_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As text8 is: they end before a blank, and their tokens are those of the whole."""
    for limit, value in (("PART", 200), ("FAR", 400), ("AT_ONCE", 500)):
        monkeypatch.setattr(encoding, limit, value)
    text = text_of(3000, random.Random(1)).replace("\n", " ")
    pieces = encoding.parts(text)
    assert "".join(pieces) == text and len(pieces) > 20 and max(map(len, pieces[:-1])) < 300
    found = encoding.tokens_of(TOKENIZERS[name], pieces)
    whole = TOKENIZERS[name](text, add_special_tokens=False)["input_ids"]
    assert [token for piece in found for token in piece] == whole
    lines = text.replace(" ", "\n")  # where lines end, they end with one
    assert all(piece.endswith("\n") for piece in encoding.parts(lines)[:-1])
    assert encoding.parts(text[:550]) == [text[:550]]  # as long as a line may be


def test_a_text_without_measure_is_not_cut_into_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MOST", 30)
    with pytest.raises(DataError, match=r"a text has 31 characters .'x{31}'….; .*texts of up to 30"):
        windows.windows(TOKENIZERS["wordpiece"], ["a", "x" * 31], 12, 2)
