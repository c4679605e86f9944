from __future__ import annotations

from typing import Any

import pytest

from ftrun.data.text.encoding import LengthReport, encode
from ftrun.errors import ConfigError, DataError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
TEXTS = ["a b c", "a", "a b c d e f g h i j", "b b"]  # 5, 3, 12 and 4 tokens with [CLS] and [SEP]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import BertTokenizerFast

    return BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)})


def words(ids: list[int]) -> str:
    return " ".join(WORDS[index] for index in ids)


def test_short_texts_are_untouched(tokenizer: Any) -> None:
    ids, kept, report = encode(tokenizer, TEXTS, split="train", max_length=12, long="truncate")
    assert [words(i) for i in ids] == [f"[CLS] {text} [SEP]" for text in TEXTS]
    assert kept == [0, 1, 2, 3]
    assert (report.rows, report.dropped, report.truncated_share, report.tokens_lost) == (4, 0, 0.0, 0)
    assert (report.p50, report.p95, report.longest) == (4, 12, 12)
    assert report.line() == "train: 4 rows, 4/12/12 tokens (median/95 %/longest), none too long"


def test_truncation_keeps_the_last_special_and_is_counted(tokenizer: Any) -> None:
    ids, kept, report = encode(tokenizer, TEXTS, split="test", max_length=6, long="truncate")
    assert words(ids[2]) == "[CLS] a b c d [SEP]" and kept == [0, 1, 2, 3]
    assert (report.truncated_share, report.tokens_lost, report.longest) == (0.25, 6, 12)
    assert report.line().endswith("25.0% truncated (6 tokens lost)")


def test_where_most_rows_are_cut_it_says_what_else_is_possible(tokenizer: Any) -> None:
    def said(split: str, share: float, **how: bool) -> str:
        return LengthReport(split, 10, 0, share, 900, 100, 200, 300, **how).line().partition("lost")[2]

    assert said("train", 0.5) == (
        "); possible: a larger task.max_length, or task.long=windows, which reads all of a text"
    )
    assert said("train", 0.5, pairs=True) == " from the longer text); possible: a larger task.max_length"
    assert said("train", 0.5, streamed=True) == "); possible: a larger task.max_length"
    assert said("train", 0.4) == said("test", 1.0) == ")"
    _, _, report = encode(tokenizer, TEXTS[2:3] * 3, split="train", max_length=6, long="truncate")
    assert "task.long=windows" in report.line()


def test_truncation_is_on_the_tokenizers_side(tokenizer: Any) -> None:
    side = tokenizer.truncation_side
    tokenizer.truncation_side = "left"
    try:
        ids, _, _ = encode(tokenizer, TEXTS, split="test", max_length=6, long="truncate")
    finally:
        tokenizer.truncation_side = side
    assert words(ids[2]) == "[CLS] g h i j [SEP]"


def test_dropping_says_which_rows_stay(tokenizer: Any) -> None:
    ids, kept, report = encode(tokenizer, TEXTS, split="train", max_length=4, long="drop")
    assert kept == [1, 3] and [words(i) for i in ids] == ["[CLS] a [SEP]", "[CLS] b b [SEP]"]
    assert (report.rows, report.dropped, report.truncated_share, report.tokens_lost) == (4, 2, 0.0, 17)
    assert report.line().endswith("2 too long and dropped (17 tokens)")


def test_error_names_the_row_and_the_way_out(tokenizer: Any) -> None:
    with pytest.raises(DataError) as caught:
        encode(tokenizer, TEXTS, split="validation", max_length=4, long="error")
    assert str(caught.value) == (
        "task.long=error: validation row 1 ('a b c') has 5 tokens, more than task.max_length=4 "
        "(2 of 4 rows too long, longest 12); raise task.max_length or set task.long=truncate or drop"
    )
    assert encode(tokenizer, TEXTS, split="validation", max_length=12, long="error")[1] == [0, 1, 2, 3]


def test_dropping_everything_is_an_error(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="task.max_length=2, task.long=drop: no row of train is short enough"):
        encode(tokenizer, TEXTS, split="train", max_length=2, long="drop")


def test_an_unknown_policy_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match="task.long=truncated: one of .*did you mean 'truncate'"):
        encode(tokenizer, TEXTS, split="train", max_length=4, long="truncated")


def test_rows_longer_than_the_tokenizers_own_limit_warn_nobody(
    tokenizer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    limit = tokenizer.model_max_length
    tokenizer.model_max_length = 4
    try:
        ids, _, _ = encode(tokenizer, TEXTS, split="train", max_length=12, long="truncate")
    finally:
        tokenizer.model_max_length = limit
    assert len(ids[2]) == 12
    assert capfd.readouterr().err == ""


def test_a_share_that_rounds_to_nothing_is_not_nothing(tokenizer: Any) -> None:
    report = encode(tokenizer, ["a"] * 2000 + TEXTS[2:3], split="train", max_length=6, long="truncate")[2]
    assert "under 0.1% truncated" in report.line()
