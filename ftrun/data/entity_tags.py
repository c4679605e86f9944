"""Tags of words as entities: the schemes IOB1, IOB2 and BIOES, and what an entity is when it is scored."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ftrun.errors import DataError, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ftrun.data.conll import Sentence

TAG = re.compile(r"([BIESLU])(?:-(.+))?")  # L and U are E and S of BILOU
SAME = {"L": "E", "U": "S"}
OUTSIDE = ("O", "")
Entity = tuple[str, int, int]  # type, first word, the word behind its last


def parse(tag: str) -> tuple[str, str] | None:
    """Prefix and type, ("O", "") outside; None for what is no tag."""
    if tag == "O":
        return OUTSIDE
    found = TAG.fullmatch(tag)
    return (SAME.get(found[1], found[1]), found[2] or "") if found else None


def written(prefix: str, kind: str) -> str:
    return f"{prefix}-{kind}" if kind else prefix


def parsed(sentence: Sentence) -> list[tuple[str, str]]:
    """The tags of a sentence; DataError with the place of one that is none."""
    found = []
    for word, tag in enumerate(sentence.tags or []):
        pair = parse(tag)
        if pair is None:
            raise DataError(
                f"{sentence.where(word)}: the token {sentence.tokens[word]!r} has the tag {tag!r};"
                " tags are O and B-TYPE, I-TYPE, in BIOES also E-TYPE, S-TYPE"
            )
        found.append(pair)
    return found


def scheme_of(sequences: Iterable[Sequence[tuple[str, str]]]) -> str:
    """IOB1, IOB2 or BIOES, whichever these tags are written in.

    E or S: BIOES. An entity that begins with I: IOB1, in which B only parts an entity from one of its type
    right before (Ramshaw & Marcus 1995); but where B stands anywhere else as well, it is IOB2 with mistakes.
    """
    begun_with_i = begun_with_b = False
    for tags in sequences:
        before = OUTSIDE
        for prefix, kind in tags:
            if prefix in "ES":
                return "BIOES"
            alone = before[0] == "O" or before[1] != kind
            begun_with_i |= prefix == "I" and alone
            begun_with_b |= prefix == "B" and alone
            before = prefix, kind
    return "IOB1" if begun_with_i and not begun_with_b else "IOB2"


def to_iob2(tags: Sequence[tuple[str, str]], scheme: str) -> tuple[list[str], int]:
    """The same entities in IOB2, and how many transitions are against the scheme.

    In IOB2 an I that continues nothing stays, and is no entity; in BIOES an I or E that continues nothing
    becomes O, and an entity without its end ends where it stops.
    """
    if scheme == "BIOES":
        return from_bioes(tags)
    found, illegal, before = [], 0, OUTSIDE
    for prefix, kind in tags:
        begins = prefix == "I" and (before[0] == "O" or before[1] != kind)
        illegal += begins and scheme == "IOB2"
        found.append(written("B" if begins and scheme == "IOB1" else prefix, kind))
        before = prefix, kind
    return found, illegal


def from_bioes(tags: Sequence[tuple[str, str]]) -> tuple[list[str], int]:
    found, illegal, unended = [], 0, None  # the type of the entity that has begun
    for prefix, kind in tags:
        inside = prefix in ("I", "E")
        goes_on = inside and kind == unended
        illegal += (inside or unended is not None) and not goes_on
        plain = {"S": "B", "E": "I"}.get(prefix, prefix)
        found.append("O" if inside and not goes_on else written(plain, kind))
        unended = kind if prefix == "B" or (prefix == "I" and goes_on) else None
    return found, illegal + (unended is not None)


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of IOB2 tags: B-X and the I-X that follow; an I-X that continues none is no entity.

    This is the strict reading of the scheme, as seqeval has it with mode="strict", scheme=IOB2.
    """
    found: list[Entity] = []
    for word, tag in enumerate(tags):
        prefix, kind = parse(tag) or OUTSIDE
        if prefix == "B":
            found.append((kind, word, word + 1))
        elif prefix == "I" and found and found[-1][0] == kind and found[-1][2] == word:
            found[-1] = (kind, found[-1][1], word + 1)
    return found


def unseen(tags: dict[str, list[list[str]]], known: Counter[str]) -> list[str]:
    """Warnings of types that training never sees; their entities count as missed."""
    notes = []
    for split in set(tags) - {"train"}:
        found = kinds_of(tags[split])
        for kind in sorted(found.keys() - known.keys()):
            notes.append(
                f"warning: type {kind!r} occurs in {split} ({counted(found[kind], 'word')}) and not in train:"
                " its entities count as missed"
            )
    return sorted(notes)


def kinds_of(sequences: Sequence[Sequence[str]]) -> Counter[str]:
    """How many words each type of entity has."""
    pairs = (parse(tag) or OUTSIDE for tags in sequences for tag in tags)
    return Counter(kind for prefix, kind in pairs if prefix != "O")
