"""Forgetting in words, and how weak the gauge of it is."""

from __future__ import annotations

from typing import Any

from ftrun.reports.numbers import score

WEAK = 0.5  # of a uniform guess's nats, at least: tiny_bert's own head has 0.46, one fitted on MiniLM 0.60


def forgetting_line(source: dict[str, Any]) -> str:
    """accuracy on reviews fell by 5.2 points (80.1 % → 74.9 %)."""
    metric, name = source["metric"], source["name"]
    before, after = source["before"][metric], source["after"][metric]
    what = f"pre-training {metric}" if name == "pretraining" else f"{metric} on {name}"
    change = f"{score(before, metric)} → {score(after, metric)}"
    if before == after:
        return f"{what} is unchanged ({score(after, metric)}){gauge(source)}"
    by = score(abs(after - before), metric).replace(" %", " points")
    return f"{what} {'rose' if after > before else 'fell'} by {by} ({change}){gauge(source)}"


def is_weak(source: dict[str, Any]) -> bool:
    """Whether the head that measures what is left knew too little of it."""
    return bool(source.get("gauge", {}).get("share", 0.0) >= WEAK)


def marked(forgetting: str, row: dict[str, Any]) -> str:
    """The forgetting of a row with the mark of a weak gauge."""
    weak = forgetting and any(map(is_weak, row.get("sources", [])))
    return f"{forgetting} (weak gauge)" if weak else forgetting


def gauge(source: dict[str, Any]) -> str:
    """Of a weak gauge how weak it is, and what needs no head."""
    if not is_weak(source):
        return ""
    found, last = source["gauge"], source.get("drift", {})
    head = "the head fitted on the frozen network" if found["fitted"] else "the checkpoint's head"
    guess = f"{100 * found['share']:.0f} % of the loss of a uniform guess ({found['uniform_loss']:.1f} nats)"
    text = f"; a weak gauge, for {head} had {guess} before training"
    cka, kept = last.get("cka"), last.get("neighbours")  # null where there is a single example
    known = [] if cka is None else [f"CKA of the last layer {cka:.2f}"]
    known += [] if kept is None else [f"{100 * kept:.0f} % of the nearest neighbours kept"]
    return f"{text}; without a head: {', '.join(known)}" if known else text
