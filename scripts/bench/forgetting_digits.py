"""What is left of earlier tasks: sequences of digits under every way to hold on to them, each at its best.

    python scripts/bench/forgetting_digits.py --out DIR [--scenarios domain class task permuted]
    python scripts/bench/forgetting_digits.py --out DIR --scenarios usps --mnist DIR --usps DIR

Every method is tuned on the validation split, by the mean over the tasks of the accuracy that the last
network has, on seeds of their own; the test split is for the seeds of the table. A run that --out has
finished is not made again. No weights are chosen on the way: a run is evaluated once, at its end. --mnist
and --usps hold train.npz and test.npz with `images` and `labels`.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy
import torch
from PIL import Image

from ftrun.experiments import overrides, sequence
from ftrun.experiments import single as experiment
from ftrun.experiments.inference import FinishedRun
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData
from ftrun.tasks.digits import Digits

sys.path.insert(0, str(Path(__file__).parent))
from forgetting_told import Scores, report, say

Settings = dict[str, Any]

COMMON = (
    "model=mlp device=cpu schedule=constant train.optimizer=sgd train.lr=0.05 train.momentum=0.9"
    " train.batch_size=32 train.warmup=0 train.weight_decay=0 train.clip=null train.precision=fp32"
    " train.eval_every=1000000 train.checkpoint_every=1000000"
).split()
LOW, HIGH, ORDERS = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [None, 1, 2, 3, 4]
PERMUTED = [{"name": f"order-{order or 0}", "permute": order} for order in ORDERS]
HALVES = [{"name": "0-4", "classes": LOW}, {"name": "5-9", "classes": HIGH}]
MODULO = [half | {"modulo": 5} for half in HALVES]
FULL = {"size": 28, "channels": 1, "subset": 2000}  # of images of 28 x 28, and of 16 x 16 made larger
TASKS: dict[str, list[Settings]] = {"domain": MODULO, "class": HALVES, "task": HALVES, "permuted": PERMUTED}
JOINT = {"domain": {"modulo": 5}, "class": {}, "task": {}, "permuted": {"permute": ORDERS}}
EPOCHS = {"domain": 20, "class": 20, "task": 20, "permuted": 10, "usps": 10}
PULLS = [{"pull": pull} for pull in (1, 4, 16, 64, 256, 1024)]
FLOORS = [{"pull": pull, "floor": floor} for pull in (3, 30, 300) for floor in (1e-4, 1e-3)]
ALPHAS = [{"alpha": alpha} for alpha in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)]
MNIST_TEST = 10_000
METHODS: dict[str, tuple[str, Settings, list[Settings]]] = {
    "naive": ("full", {}, [{}]),
    "L2-SP": ("l2sp", {}, ALPHAS),
    "EWC": ("ewc", {"online": False}, PULLS),
    "EWC + floor": ("ewc", {"online": False}, FLOORS),
    "replay 100 per task": ("replay", {"share": 0.5}, [{}]),
    "EWC online": ("ewc", {}, PULLS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenarios", nargs="+", default=list(TASKS), choices=[*TASKS, "usps"])
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--usps", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--tuning-seeds", type=int, nargs="+", default=[10, 11])
    parser.add_argument("--points", type=int, default=6, help="of each grid, the weakest first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "usps" in options.scenarios:
        places = {"mnist": options.mnist, "usps": options.usps}
        TASKS["usps"] = [FULL | {"name": name} | files(place) for name, place in places.items()]
        JOINT["usps"] = FULL | {"subset": 4000} | files(together(options.out / "both", [*places.values()]))
    for scenario in options.scenarios:
        report(scenario, [each["name"] for each in TASKS[scenario]], table(options, scenario))


def table(options: argparse.Namespace, scenario: str) -> dict[str, tuple[str, list[Scores], float]]:
    """For each method: what was chosen out of how many, each seed's test scores by task, mean BWT."""
    found = {}
    for method in methods_of(scenario):
        choice, trials = tuned(options, scenario, method)
        runs = [trained(options.out, scenario, method, choice, seed) for seed in options.seeds]
        results = [run.read_json("result.json") for run in runs]
        scores = [result["matrix"][-1] for result in results]
        found[method] = f"{chosen(choice)}{trials}", scores, mean(r["backward_transfer"] for r in results)
    if scenario in JOINT:
        found["joint"] = "", [joint(options.out, scenario, seed) for seed in options.seeds], float("nan")
    return found


def methods_of(scenario: str) -> list[str]:
    """With two tasks the online sum is the other one."""
    return [name for name in METHODS if name != "EWC online" or len(TASKS[scenario]) > 2]


def tuned(options: argparse.Namespace, scenario: str, method: str) -> tuple[Settings, str]:
    """The settings that are best on validation; the lower loss where the accuracy is the same."""
    grid = METHODS[method][2][: options.points]
    if len(grid) == 1:
        return grid[0], ""
    scores = []
    for choice in grid:
        runs = [trained(options.out, scenario, method, choice, seed) for seed in options.tuning_seeds]
        accuracy, loss = (mean(validation(run, name) for run in runs) for name in ("accuracy", "loss"))
        scores.append((accuracy, -loss))
        say(f"{scenario:9}{method:12}{chosen(choice):24}validation {accuracy:.2%}, loss {loss:.3f}")
    best = max(range(len(grid)), key=scores.__getitem__)
    return grid[best], f"; {len(grid)} × {len(options.tuning_seeds)}"


def validation(run: Run, name: str) -> float:
    """The mean over all tasks that the last network has on their validation splits."""
    stages = len(run.read_json("result.json")["sequence"])
    last = next(each for each in run.path.iterdir() if each.name.startswith(f"{stages}-"))
    line = [line for line in Run(last).metrics() if "eval_loss" in line][-1]
    known = [value for key, value in line.items() if key.startswith("source") and key.endswith(f"_{name}")]
    return mean([*known, line[f"eval_{name}"]])


def trained(out: Path, scenario: str, method: str, choice: Settings, seed: int) -> Run:
    """A finished sequence; the first task is the same for every method and trained once."""
    strategy, fixed, _ = METHODS[method]
    place = out / scenario / "-".join([method.replace(" ", ""), *(f"{value:g}" for value in choice.values())])
    run = Run(place / f"seed{seed}")
    if run.finished:
        return run
    raw = settings(strategy, scenario, seed) | fixed | choice
    raw = overrides.with_tasks(raw | {"scenario": scenario_of(scenario), "sequence": TASKS[scenario]}, [])
    shared = out / scenario / "first" / f"seed{seed}"
    first = f"1-{TASKS[scenario][0]['name']}"
    start = time.process_time()
    shutil.rmtree(run.path, ignore_errors=True)
    if shared.is_dir():
        shutil.copytree(shared, run.path / first)
    with redirect_stdout(io.StringIO()):
        sequence.run(read(raw), run.path)
    if not shared.is_dir():
        shutil.copytree(run.path / first, shared)
    score = run.read_json("result.json")["average"]
    say(f"{run.path.relative_to(out)}: {score:.2%}, {time.process_time() - start:.1f} CPU s")
    return run


def joint(out: Path, scenario: str, seed: int) -> Scores:
    """Test accuracy on each task of one network trained on the data of all."""
    run = Run(out / scenario / "joint" / f"seed{seed}")
    if not run.finished:
        raw = settings("full", scenario, seed)
        shutil.rmtree(run.path, ignore_errors=True)
        with redirect_stdout(io.StringIO()):
            experiment.run(read(raw | {"task": raw["task"] | JOINT[scenario]}), run.path)
    if scenario == "task":
        return told_the_half(run)
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    right = [line["answer"] == line["label"] for line in lines]
    if scenario == "usps":
        return [mean(right[:MNIST_TEST]), mean(right[MNIST_TEST:])]
    if scenario == "permuted":
        size = len(right) // len(ORDERS)
        return [mean(right[start : start + size]) for start in range(0, len(right), size)]
    digits = test_digits()
    return [mean(r for r, digit in zip(right, digits, strict=True) if digit in half) for half in (LOW, HIGH)]


def told_the_half(run: Run) -> Scores:
    """Test accuracy on each half where only the half's five outputs of the ten are looked at."""
    dataset = TaskData.read(Digits("digits", *[None] * 7, 0), 0).dataset("test")
    digits = torch.tensor(test_digits())
    with torch.no_grad():
        logits = FinishedRun(run).model(**dataset.collate(dataset.examples)["inputs"])
    scores = []
    for half in (LOW, HIGH):
        rows = torch.isin(digits, torch.tensor(half))
        answers = torch.tensor(half)[logits[rows][:, half].argmax(-1)]
        scores.append(float((answers == digits[rows]).float().mean()))
    return scores


@cache
def test_digits() -> list[int]:
    _, names = Digits("digits", *[None] * 7, 0).load(0).splits["test"]
    return [int(name) for name in names]


def files(place: Path) -> Settings:
    return {"train": f"{place}/train.npz", "test": f"{place}/test.npz"}


def together(place: Path, parts: list[Path]) -> Path:
    """The images of several places in one, all as large as the largest (bilinear, as a reader makes them)."""
    place.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        found = [numpy.load(part / f"{split}.npz") for part in parts]
        if split == "train":  # as many of each
            least = min(len(each["labels"]) for each in found)
            found = [{name: each[name][:least] for name in ("images", "labels")} for each in found]
        images = [larger(image) for each in found for image in each["images"]]
        labels = numpy.concatenate([each["labels"] for each in found])
        numpy.savez(place / f"{split}.npz", images=numpy.stack(images), labels=labels)
    return place


def larger(image: numpy.ndarray) -> numpy.ndarray:
    return numpy.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR))


@cache
def composed(strategy: str, task: str) -> Settings:
    return overrides.compose([*COMMON, f"strategy={strategy}", *task.split()])


def settings(strategy: str, scenario: str, seed: int) -> Settings:
    raw = composed(strategy, "task=image task.train=x" if scenario == "usps" else "task=digits")
    return raw | {"seed": seed, "train": raw["train"] | {"epochs": EPOCHS[scenario]}}


def scenario_of(name: str) -> str:
    return "domain" if name in ("permuted", "usps") else name


def chosen(choice: Settings) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in choice.items())


if __name__ == "__main__":
    main()
