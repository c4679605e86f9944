"""On a GPU: other shapes of networks, full batches, views of images, and a run that is killed and resumed.

The sections `resume`, `full_batches` and `shapes` of scripts/bench/gpu.py.
"""

from __future__ import annotations

import argparse
import csv
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_graphs import of_weights
from gpu_parts import classes, command, embedded_rows, environment, ftrun, made, splits, trained

TOKENS = 32_768  # of a full batch: 256 rows of 128
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # products and sums in bf16 a second (data sheets)
SIDE = {False: 224, True: 32}  # pixels; of tiny shapes


def resume(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A run that is killed between two checkpoints and resumed has the bytes of the one that is not."""
    rows = embedded_rows(options.out / "resume.tsv", 64 if options.tiny else 2048)
    shape = "tiny" if options.tiny else "minilm"
    steps = 20 if options.tiny else 200
    network = made(shape, options.out / "networks" / shape)
    words = [*classes(rows), "task.max_length=64", f"model.name={network}", f"device={options.device}",
             "train.batch_size=16", f"train.max_steps={steps}", f"train.checkpoint_every={steps // 10}",
             f"train.eval_every={steps // 2}"]  # fmt: skip
    for strategy in ("full",) if options.tiny else ("full", "lora"):
        whole, again = (options.out / "runs" / f"resume_{strategy}_{name}" for name in ("whole", "again"))
        done = ftrun([*words, f"strategy={strategy}", f"hydra.run.dir={whole}"])
        killed = killed_after_a_checkpoint([*words, f"strategy={strategy}", f"hydra.run.dir={again}"], again)
        resumed = ftrun(["resume", str(again)])
        if done.returncode or resumed.returncode:
            yield {"strategy": strategy, "says": (done.stderr or resumed.stderr)[-1500:]}
            continue
        metrics = [(run / "metrics.jsonl").read_bytes() for run in (whole, again)]
        yield {"strategy": strategy, "killed": killed, "metrics_equal": metrics[0] == metrics[1],
               "weights_equal": of_weights(whole / "model") == of_weights(again / "model")}  # fmt: skip


def killed_after_a_checkpoint(words: list[str], place: Path) -> bool:
    """Start a run and kill it once it has a checkpoint; False where it was done before."""
    running = subprocess.Popen(command(words), stdout=subprocess.DEVNULL, env=environment())
    while running.poll() is None and not any(place.glob("checkpoints/last/*")):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    return running.wait() == -signal.SIGKILL


def full_batches(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How much of the card's arithmetic BERT-base reaches in batches of 32,768 tokens without padding."""
    shape = "tiny" if options.tiny else "bert_base"
    rows, length = (32, 16) if options.tiny else (5120, 128)
    table = options.out / "long.tsv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerows([["text", "label"], *[[f"{'word ' * length}{row}", row % 2] for row in range(rows)]])
    batch = 8 if options.tiny else TOKENS // length
    network = made(shape, options.out / "networks" / shape)
    words = [*classes(table), f"task.max_length={length}", f"model.name={network}", "strategy=full",
             f"train.batch_size={batch}", f"train.epochs={2 if options.tiny else 5}", "baselines=false",
             f"device={options.device}"]  # fmt: skip
    for side, more in {"ftrun": [], "compiled": ["train.compile=true"]}.items():
        if side == "compiled" and options.device == "cpu":
            continue
        found = trained([*words, *more], options.out / "runs" / f"full_batches_{side}")
        if "seconds" in found:
            found |= arithmetic(found, layers_of(network))
        yield {"side": side, "shape": shape, "tokens_a_step": batch * length, **found}


def layers_of(network: Path) -> int:
    """The weights of the layers, which multiply every token."""
    from safetensors import safe_open

    with safe_open(network / "model.safetensors", "pt") as weights:
        names = [name for name in weights.keys() if ".layer." in name]
        return sum(weights.get_tensor(name).numel() for name in names)


def arithmetic(found: dict[str, Any], weights: int) -> dict[str, Any]:
    """6 operations for each weight of the layers and each token (Kaplan et al. 2020), beside the card's."""
    import torch

    done = 6 * weights * found["tokens"] / found["seconds"]
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((value for name, value in PEAK.items() if name in card), None)
    return {"operations_a_second": done} | (
        {} if peak is None else {"share_of_the_card": round(done / peak, 4)}
    )


def shapes(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A few steps of other architectures with random weights: milliseconds, memory, graphs, images."""
    rows = embedded_rows(options.out / "shapes.tsv", 64 if options.tiny else 2048)
    pictures = images(options.out / "images.npz", 64 if options.tiny else 1024, SIDE[options.tiny])
    for name, (task, network) in networks(options, rows, pictures).items():
        words = [*task, f"model.name={network}", "train.batch_size=32", "train.max_steps=60",
                 "baselines=false", f"device={options.device}"]  # fmt: skip
        if options.tiny:
            words += ["train.batch_size=8", "train.max_steps=3"]
        found = trained(words, options.out / "runs" / f"shapes_{name}")
        if name == "simclr" and "seconds" in found:
            size = 8 if options.tiny else 32
            found["images_a_second"] = round(size * found["steps"] / found["seconds"], 1)
        yield {"shape": name, **found}


def networks(options: argparse.Namespace, rows: Path, pictures: Path) -> dict[str, tuple[list[str], Path]]:
    """Tasks and checkpoints of random weights, with the tokenizer of tiny_bert or a plain image processor."""
    import transformers
    from transformers import AutoTokenizer

    from ftrun import ASSETS

    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "tiny_bert")
    side, tiny = SIDE[options.tiny], options.tiny
    size = {"height": side, "width": side}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "pad_token_id": 0}
    residual = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]} if tiny else {}
    texts, shown = [*classes(rows), "task.max_length=64"], ["task=image", *splits(pictures)]
    pixels = transformers.ViTImageProcessor(size=size)
    modern = {"vocab_size": 30522, **ends, **(small if tiny else {})}
    decoder = {"pad_token_id": 0, **({"n_embd": 32, "n_layer": 2, "n_head": 2} if tiny else {})}
    patches = {"image_size": side, "patch_size": 16, **(small if tiny else {})}
    made_of: dict[str, tuple[list[str], str, dict[str, Any], Any]] = {
        "modernbert": (texts, "ModernBert", modern, tokenizer),
        "gpt2": (texts, "GPT2", decoder, tokenizer),
        "vit": (shown, "ViT", patches, pixels),
        "resnet": (shown, "ResNet", residual, pixels),
        "simclr": (["task=simclr", *splits(pictures)], "ResNet", residual, pixels),
    }
    found = {}
    for name, (task, family, config, processor) in made_of.items():
        place = options.out / "networks" / name
        chosen = getattr(transformers, f"{family}Config")(**config)
        getattr(transformers, f"{family}Model")(chosen).save_pretrained(place)
        processor.save_pretrained(place)
        found[name] = task, place
    return found


def images(path: Path, count: int, side: int) -> Path:
    """Random images of two classes as arrays."""
    import numpy

    random = numpy.random.default_rng(0)
    x = random.integers(0, 256, (count, side, side, 3), dtype=numpy.uint8)
    numpy.savez(path, x=x, y=numpy.arange(count) % 2)
    return path
