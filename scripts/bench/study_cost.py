"""CPU seconds of whole studies: this checkout against another one, and many runs of a process against one.

    git worktree add BEFORE main
    python scripts/bench/study_cost.py --against BEFORE --train train.tsv --validation validation.tsv \\
        --test test.tsv --model DIR

Each measurement is a process of its own, whose children count too; the sides take turns. `compare` is a
comparison of three strategies, `probes` a sweep of linear probes over one of them, `digits` a sweep of tiny
runs, by the run. Disk is what `du` counts, a file of several names once.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parents[2]
DIGITS = ["task=digits", "model=mlp", "train.max_steps=5"]


def main() -> None:
    options = parse()
    os.environ["OMP_NUM_THREADS"] = "1"  # waiting threads burn CPU seconds too
    sides = {"now": HERE, **({"before": options.against.resolve()} if options.against else {})}
    with tempfile.TemporaryDirectory() as place:
        few = files(options, Path(place))
        rounds: list[dict[str, Any]] = []
        for number in range(options.repeats):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            for case in options.cases:
                for side in order:
                    found = CASES[case](options, few, Path(place) / f"{number}-{case}-{side}", sides[side])
                    rounds.append({"case": case, "side": side, **found})
                    print(json.dumps(rounds[-1]), flush=True)
    report(options, rounds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout of ftrun, such as a git worktree")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--train", help="tsv or csv with columns sentence and label, for compare and probes")
    parser.add_argument("--validation")
    parser.add_argument("--test")
    parser.add_argument("--model", help="checkpoint directory of an encoder")
    parser.add_argument("--rows", type=int, default=400, help="of each file, the first")
    parser.add_argument("--steps", type=int, default=30, help="of each run of compare and probes")
    parser.add_argument("--strategies", default="full,lora,linear_probe")
    parser.add_argument("--seeds", type=int, default=2, help="of compare")
    parser.add_argument("--probes", type=int, default=20)
    parser.add_argument("--digits", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if {"compare", "probes"} & {*options.cases} and not (options.train and options.model):
        parser.error("--train, --validation, --test and --model are needed for compare and probes")
    return options


def files(options: argparse.Namespace, place: Path) -> list[str]:
    """The settings of the first rows of each file, which both sides read."""
    words = ["task=classify", "task.text=sentence", f"model.name={options.model}", "device=cpu"]
    for split in ("train", "validation", "test"):
        if (name := getattr(options, split)) is None:
            continue
        delimiter = "\t" if name.endswith(".tsv") else ","
        with open(name, newline="", encoding="utf-8") as file:
            quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
            rows = [*islice(csv.reader(file, delimiter=delimiter, quoting=quoting), options.rows + 1)]
        with (place / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        words.append(f"task.{split}={place / split}.csv")
    return words


def cost(words: list[str], checkout: Path) -> float:
    """CPU seconds of one ftrun and of all that it started; its output is shown where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "ftrun", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def disk(place: Path) -> float:
    """MB of all files below, those of several names once."""
    found = [file.stat() for file in place.rglob("*") if file.is_file()]
    return sum({each.st_ino: each.st_size for each in found}.values()) / 1e6


def compare(options: argparse.Namespace, few: list[str], place: Path, checkout: Path) -> dict[str, float]:
    budget = ["--seeds", str(options.seeds), "--budget", f"steps={options.steps}", "--dir", str(place)]
    seconds = cost(["compare", "--strategies", options.strategies, *budget, *few], checkout)
    return {"seconds": round(seconds, 1), "MB": round(disk(place), 1)}


def probes(options: argparse.Namespace, few: list[str], place: Path, checkout: Path) -> dict[str, float]:
    own = [*few, "strategy=linear_probe", f"train.max_steps={options.steps}"]
    one = cost([*own, f"hydra.run.dir={place}-one"], checkout)
    seeds = ",".join(map(str, range(options.probes)))
    many = cost(["-m", *own, f"seed={seeds}", f"hydra.sweep.dir={place}"], checkout)
    ratio = round(many / one, 2)
    return {"seconds": round(many, 1), "one": round(one, 1), "times one": ratio, "MB": round(disk(place), 1)}


def digits(options: argparse.Namespace, few: list[str], place: Path, checkout: Path) -> dict[str, float]:
    """By the run: what more runs cost more."""
    found = []
    for count in (2, options.digits):
        seeds = ",".join(map(str, range(count)))
        found.append(cost(["-m", *DIGITS, f"seed={seeds}", f"hydra.sweep.dir={place}-{count}"], checkout))
    each = (found[1] - found[0]) / (options.digits - 2)
    return {
        "seconds": round(found[1], 1),
        "each": round(each, 3),
        "MB": round(disk(Path(f"{place}-{count}")), 1),
    }


CASES: dict[str, Callable[..., dict[str, float]]] = {"compare": compare, "probes": probes, "digits": digits}


def report(options: argparse.Namespace, rounds: list[dict[str, Any]]) -> None:
    """A line for each case and figure: the median of each side, and their ratio."""
    print(f"\n{'case':8} {'figure':10} {'now':>9} {'before':>9} {'before : now':>13}")
    for case in options.cases:
        lines = [line for line in rounds if line["case"] == case]
        for figure in [name for name in lines[0] if name not in ("case", "side")]:
            sides = {
                side: [each[figure] for each in lines if each["side"] == side] for side in ("now", "before")
            }
            now = median(sides["now"])
            before = median(sides["before"]) if sides["before"] else None
            others = "" if before is None else f" {before:9.2f} {before / now:13.2f}"
            print(f"{case:8} {figure:10} {now:9.2f}{others}")


if __name__ == "__main__":
    main()
