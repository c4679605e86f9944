"""What `auto` holds: forgetting and the new task's score beside strategy=full, on pairs of tasks.

    python scripts/bench/holding.py --out DIR --data DIR [--pairs …] [--holds l2sp=auto ewc=auto replay=auto]

A hold is strategy=NUMBER, or strategy=auto@SHARE to try another constant of the rule. --data has sst2 and
uci_sentiment as tsv. Test splits; a run that --out has finished is not made again.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from ftrun.experiments import overrides, single
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.strategies.ewc import Ewc
from ftrun.strategies.l2sp import L2sp
from ftrun.strategies.strength import Left

Settings = dict[str, Any]

ONCE = "device=cpu train.precision=fp32 train.eval_every=1000000 train.checkpoint_every=1000000".split()
SGD = (
    "model=mlp schedule=constant train.optimizer=sgd train.lr=0.05 train.momentum=0.9 train.batch_size=32"
    " train.warmup=0 train.weight_decay=0 train.clip=null"
).split()
ADAM = "model=mlp schedule=linear train.lr=1e-3 train.epochs=20 train.batch_size=32".split()
TEXT = "schedule=linear train.lr=6e-4 train.epochs=12 train.batch_size=32 task.max_length=64".split()
LOW, HIGH = "task.classes=[0,1,2,3,4]", "task.classes=[5,6,7,8,9]"
ALL = "task.labels=['0','1','2','3','4','5','6','7','8','9']"
NAMES = "task.classes=[text,numbers,data types]", "task.classes=[networking,internet data]"
LABELS = "[text,numbers,data types,networking,internet data]"
STRENGTH = {"l2sp": "alpha", "ewc": "pull", "replay": "share"}
DIGITS = ["task=digits"]


def pairs(data: Path) -> dict[str, tuple[str, list[str], list[str], list[str]]]:
    """For each pair its scenario, the settings of both runs, and those of the first and the second task."""
    sst2 = [
        "task=classify", "task.name=sst2", f"task.train={data}/sst2/train.tsv", "task.text=sentence",
        f"task.validation={data}/sst2/validation.tsv", f"task.test={data}/sst2/validation.tsv",
        "task.label=label", "task.subset=600",
    ]  # fmt: skip
    uci = [
        "task=classify", "task.name=reviews", f"task.train={data}/uci_sentiment/train.tsv", "task.text=text",
        f"task.validation={data}/uci_sentiment/validation.tsv", f"task.test={data}/uci_sentiment/test.tsv",
        "task.label=label", "task.subset=600",
    ]  # fmt: skip
    docs = ["task=docstrings", "task.subset=600"]
    digits = {"sgd": [*SGD, "train.epochs=20"], "adam": ADAM}
    found = {}
    for name, words in digits.items():
        found |= {
            f"domain-{name}": ("domain", [*words, "task=digits", "task.modulo=5"], [LOW], [HIGH]),
            f"class-{name}": (
                "class",
                [*words, "task=digits", "task.labels=[0,1,2,3,4,5,6,7,8,9]"],
                [LOW],
                [HIGH],
            ),
            f"task-{name}": ("task", [*words, "task=digits"], [LOW], [HIGH]),
            f"permuted-{name}": ("domain", [*words, "task=digits"], [], ["task.permute=1"]),
        }
    return found | {
        "docs-class": (
            "class",
            [*TEXT, "task=docstrings", f"task.labels={LABELS}", "task.subset=400"],
            [NAMES[0]],
            [NAMES[1]],
        ),
        "pretraining-docs": ("task", TEXT, [], docs),
        "pretraining-sst2": ("task", TEXT, [], sst2),
        "docs-docs": ("task", [*TEXT, "task=docstrings", "task.subset=400"], [NAMES[0]], [NAMES[1]]),
        "docs-sst2": ("task", TEXT, docs, sst2),
        "sst2-docs": ("task", TEXT, sst2, docs),
        "uci-docs": ("task", TEXT, uci, docs),
        "docs-uci": ("task", TEXT, docs, uci),
    }


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
    words = [*both, *second, f"strategy={strategy}", *train_of(both)]
    words += [f"{STRENGTH[strategy]}={number}"] if number else []
    change = {"seed": seed, "scenario": scenario, **source}
    return trained(out / name / f"{hold}-{seed}", words, change)


USUAL = {L2sp: L2sp.left, Ewc: Ewc.left}


def train_of(both: list[str]) -> list[str]:
    """No weight decay in any of them, so that the hold is the only difference."""
    return ["train.weight_decay=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+")
    parser.add_argument("--holds", nargs="+", default=["l2sp=auto", "ewc=auto", "replay=auto"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = pairs(options.data.resolve())
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
