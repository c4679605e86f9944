"""What a limit of tokens can need of a very long text, so that the rest of it is not tokenised."""

from __future__ import annotations

from typing import Any

LEAST, PER_TOKEN = 100_000, 50  # characters that are kept: so many, and so many for each token of the limit
LONG = 4  # times as many make a text that is cut
SPECIAL = 4  # tokens that a tokenizer adds to a text or a pair, at most


def needed(tokenizer: Any, columns: list[list[str]], max_length: int) -> tuple[list[list[str]], set[int]]:
    """The columns, texts cut of which `max_length` tokens need no more, and the rows with such a text.

    The tokens that truncation leaves are those of the whole text: a text is cut between two words, and only
    where a piece twice as long has the same tokens up to the limit. Of a pair the longer text alone is cut,
    and stays the longer one.
    """
    size = max(LEAST, PER_TOKEN * max_length)
    found, rows = columns, set()
    for row, texts in enumerate(zip(*columns, strict=True)):
        long = [at for at, text in enumerate(texts) if len(text) > LONG * size]
        if len(long) != 1 or (part := _part(tokenizer, texts[long[0]], size, max_length)) is None:
            continue
        text, tokens = part
        if any(len(_ids(tokenizer, other)) >= tokens for at, other in enumerate(texts) if at != long[0]):
            continue
        found = [list(column) for column in columns] if found is columns else found
        found[long[0]][row] = text
        rows.add(row)
    return found, rows


def _part(tokenizer: Any, text: str, size: int, max_length: int) -> tuple[str, int] | None:
    """The piece of the text that is enough, and its tokens; None where that cannot be told."""
    left = tokenizer.truncation_side == "left"
    pieces = [_piece(text, size, left), _piece(text, 2 * size, left)]
    if None in pieces:
        return None
    one, other = (_ids(tokenizer, piece) for piece in pieces)
    kept = slice(-max_length, None) if left else slice(max_length)
    same = len(one) > max_length + SPECIAL and one[kept] == other[kept]
    return (str(pieces[0]), len(one)) if same else None


def _ids(tokenizer: Any, text: str | None) -> list[int]:
    return tokenizer(text, verbose=False)["input_ids"]


def _piece(text: str, size: int, left: bool) -> str | None:
    """About `size` characters of the end that is kept, up to a single blank; None where none is near."""
    begin, end = (len(text) - size, len(text) - size // 2) if left else (size // 2, size)
    place = end
    while (place := text.rfind(" ", begin, place)) >= 0:
        if not text[place - 1].isspace() and not text[place + 1].isspace():
            return text[place + 1 :] if left else text[:place]
    return None
