"""Answers among the tokens of a paragraph's windows: where a gold one stands, which spans are best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.text.windows import Window, whole_sizes, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy import ndarray
    from transformers import PreTrainedTokenizerBase

    from ftrun.data.squad import Question

NOWHERE = (0, 0)  # the first token stands for "no answer here" (Devlin et al. 2019)
Candidate = tuple[float, int, int]  # sum of the start and end logits, characters from and up to


@dataclass
class Passage:
    """A window of a paragraph behind its question, and the tokens where the gold answer starts and ends."""

    question: Question
    types: list[int] | None
    start: int  # position of the first token of the paragraph
    spans: ndarray  # (tokens of the paragraph, 2): characters
    span: tuple[int, int] | None  # None where the gold answer is unknown
    tokens: int  # of the whole paragraph behind its question


def shortened(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], limit: int
) -> tuple[list[str], int]:
    """The questions, each up to its token number `limit`, and how many were cut."""
    texts = [text.strip() for text in questions]
    spans = tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["offset_mapping"]
    long = [index for index, found in enumerate(spans) if len(found) > limit]
    for index in long:
        texts[index] = texts[index][: spans[index][limit - 1][1]]
    return texts, len(long)


def passages(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    texts: list[str],
    max_length: int,
    stride: int,
) -> tuple[list[tuple[int, list[int], Passage]], bool]:
    """Row, token ids and passage of each window, and whether they are kept from an earlier run.

    `texts` are the questions, shortened.
    """
    found, known = windows(tokenizer, [each.context for each in questions], max_length, stride, texts)
    pairs = [(questions[window.text], window) for window in found]
    sizes = whole_sizes(found, stride)
    return [
        (
            window.text,
            window.ids,
            Passage(
                asked, window.types, window.start, window.spans, span_of(asked, window), sizes[window.text]
            ),
        )
        for asked, window in pairs
    ], known


def span_of(asked: Question, window: Window) -> tuple[int, int] | None:
    """Positions of the first well-placed answer's ends; NOWHERE where it is not in the window."""
    if asked.answers is None:
        return None
    if not asked.answers:
        return NOWHERE
    placed = asked.placed()
    if not placed:
        return None
    (text, start), spans = placed[0], window.spans
    end = start + len(text)
    if not len(spans) or spans[0][0] > start or spans[-1][1] < end:
        return NOWHERE
    first = int((spans[:, 0] <= start).nonzero()[0][-1])
    last = int((spans[:, 1] >= end).nonzero()[0][0])
    return (window.start + first, window.start + last) if first <= last else NOWHERE


def candidates(starts: ndarray, ends: ndarray, spans: ndarray, best: int, longest: int) -> list[Candidate]:
    """The `best` spans of the paragraph's tokens, best first; logits are those of these tokens alone.

    A span goes from one of the `best` starts to one of the `best` ends, over at most `longest` tokens.
    """
    import numpy

    first = numpy.argsort(-starts, kind="stable")[:best]
    last = numpy.argsort(-ends, kind="stable")[:best]
    length = last[None, :] - first[:, None] + 1
    one, other = numpy.nonzero((length >= 1) & (length <= longest))
    sums = starts[first[one]] + ends[last[other]]
    order = numpy.argsort(-sums, kind="stable")[:best]
    return [(float(sums[i]), int(spans[first[one[i]]][0]), int(spans[last[other[i]]][1])) for i in order]


def decided(
    windows: Sequence[dict[str, Any]], context: str, best: int, no_answer: bool, threshold: float
) -> dict[str, Any]:
    """One answer out of all windows of a paragraph, its probability among the n best, and these.

    The same characters found in two windows count once, by their better sum. With `no_answer` the lowest
    null score of the windows stands for the empty answer, which wins where it is above the best span's by
    more than `threshold` (reference code of Devlin et al. 2019).
    """
    sums: dict[tuple[int, int], float] = {}
    for total, *place in (found for window in windows for found in window["candidates"]):
        key = (place[0], place[1])
        if key[0] < key[1]:
            sums[key] = max(total, sums.get(key, total))
    ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:best]
    options = [(total, context[first:behind]) for (first, behind), total in ranked]
    null = min(window["null"] for window in windows)
    empty = not options or (no_answer and null - options[0][0] > threshold)
    if no_answer or not options:
        options = sorted([*options, (null, "")], key=lambda option: -option[0])
    shares = softmax([total for total, _ in options])
    n_best = [
        {"text": text, "probability": share, "score": total}
        for (total, text), share in zip(options, shares, strict=True)
    ]
    answer = next(option for option in n_best if (option["text"] == "") == empty)
    return {"answer": answer["text"], "probability": answer["probability"], "n_best": n_best}


def softmax(values: list[float]) -> list[float]:
    from math import exp

    weights = [exp(value - max(values)) for value in values]
    return [weight / sum(weights) for weight in weights]
