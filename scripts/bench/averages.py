"""What an average of weights is worth, of one run and of several, and what other optimizers come to.

    python scripts/bench/averages.py OUT --data DIR --model all-MiniLM-L6-v2 --rows 1000 --seeds 3

DIR has train.tsv, validation.tsv and test.tsv of SST-2. Each way trains every weight on the same rows, seed
by seed, and the runs of the first way become soups by `ftrun merge`. Each run is a directory below OUT, and
one that is finished is not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

PLAIN = "full"
WAYS = {
    PLAIN: [],
    "ema": ["train.average=ema"],
    "soup": ["train.average=soup"],
    "muon": ["train.optimizer=muon"],
    "schedulefree": ["train.optimizer=schedulefree", "schedule=constant"],
    "adafactor": ["train.optimizer=adafactor"],
}
SPLITS = "train", "validation", "test"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", default="1000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--more", nargs="+", default=[], help="such as train.max_steps=10, to try it out")
    options = parser.parse_args()
    print("| | validation | test | test beside full, by seed | CPU s |\n|---|---|---|---|---|")
    known: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    for seed in range(options.seeds):
        for way in options.ways:
            known[way].append(trained(way, seed, options))
    for way, found in known.items():
        print(row(way, found, known[options.ways[0]]), flush=True)
    if PLAIN in known and options.seeds > 1:
        for method in ("greedy", "uniform"):
            print(soup(method, options), flush=True)
    return 0


def trained(way: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    place = options.out / f"{way}-{seed}"
    data = [f"task.{split}={options.data / split}.tsv" for split in SPLITS]
    words = ["task=classify", *data, "task.text=sentence", "task.label=label", f"task.subset={options.rows}"]
    words += [f"model.name={options.model}", f"seed={seed}", "baselines=false", *WAYS[way], *options.more]
    if not (place / "result.json").is_file():
        again = (
            ["resume", str(place)] if (place / "checkpoints").is_dir() else [*words, f"hydra.run.dir={place}"]
        )
        ftrun(*again)
    result, cost = (json.loads((place / f"{name}.json").read_text()) for name in ("result", "cost"))
    return {
        "eval": result["eval_accuracy"],
        "test": result["test_accuracy"],
        "cpu": cost["train_cpu_seconds"],
    }


def soup(method: str, options: argparse.Namespace) -> str:
    """A row of the average of all seeds' runs."""
    place = options.out / f"runs-{method}"
    if not place.exists():
        runs = [str(options.out / f"{PLAIN}-{seed}") for seed in range(options.seeds)]
        ftrun("merge", *runs, "--method", method, "--output", str(place))
    record = json.loads((place / "soup.json").read_text())
    inside = [each for each in record["runs"] if each["added"]]
    name = f"`ftrun merge --method {method}` of {len(record['runs'])} runs, {len(inside)} in"
    return f"| {name} | {inside[-1]['together']:.2%} | {record['test_accuracy']:.2%} | | |"


def ftrun(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "ftrun", *words], check=True, stdout=sys.stderr)


def row(name: str, found: list[dict[str, float]], plain: list[dict[str, float]]) -> str:
    cells = [f"`{name}`"]
    for column in ("eval", "test"):
        values = [each[column] for each in found]
        spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.2%}{spread}")
    gains = [100 * (each["test"] - other["test"]) for each, other in zip(found, plain, strict=True)]
    cells += ["" if found is plain else ", ".join(f"{gain:+.2f}" for gain in gains)]
    cells.append(f"{mean(each['cpu'] for each in found):.0f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
