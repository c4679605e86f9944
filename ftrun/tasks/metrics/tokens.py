"""Metrics of language models: tokens predicted, by kind where they were masked, and the order of segments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ftrun.models.device import onto
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.metrics.metric import LOSS, Metric, named

if TYPE_CHECKING:
    from torch import Tensor

    from ftrun.tasks.dataset import Batch
    from ftrun.tasks.scorer import Answer

KINDS = ("masked", "random", "kept")
PERPLEXITY, ACCURACY = Metric("perplexity", "min"), Metric("accuracy", "max", "%")
CAUSAL = named(Metric("bits_per_byte", "min", "bits"), LOSS, PERPLEXITY)  # the first: whatever the tokenizer
PRETRAINING = named(LOSS, ACCURACY)
MASKED = named(LOSS, PERPLEXITY, ACCURACY, *(Metric(f"accuracy_{kind}", "max", "%") for kind in KINDS))
ORDER = named(
    Metric("mlm_loss", "min", "nats"),
    Metric("next_loss", "min", "nats"),
    Metric("next_accuracy", "max", "%"),
)
METRICS = CAUSAL | MASKED | ORDER


def word_loss(words: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed over the hidden tokens, and how many these are."""
    from torch.nn.functional import cross_entropy

    labels = onto(batch["labels"].flatten()[batch["positions"]], words.device)
    return cross_entropy(words.float(), labels, reduction="sum"), len(labels)


def order_nats(order: Tensor, batch: Batch) -> Tensor:
    """What each pair's order costs, (batch,), as many times as the pair has hidden tokens.

    A mean over the hidden tokens of a batch is then the tokens' and the pairs' added up, however the batch is
    cut into micro-batches.
    """
    from torch.nn.functional import cross_entropy

    hidden = onto((batch["labels"] != IGNORED).sum(1), order.device)
    return hidden * cross_entropy(order.float(), onto(batch["order"], order.device), reduction="none")


def word_answers(words: Tensor, batch: Batch) -> list[Answer]:
    """For each example what its hidden tokens cost, how many there are and how many are right."""
    from torch.nn.functional import cross_entropy

    counts = (batch["labels"] != IGNORED).sum(1).tolist()
    labels, kinds = (batch[name].flatten()[batch["positions"]] for name in ("labels", "kinds"))
    nats = cross_entropy(words.float(), onto(labels, words.device), reduction="none").cpu()
    right = words.argmax(-1).cpu() == labels
    found = []
    for lost, good, kind in zip(*(each.split(counts) for each in (nats, right, kinds)), strict=True):
        answer: Answer = {"nats": float(lost.sum()), "guessed": len(lost), "right": int(good.sum())}
        for number, name in enumerate(KINDS):
            own = kind == number
            answer |= {name: int(own.sum()), f"right_{name}": int(good[own].sum())}
        found.append(answer)
    return found


def order_answers(order: Tensor, batch: Batch) -> list[Answer]:
    """For each pair what its order costs, and whether it is right."""
    right = (order.argmax(-1).cpu() == batch["order"]).tolist()
    nats = order_nats(order, batch).tolist()
    return [{"order": lost, "ordered": int(good)} for lost, good in zip(nats, right, strict=True)]


def scores(answers: list[Answer]) -> dict[str, float]:
    """Every metric but the loss, which is that of the tokens and, of pairs, that of their order."""
    total = {name: sum(answer[name] for answer in answers) for name in answers[0]}
    guessed = max(1, total["guessed"])
    mean = total["nats"] / guessed
    found = {"perplexity": math.exp(min(700.0, mean)), "accuracy": total["right"] / guessed}
    for kind in KINDS:
        if total[kind]:
            found[f"accuracy_{kind}"] = total[f"right_{kind}"] / total[kind]
    if "order" in total:
        lost, right = total["order"] / guessed, total["ordered"] / len(answers)
        found |= {"mlm_loss": mean, "next_loss": lost, "next_accuracy": right}
    return found


def bits_per_byte(nats: float, size: float) -> float:
    """nats / (bytes·ln 2); separators cost nats and have no bytes."""
    return nats / (max(1.0, size) * math.log(2))
