"""CUDA graphs against eager passes on a GPU, by ftrun's own command: the same bytes, and how much faster.

The section `graphs` of scripts/bench/gpu.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_parts import classes, decoder, embedded_rows, ftrun, made, splits

WAYS = ("auto", "false")  # of train.graphs
STRATEGIES = {"full": [], "lora": [], "freeze": [], "gradual_unfreeze": ["every=0.15"]}
OTHERS = {  # on the smallest shape: what is beside the usual way
    "micro-batches of 12": ["strategy=full", "train.micro_batch=12"],
    "balance=weights": ["strategy=full", "task.balance=weights"],
    "fp32": ["strategy=full", "train.precision=fp32"],
    "fp16, eager": ["strategy=full", "train.precision=fp16"],
}
HIDDEN = ["task=mlm", "task.corpus=docstrings", "task.block=64", "train.batch_size=32"]
DECODER = ["task=lm", "model=gpt2_small_random", "task.vocab=512", "task.block=64", "train.batch_size=8"]


def graphs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Bits of many runs side by side; then milliseconds of a step of those that run alone."""
    shapes = ["tiny"] if options.tiny else ["bert_base", "minilm"]
    train = embedded_rows(options.out / "graphs_train.tsv", 64 if options.tiny else 2048)
    rest = embedded_rows(options.out / "graphs_rest.tsv", 16 if options.tiny else 64)
    networks = {shape: made(shape, options.out / "networks" / shape) for shape in shapes}
    networks["decoder"] = decoder(options.out / "networks" / "decoder")
    texts = [*classes(train, rest), "task.max_length=64"]

    def words(shape: str, *more: str) -> list[str]:
        return [*texts, f"model.name={networks[shape]}", "train.batch_size=32", *more]

    steps = 6 if options.tiny else 40
    bits = {
        f"{shape} {strategy}": words(shape, f"strategy={strategy}", *more)
        for shape in shapes
        for strategy, more in STRATEGIES.items()
    }
    bits |= {f"{shapes[-1]}, {name}": words(shapes[-1], *more) for name, more in OTHERS.items()}
    bits["decoder"] = [*DECODER, *splits(train, rest)]
    bits["hidden words"] = [*HIDDEN, f"model.name={networks[shapes[-1]]}"]
    bits["decoder, classes"] = words("decoder", "strategy=full")
    if options.device == "cpu":
        del bits[f"{shapes[-1]}, fp16, eager"]
    if options.cases:
        bits = {name: own for name, own in bits.items() if any(part in name for part in options.cases)}
    with ThreadPoolExecutor(max(options.workers, 1)) as pool:
        found = pool.map(lambda item: compared(options, item, steps), bits.items())
        yield from ({name: value for name, value in each.items() if name != "ms"} for each in found)
    for shape in shapes:  # alone
        more = [*words(shape, "strategy=full")]
        yield compared(options, (f"{shape} full, timed", more), 6 if options.tiny else 150)


def compared(options: argparse.Namespace, case: tuple[str, list[str]], steps: int) -> dict[str, Any]:
    """Both ways in one process, one after the other."""
    name, words = case
    place = options.out / "runs" / ("graphs_" + "".join(c if c.isalnum() else "_" for c in name))
    common = ["baselines=false", "train.lr=1e-4", f"train.max_steps={steps}", f"train.eval_every={steps}",
              f"train.checkpoint_every={steps}", f"device={options.device}"]  # fmt: skip
    done = ftrun(["-m", *words, *common, f"train.graphs={','.join(WAYS)}", f"hydra.sweep.dir={place}",
                  "hydra.sweep.subdir=${hydra.job.num}"])  # fmt: skip
    if done.returncode:
        return {"case": name, "says": (done.stderr or done.stdout)[-1500:]}
    runs = [place / str(number) for number in range(len(WAYS))]
    costs = [json.loads((run / "cost.json").read_text()) for run in runs]
    counts = costs[0].get("graphs", {})
    lines = [line for line in done.stdout.splitlines() if "CUDA graphs" in line]
    same = {
        "metrics_equal": len({(run / "metrics.jsonl").read_bytes() for run in runs}) == 1,
        "weights_equal": len({of_weights(run) for run in runs}) == 1,
    }
    ms = {way: round(1000 * cost["train_seconds"] / steps, 2) for way, cost in zip(WAYS, costs, strict=True)}
    if counts.get("replayed"):  # the first passes of each length are eager ones
        eager = counts["eager"] + counts["captured"]
        replays = costs[0]["train_seconds"] - eager * ms["false"] / 1000
        ms["replayed"] = round(1000 * replays / counts["replayed"], 2)
    memory = {f"memory_bytes, {way}": cost["memory_bytes"] for way, cost in zip(WAYS, costs, strict=True)}
    return {"case": name, **same, "passes": counts, "ms": ms, **memory, "said": lines[:1]}


def of_weights(run: Path) -> str:
    """A hash of the weights and moments of a run's checkpoints and of its saved model."""
    digest = hashlib.sha256()
    for file in sorted(run.rglob("*.safetensors")):
        digest.update(str(file.relative_to(run)).encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
