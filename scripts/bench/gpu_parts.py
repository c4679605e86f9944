"""What the sections of scripts/bench/gpu.py share: rows, networks of random weights, and ftrun's command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHAPES = {  # hidden size, layers, heads
    "bert_base": (768, 12, 12),
    "minilm": (384, 6, 12),
    "tiny": (32, 2, 2),
}


def embedded_rows(path: Path, count: int) -> Path:
    """Rows of the embedded docstrings as a tsv."""
    from ftrun.data.docstrings import rows

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(["text", "label"])
        for row in rows("train")[:: max(1, 2048 // count)]:
            writer.writerow([" ".join(row["text"].split()), row["label"]])
    return path


def made(shape: str, place: Path, dropout: float = 0.1) -> Path:
    """A BERT of this shape with random weights and the tokenizer of tiny_bert."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    from ftrun import ASSETS

    width, layers, heads = SHAPES[shape]
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny_bert")
    config = BertConfig(vocab_size=30522, hidden_size=width, num_hidden_layers=layers,
                        num_attention_heads=heads, intermediate_size=4 * width,
                        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)  # fmt: skip
    BertForMaskedLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def decoder(place: Path) -> Path:
    """A small GPT-2 with random weights and the tokenizer of tiny_bert."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from ftrun import ASSETS

    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny_bert")
    config = GPT2Config(
        vocab_size=30522, n_embd=256, n_layer=4, n_head=4, pad_token_id=tokenizer.pad_token_id
    )
    GPT2LMHeadModel(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def splits(train: Path, rest: Path | None = None) -> list[str]:
    """The files of a task; without others to score, those that are trained on: speed needs no other."""
    return [f"task.train={train}", *(f"task.{split}={rest or train}" for split in ("validation", "test"))]


def classes(train: Path, rest: Path | None = None) -> list[str]:
    """The settings for tables as `embedded_rows` makes them."""
    return ["task=classify", *splits(train, rest), "task.text=text", "task.label=label"]


def trained(words: list[str], place: Path) -> dict[str, Any]:
    """What a run in this directory costs, or what it says where it fails."""
    start = time.perf_counter()
    done = ftrun([*words, f"hydra.run.dir={place}"])
    if done.returncode:
        return {"says": (done.stderr or done.stdout)[-1500:]}
    cost, result = (json.loads((place / name).read_text()) for name in ("cost.json", "result.json"))
    own = {name: cost[name] for name in cost if "memory" in name or name in ("tokens", "padded_tokens")}
    found = {
        "seconds": cost["train_seconds"],
        "steps": result["steps"],
        "process": time.perf_counter() - start,
    }
    return kept(found | own) | ({"graphs": cost["graphs"]} if "graphs" in cost else {})


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What both sides say, with a step's milliseconds."""
    names = ("seconds", "steps", "tokens", "padded_tokens", "process", "memory_bytes", "cpu_seconds")
    values = {name: round(found[name], 2) for name in names if name in found}
    return values | {"ms_per_step": round(1000 * found["seconds"] / found["steps"], 2)}


def ftrun(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(words), capture_output=True, text=True, env=environment())


def command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "ftrun", *words]


def environment() -> dict[str, str]:
    """That of each run: several are side by side."""
    return {**os.environ, "OMP_NUM_THREADS": "2"}
