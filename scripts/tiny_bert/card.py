"""The model card: where the text came from, how training went, what it is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

ROWS = 8  # of the curve
TEXT = Path(__file__).with_name("card.md")
Facts = dict


def card(trained: Path) -> str:
    """The written part, then the curve, the features' worth and the packages of this very run."""
    lines = [json.loads(line) for line in (trained / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    facts = json.loads((trained / "facts.json").read_text(encoding="utf-8"))
    probed = json.loads((trained / "probe.json").read_text(encoding="utf-8"))
    written = TEXT.read_text(encoding="utf-8")
    return written + _training(lines, facts) + _features(probed) + _data(facts)


def device_name(device: torch.device) -> str:
    """What the training ran on, in words."""
    import torch

    return f"one GPU ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "the CPU"


def _training(lines: list[dict[str, float]], facts: Facts) -> str:
    chosen = lines[:: max(1, len(lines) // ROWS)]
    chosen += [] if chosen[-1] is lines[-1] else lines[-1:]
    rows = [
        f"| {line['step']:,} | {line['tokens']:,} | {line['distillation']:.2f} | {line['contrast']:.2f} "
        f"| {line['mlm']:.2f} |"
        for line in chosen
    ]
    where = f"{facts['seconds']} seconds in all on {facts['device']}, {facts['pairs']} pairs a step."
    head = ["| step | tokens seen | distillation | contrast | MLM (nats) |", "|---|---|---|---|---|"]
    return "\n".join(["", "## Loss", f"Means over 25 steps; {where}", "", *head, *rows, ""])


def _features(probed: dict[str, float]) -> str:
    counts = sorted({int(name.split()[1]) for name in probed})
    head = "| examples per class | " + " | ".join(map(str, counts)) + " |"
    rows = [
        f"| {split} | " + " | ".join(f"{probed[f'{split} {count}']:.1%}" for count in counts) + " |"
        for split in ("validation", "test")
    ]
    return "\n".join(
        [
            "",
            "## Features",
            "Right answers of a logistic regression on the mean of the last layer, frozen, on the",
            "embedded docstrings: the mean of five draws of the examples, regularisation chosen on the",
            "validation split.",
            "",
            head,
            "|---" * (len(counts) + 1) + "|",
            *rows,
            "",
        ]
    )


def _data(facts: Facts) -> str:
    words = facts["words"]
    names = sorted(words, key=lambda name: -words[name])
    listed = ", ".join(f"{name} {words[name]:,}" for name in names if words[name] >= 1000)
    total = f"{sum(words.values()):,} in all; {facts['left_out']} texts left out, too like a held-out one"
    return f"\n## Words by package\n{total}; packages of 1,000 or more: {listed}.\n"
