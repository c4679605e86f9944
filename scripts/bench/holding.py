"""What `auto` holds: forgetting and the new task's score beside strategy=full, on pairs of tasks.

    python scripts/bench/holding.py --out DIR --data DIR [--pairs …] [--holds l2sp=auto ewc=auto replay=auto]

A hold is strategy=NUMBER, or strategy=auto@SHARE to try another constant of the rule. --data has sst2 and
uci_sentiment as tsv. Test splits; a run that --out has finished is not made again.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from ftrun.data import docstrings
from ftrun.experiments import overrides, single
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.strategies.anchored import Left
from ftrun.strategies.ewc import Ewc
from ftrun.strategies.l2sp import L2sp

Settings = dict[str, Any]

ONCE = "device=cpu train.precision=fp32 train.eval_every=1000000 train.checkpoint_every=1000000".split()
SGD = (
    "schedule=constant train.optimizer=sgd train.lr=0.05 train.momentum=0.9 train.batch_size=32"
    " train.warmup=0 train.epochs=20 train.clip=null train.weight_decay=0"
).split()
ADAM = "schedule=linear train.lr=1e-3 train.epochs=20 train.batch_size=32".split()
TEXT = "schedule=linear train.lr=6e-4 train.epochs=12 train.batch_size=32 task.max_length=64".split()
LOW, HIGH = "task.classes=[0,1,2,3,4]", "task.classes=[5,6,7,8,9]"
NAMES = "task.classes=[text,numbers,data types]", "task.classes=[networking,internet data]"
THIRDS = ["task.classes=[0,1,2]", "task.classes=[3,4,5]"]
LABELS = "[text,numbers,data types,networking,internet data]"
DOMAINS = (
    (("text", "data types"), ("networking", "internet data")),
    (("user interfaces", "language services"), ("internet protocols", "development tools")),
)
STRENGTH = {"l2sp": "alpha", "ewc": "pull", "replay": "share"}


def pairs(data: Path, out: Path) -> dict[str, tuple[str, list[str], list[str], list[str]]]:
    """For each pair its scenario, the settings of both runs, and those of the first and the second task."""
    reviews = [
        "task=classify", "task.name=reviews", f"task.train={data}/uci_sentiment/train.tsv", "task.text=text",
        f"task.validation={data}/uci_sentiment/validation.tsv", f"task.test={data}/uci_sentiment/test.tsv",
        "task.label=label", "task.subset=600",
    ]  # fmt: skip
    docs = ["task=docstrings", "task.subset=600"]
    found = {}
    for name, words in {"sgd": SGD, "adam": ADAM}.items():
        digits = [*words, "task=digits", "model=mlp"]
        found |= {
            f"domain-{name}": ("domain", [*digits, "task.modulo=5"], [LOW], [HIGH]),
            f"class-{name}": ("class", [*digits, "task.labels=[0,1,2,3,4,5,6,7,8,9]"], [LOW], [HIGH]),
            f"task-{name}": ("task", digits, [LOW], [HIGH]),
            f"thirds-{name}": ("domain", [*digits, "task.modulo=3"], THIRDS[:1], THIRDS[1:]),
            f"cnn-{name}": (
                "domain",
                [*words, "task=digits", "model=cnn_small", "task.modulo=5"],
                [LOW],
                [HIGH],
            ),
            f"permuted-{name}": ("domain", digits, [], ["task.permute=1"]),
        }
    labels = ["task=docstrings", f"task.labels={LABELS}"]
    return found | {
        "docs-class": ("class", [*TEXT, *labels, "task.subset=400"], [NAMES[0]], [NAMES[1]]),
        "docs-domain": ("domain", TEXT, *(bits(out, *pair) for pair in DOMAINS[0])),
        "docs2-domain": ("domain", TEXT, *(bits(out, *pair) for pair in DOMAINS[1])),
        "reviews-docs": ("task", TEXT, reviews, docs),
        "pretraining-docs": ("task", TEXT, [], docs),
    }


def bits(out: Path, zero: str, one: str) -> list[str]:
    """Two chapters of the docstrings as labels 0 and 1, so that another two can share the head."""
    words = ["task=classify", f"task.name={zero.replace(' ', '-')}", "task.text=text", "task.label=label"]
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        file = out / f"{zero}-{one}-{split}.csv".replace(" ", "_")
        kept = [row for row in docstrings.rows(split) if row["label"] in (zero, one)]
        with file.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows(
                [("text", "label"), *((row["text"], int(row["label"] == one)) for row in kept)]
            )
        words.append(f"task.{split}={file}")
    return words


def composed(words: list[str]) -> Settings:
    found: Settings = overrides.compose([*ONCE, *words])
    return found


def trained(place: Path, words: list[str], change: Settings) -> Run:
    """A finished run, made where it is not there yet."""
    run = Run(place)
    if not run.finished:
        shutil.rmtree(place, ignore_errors=True)
        said = io.StringIO()
        with redirect_stdout(said):
            single.run(read(composed(words) | change), place)
        (place / "said.txt").write_text(said.getvalue())
    return run


def held(
    out: Path, name: str, pair: tuple[str, list[str], list[str], list[str]], hold: str, seed: int
) -> Run:
    """The second task after the first, which is the same run for every hold."""
    scenario, both, first, second = pair
    source: Settings = {}
    if name.startswith("pretraining"):
        second = [*second, "source=pretraining", "source.rows=200", "source.max_length=64"]
    else:
        before = trained(out / name / f"source-{seed}", [*both, *first, "strategy=full"], {"seed": seed})
        source = {"source": {"kind": "run", "run": str(before.path)}}
    strategy, _, value = hold.partition("=")
    number, _, left = value.partition("@")
    for kind, usual in USUAL.items():
        kind.left = Left(float(left), float(left)) if left else usual
    words = [*both, *second, f"strategy={strategy}", "train.weight_decay=0"]
    words += [f"{STRENGTH[strategy]}={number}"] if number else []
    change = {"seed": seed, "scenario": scenario, **source}
    return trained(out / name / f"{hold}-{seed}", words, change)


USUAL = {L2sp: L2sp.left, Ewc: Ewc.left}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+")
    parser.add_argument("--holds", nargs="+", default=["l2sp=auto", "ewc=auto", "replay=auto"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = pairs(options.data.resolve(), options.out.resolve())
    for name in options.pairs or known:
        for hold in ["full", *options.holds]:
            start = time.process_time()
            runs = [held(options.out.resolve(), name, known[name], hold, seed) for seed in options.seeds]
            print(row(name, hold, runs), f"{time.process_time() - start:.0f} s", flush=True)


def row(name: str, hold: str, runs: list[Run]) -> str:
    """One line: what was lost of the first task, the second task's score, and the strengths used."""
    results = [run.read_json("result.json") for run in runs]
    key = STRENGTH.get(hold.partition("=")[0], "")
    metric = results[0]["metric"].removeprefix("eval_")
    lost = mean(each["forgetting"] for each in results)
    new = mean(each[f"test_{metric}"] for each in results)
    found = " ".join(f"{run.config[key]:g}" for run in runs) if key else ""
    return f"| {name} | {hold} | {100 * lost:.1f} | {100 * new:.1f} | {found} |"


if __name__ == "__main__":
    main()
