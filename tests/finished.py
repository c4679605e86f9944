"""Finished run directories without any training: answers drawn at a wanted accuracy, curves to match."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from ftrun.rundir import Run

WEIGHTS = {"full": 2_000_000, "scratch": 2_000_000, "linear_probe": 258, "lora": 33_000}


def finished(
    path: Path,
    strategy: str = "full",
    seed: int = 0,
    *,
    accuracy: float = 0.8,
    items: int = 400,
    subset: int | str | None = None,
    layer_decay: float = 1.0,
    sure: float = 0.9,
    over: bool = False,
    source: bool = False,
    labels: str = "ab",
    metric: str = "accuracy",
    **own: Any,
) -> Run:
    """A run that answers `accuracy` of its items rightly, most of them as its like do."""
    config = {
        "seed": seed, "device": "auto", "tracker": "none", "strategy": strategy,
        "schedule": {"name": "linear"}, "model": {"name": "embedded:tiny_bert"},
        "task": {"kind": "classify", "name": "reviews", "subset": subset},
        "train": {"lr": 1e-3, "metric": None, "layer_decay": layer_decay, "patience": None}, **own,
    }  # fmt: skip
    run = Run.create(path, config)
    answers = _answers(accuracy, items, sure, f"{strategy} {seed} {subset} {own}", labels)
    for number in range(1, 11):
        held = 0.7 - 0.04 * number + (0.09 * max(0, number - 4) if over else 0)
        line = {"step": 10 * number, "epoch": float(number), "learning_rate": 1e-3 * (1 - number / 11)}
        run.log(line | {"train_loss": 0.7 / number + 0.01 * seed, "grad_norm": 1.0})
        scores = {"eval_loss": held, "eval_accuracy": accuracy - 0.3 / number + 0.01 * seed}
        run.log(line | scores | ({"source_accuracy": 0.6 - 0.02 * number} if source else {}))
    with (path / "predictions.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(answer) + "\n" for answer in answers)
    (path / "model").mkdir()
    (path / "model" / "weights").write_bytes(b"0" * 1000)
    right = sum(each["label"] == each["answer"] for each in answers) / items
    trained = WEIGHTS[strategy] // 8 * own.get("rank", 8)
    run.write_json("cost.json", {
        "seconds": 10.0 + trained / 1e5, "cpu_seconds": 9.0, "tokens_per_second": 1000.0,
        "peak_memory_bytes": 500_000_000 + 100 * trained, "device": "CPU",
    })  # fmt: skip
    run.write_json("result.json", {
        "metric": f"eval_{metric}", "best_step": 50, "trained_parameters": trained,
        "total_parameters": 2_000_000, "eval_accuracy": accuracy, "eval_loss": 0.4, "test_accuracy": right,
        "train_accuracy": min(1.0, accuracy + (0.19 if over else 0.02)),
        "train_matthews_correlation": min(1.0, 2 * accuracy - 1 + (0.38 if over else 0.04)),
        "layers": 4,
        "rows": {"train": int(str(subset or 1000).split()[0]), "validation": 500, "test": items},
        **({"forgetting": 0.05, "sources": []} if source else {}),
    })  # fmt: skip
    run.release()
    return run


def _answers(accuracy: float, items: int, sure: float, stream: str, labels: str) -> list[dict[str, Any]]:
    """Items have a difficulty that all runs share, so that answers go together as those of real runs do."""
    shared, own = random.Random("items"), random.Random(stream)
    found = []
    for row in range(items):
        label, ease = shared.choice(labels), shared.random()
        right = 0.75 * ease + 0.25 * own.random() < accuracy * 0.98
        other = labels[(labels.index(label) + 1) % len(labels)]
        probability = min(1.0, sure + (0.0999 * own.random()))
        found.append(
            {"row": row, "label": label, "answer": label if right else other, "probability": probability}
        )
    return found
