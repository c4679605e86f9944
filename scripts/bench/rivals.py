"""Ways to fine-tune beside each other, each at its defaults: test accuracy on a few rows of SST-2.

    python scripts/bench/rivals.py --data DATA --minilm DIR --out OUT             # goes on where it stopped
    python scripts/bench/rivals.py --data DATA --minilm DIR --out OUT --report    # the table of what is there

One protocol for all: the rows of a seed, 500 rows that validate and 1,000 that test (those of `defaults.py`),
no setting of training but --settings, the same for all. Nothing is chosen by the test rows. The teacher of
`distil` is the run of `full` with the same seed. DATA holds the folder sst2.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from defaults_sets import SETS, prepare

SETTINGS = ["train.batch_size=16", "train.eval_every=0.25", "task.max_length=64"]
WAYS = {
    "full": [],
    "lora": [],
    "linear_probe": [],
    "lora_plus": ["strategy=lora", "variant=lora_plus"],
    "vera": [],
    "ia3": [],
    "distil": [],
    "setfit": [],
    "prefix": [],
    "prompt": [],
}


def main() -> None:
    options = parse()
    if not options.report:
        prepare(options.data, options.out / "data" / "sst2", "sst2")
        jobs = [(way, seed) for seed in options.seeds for way in options.ways]
        with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
            for way, seed in jobs:
                pool.apply_async(run, (way, seed, options), error_callback=say)
            pool.close()
            pool.join()
    print(report(options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--minilm", help="directory of a pretrained encoder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--settings", nargs="*", default=SETTINGS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run this long after the first")
    parser.add_argument("--report", action="store_true", help="only the table")
    options = parser.parse_args()
    options.end = time.time() + options.seconds
    return options


def say(error: BaseException) -> None:
    print(error, file=sys.stderr, flush=True)


def place_of(way: str, seed: int, options: argparse.Namespace) -> Path:
    place: Path = options.out.absolute() / "runs" / f"{way}-{seed}"
    return place


def words_of(way: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The settings of a run."""
    files = sorted((options.out.absolute() / "data" / "sst2").glob("*.tsv"))
    teacher = [f"teacher={place_of('full', seed, options)}"] if way == "distil" else []
    return [
        *SETS["sst2"], "task.name=sst2", *(f"task.{file.stem}={file}" for file in files),
        f"model.name={options.minilm}", f"task.subset={options.rows}", f"seed={seed}", "device=cpu",
        *(WAYS[way] or [f"strategy={way}"]), *teacher, *options.settings, "baselines=false",
    ]  # fmt: skip


def run(way: str, seed: int, options: argparse.Namespace) -> None:
    """One run, unless it is there or the time is over; distil waits for its teacher."""
    import torch

    from ftrun.experiments.making import one
    from ftrun.experiments.overrides import compose

    torch.set_num_threads(1)
    place, teacher = place_of(way, seed, options), place_of("full", seed, options)
    while way == "distil" and not (teacher / "result.json").is_file() and time.time() < options.end:
        time.sleep(1)
    if (place / "result.json").is_file() or time.time() > options.end:
        return
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
        one(compose(words_of(way, seed, options)), place, again=True)


def report(options: argparse.Namespace) -> str:
    """A line for each way that has a run."""
    lines = ["| strategy | test accuracy, % | seeds | trained weights | steps | CPU s |", "|---" * 6 + "|"]
    for way in options.ways:
        places = [place_of(way, seed, options) for seed in options.seeds]
        known = [place for place in places if (place / "result.json").is_file()]
        if known:
            lines.append(line_of(way, known))
    return "\n".join(lines)


def line_of(way: str, places: list[Path]) -> str:
    results: list[dict[str, Any]] = [json.loads((place / "result.json").read_text()) for place in places]
    spent = [json.loads((place / "cost.json").read_text())["cpu_seconds"] for place in places]
    scores = [100 * each["test_accuracy"] for each in results]
    about = f"{mean(scores):.1f}" + (f" ± {stdev(scores):.1f}" if len(scores) > 1 else "")
    steps = math.ceil(mean(each["steps"] for each in results))
    weights = f"{results[0]['trained_parameters']:,}"
    return f"| {way} | {about} | {len(scores)} | {weights} | {steps} | {mean(spent):.0f} |"


if __name__ == "__main__":
    main()
