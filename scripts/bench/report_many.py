"""CPU seconds of `ftrun report` over many run directories, copies of one finished run with other settings.

    ftrun task=digits model=mlp train.max_steps=5 hydra.run.dir=RUN
    python scripts/bench/report_many.py RUN --runs 1000 --directory MANY

The copies are a study as people have them: rates and ranks of two strategies, each with five seeds, whose
answers to some test rows and whose scores differ. With --profile FILE the report is profiled instead.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

SEEDS = 5


def main() -> None:
    options = parse()
    for number in range(options.runs):
        place = options.directory / f"{number:04d}"
        if not place.exists():
            copy(options.run, place, number)
    before = os.times()
    watch = ["-m", "cProfile", "-o", str(options.profile)] if options.profile else []
    command = [sys.executable, *watch, "-m", "ftrun", "report", str(options.directory), *options.options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{options.runs:,} runs: {cpu:.1f} CPU seconds, {after.elapsed - before.elapsed:.1f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of a classification")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("options", nargs="*", help="of ftrun report, after --")
    return parser.parse_args()


def copy(run: Path, place: Path, number: int) -> None:
    """A copy of the run as one of a study; deterministic in its number."""
    shutil.copytree(run, place)
    way, seed = divmod(number, SEEDS)
    config = yaml.safe_load((place / "config.yaml").read_text())
    config["seed"] = seed
    config["train"]["lr"] = 1e-5 * (1 + way % 20)
    config["train"]["weight_decay"] = 0.01 * (1 + way // 20)
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    (place / "settled.json").unlink(missing_ok=True)
    chance = random.Random(number)
    lines = [json.loads(line) for line in (place / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        if chance.random() < 0.1:
            line["answer"] = line["label"]
    (place / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = json.loads((place / "result.json").read_text())
    result["seed"] = seed
    result["test_accuracy"] = sum(line["answer"] == line["label"] for line in lines) / len(lines)
    (place / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
