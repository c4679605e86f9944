"""Avalanche's elastic weight consolidation on the data, network and settings of forgetting_digits.py.

    python scripts/bench/avalanche_digits.py --python /elsewhere/bin/python --scenarios domain class permuted

avalanche-lib is no part of ftrun: --python is an interpreter that has it, and nothing of ftrun but its
sources is needed there. Its Fisher information is the square of a batch's mean gradient at the true labels,
and its penalty has no factor ½, so its strengths are on a scale of their own. They are chosen as
forgetting_digits.py chooses: on the validation split, with seeds of their own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOW, HIGH = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
TASKS: dict[str, list[dict[str, Any]]] = {
    "domain": [{"classes": LOW, "modulo": 5}, {"classes": HIGH, "modulo": 5}],
    "class": [{"classes": LOW}, {"classes": HIGH}],
    "permuted": [{"permute": order} for order in (None, 1, 2, 3, 4)],
}
LABELS = {"domain": 5, "class": 10, "permuted": 10}
EPOCHS = {"domain": 20, "class": 20, "permuted": 10}
HIDDEN, BATCH, RATE, MOMENTUM = 100, 32, 0.05, 0.9
STRENGTHS = (1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
Splits = list[dict[str, Any]]  # of each task, split → (pixels, labels)


def main() -> int:
    options = parse()
    if options.python:
        return elsewhere(options)
    if find_spec("avalanche") is None:
        print(
            f"{sys.executable} has no avalanche; --python is one after pip install avalanche-lib",
            file=sys.stderr,
        )
        return 1
    import torch

    torch.set_num_threads(1)
    for scenario in options.scenarios:
        tasks = read(scenario)
        naive = [final(scenario, tasks, None, seed, "test") for seed in options.seeds]
        strength = tuned(scenario, tasks, options.tuning_seeds)
        held = [final(scenario, tasks, strength, seed, "test") for seed in options.seeds]
        report(scenario, {"naive": naive, f"EWC, ewc_lambda {strength:g}": held})
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", help="an interpreter with avalanche-lib")
    parser.add_argument("--scenarios", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[10, 11])
    return parser.parse_args()


def elsewhere(options: argparse.Namespace) -> int:
    words = ["--scenarios", *options.scenarios, "--seeds", *map(str, options.seeds)]
    words += ["--tuning-seeds", *map(str, options.tuning_seeds)]
    return subprocess.run([options.python, __file__, *words]).returncode


def read(scenario: str) -> Splits:
    """Pixels (rows, 64) and labels (rows,) of every task, as ftrun splits them."""
    import torch

    sys.path.insert(0, str(ROOT))
    from ftrun.tasks.digits import Digits

    found = []
    for fields in TASKS[scenario]:
        names = ("classes", "modulo", "labels", "permute", "subset", "folds", "fold")
        task = Digits(name="digits", **(dict.fromkeys(names) | {"split_seed": 0} | fields))
        splits = task.load(0).splits
        found.append(
            {
                split: (torch.from_numpy(pixels), torch.tensor([int(name) for name in names]))
                for split, (pixels, names) in splits.items()
            }
        )
    return found


def tuned(scenario: str, tasks: Splits, seeds: list[int]) -> float:
    """The strength with the best mean accuracy over tasks and seeds; a network that diverged is at chance."""
    scores = {}
    for strength in STRENGTHS:
        scores[strength] = mean(mean(final(scenario, tasks, strength, seed, "validation")) for seed in seeds)
        print(f"{scenario:9}ewc_lambda {strength:<8g}validation {scores[strength]:.2%}", flush=True)
    return max(scores, key=scores.__getitem__)


def final(scenario: str, tasks: Splits, strength: float | None, seed: int, split: str) -> list[float]:
    """The accuracy on every task of the network after the last one."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, LABELS[scenario]))
    strategy = strategy_of(model, strength, EPOCHS[scenario])
    for experience in experiences(tasks):
        strategy.train(experience)
    with torch.no_grad():
        return [
            float((model(pixels).argmax(1) == labels).float().mean())
            for pixels, labels in (task[split] for task in tasks)
        ]


def strategy_of(model: Any, strength: float | None, epochs: int) -> Any:
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import EWC, Naive
    from torch import nn
    from torch.optim import SGD

    shared = {
        "model": model,
        "optimizer": SGD(model.parameters(), lr=RATE, momentum=MOMENTUM),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": BATCH,
        "train_epochs": epochs,
        "evaluator": EvaluationPlugin(),
    }
    return Naive(**shared) if strength is None else EWC(ewc_lambda=strength, **shared)


def experiences(tasks: Splits) -> Any:
    """Each task's training rows, one task after the other."""
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import as_classification_dataset

    return benchmark_from_datasets(
        train=[as_classification_dataset(rows_of(*task["train"])) for task in tasks]
    ).train_stream


def rows_of(pixels: Any, labels: Any) -> Any:
    from torch.utils.data import TensorDataset

    rows = TensorDataset(pixels, labels)
    rows.targets = labels.tolist()
    return rows


def report(scenario: str, found: dict[str, list[list[float]]]) -> None:
    print(f"\n### {scenario}\n\n| Avalanche | first task | last task | mean |\n|---|---|---|---|")
    for name, scores in found.items():
        columns = [[each[0] for each in scores], [each[-1] for each in scores], [*map(mean, scores)]]
        print(f"| {name} | {' | '.join(map(spread, columns))} |", flush=True)
    print()


def spread(values: list[float]) -> str:
    return f"{100 * mean(values):.1f} ± {100 * (stdev(values) if len(values) > 1 else 0):.1f}"


if __name__ == "__main__":
    sys.exit(main())
