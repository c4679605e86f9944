"""How much of the embedded docstrings' labels the frozen features tell, from few examples of each."""

from __future__ import annotations

import random
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import torch

from tiny_bert.losses import mean_of
from tiny_bert.vocabulary import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import BertModel, PreTrainedTokenizerBase

PER_CLASS, SEEDS = (8, 50, 4, 16), 5
STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
Rows = list[dict[str, str]]


def probe(
    model: BertModel, tokenizer: PreTrainedTokenizerBase, train: Rows, held_out: dict[str, Rows]
) -> Iterator[dict[str, float]]:
    """Accuracy of a logistic regression on mean features, by split and examples per class, as it is known.

    The mean over five draws; how strongly it is regularised is chosen on the first of the splits.
    """
    found = {name: features(model, tokenizer, rows) for name, rows in held_out.items()}
    own = features(model, tokenizer, train)
    for count in PER_CLASS:
        tried = [_accuracies(own, train, found, held_out, count, strength) for strength in STRENGTHS]
        best = max(tried, key=lambda scores: next(iter(scores.values())))
        yield {f"{name} {count}": round(score, 4) for name, score in best.items()}


def _accuracies(
    own: np.ndarray,
    train: Rows,
    found: dict[str, np.ndarray],
    held_out: dict[str, Rows],
    count: int,
    strength: float,
) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    scores: dict[str, list[float]] = {name: [] for name in held_out}
    for seed in range(SEEDS):
        few = few_of(train, count, seed)
        centre, spread = own[few].mean(0), own[few].std(0).mean()
        model = LogisticRegression(C=strength, max_iter=500)
        model.fit((own[few] - centre) / spread, [train[i]["label"] for i in few])
        for name, rows in held_out.items():
            labels = [row["label"] for row in rows]
            scores[name].append(model.score((found[name] - centre) / spread, labels))
    return {name: mean(each) for name, each in scores.items()}


def few_of(train: Rows, count: int, seed: int) -> list[int]:
    """Indices of the same number of every class, drawn by the seed."""
    chosen: list[int] = []
    for label in sorted({row["label"] for row in train}):
        own = [i for i, row in enumerate(train) if row["label"] == label]
        chosen += random.Random(f"{seed} {label}").sample(own, count)
    return chosen


@torch.inference_mode()
def features(model: BertModel, tokenizer: PreTrainedTokenizerBase, rows: Rows) -> np.ndarray:
    """The mean of the last layer for each row."""
    model.eval()
    ids, lengths = encode(tokenizer, [row["text"] for row in rows])
    found = np.zeros((len(rows), model.config.hidden_size), dtype=np.float32)
    for part in np.array_split(np.argsort(lengths, kind="stable"), max(1, len(rows) // 64)):
        inputs = torch.from_numpy(ids[part])[:, : int(lengths[part].max())].long().to(model.device)
        mask = (inputs != tokenizer.pad_token_id).long()
        states = model(inputs, attention_mask=mask).last_hidden_state
        found[part] = mean_of(states, mask).cpu().numpy()
    return found
