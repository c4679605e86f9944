"""Text becomes token ids, once per split, and what the length limit costs is measured before training."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from ftrun.data.card import quantile
from ftrun.data.text.needed import needed
from ftrun.data.text.token_cache import kept_tokens
from ftrun.errors import ConfigError, DataError, counted, near

ONLY_IDS = {"return_attention_mask": False, "return_token_type_ids": False}
POLICIES = ("truncate", "drop", "error")
MOST = 0.5  # share of rows that are cut, from which on it is no matter of a few long ones


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
    pairs: bool = False  # the longer of the two texts is cut first
    cached: bool = False  # tokens of an earlier run, from the cache
    begun: int = 0  # rows so long that only what the limit needs was tokenised, and counted
    long: int = 0  # rows that are read in several windows,
    windows: int = 0  # and so many these are
    streamed: bool = False  # one example of each row

    def line(self) -> str:
        """The report in one line for the terminal."""
        lengths = f"{self.p50}/{self.p95}/{self.longest} tokens (median/95 %/longest)"
        origin = ", tokens from the cache" if self.cached else ""
        line = f"{self.split}: {counted(self.rows, 'row')}{origin}, {lengths}"
        if self.begun:
            line += f", {self.begun:,} very long and counted in part"
        if self.dropped:
            return f"{line}, {self.dropped:,} too long and dropped ({counted(self.tokens_lost, 'token')})"
        if self.truncated_share:
            lost = counted(self.tokens_lost, "token") + " lost" + " from the longer text" * self.pairs
            return f"{line}, {_percent(self.truncated_share)} truncated ({lost}){self.instead()}"
        if self.windows:
            return f"{line}, {_percent(self.long / self.rows)} too long and read in {self.windows:,} windows"
        return f"{line}, none too long"

    def instead(self) -> str:
        """What else there is, where most training rows are cut; said once."""
        if self.split != "train" or self.truncated_share < MOST:
            return ""
        windows = "" if self.pairs or self.streamed else ", or task.long=windows, which reads all of a text"
        return f"; possible: a larger task.max_length{windows}"

    def card(self) -> dict[str, Any]:
        """What the data card says of it."""
        absent = {"cached", "streamed"} | (set() if self.windows else {"long", "windows"})
        return {name: value for name, value in asdict(self).items() if name not in absent}


def encode(
    tokenizer: Any, texts: list[str], *, split: str, max_length: int, long: str
) -> tuple[list[list[int]], list[int], LengthReport]:
    """Token ids with specials, the indices of the texts kept, the report; DataError under long=error."""
    limits: dict[str, Any] = {"split": split, "max_length": max_length, "long": long}
    found, kept, report = _encoded(tokenizer, [texts], ["input_ids"], **limits)
    return found["input_ids"], kept, report


def encode_pairs(
    tokenizer: Any, pairs: list[tuple[str, str]], *, split: str, max_length: int, long: str
) -> tuple[list[list[int]], list[list[int]] | None, list[int], LengthReport]:
    """The same of two texts as the tokenizer joins them, and their token types where it has any.

    What is too long is cut from the longer of the two, token by token (transformers' longest_first).
    """
    columns = [list(column) for column in zip(*pairs, strict=True)] or [[]]
    types = "token_type_ids" in tokenizer.model_input_names
    limits: dict[str, Any] = {"split": split, "max_length": max_length, "long": long}
    names = ["input_ids", *(["token_type_ids"] if types else [])]
    found, kept, report = _encoded(tokenizer, columns, names, **limits)
    return found["input_ids"], found["token_type_ids"] if types else None, kept, report


def _encoded(
    tokenizer: Any,
    columns: list[list[str]],
    names: list[str],
    *,
    split: str,
    max_length: int,
    long: str,
) -> tuple[dict[str, list[list[int]]], list[int], LengthReport]:
    """What the tokenizer makes of the texts kept, by these names of its outputs."""
    texts = columns[0]
    if long not in POLICIES:
        raise ConfigError(f"task.long={long}: one of {', '.join(POLICIES)}{near(long, POLICIES)}")
    if not texts:
        raise DataError(f"the {split} split has no rows")
    columns, begun = needed(tokenizer, columns, max_length)
    whole, cached = kept_tokens(tokenizer, columns, names, truncation=False)
    lengths = [len(ids) for ids in whole["input_ids"]]
    over = [index for index, length in enumerate(lengths) if length > max_length]
    if over and long == "error":
        _refuse(split, over, lengths, texts, max_length, begun)
    if long == "drop":
        kept = [index for index, length in enumerate(lengths) if length <= max_length]
        found = {name: [values[index] for index in kept] for name, values in whole.items()}
        if not kept:
            raise DataError(
                f"task.max_length={max_length}, task.long=drop: no row of {split} is short enough"
            )
    else:
        kept = list(range(len(texts)))
        found = _shortened(tokenizer, columns, names, whole, over, max_length)
    lost = sum(lengths) - sum(map(len, found["input_ids"]))
    cut = len(over) if long == "truncate" else 0
    report = _report(split, lengths, len(texts) - len(kept), cut, lost)
    report.pairs, report.cached, report.begun = len(columns) == 2, cached, len(begun)
    return found, kept, report


def encode_windows(
    tokenizer: Any, texts: list[str], *, split: str, max_length: int, stride: int
) -> tuple[list[list[list[int]]], list[int], LengthReport]:
    """The token ids of each text's windows, of a text that is short enough one; their lengths, the report.

    Raises ConfigError for a tokenizer that cuts no windows, DataError for a text without measure.
    """
    from ftrun.data.text.windows import windows

    if not texts:
        raise DataError(f"the {split} split has no rows")
    whole, cached = kept_tokens(tokenizer, [texts], ["input_ids"], truncation=False)
    found = [[ids] for ids in whole["input_ids"]]
    lengths = [len(ids) for ids in whole["input_ids"]]
    over = [index for index, length in enumerate(lengths) if length > max_length]
    cut = windows(tokenizer, [texts[index] for index in over], max_length, stride)[0] if over else []
    for index in over:
        found[index] = []
    for window in cut:
        found[over[window.text]].append(window.ids)
    report = _report(split, lengths, 0, 0, 0)
    report.cached, report.long, report.windows = cached, len(over), len(cut)
    return found, lengths, report


def tokenised(
    tokenizer: Any, columns: list[list[str]], names: list[str], max_length: int
) -> tuple[dict[str, list[list[int]]], list[int], set[int]]:
    """What the tokenizer makes of texts up to the limit, by these names of its outputs.

    Then how long they are without it, and the rows so long that only what the limit needs was tokenised.
    """
    columns, begun = needed(tokenizer, columns, max_length)
    whole, _ = kept_tokens(tokenizer, columns, names, truncation=False)
    lengths = [len(ids) for ids in whole["input_ids"]]
    over = [index for index, length in enumerate(lengths) if length > max_length]
    return _shortened(tokenizer, columns, names, whole, over, max_length), lengths, begun


def _shortened(
    tokenizer: Any,
    columns: list[list[str]],
    names: list[str],
    whole: dict[str, list[list[int]]],
    over: list[int],
    max_length: int,
) -> dict[str, list[list[int]]]:
    """The tokenizer cuts the long ones itself: it knows on which side, and which special tokens stay."""
    if not over:
        return whole
    long_ones = [[column[index] for index in over] for column in columns]
    cut, _ = kept_tokens(tokenizer, long_ones, names, truncation=True, max_length=max_length)
    found = {}
    for name, values in whole.items():
        short = dict(zip(over, cut[name], strict=True))
        found[name] = [short.get(index, value) for index, value in enumerate(values)]
    return found


def _refuse(
    split: str, over: list[int], lengths: list[int], texts: list[str], max_length: int, begun: set[int]
) -> None:
    at = over[0]
    least = "at least " if at in begun else ""
    excerpt = texts[at] if len(texts[at]) <= 40 else texts[at][:39] + "…"
    raise DataError(
        f"task.long=error: {split} row {at + 1} ({excerpt!r}) has {least}{lengths[at]} tokens, more than "
        f"task.max_length={max_length} ({len(over):,} of {counted(len(texts), 'row')} too long, longest"
        f" {max(lengths)}); raise task.max_length or set task.long=truncate or drop"
    )


def _report(split: str, lengths: list[int], dropped: int, truncated: int, lost: int) -> LengthReport:
    ordered = sorted(lengths)
    return LengthReport(
        split=split,
        rows=len(lengths),
        dropped=dropped,
        truncated_share=truncated / len(lengths),
        tokens_lost=lost,
        p50=quantile(ordered, 0.5),
        p95=quantile(ordered, 0.95),
        longest=ordered[-1],
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "under 0.1%"


PART = 100_000  # characters that a tokenizer is given in one piece,
FAR = 10 * PART  # how far behind them a line may end,
AT_ONCE = 20 * PART  # and characters that it is given together
BLANK = re.compile(r"(?<=\S) (?=\S)")


def parts(text: str) -> list[str]:
    """A long text in pieces that end with a line, or where none ends for long before a blank."""
    found, begin = [], 0
    while len(text) - begin > PART:
        end = text.find("\n", begin + PART, begin + PART + FAR) + 1
        if not end:
            blank = BLANK.search(text, begin + PART)
            if blank is None or len(text) - begin <= PART + FAR:
                break
            end = blank.start()
        found.append(text[begin:end])
        begin = end
    return [*found, text[begin:]]


def tokens_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids without specials, none cut."""
    found, begin, held = [], 0, 0
    for at, text in enumerate(texts, 1):
        held += len(text)
        if held > AT_ONCE or at == len(texts):
            own = texts[begin:at]
            found += tokenizer(own, add_special_tokens=False, verbose=False, **ONLY_IDS)["input_ids"]
            begin, held = at, 0
    return found
