"""Are the defaults good? The score at no setting beside the best of a grid of rates and budgets.

    python scripts/bench/defaults.py --data DATA --out OUT             # every set; goes on where it stopped
    python scripts/bench/defaults.py --data DATA --out OUT --report    # the table of what is there

For each set, number of rows, network and strategy: one run at the defaults, and runs at 1/3 and 3 times its
rate and 1/3 and 3 times its epochs. The best is chosen on validation; regret is its test score less that of
the default. DATA holds the folders sst2, uci_sentiment, rte, stsb, wnut17, mnist, usps and cifar10_subset. At
most 500 rows validate and 1,000 test, drawn with a fixed seed, so that all runs are scored on the same rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from defaults_sets import IMAGES, SETS, prepare

STRATEGIES = ["full", "lora", "linear_probe", "adapter", "freeze"]
LOW, HIGH = 1 / 3, 3.0
POINTS = [  # multiples of the default's rate and budget; the default first, then one of them changed
    (1.0, 1.0), (LOW, 1.0), (HIGH, 1.0), (1.0, LOW), (1.0, HIGH),
    (LOW, LOW), (LOW, HIGH), (HIGH, LOW), (HIGH, HIGH),
]  # fmt: skip
GRIDS = {"none": POINTS[:1], "rate": POINTS[:3], "all": POINTS}


@dataclass(frozen=True, order=True)
class Cell:
    """What is trained how: a set, its number of training rows, a network and a strategy."""

    data: str
    rows: int
    network: str
    strategy: str

    @property
    def name(self) -> str:
        return "-".join(map(str, astuple(self)))


def main() -> None:
    options = parse()
    cells = [
        Cell(name, rows, network, strategy)
        for rows in options.rows
        for name in options.sets
        for network in networks_of(name, options)
        for strategy in (options.strategies if pretrained(network) else ["full"])
    ]
    if not options.report:
        for name in options.sets:
            prepare(options.data, options.out / "data" / name, name)
        work(cells, options)
    print(report(cells, options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--minilm", help="directory of a pretrained encoder, for texts")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--rows", nargs="+", type=int, default=[400, 100, 2000])
    parser.add_argument("--networks", nargs="+", help="default: two for each kind of data")
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--grid", choices=list(GRIDS), default="all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after this time")
    parser.add_argument("--report", action="store_true", help="only the table")
    return parser.parse_args()


def networks_of(name: str, options: argparse.Namespace) -> list[str]:
    texts = [*(["minilm"] if options.minilm else []), "tiny_bert"]
    own = (
        ["mlp", "cnn_small"]
        if name == "digits"
        else ["resnet_small", "vit_tiny"]
        if name in IMAGES
        else texts
    )
    return [network for network in own if not options.networks or network in options.networks]


def pretrained(network: str) -> bool:
    return network in ("minilm", "tiny_bert")


def words_of(cell: Cell, options: argparse.Namespace) -> list[str]:
    """The settings of a cell at the defaults."""
    place = options.out.absolute() / "data" / cell.data
    files = {file.stem: file for file in sorted(place.glob("*.*"))} if place.exists() else {}
    model = f"model.name={options.minilm}" if cell.network == "minilm" else f"model={cell.network}"
    own = ["solver=adamw"] if cell.strategy == "linear_probe" else []  # whose rate and steps are looked at
    return [
        *SETS[cell.data], *own, *(f"task.{split}={file}" for split, file in files.items()), model,
        f"strategy={cell.strategy}", f"task.subset={cell.rows}", f"seed={options.seed}",
        f"device={options.device}",
    ]  # fmt: skip


def work(cells: list[Cell], options: argparse.Namespace) -> None:
    """All runs, the defaults first and the grid after them, by processes that import everything once."""
    tasks: Any = multiprocessing.get_context("spawn").JoinableQueue()
    for point in GRIDS[options.grid]:
        for cell in cells:
            tasks.put((cell, point))
    for _ in range(options.workers):
        tasks.put(None)
    end = time.time() + options.seconds
    workers = [
        multiprocessing.get_context("spawn").Process(target=worker, args=(tasks, options, end))
        for _ in range(options.workers)
    ]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    tasks.cancel_join_thread()  # what no time was left for


def worker(tasks: Any, options: argparse.Namespace, end: float) -> None:
    import torch

    torch.set_num_threads(1)
    waiting: list[tuple[Cell, tuple[float, float]]] = []
    while time.time() < end:
        found = waiting.pop(0) if waiting else tasks.get()
        if found is None:
            return
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
            done = run(*found, options)
        if not done:  # the default, by which the grid is laid out, is still running elsewhere
            waiting.append(found)
            time.sleep(1)


def run(cell: Cell, point: tuple[float, float], options: argparse.Namespace) -> bool:
    """One run of the grid, unless it is there; False where its middle is not."""
    from ftrun.experiments.making import one
    from ftrun.experiments.overrides import compose
    from ftrun.runs.run import Run

    place, middle = options.out / "runs" / cell.name, options.out / "runs" / cell.name / "default"
    words = words_of(cell, options)
    name = "default"
    if point != (1, 1):
        if not (middle / "result.json").is_file():
            return (place / "failed").exists()
        train = Run(middle).config["train"]
        name = f"rate{point[0]:.2g}-budget{point[1]:.2g}"
        words += [
            f"train.lr={train['lr'] * point[0]:.2g}",
            f"train.epochs={max(1, round(train['epochs'] * point[1]))}",
        ]
    if (place / name / "result.json").is_file():
        return True
    try:
        one(compose(words), place / name, again=True)
        tidy(place / name)
    except Exception as error:
        print(f"{' '.join(words)} failed: {error}", file=sys.stderr, flush=True)
        (place / "failed").touch()
    return True


def tidy(run: Path) -> None:
    """Without weights: thousands of runs fit on a disk."""
    import shutil

    for folder in ("checkpoints", "model"):
        shutil.rmtree(run / folder, ignore_errors=True)


def report(cells: list[Cell], options: argparse.Namespace) -> str:
    titles = "set rows network strategy default best regret at TF-IDF trivial runs".split()
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    regrets: dict[str, list[float]] = {}
    for cell in sorted(cells):
        if (found := judged(cell, options)) is not None:
            cells_ = [f"{value:.1f}" if isinstance(value, float) else str(value) for value in found.values()]
            lines.append(f"| {' | '.join([*map(str, astuple(cell)), *cells_])} |")
            if found["runs"] > 1:
                regrets.setdefault(cell.strategy, []).append(found["regret"])
    for name, values in regrets.items():
        lines.append(f"\n{name}: mean regret {mean(values):.2f}, largest {max(values):.1f}, of {len(values)}")
    return "\n".join(lines)


def judged(cell: Cell, options: argparse.Namespace) -> dict[str, Any] | None:
    """Scores in percent, of the default and of the run that validates best."""
    runs = {}
    for file in (options.out / "runs" / cell.name).glob("*/result.json"):
        runs[file.parent.name] = json.loads(file.read_text())
    if "default" not in runs:
        return None
    metric = runs["default"]["metric"]
    test = metric.replace("eval_", "test_")
    best = max(runs, key=lambda name: (runs[name][metric], name == "default"))
    card = json.loads((options.out / "runs" / cell.name / "default" / "data.json").read_text())
    baselines = card.get("baselines", {})
    default = 100 * runs["default"][test]
    return {
        "default": default,
        "best": 100 * runs[best][test],
        "regret": 100 * runs[best][test] - default,
        "at": best,
        "tfidf": known(baselines, "tfidf", test),
        "trivial": known(baselines, "majority", test),
        "runs": len(runs),
    }


def known(baselines: dict[str, Any], name: str, metric: str) -> float | str:
    value = (baselines.get(name) or {}).get(metric)
    return 100 * value if value is not None else ""


if __name__ == "__main__":
    sys.exit(main())
