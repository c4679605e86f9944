"""Text becomes token ids, once per split, and what the length limit costs is measured before training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ftrun.errors import ConfigError, DataError, near
from ftrun.tokens import token_ids

POLICIES = ("truncate", "drop", "error")


@dataclass
class LengthReport:
    """What `max_length` and `long` did to one split; lengths in tokens with specials, before either."""

    split: str
    rows: int  # read, the dropped ones included
    dropped: int
    truncated_share: float  # of the rows read
    tokens_lost: int  # cut off or dropped
    p50: int
    p95: int
    longest: int
    cached: bool  # tokenised in an earlier run

    def line(self) -> str:
        """The report in one line for the terminal."""
        lengths = f"{self.p50}/{self.p95}/{self.longest} tokens (median/95 %/longest)"
        said = f"{self.split}: {self.rows:,} rows{', tokenised before' if self.cached else ''}, {lengths}"
        if self.dropped:
            return f"{said}, {self.dropped:,} too long and dropped ({self.tokens_lost:,} tokens)"
        if self.truncated_share:
            return f"{said}, {_percent(self.truncated_share)} truncated ({self.tokens_lost:,} tokens lost)"
        return f"{said}, none too long"


def encode(
    tokenizer: Any, texts: list[str], *, split: str, max_length: int, long: str
) -> tuple[list[list[int]], list[int], LengthReport]:
    """Token ids with specials, the indices of the texts kept, the report; DataError under long=error."""
    if long not in POLICIES:
        raise ConfigError(f"task.long={long}: one of {', '.join(POLICIES)}{near(long, POLICIES)}")
    if not texts:
        raise DataError(f"the {split} split has no rows")
    whole, cached = token_ids(tokenizer, texts, truncation=False)
    lengths = [len(ids) for ids in whole]
    over = [index for index, length in enumerate(lengths) if length > max_length]
    if over and long == "error":
        _refuse(split, over, lengths, texts, max_length)
    if long == "drop":
        kept = [index for index, length in enumerate(lengths) if length <= max_length]
        ids = [whole[index] for index in kept]
        if not kept:
            raise DataError(
                f"task.max_length={max_length}, task.long=drop: no row of {split} is short enough"
            )
    else:
        kept = list(range(len(texts)))
        ids = _shortened(tokenizer, texts, whole, over, max_length)
    lost = sum(lengths) - sum(map(len, ids))
    cut = len(over) if long == "truncate" else 0
    return ids, kept, _report(split, lengths, len(texts) - len(kept), cut, lost, cached)


def _shortened(
    tokenizer: Any, texts: list[str], whole: list[list[int]], over: list[int], max_length: int
) -> list[list[int]]:
    """The tokenizer cuts the long ones itself: it knows on which side, and which special tokens stay."""
    if not over:
        return whole
    cut, _ = token_ids(tokenizer, [texts[index] for index in over], truncation=True, max_length=max_length)
    short = dict(zip(over, cut, strict=True))
    return [short.get(index, ids) for index, ids in enumerate(whole)]


def _refuse(split: str, over: list[int], lengths: list[int], texts: list[str], max_length: int) -> None:
    at = over[0]
    excerpt = texts[at] if len(texts[at]) <= 40 else texts[at][:39] + "…"
    raise DataError(
        f"task.long=error: {split} row {at + 1} ({excerpt!r}) has {lengths[at]} tokens, more than "
        f"task.max_length={max_length}, and so have {len(over) - 1} others (longest {max(lengths)}); "
        "raise task.max_length or set task.long=truncate or drop"
    )


def _report(
    split: str, lengths: list[int], dropped: int, truncated: int, lost: int, cached: bool
) -> LengthReport:
    ordered = sorted(lengths)
    return LengthReport(
        split=split,
        rows=len(lengths),
        dropped=dropped,
        truncated_share=truncated / len(lengths),
        tokens_lost=lost,
        p50=_quantile(ordered, 0.5),
        p95=_quantile(ordered, 0.95),
        longest=ordered[-1],
        cached=cached,
    )


def _quantile(ordered: list[int], share: float) -> int:
    """The length that at least this share of the rows does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"
