"""Seconds of training with ftrun and with the Trainer on a GPU: the sections `ratio` and `more_ratios`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_parts import embedded_rows, ftrun, made

Speed = dict[str, dict[int, list[str]]]
SPEED: Speed = {  # batch sizes and strategies of each shape
    "bert_base": {32: ["full", "lora"], 256: ["full"]},
    "minilm": {32: ["full"]},
    "tiny": {16: ["full"]},
}
MORE: Speed = {  # what is measured last
    "bert_base": {256: ["lora", "linear_probe"], 32: ["linear_probe"]},
    "minilm": {32: ["lora"]},
    "tiny": {16: ["linear_probe"]},
}
OURS = {"ftrun": [], "ftrun not deterministic": ["train.deterministic=false"]}


def more_ratios(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """As `ratio`, of other batch sizes and strategies."""
    yield from ratio(options, MORE)


def ratio(options: argparse.Namespace, speed: Speed = SPEED) -> Iterator[dict[str, Any]]:
    """Seconds of training with ftrun and with the Trainer, at its defaults and at its best settings."""
    rows = embedded_rows(options.out / "rows.tsv", 64 if options.tiny else 2048)
    for shape in ["tiny"] if options.tiny else [shape for shape in speed if shape != "tiny"]:
        network = made(shape, options.out / "networks" / shape)
        for batch, strategies in speed[shape].items():
            for strategy in strategies:
                epochs = 1 if options.tiny else 2 if batch == 32 else 6
                common = {"train": str(rows), "validation": str(rows), "text": "text", "label": "label",
                          "model": str(network), "epochs": epochs, "batch_size": batch, "seed": 0,
                          "strategy": strategy, "device": options.device}  # fmt: skip
                case = {"shape": shape, "batch": batch, "strategy": strategy}
                name = " ".join(map(str, case.values()))
                if options.cases and not any(part in name for part in options.cases):
                    continue
                for side in ("defaults", "best"):
                    yield case | {"side": f"Trainer, {side}"} | trainer(common | {"best": side == "best"})
                for side, words in OURS.items():
                    place = options.out / "runs" / f"{name} {side}".replace(" ", "_")
                    yield case | {"side": side} | ours(common, words, place)


def trainer(words: dict[str, Any]) -> dict[str, Any]:
    side = Path(__file__).with_name("trainer_side.py")
    done = subprocess.run([sys.executable, str(side), json.dumps(words)], capture_output=True, text=True)
    if done.returncode:
        return {"says": done.stderr[-1500:]}
    return kept(json.loads(done.stdout.splitlines()[-1]))


def ours(words: dict[str, Any], more: list[str], place: Path) -> dict[str, Any]:
    from trainer_side import LORA, MAX_LENGTH, RATES

    settings = [
        f"strategy={words['strategy']}", "task=classify", f"task.train={words['train']}",
        f"task.validation={words['validation']}", f"task.test={words['validation']}",
        f"task.text={words['text']}", f"task.label={words['label']}", f"task.max_length={MAX_LENGTH}",
        f"model.name={words['model']}", f"device={words['device']}", f"train.epochs={words['epochs']}",
        f"train.batch_size={words['batch_size']}", f"train.lr={RATES[words['strategy']]}",
        f"hydra.run.dir={place}", *more,
    ]  # fmt: skip
    if words["strategy"] == "linear_probe":
        settings.append("solver=adamw")  # steps, as the Trainer takes
    if words["strategy"] == "lora":
        settings += [
            f"rank={LORA['rank']}",
            f"alpha={LORA['alpha']}",
            f"targets=[{','.join(LORA['targets'])}]",
        ]
    start = time.perf_counter()
    done = ftrun(settings)
    if done.returncode:
        return {"says": (done.stderr or done.stdout)[-1500:]}
    cost, result = (json.loads((place / name).read_text()) for name in ("cost.json", "result.json"))
    return kept({
        "seconds": cost["train_seconds"], "tokens": cost["tokens"], "padded_tokens": cost["padded_tokens"],
        "steps": result["steps"], "process": time.perf_counter() - start,
    } | {name: cost[name] for name in cost if "memory" in name})  # fmt: skip


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What both sides say, with a step's milliseconds."""
    names = ("seconds", "steps", "tokens", "padded_tokens", "process", "memory_bytes", "cpu_seconds")
    values = {name: round(found[name], 2) for name in names if name in found}
    return values | {"ms_per_step": round(1000 * found["seconds"] / found["steps"], 2)}
