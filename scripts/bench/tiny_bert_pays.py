"""Does tiny_bert earn its place? Few labelled docstrings per class: fine-tuned, from random weights, TF-IDF.

    python scripts/bench/tiny_bert_pays.py [--per-class 8] [--checkpoint DIR] [--seeds 0 1 2] [--only tfidf]

Learning rate (on the first seed), epoch, and the features and regularisation of TF-IDF are chosen on the
validation split; "plain" is TF-IDF and logistic regression at scikit-learn's defaults.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import ftrun
from ftrun.data.docstrings import rows

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EPOCHS, EVALUATE_EVERY, BATCH, LENGTH = 16, 4, 16, 128
RATES = (3e-4, 6e-4, 1.2e-3)
CHECKPOINT = Path(ftrun.__file__).parent / "assets" / "tiny_bert"
Rows = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", default=["plain", "tfidf", "scratch", "tiny_bert"])
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    options = parser.parse_args()
    train, validation, test = rows("train"), rows("validation"), rows("test")
    print(f"{len({row['label'] for row in train})} classes, {len(validation)} validation, {len(test)} test")
    for method in options.only:
        scores, rates = [], list(options.rates)
        for seed in options.seeds:
            splits = few_of(train, options.per_class, seed), validation, test
            if method == "plain":
                chosen, best, score = tfidf(*splits, tuned=False)
            elif method == "tfidf":
                chosen, best, score = tfidf(*splits, tuned=True)
            else:
                chosen, best, score, rate = network(method, options.checkpoint, rates, splits, seed)
                rates = [rate]
            scores.append(score)
            print(f"{method:10} seed {seed}  validation {best:.1%}  test {score:.1%}  ({chosen})", flush=True)
        print(f"{method:10} mean    test {mean(scores):.1%}", flush=True)


def few_of(train: Rows, count: int, seed: int) -> Rows:
    """The same number of every class, drawn by the seed."""
    chosen: Rows = []
    for label in sorted({row["label"] for row in train}):
        chosen += random.Random(f"{seed} {label}").sample(
            [row for row in train if row["label"] == label], count
        )
    return chosen


def tfidf(few: Rows, validation: Rows, test: Rows, tuned: bool) -> tuple[str, float, float]:
    """(choice, validation, test) at scikit-learn's defaults, or the best of eight on the validation split."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = columns(few)
    tried = []
    for span in (1, 2) if tuned else (1,):
        for strength in (1, 10, 100, 1000) if tuned else (1,):
            words = TfidfVectorizer(sublinear_tf=tuned, ngram_range=(1, span))
            model = make_pipeline(words, LogisticRegression(C=strength, max_iter=2000)).fit(texts, labels)
            choice = f"{span}-grams, C {strength}"
            tried.append((choice, model.score(*columns(validation)), model.score(*columns(test))))
    return max(tried, key=lambda result: result[1])


def columns(rows: Rows) -> tuple[list[str], list[str]]:
    """Texts and labels."""
    return [row["text"] for row in rows], [row["label"] for row in rows]


def network(
    method: str, checkpoint: Path, rates: list[float], splits: tuple[Rows, Rows, Rows], seed: int
) -> tuple[str, float, float, float]:
    """The best learning rate and epoch: (choice, validation, test, rate)."""
    tried = [
        (*fine_tune(start(method, checkpoint, splits[0], seed), checkpoint, rate, splits, seed), rate)
        for rate in rates
    ]
    return max(tried, key=lambda result: result[1])


def start(method: str, checkpoint: Path, few: Rows, seed: int) -> PreTrainedModel:
    """The checkpoint with a fresh head, or the same network from random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    names = sorted({row["label"] for row in few})
    config = AutoConfig.from_pretrained(checkpoint, id2label=dict(enumerate(names)))
    if method == "scratch":
        return AutoModelForSequenceClassification.from_config(config)
    return AutoModelForSequenceClassification.from_pretrained(checkpoint, config=config)


def fine_tune(
    model: PreTrainedModel, checkpoint: Path, rate: float, splits: tuple[Rows, Rows, Rows], seed: int
) -> tuple[str, float, float]:
    """AdamW with a linear warm-up and decay over all weights."""
    import torch
    from transformers import AutoTokenizer

    few, validation, test = splits
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    number = {name: index for index, name in model.config.id2label.items()}
    steps = EPOCHS * (-(-len(few) // BATCH))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    order, best = random.Random(seed), ("", -1.0, 0.0)
    for epoch in range(1, EPOCHS + 1):
        model.train()
        for batch in batches(few, order):
            answer = torch.tensor([number[row["label"]] for row in batch])
            torch.nn.functional.cross_entropy(logits(model, tokenizer, batch), answer).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if epoch % EVALUATE_EVERY == 0:
            found = accuracy(model, tokenizer, validation, number)
            if found > best[1]:
                best = (f"lr {rate:g}, epoch {epoch}", found, accuracy(model, tokenizer, test, number))
    return best


def batches(rows: Rows, order: random.Random | None) -> list[Rows]:
    """Batches of similar length, in random order when an order is given."""
    rows = list(rows)
    if order:
        order.shuffle(rows)
    pools = [
        sorted(rows[i : i + 8 * BATCH], key=lambda row: len(row["text"]))
        for i in range(0, len(rows), 8 * BATCH)
    ]
    found = [pool[i : i + BATCH] for pool in pools for i in range(0, len(pool), BATCH)]
    if order:
        order.shuffle(found)
    return found


def logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Rows) -> Tensor:
    """(batch, classes)"""
    texts = [row["text"] for row in batch]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    return model(**inputs).logits


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Rows, number: dict[str, int]
) -> float:
    """The share of right answers."""
    import torch

    model.eval()
    right = 0
    with torch.inference_mode():
        for batch in batches(sorted(rows, key=lambda row: len(row["text"])), None):
            found = logits(model, tokenizer, batch).argmax(dim=1).tolist()
            right += sum(index == number[row["label"]] for index, row in zip(found, batch, strict=True))
    return right / len(rows)


if __name__ == "__main__":
    main()
