"""The words of a text in any script, as they are counted where there is no tokenizer."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import pairwise

# Thai, Lao and Tibetan; Burmese; Khmer; kana; Chinese characters: nothing stands between their words
UNSPACED = (
    (0x0E00, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F),
)  # fmt: skip
RARE = "\U0001b000-\U0001b16f\U00020000-\U0003347f"  # kana and Chinese characters beyond 16 bits
BEYOND = 0x10000
JOINER = "\u200d"  # makes one of two letters, as in Sinhala
ASCII = re.compile(r"\w+", re.ASCII)


def words(text: str) -> list[str]:
    r"""Its words; where a script writes nothing between them, its letters and the pairs of neighbours.

    So do search engines that have no dictionary of Chinese, Japanese or Thai (Lucene's CJKAnalyzer). Vowel
    signs and accents belong to the letter before them, while `\w` alone ends a Hindi word at each of them.
    """
    if text.isascii():
        return ASCII.findall(text)
    word, letter = patterns()
    if not letter.search(text):
        return word.findall(text)
    found = []
    for each in word.findall(text):
        single = list(letter.finditer(each))
        found += [one.group() for one in single]
        found += [one[0] + other[0] for one, other in pairwise(single) if one.end() == other.start()]
        found += filter(None, letter.split(each) if single else [each])
    return found


@cache
def patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A word, and a letter of the scripts that write nothing between words, each with the signs at it."""
    signs = JOINER + "".join(each for each in map(chr, range(BEYOND)) if unicodedata.category(each)[0] == "M")
    letters = [each for first, last in UNSPACED for each in map(chr, range(first, last + 1))]
    letter = f"[{''.join(filter(str.isalnum, letters))}{RARE}][{signs}]*"
    return re.compile(rf"\w[\w{signs}]*"), re.compile(letter)
