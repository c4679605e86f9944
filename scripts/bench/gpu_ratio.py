"""Seconds of training with ftrun and with the Trainer on a GPU: the sections `ratio` and `more_ratios`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_parts import classes, embedded_rows, kept, made, trained

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
        *classes(Path(words["train"])), f"strategy={words['strategy']}", f"task.max_length={MAX_LENGTH}",
        f"model.name={words['model']}", f"device={words['device']}", f"train.epochs={words['epochs']}",
        f"train.batch_size={words['batch_size']}", f"train.lr={RATES[words['strategy']]}",
        *more,
    ]  # fmt: skip
    if words["strategy"] == "linear_probe":
        settings.append("solver=adamw")  # steps, as the Trainer takes
    if words["strategy"] == "lora":
        settings += [
            f"rank={LORA['rank']}",
            f"alpha={LORA['alpha']}",
            f"targets=[{','.join(LORA['targets'])}]",
        ]
    return trained(settings, place)
