"""Words of texts in any script, and the baseline that counts them."""

from __future__ import annotations

import random
import re

import pytest

from ftrun.data.baselines import NumberWords, Words
from ftrun.data.text.words import words


@pytest.mark.parametrize(
    "text, found",
    [
        ("The film's end, été 2nd _x", ["The", "film", "s", "end", "été", "2nd", "_x"]),
        ("e\u0301te\u0301 ❤\ufe0f", ["e\u0301te\u0301"]),  # accents of their own, and no word of a sign alone
        ("हिन्दी में समाचार", ["हिन्दी", "में", "समाचार"]),
        ("한국어 문장입니다", ["한국어", "문장입니다"]),
        ("电影好,看", ["电", "影", "好", "电影", "影好", "看"]),
        ("3月1日abc", ["月", "日", "3", "1", "abc"]),
        ("ข้อมูล", ["ข้", "อ", "มู", "ล", "ข้อ", "อมู", "มูล"]),
        ("カード", ["カ", "ー", "ド", "カー", "ード"]),
        ("\U00020000\U00020001", ["\U00020000", "\U00020001", "\U00020000\U00020001"]),
        ("... !", []),
    ],
)
def test_words_are_those_of_the_script(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_words_of_european_texts_are_runs_of_letters_and_digits() -> None:
    chance = random.Random(0)
    signs = "abcXYZ019_-.,;'\"\t\n äöüßñçøłžčАБвгдαβγδ€–“”"
    for _ in range(200):
        text = "".join(chance.choices(signs, k=40))
        assert words(text) == re.findall(r"\w+", text)


def test_the_baseline_reads_texts_without_blanks() -> None:
    """Each text is one row of letters that occurs once: only what is inside it can tell."""
    chance = random.Random(0)
    filler = [chr(code) for code in range(0x4E00, 0x4E40)]
    rows = []
    for number in range(200):
        letters = chance.choices(filler, k=12)
        letters.insert(chance.randrange(12), "好坏"[number % 2])
        rows.append(("".join(letters), ["good", "bad"][number % 2]))
    texts, labels = [text for text, _ in rows], [label for _, label in rows]
    found = Words(texts[:150], labels[:150]).answers(texts[150:], "test")[1]
    assert sum(row["answer"] == label for row, label in zip(found, labels[150:], strict=True)) >= 48
    assert NumberWords(texts, [float(number % 2) for number in range(200)]).fits
