"""Rows suggested by `ftrun suggest` against rows drawn at random: 50 labelled rows, 50 more, trained again.

    python scripts/bench/suggest.py --data DIR --model NAME --out DIR [--seeds 20] [--sets sst2 pixels …]

DIR of --data holds sst2/, uci_sentiment/ (train, validation, test .tsv) and usps/ (train.npz, test.npz). The
heads on frozen features are fitted as strategy=linear_probe fits them, on features that are computed once;
beside the way of `suggest` stand others of the literature. The last set is trained whole by the runner
itself, and `suggest` chooses by the run's own network.
"""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy
import torch

from ftrun.experiments import single
from ftrun.experiments.active.choosing import Answered
from ftrun.experiments.active.suggesting import suggestion
from ftrun.experiments.overrides import settings_of
from ftrun.models.load import load
from ftrun.reports.statistics.significance import quantile
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData
from ftrun.training.devices import open_accelerator
from ftrun.training.kept.features import features
from ftrun.training.linear import Scaling, fit, searched

Array = Any
START, MORE, POOL, HELD = 50, 50, 2000, 200  # rows: labelled at first, added, to choose from, of validation
TEXTS = {"sst2": ("sentence", "task.subset=3000"), "uci_sentiment": ("text", "task.subset=null")}
FULL = (
    "task=image task.size=8 task.channels=1 model=mlp strategy=full device=cpu train.optimizer=sgd"
    " train.lr=0.05 train.max_steps=200 train.batch_size=16 baselines=true"
).split()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--sets", nargs="+", default=[*TEXTS, "pixels", "whole"])
    parser.add_argument("--full-seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in [name for name in TEXTS if name in options.sets]:
        show(name, on_features(of_texts(options.data / name, options.model, *TEXTS[name]), options.seeds))
    if "pixels" in options.sets:
        show("usps, pixels", on_features(of_pixels(options.data / "usps"), options.seeds))
    if "whole" in options.sets:
        show("usps, whole network", whole(options.data / "usps", options.out, options.full_seeds))


def of_texts(place: Path, model: str, text: str, subset: str) -> list[Array]:
    """Features and labels of train and test."""
    files = [f"task.{split}={place}/{split}.tsv" for split in ("train", "validation", "test")]
    words = ["task=classify", *files, f"task.text={text}", subset, f"model.name={model}", "device=cpu"]
    settings = read(settings_of(words))
    data = TaskData.read(settings.task, 0)
    net = load(settings.model, data.spec, 0)
    data.encode(net.tokenizer, "train", "test")
    accelerator = open_accelerator("cpu", "fp32", True)
    found = []
    for split in ("train", "test"):
        dataset = data.dataset(split)
        found.append(features(net, dataset, accelerator).double().numpy())
        found.append(numpy.array([example.target for example in dataset.examples]))
    return found


def of_pixels(place: Path) -> list[Array]:
    found = []
    for split in ("train", "test"):
        arrays = numpy.load(place / f"{split}.npz")
        found += [arrays["images"].reshape(len(arrays["labels"]), -1) / 255, arrays["labels"].astype(int)]
    return found


def on_features(found: list[Array], seeds: int) -> dict[str, list[float]]:
    """The test accuracy of each way, seed by seed."""
    train, labels, test, truth = found
    classes = int(labels.max()) + 1
    scores: dict[str, list[float]] = {}
    for seed in range(seeds):
        order = numpy.random.default_rng(seed).permutation(len(train))
        held, known, pool = order[:HELD], order[HELD:][:START], order[HELD + START :][:POOL]

        def head(rows: Array, held: Array = held) -> Any:
            scaling = Scaling.of(train[rows])

            def fitted(strength: float) -> Any:
                return scaling.undone(fit(scaling(train[rows]), labels[rows], strength, classes))

            def loss(one: Any) -> float:
                logits = torch.from_numpy(one.logits(train[held]))
                return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[held])))

            return searched(fitted, loss)

        first = head(known)
        chances = torch.from_numpy(first.logits(train[pool])).softmax(-1).numpy()
        for way, chosen in chosen_by(Answered(chances, train[pool]), seed).items():
            made = head(numpy.concatenate([known, pool[chosen]]))
            scores.setdefault(way, []).append(float((made.logits(test).argmax(1) == truth).mean()))
    return scores


def chosen_by(found: Answered, seed: int) -> dict[str, Any]:
    chance = numpy.random.default_rng(seed).permutation(len(found.features))[:MORE]
    residuals = found.probabilities - numpy.eye(found.probabilities.shape[1])[found.probabilities.argmax(1)]
    return {
        "random": chance,
        "suggest": found.chosen(MORE, seed),
        "suggest, diversity alone": found.chosen(MORE, seed, sure=False),
        "smallest margins": numpy.argsort(found.margins)[:MORE],
        "BADGE": badge(residuals, found.features, seed),
    }


def badge(residuals: Array, read: Array, seed: int) -> list[int]:
    """k-means++ over gradients, the outer products of residuals and features (Ash et al. 2020)."""
    chance = numpy.random.default_rng(seed)
    length = (residuals**2).sum(1) * (read**2).sum(1)
    chosen, distance = [int(length.argmax())], numpy.full(len(length), numpy.inf)
    while len(chosen) < MORE:
        last = chosen[-1]
        both = (residuals @ residuals[last]) * (read @ read[last])
        distance = numpy.minimum(distance, numpy.maximum(length + length[last] - 2 * both, 0))
        distance[chosen] = 0
        chosen.append(int(chance.choice(len(length), p=distance / distance.sum())))
    return chosen


def whole(place: Path, out: Path, seeds: int) -> dict[str, list[float]]:
    """The same where the runner trains every weight, and `suggest` reads the run."""
    found = {split: numpy.load(place / f"{split}.npz") for split in ("train", "test")}
    images, labels = found["train"]["images"], found["train"]["labels"]
    scores: dict[str, list[float]] = {"random": [], "suggest": []}
    for seed in range(seeds):
        order = numpy.random.default_rng(seed).permutation(len(images))
        held, known, pool = order[:HELD], order[HELD:][:START], order[HELD + START :][:POOL]
        files = out / f"seed{seed}"
        files.mkdir(parents=True, exist_ok=True)
        numpy.savez(files / "held.npz", images=images[held], labels=labels[held])
        numpy.savez(files / "pool.npz", images=images[pool])

        def trained(name: str, rows: Array, files: Path = files, seed: int = seed) -> Run:
            run = Run(files / name)
            if not run.finished:
                numpy.savez(files / f"{name}.npz", images=images[rows], labels=labels[rows])
                splits = {
                    "train": files / f"{name}.npz",
                    "validation": files / "held.npz",
                    "test": place / "test.npz",
                }
                words = [*FULL, *(f"task.{split}={file}" for split, file in splits.items()), f"seed={seed}"]
                with redirect_stdout(io.StringIO()):
                    single.run(read(settings_of(words)), run.path)
            return run

        first = trained("first", known)
        with redirect_stdout(io.StringIO()):
            rows = suggestion(first, str(files / "pool.npz"), MORE, sure=True).rows
        chance = numpy.random.default_rng(seed).permutation(len(pool))[:MORE]
        for name, more in {"random": chance, "suggest": [int(each.row["row"]) - 1 for each in rows]}.items():
            run = trained(name, numpy.concatenate([known, pool[more]]))
            scores[name].append(float(run.result("test_accuracy")["test_accuracy"]))
    return scores


def show(name: str, scores: dict[str, list[float]]) -> None:
    """The mean gain over chance of each way, with its 95 % interval over seeds, paired."""
    chance = scores["random"]
    print(f"{name}: {START} + {MORE} random rows {100 * mean(chance):.1f} %, {len(chance)} seeds", flush=True)
    for way, own in scores.items():
        gains = [100 * (one - other) for one, other in zip(own, chance, strict=True)]
        if way != "random":
            reach = quantile(len(gains) - 1) * stdev(gains) / len(gains) ** 0.5
            print(f"  {way:28}{mean(gains):+.2f} ± {reach:.2f} points", flush=True)


if __name__ == "__main__":
    main()
