"""CPU seconds of whole processes: a frozen backbone in the Trainer, and in ftrun with kept features.

    python scripts/bench/kept.py --train train.tsv --validation validation.tsv --model MiniLM

Each measurement is a process of its own, from its start to its end, imports and evaluations included; the
sides take turns, in another order each time. `plain` is train.keep=false, `cold` begins with an empty cache
of features, `warm` with that which the cold run left. The Trainer pads each batch to its longest row,
evaluates after each epoch and saves the best weights, as its documentation does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from trainer_side import MAX_LENGTH, read

CASES = {  # name → layers frozen (None: everything but the head), epochs
    "probe 3": (None, 3),
    "probe 10": (None, 10),
    "freeze 4, 3": (4, 3),
    "freeze 4, 10": (4, 10),
}
SIDES = ("Trainer", "plain", "cold", "warm")
Found = dict[str, dict[str, list[float]]]  # case → side → CPU seconds
RATES = {True: 1e-2, False: 1e-4}  # of a head alone, and of layers


def main() -> None:
    options = parse()
    if options.trainer is not None:
        train(json.loads(options.trainer))
        return
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as place:
        rows = read(options.train)[: options.rows]
        options.train = written(rows, options, Path(place) / "train.tsv")
        options.validation = str(Path(options.validation).resolve())
        found: Found = {case: {side: [] for side in SIDES} for case in options.cases}
        for number in range(options.repeats):
            for case in options.cases:
                one_round(
                    options,
                    case,
                    Path(place) / f"{number}-{list(CASES).index(case)}",
                    found[case],
                    number % 2 == 1,
                )
    report(found)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", help="tsv or csv with a header")
    parser.add_argument("--validation")
    parser.add_argument("--model", help="checkpoint directory of a BERT")
    parser.add_argument("--text", default="sentence", help="column")
    parser.add_argument("--label", default="label", help="column")
    parser.add_argument("--rows", type=int, default=2000, help="training rows, the first ones")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--threads", type=int, default=1, help="more: waiting threads burn CPU seconds too")
    parser.add_argument("--trainer", help=argparse.SUPPRESS)  # the settings of one training
    options = parser.parse_args()
    if options.trainer is None and not (options.train and options.validation and options.model):
        parser.error("--train, --validation and --model are needed")
    return options


def written(rows: list[dict[str, str]], options: argparse.Namespace, place: Path) -> str:
    lines = [f"{row[options.text]}\t{row[options.label]}" for row in rows]
    place.write_text("\n".join([f"{options.text}\t{options.label}", *lines]) + "\n", encoding="utf-8")
    return str(place)


def one_round(
    options: argparse.Namespace, case: str, place: Path, found: dict[str, list[float]], swap: bool
) -> None:
    """Every side once; `warm` always follows `cold`."""
    place.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    for side in ("cold", "warm", "plain", "Trainer") if swap else SIDES:
        trainer = side == "Trainer"
        command = trainer_words(options, case) if trainer else ftrun_words(options, case, side, place)
        if side == "cold":
            shutil.rmtree(place / "cache" / "ftrun" / "features", ignore_errors=True)
        found[side].append(cpu_seconds(command, place))
        print(f"  {case:12} {side:10} {found[side][-1]:.1f} CPU s", flush=True)


def cpu_seconds(command: list[str], place: Path) -> float:
    """Of a process and of those that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout}\n{result.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ftrun_words(options: argparse.Namespace, case: str, side: str, place: Path) -> list[str]:
    frozen, epochs = CASES[case]
    strategy = ["strategy=linear_probe"] if frozen is None else ["strategy=freeze", f"bottom={frozen}"]
    return [
        sys.executable, "-m", "ftrun", *strategy, "task=classify", f"task.train={options.train}",
        f"task.validation={options.validation}", f"task.test={options.validation}",
        f"task.text={options.text}", f"task.label={options.label}", f"task.max_length={MAX_LENGTH}",
        f"model.name={Path(options.model).resolve()}", "device=cpu", "baselines=false",
        f"train.epochs={epochs}", f"train.batch_size={options.batch_size}", "train.precision=fp32",
        f"train.lr={RATES[frozen is None]}", "train.eval_every=epoch", "train.checkpoint_every=epoch",
        "train.patience=null", f"train.keep={'false' if side == 'plain' else 'auto'}",
        f"hydra.run.dir={place / side}",
    ]  # fmt: skip


def trainer_words(options: argparse.Namespace, case: str) -> list[str]:
    frozen, epochs = CASES[case]
    names = ("train", "validation", "model", "text", "label", "batch_size")
    words = {name: getattr(options, name) for name in names} | {"frozen": frozen, "epochs": epochs}
    words["model"] = str(Path(options.model).resolve())
    return [sys.executable, str(Path(__file__).resolve()), "--trainer", json.dumps(words)]


def train(options: dict[str, Any]) -> None:
    """The Trainer's side: train with a frozen backbone, or with its lowest layers frozen, and evaluate."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, set_seed

    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options["model"])
    rows = {split: read(options[split]) for split in ("train", "validation")}
    names = sorted({row[options["label"]] for row in rows["train"]})
    model = AutoModelForSequenceClassification.from_pretrained(
        options["model"], num_labels=len(names), dtype="float32"
    )
    freeze(model, options["frozen"])

    def encoded(split: str) -> list[dict[str, Any]]:
        texts = [row[options["text"]] for row in rows[split]]
        batch = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
        labels = [names.index(row[options["label"]]) for row in rows[split]]
        return [{**{k: v[i] for k, v in batch.items()}, "labels": label} for i, label in enumerate(labels)]

    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(
            model,
            arguments(options, place),
            train_dataset=encoded("train"),
            eval_dataset=encoded("validation"),
            processing_class=tokenizer,
        )
        trainer.train()
        trainer.predict(encoded("validation"))


def freeze(model: Any, frozen: int | None) -> None:
    backbone = model.base_model
    parts = [backbone] if frozen is None else [backbone.embeddings, *backbone.encoder.layer[:frozen]]
    for part in parts:
        part.requires_grad_(False)


def arguments(options: dict[str, Any], place: str) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=place, seed=0, use_cpu=True, dataloader_pin_memory=False,
        per_device_train_batch_size=options["batch_size"],
        per_device_eval_batch_size=4 * options["batch_size"],
        num_train_epochs=options["epochs"], learning_rate=RATES[options["frozen"] is None],
        lr_scheduler_type="linear", warmup_steps=0.06, weight_decay=0.01, max_grad_norm=1.0,
        eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True, save_total_limit=1,
        logging_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip


def report(found: Found) -> None:
    """Means over the rounds, and how often a side's cost goes into the Trainer's, as a markdown table."""
    print("\n| case | side | CPU s | Trainer : side |\n|---|---|---|---|")
    for case, sides in found.items():
        for side, seconds in sides.items():
            ratios = [other / own for other, own in zip(sides["Trainer"], seconds, strict=True)]
            shown = f"{mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {case} | {side} | {mean(seconds):.1f} | {'1' if side == 'Trainer' else shown} |")


if __name__ == "__main__":
    main()
