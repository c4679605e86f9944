"""The data card: what a run's data is like, kept in data.json and told in a few lines before training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ftrun.data import baselines
from ftrun.data.duplicates import keys_of, leaks_of, repeated, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ftrun.data.tables import Columns

    Row = dict[str, Any]
    Score = Callable[[Sequence[Row], str, Sequence[int]], dict[str, float]]

SCORED = {"validation": "eval", "test": "test"}  # split → the prefix of its metrics
DIGITS = 6  # of a baseline's score


def contents(rows: dict[str, list[Row]], text: Columns, label: str | None) -> dict[str, Any]:
    """Rows, labels, and texts that occur more than once, within the splits and between them."""
    keys = {split: keys_of(part, text) for split, part in rows.items()}
    texts = {split: shown(part, text) for split, part in rows.items()}
    card: dict[str, Any] = {"rows": {split: len(part) for split, part in rows.items()}}
    if label is not None:
        card["labels"] = {
            split: dict(Counter(str(row[label]) for row in part).most_common())
            for split, part in rows.items()
        }
    card["duplicates"] = {split: repeated(keys[split], texts[split]) for split in rows}
    card["leaks"] = [vars(leak) for leak in leaks_of(keys, texts)]
    return card


def baseline_scores(
    texts: dict[str, list[str]], labels: dict[str, list[str]], score: Score
) -> dict[str, Any]:
    """Every metric of the two baselines as `eval_` and `test_`, fitted on the train rows given.

    `score` takes answers, the split, and the places of the rows answered.
    """
    words = baselines.Words(texts["train"], labels["train"])
    found: dict[str, Any] = {}
    for split, prefix in SCORED.items():
        places = list(range(len(texts[split])))
        answered = {baselines.MAJORITY: (places, baselines.majority(labels["train"], len(places)))}
        if words.fits:
            answered[baselines.WORDS] = words.answers(texts[split], split)
        for name, (rows, answers) in answered.items():
            scores = score(answers, split, rows).items()
            found.setdefault(name, {}).update(
                {f"{prefix}_{key}": round(value, DIGITS) for key, value in scores}
            )
    if words.notes:
        found["limits"] = words.notes
    return found


def lines(card: dict[str, Any], metric: str) -> list[str]:
    """The card for the terminal: only what is not said elsewhere."""
    said = []
    if "labels" in card:
        said.append(f"labels: {distribution(card['labels']['train'])}")
    again = {split: found["rows"] for split, found in card.get("duplicates", {}).items() if found["rows"]}
    if again:
        example = next(found["examples"][0] for found in card["duplicates"].values() if found["rows"])
        counts = ", ".join(f"{split} {count:,}" for split, count in again.items())
        said.append(f"rows that repeat an earlier one of their split: {counts} ({shortened(example)!r})")
    if weights := card.get("weights"):
        said.append("weights: " + ", ".join(f"{name} {value:.3g}" for name, value in weights.items()))
    found = card.get("baselines", {})
    scores = [
        f"{found[name][f'test_{metric}']:.3f} {words}"
        for name, words in (
            (baselines.MAJORITY, "always the most frequent label"),
            (baselines.WORDS, "TF-IDF and logistic regression"),
        )
        if f"test_{metric}" in found.get(name, {})
    ]
    if scores:
        limits = f" ({', '.join(found['limits'])})" if "limits" in found else ""
        said.append(f"baselines: test_{metric} {', '.join(scores)}{limits}")
    return said


def distribution(counts: dict[str, int], most: int = 6) -> str:
    """Each label with its share of the training rows, the most frequent first."""
    total = sum(counts.values())
    named = [f"{shortened(name)} {count / total:.1%}" for name, count in list(counts.items())[:most]]
    rest = len(counts) - most
    smallest = f", … {rest} more, the rarest with {min(counts.values()):,} rows" if rest > 0 else ""
    return ", ".join(named) + smallest


def shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
