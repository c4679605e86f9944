"""ftrun on a GPU: does every strategy run, are the numbers the CPU's, and how fast is it beside the Trainer?

    scripts/bench/gpu FOLDER                        # everything, most important first
    scripts/bench/gpu FOLDER --sections ratio       # one part
    scripts/bench/gpu FOLDER --device cpu --tiny    # the same commands, small: what the tests run

Networks are made from configurations, with random weights: speed needs no training. Rows are the embedded
docstrings. What is measured is appended to FOLDER/gpu.jsonl at once, so that a cut-off loses nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_graphs import graphs
from gpu_parts import classes, embedded_rows, ftrun, made
from gpu_ratio import more_ratios, ratio
from gpu_shapes import full_batches, resume, shapes

ROOT = Path(__file__).resolve().parents[2]
TASKS = {  # the tasks whose data comes along, and a network for each
    "docstrings": [],
    "digits": ["task=digits", "model=cnn_small"],
}
OTHERS = {  # kinds of training beyond the strategies
    "mlm": ["task=mlm", "task.corpus=docstrings"],
    "mlm with nsp": ["task=mlm", "task.corpus=docstrings", "task.next=nsp"],
    "fp16": ["train.precision=fp16"],
    "fp32": ["train.precision=fp32"],
    "protect=replay": ["protect=replay"],
    "protect=ewc, lora": ["protect=ewc", "strategy=lora"],
    "micro-batches": ["train.micro_batch=3"],
}


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, section in {"about": about, **SECTIONS}.items():
        if name in options.sections or name == "about":
            start = time.perf_counter()
            for found in section(options):
                line = json.dumps({"section": name, **found})
                print(line, flush=True)
                with (options.out / "gpu.jsonl").open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of what is measured")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small shapes and few steps")
    parser.add_argument("--sections", nargs="+", default=[*SECTIONS])
    parser.add_argument(
        "--cases", nargs="*", help="of smoke, ratio and graphs: names that contain one of these"
    )
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    return parser.parse_args()


def about(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    import torch
    import transformers

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    yield {"card": card, "torch": torch.__version__, "transformers": transformers.__version__,
           "python": sys.version.split()[0], "cpus": os.cpu_count()}  # fmt: skip


def smoke(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A few steps of every strategy on text and images, and of other kinds of training, side by side."""
    strategies = sorted(path.stem for path in (ROOT / "conf/strategy").glob("*.yaml"))
    cases = {
        f"{strategy} on {task}": [f"strategy={strategy}", *words]
        for task, words in TASKS.items()
        for strategy in strategies
    } | OTHERS
    if options.cases:
        cases = {name: words for name, words in cases.items() if any(part in name for part in options.cases)}

    def one(case: tuple[str, list[str]]) -> dict[str, Any]:
        name, words = case
        start, place = (
            time.perf_counter(),
            options.out / "runs" / "".join(c if c.isalnum() else "_" for c in name),
        )
        done = ftrun(["experiment=smoke", f"device={options.device}", *words, f"hydra.run.dir={place}"])
        found = {"case": name, "exit_code": done.returncode, "seconds": round(time.perf_counter() - start, 1)}
        return found | ({"says": (done.stderr or done.stdout)[-1500:]} if done.returncode else {})

    with ThreadPoolExecutor(options.workers) as pool:
        yield from pool.map(one, cases.items())


def parity(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Losses of the same run on the CPU and twice on the device, in fp32; the two are equal byte for byte.

    Without dropout, whose random numbers differ between a CPU and a GPU.
    """
    network = made("tiny", options.out / "networks" / "no_dropout", dropout=0.0)

    def one(strategy: str) -> dict[str, Any]:
        words = [f"strategy={strategy}", f"model.name={network}", "task.subset=256",
                 f"train.max_steps={4 if options.tiny else 32}", "train.precision=fp32",
                 "train.eval_every=16"]  # fmt: skip
        logs = {}
        for name, device in (("first", options.device), ("second", options.device), ("cpu", "cpu")):
            place = options.out / "runs" / f"parity_{strategy}_{name}"
            done = ftrun([*words, f"device={device}", f"hydra.run.dir={place}"])
            if done.returncode:
                return {"strategy": strategy, "says": (done.stderr or done.stdout)[-1500:]}
            logs[name] = (place / "metrics.jsonl").read_text(encoding="utf-8")
        cpu, gpu = (losses(logs[name]) for name in ("cpu", "first"))
        apart = max(abs(a - b) / abs(a) for a, b in zip(cpu, gpu, strict=True))
        return {"strategy": strategy, "losses": len(cpu), "largest_relative_difference": apart,
                "twice_the_same": logs["first"] == logs["second"]}  # fmt: skip

    with ThreadPoolExecutor(options.workers) as pool:
        yield from pool.map(one, ("full", "lora", "ewc"))


def losses(log: str) -> list[float]:
    lines = [json.loads(line) for line in log.splitlines()]
    return [line[name] for line in lines for name in ("train_loss", "eval_loss") if name in line]


def syncs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How often and where the host waits for the device in an ordinary step, and how many kernels it has."""
    rows = embedded_rows(options.out / "rows.tsv", 64 if options.tiny else 2048)
    shape = "tiny" if options.tiny else "bert_base"
    network = made(shape, options.out / "networks" / shape)
    side = Path(__file__).with_name("syncs.py")
    for strategy in ("full",) if options.tiny else ("full", "lora"):
        words = [f"strategy={strategy}", *classes(rows), f"model.name={network}", "train.batch_size=32"]
        place = options.out / "runs" / f"syncs_{strategy}"
        command = [sys.executable, str(side), str(place), options.device, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        found = {"says": done.stderr[-1500:]} if done.returncode else json.loads(done.stdout.splitlines()[-1])
        yield {"shape": shape, "strategy": strategy} | found


SECTIONS = {  # most important first
    "ratio": ratio,
    "graphs": graphs,
    "syncs": syncs,
    "parity": parity,
    "smoke": smoke,
    "resume": resume,
    "full_batches": full_batches,
    "shapes": shapes,
    "more_ratios": more_ratios,
}


if __name__ == "__main__":
    main()
