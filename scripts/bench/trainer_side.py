"""The Trainer's half of trainer_ratio.py: one training in a process of its own, its cost printed as JSON."""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

MAX_LENGTH = 128  # tokens
LORA = {"rank": 4, "alpha": 8, "targets": ["query", "key", "value", "attention.output.dense"]}
RATES = {"full": 1e-4, "lora": 1e-3, "linear_probe": 1e-3}  # peak learning rates
Rows = list[dict[str, str]]


def read(path: str | Path) -> Rows:
    with open(path, newline="", encoding="utf-8") as file:
        if str(path).endswith(".csv"):
            return list(csv.DictReader(file))
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def measured(options: dict[str, Any]) -> dict[str, Any]:
    """Train with the Trainer as its documentation does and measure `train()`."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, set_seed

    set_seed(options["seed"])
    tokenizer = AutoTokenizer.from_pretrained(options["model"])
    train = read(options["train"])
    names = sorted({row[options["label"]] for row in train})
    model = AutoModelForSequenceClassification.from_pretrained(
        options["model"], num_labels=len(names), dtype="float32"
    )
    if options["strategy"] == "lora":
        model = with_lora(model)
    if options["strategy"] == "linear_probe":
        model.base_model.requires_grad_(False)

    def encoded(rows: Rows) -> list[dict[str, Any]]:
        batch = tokenizer([row[options["text"]] for row in rows], truncation=True, max_length=MAX_LENGTH)
        labels = [names.index(row[options["label"]]) for row in rows]
        return [{**{k: v[i] for k, v in batch.items()}, "labels": label} for i, label in enumerate(labels)]

    rows, count = encoded(train), Counting(tokenizer)
    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(
            model,
            arguments(options, place),
            data_collator=count,
            train_dataset=rows,
            processing_class=tokenizer,
        )
        warm(trainer, rows[: options["batch_size"]])
        wall, cpu = time.perf_counter(), time.process_time()
        trainer.train()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        tokens, padded = count.tokens, count.padded
        accuracy = closed(trainer, encoded(read(options["validation"])), place)
    return {
        "cpu_seconds": round(cpu, 2),
        "seconds": round(wall, 2),
        "tokens": tokens,
        "padded_tokens": padded,
        "steps": trainer.state.global_step,
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "last_eval_accuracy": round(accuracy, 4),
        "weights_outside_embeddings": inner_weights(model),
    }


def closed(trainer: Any, rows: list[dict[str, Any]], place: str) -> float:
    """Evaluate, save and predict, as at the end of a training; the accuracy on the rows."""
    trainer.evaluate(rows)
    trainer.save_model(place)
    answers = trainer.predict(rows).predictions.argmax(-1)
    return mean(int(answer) == row["labels"] for answer, row in zip(answers, rows, strict=True))


def warm(trainer: Any, rows: list[dict[str, Any]]) -> None:
    """One batch forward and back on the device, because the first calls are slow."""
    model = trainer.model
    batch = trainer._prepare_inputs(Counting(trainer.processing_class)(rows))
    with trainer.compute_loss_context_manager():
        model(**batch).loss.backward()
    model.zero_grad()


def with_lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="SEQ_CLS", r=LORA["rank"], lora_alpha=LORA["alpha"], target_modules=LORA["targets"]
    )
    return get_peft_model(model, config)


def arguments(options: dict[str, Any], place: str) -> Any:
    from transformers import TrainingArguments

    gpu = options["device"] != "cpu"
    best = {"bf16": True, "train_sampling_strategy": "group_by_length"}
    return TrainingArguments(
        output_dir=place, seed=options["seed"], use_cpu=not gpu, dataloader_pin_memory=gpu,
        per_device_train_batch_size=options["batch_size"], num_train_epochs=options["epochs"],
        learning_rate=RATES[options["strategy"]], lr_scheduler_type="linear", warmup_steps=0.06,
        weight_decay=0.01, max_grad_norm=1.0, eval_strategy="no", save_strategy="no",
        logging_strategy="no", report_to="none", disable_tqdm=True,
        **(best if options.get("best") and gpu else {}),
    )  # fmt: skip


class Counting:
    """The Trainer's default collator, counting tokens and padding."""

    def __init__(self, tokenizer: Any):
        from transformers import DataCollatorWithPadding

        self.collate, self.tokens, self.padded = DataCollatorWithPadding(tokenizer), 0, 0

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        batch = self.collate(rows)
        self.tokens += int(batch["attention_mask"].sum())
        self.padded += batch["attention_mask"].numel()
        return batch


def inner_weights(model: Any) -> int:
    """Weights of the layers' matrices, which every token meets; neither embeddings nor adapters."""
    from torch import nn

    linear = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".layer." in name]
    return sum(m.weight.numel() for m in linear if min(m.weight.shape) > LORA["rank"])


if __name__ == "__main__":
    print(json.dumps(measured(json.loads(sys.argv[1]))))
