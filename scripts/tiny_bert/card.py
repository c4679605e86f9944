"""The model card: where the text came from, how training went, what it is good for."""

from __future__ import annotations

import json
from pathlib import Path

ROWS = 8  # of the curve
TEXT = Path(__file__).with_name("card.md")


def card(words: dict[str, int], curve: Path) -> str:
    """The written part, then the curve and the packages of this very run."""
    lines = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    return TEXT.read_text(encoding="utf-8") + _training(lines) + _data(words)


def _training(lines: list[dict[str, float]]) -> str:
    seen, table = 0, []
    for line in lines:
        seen += int(line["tokens"])
        table.append((int(line["step"]), seen, line["mlm"], line["distillation"]))
    chosen = table[:: max(1, len(table) // ROWS)] + table[-1:]
    rows = [f"| {step:,} | {tokens:,} | {mlm:.2f} | {taught:.2f} |" for step, tokens, mlm, taught in chosen]
    head = ["| step | tokens seen | MLM loss (nats) | distillation loss |", "|---|---|---|---|"]
    return "\n".join(
        ["", "## Loss", f"Means over the steps before, {table[-1][0]:,} steps in all.", "", *head, *rows, ""]
    )


def _data(words: dict[str, int]) -> str:
    names = sorted(words, key=lambda name: -words[name])
    listed = ", ".join(f"{name} {words[name]:,}" for name in names if words[name] >= 1000)
    return f"\n## Words by package\n{sum(words.values()):,} in all; packages of 1,000 or more: {listed}.\n"
