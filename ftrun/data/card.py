"""The data card: what a run's data is like, kept in data.json and summarised before training."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from ftrun.data import baselines
from ftrun.data.leaks import leaks_of, repeated
from ftrun.errors import counted, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ftrun.data.leaks import Leak, SplitTexts

    Row = dict[str, Any]
    Always = Callable[[Any, int], list[Row]]
    Score = Callable[[str, Sequence[Row], str, Sequence[int]], dict[str, float]]

SCORED = {"validation": "eval", "test": "test"}  # split → the prefix of its metrics
LONGEST = 60  # characters of a text or a name
DIGITS = 6  # of a baseline's score


def frequencies(names: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    """How often each name occurs in each split, the most frequent first."""
    return {split: dict(Counter(part).most_common()) for split, part in names.items()}


def repetitions(content: SplitTexts, unit: str = "rows", more: Sequence[Leak] = ()) -> dict[str, Any]:
    """Duplicates within the splits, and leaks between them, `more` being those of groups or times."""
    return {
        "duplicates": {split: repeated(keys, content.texts[split]) for split, keys in content.keys.items()},
        "leaks": [vars(leak) for leak in [*leaks_of(content, unit), *more]],
    }


def spread(sizes: list[int]) -> dict[str, int]:
    """How many there are, and their median, 95 % and largest size."""
    ordered = sorted(sizes)
    return {
        "count": len(sizes),
        "p50": quantile(ordered, 0.5),
        "p95": quantile(ordered, 0.95),
        "longest": ordered[-1],
    }


def quantile(ordered: list[int], share: float) -> int:
    """The size that at least this share of the rows does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def baseline_scores(
    texts: dict[str, list[str]] | None,
    labels: dict[str, list[Any]],
    score: Score,
    always: Always | None = baselines.majority,
    kind: Callable[[Sequence[str], Sequence[Any]], baselines.Words] = baselines.Words,
    counted: Counter[str] | None = None,
    called: str = baselines.MAJORITY,
) -> dict[str, Any]:
    """Every metric of the baselines as `eval_` and `test_`, fitted on the train rows given.

    `score` takes the baseline's name, its answers, the split, and the places of the rows answered. `always`
    makes one answer for all rows, the baseline that is `called` so; `kind` fits the words of texts.
    `counted` is how often train has each label, where the train rows given are only some of them.
    """
    words = None if texts is None else kind(texts["train"], labels["train"])
    if texts is not None and words is not None and words.fits:
        words.settle(texts["validation"], labels["validation"])
    found: dict[str, Any] = {}
    for split in SCORED:
        places = list(range(len(labels[split])))
        answered = {}
        if always is not None:
            answered[called] = (
                places,
                always(labels["train"] if counted is None else counted, len(places)),
            )
        if texts is not None and words is not None and words.fits:
            answered[baselines.WORDS] = words.answers(texts[split], split)
        for name, (rows, answers) in answered.items():
            found.setdefault(name, {}).update(named_scores(score(name, answers, split, rows), split))
    if words is not None and words.notes:
        found["limits"] = words.notes
    return found


def named_scores(scores: dict[str, float], split: str) -> dict[str, float]:
    """A baseline's scores on a split as the card has them: eval_accuracy, test_accuracy, …"""
    return {f"{SCORED[split]}_{name}": rounded(value) for name, value in scores.items()}


def rounded(value: float) -> float:
    """A score as a baseline's is written: to DIGITS decimals, of a small one significant digits."""
    return round(value, DIGITS) if abs(value) >= 1 else float(f"{value:.{DIGITS}g}")


def lines(card: dict[str, Any], metric: str) -> list[str]:
    """The card for the terminal: only what is not shown elsewhere."""
    summary = []
    if "labels" in card:
        summary.append(f"labels: {distribution(card['labels']['train'], card['rows']['train'])}")
    if "entities" in card:
        counts = card["entities"]["train"]
        summary.append(f"entities: {sum(counts.values()):,}, {distribution(counts, sum(counts.values()))}")
    again = {split: found["rows"] for split, found in card.get("duplicates", {}).items() if found["rows"]}
    if again:
        example = next(found["examples"][0] for found in card["duplicates"].values() if found["rows"])
        counts = ", ".join(f"{split} {count:,}" for split, count in again.items())
        summary.append(f"duplicate rows: {counts} ({shortened(example, LONGEST)!r})")
    if weights := card.get("weights"):
        summary.append("weights: " + ", ".join(f"{name} {value:.3g}" for name, value in weights.items()))
    found = card.get("baselines", {})
    scores = [
        f"{found[name][f'test_{metric}']:.3f} {words}"
        for name, words in baselines.TITLES.items()
        if f"test_{metric}" in found.get(name, {})
    ]
    if scores:
        limits = f" ({', '.join(found['limits'])})" if "limits" in found else ""
        summary.append(f"baselines: test_{metric} {', '.join(scores)}{limits}")
    return summary


def distribution(counts: dict[str, int], total: int, most: int = 6) -> str:
    """Each label with its share of the training rows, the most frequent first."""
    plain = {name: repr(name) if "," in name else name for name in counts}
    named = [f"{shortened(plain[name], LONGEST)} {counts[name] / total:.1%}" for name in list(counts)[:most]]
    rest = len(counts) - most
    smallest = f", … {rest} more, the rarest with {counted(min(counts.values()), 'row')}" if rest > 0 else ""
    return ", ".join(named) + smallest
