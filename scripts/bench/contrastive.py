"""What the temperature of SimCLR is worth, and MoCo's queue: kNN and linear accuracy, gradients, memory.

    python scripts/bench/contrastive.py temperatures --train train.zip --test test.zip --epochs 12
    python scripts/bench/contrastive.py queue --train train.npz --test test.npz --epochs 20

`temperatures` pre-trains ResNet-18 on colour images of 32 x 32, `queue` ResNet-20 on grey ones of 28 x 28.
Each run is a directory below --output, and one that is finished is not repeated. In bf16 an epoch of 4,500
images takes about 135 CPU seconds with ResNet-18, of 9,000 about 25 with ResNet-20.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

COLOUR = ["task=simclr_32", "model=resnet18_small", "train.batch_size=256"]
GREY = ["model=resnet_small", "train.batch_size=256"]
SETTINGS = {
    "temperatures": {
        "0.5": [*COLOUR, "task.schedule_tau=constant", "task.tau=0.5"],
        "0.07": [*COLOUR, "task.schedule_tau=constant", "task.tau=0.07"],
        "0.5 to 0.07": [*COLOUR, "task.schedule_tau=cosine", "task.tau=0.07"],
    },
    "queue": {
        "simclr, batch 256": ["task=simclr_28", *GREY],
        "moco, batch 256, 4,096 keys": ["task=moco_28", *GREY, "task.queue=4096", "task.momentum=0.99"],
        "moco, batch 64, 4,096 keys": [
            "task=moco_28", *GREY, "train.batch_size=64", "task.queue=4096", "task.momentum=0.99",
        ],
    },
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=SETTINGS)
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--probe-epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--subset", default="null", help="training images, to try it out")
    parser.add_argument("--more", nargs="+", default=[], help="such as train.precision=bf16")
    parser.add_argument("--output", type=Path, default=Path("outputs/contrastive"))
    options = parser.parse_args()
    print("| | kNN | linear | largest gradient norm | rank | peak memory | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name, words in SETTINGS[options.what].items():
        print(row(name, [measured(name, words, seed, options) for seed in range(options.seeds)]), flush=True)
    return 0


def measured(name: str, words: list[str], seed: int, options: argparse.Namespace) -> dict[str, float]:
    """One pre-training and the linear evaluation of what it has learned."""
    data = [f"task.train={options.train}", f"task.test={options.test}", f"task.subset={options.subset}"]
    data.append(f"seed={seed}")
    place = options.output / options.what / f"{name.replace(',', '').replace(' ', '-')}-{seed}"
    own = [f"train.epochs={options.epochs}", f"train.lr={options.lr}", "train.eval_every=0.25"]
    run(place, [*words, *data, *own, *options.more])
    probe = place.with_name(f"{place.name}-linear")
    linear = ["task=image", "strategy=linear_probe", "solver=adamw", f"model.name={place}", "train.lr=1e-2"]
    run(probe, [*linear, *data, f"train.epochs={options.probe_epochs}"])
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    cost, result = (json.loads((place / f"{name}.json").read_text()) for name in ("cost", "result"))
    return {
        "knn": result["test_knn_accuracy"],
        "linear": json.loads((probe / "result.json").read_text())["test_accuracy"],
        "norm": max(line["grad_norm"] for line in lines if "grad_norm" in line),
        "rank": result["test_effective_rank"],
        "memory": cost["memory_bytes"] / 1e9,
        "cpu": cost["train_cpu_seconds"],
    }


def run(place: Path, words: list[str]) -> None:
    """`ftrun WORDS…` in this directory; resumed where it was stopped, and nothing where it is finished."""
    if (place / "result.json").is_file():
        return
    again = ["resume", str(place)] if (place / "checkpoints").is_dir() else [*words, f"hydra.run.dir={place}"]
    subprocess.run([sys.executable, "-m", "ftrun", *again], check=True, stdout=sys.stderr)


def row(name: str, found: list[dict[str, float]]) -> str:
    columns = {
        "knn": "{:.3f}", "linear": "{:.3f}", "norm": "{:.1f}", "rank": "{:.1f}", "memory": "{:.2f} GB",
        "cpu": "{:.0f}",
    }  # fmt: skip
    cells = [name]
    for column, shape in columns.items():
        values = [each[column] for each in found]
        spread = f" ± {shape.format(stdev(values)).split()[0]}" if len(values) > 1 else ""
        cells.append(shape.format(mean(values)) + spread)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
