"""Suggestions for a setting that does not exist: ftrun's name for it, its strategy, or a similar name."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ftrun import CONF
from ftrun.errors import near

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# settings of transformers, peft, axolotl and LLaMA-Factory -> their names in ftrun
ELSEWHERE = {
    "learning_rate": "train.lr",
    "batch_size": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "per_device_train_batch_size": "train.batch_size (train.micro_batch is the part that fits into memory)",
    "per_device_eval_batch_size": "train.micro_batch (evaluation chooses its own batch size)",
    "micro_batch_size": "train.micro_batch",
    "gradient_accumulation_steps": "train.batch_size divided by train.micro_batch",
    "num_train_epochs": "train.epochs",
    "num_epochs": "train.epochs",
    "warmup_ratio": "train.warmup (below 1 a share of all steps)",
    "warmup_steps": "train.warmup (from 1 on a number of steps)",
    "num_warmup_steps": "train.warmup (from 1 on a number of steps)",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "scheduler": "schedule",
    "max_grad_norm": "train.clip",
    "gradient_clipping": "train.clip",
    "grad_clip": "train.clip",
    "layerwise_lr_decay": "train.layer_decay",
    "llrd": "train.layer_decay",
    "queue_size": "task.queue",
    "wd": "train.weight_decay",
    "r": "rank (with strategy=lora)",
    "lora_r": "rank (with strategy=lora)",
    "lora_rank": "rank (with strategy=lora)",
    "lora_alpha": "alpha (with strategy=lora)",
    "lora_dropout": "dropout (with strategy=lora)",
    "target_modules": "targets (with strategy=lora)",
    "lora_target": "targets (with strategy=lora)",
    "lora_target_modules": "targets (with strategy=lora)",
    "lora_target_linear": "targets=all (with strategy=lora)",
    "use_dora": "variant=dora (with strategy=lora)",
    "peft_use_dora": "variant=dora (with strategy=lora)",
    "use_rslora": "variant=rslora (with strategy=lora)",
    "peft_use_rslora": "variant=rslora (with strategy=lora)",
    "loraplus_lr_ratio": "ratio (with strategy=lora variant=lora_plus)",
    "teacher_model": "teacher (with strategy=distil)",
    "num_iterations": "train.epochs (with strategy=setfit)",
    "init_lora_weights": "variant=pissa (with strategy=lora)",
    "pissa_init": "variant=pissa (with strategy=lora)",
    "finetuning_type": "strategy",
    "adapter": "strategy",
    "peft_type": "strategy",
    "freeze_trainable_layers": "bottom or layers (with strategy=freeze)",
    "unfrozen_parameters": "trained (with strategy=freeze)",
    "model_ema": "train.average=ema",
    "use_ema": "train.average=ema",
    "model_ema_decay": "train.ema_decay",
    "base_model": "model.name",
    "model_name": "model.name",
    "model_name_or_path": "model.name",
    "model_revision": "model.revision",
    "pooling_mode": "model.pooling",
    "trust_remote_code": "model.trust_remote_code",
    "dataset": "task, or task.train for a file",
    "datasets": "task, or task.train for a file",
    "dataset_name": "task, or task.train=hub:NAME:SPLIT",
    "task_name": "task",
    "train_file": "task.train",
    "data_path": "task.train",
    "validation_file": "task.validation",
    "eval_file": "task.validation",
    "test_file": "task.test",
    "text_column": "task.text",
    "text_column_name": "task.text",
    "text_column_names": "task.text",
    "field_messages": "task.text",
    "label_column": "task.label",
    "label_column_name": "task.label",
    "label_names": "task.labels",
    "max_len": "task.max_length",
    "max_seq_len": "task.max_length",
    "max_seq_length": "task.max_length",
    "cutoff_len": "task.max_length",
    "sequence_len": "task.max_length",
    "model_max_length": "task.max_length",
    "truncation": "task.long",
    "group_by_length": "train.sampling",
    "train_sampling_strategy": "train.sampling",
    "max_samples": "task.subset",
    "max_train_samples": "task.subset",
    "metric_for_best_model": "train.metric",
    "greater_is_better": "train.metric (every metric knows its direction)",
    "early_stopping": "train.patience",
    "early_stopping_patience": "train.patience",
    "eval_steps": "train.eval_every",
    "eval_strategy": "train.eval_every",
    "evaluation_strategy": "train.eval_every",
    "evals_per_epoch": "train.eval_every",
    "save_steps": "train.checkpoint_every",
    "save_strategy": "train.checkpoint_every",
    "saves_per_epoch": "train.checkpoint_every",
    "bf16": "train.precision=bf16",
    "fp16": "train.precision=fp16",
    "mixed_precision": "train.precision",
    "dtype": "train.precision",
    "torch_dtype": "train.precision",
    "report_to": "tracker",
    "logger": "tracker",
    "use_wandb": "tracker=wandb",
    "use_cpu": "device=cpu",
    "no_cuda": "device=cpu",
    "accelerator": "device",
    "output_dir": "hydra.run.dir",
    "overwrite_output_dir": "hydra.run.dir (a run never overwrites another)",
    "resume_from_checkpoint": "the command ftrun resume RUN",
    "auto_resume_from_checkpoints": "the command ftrun resume RUN",
    "random_seed": "seed",
    "data_seed": "seed",
    "torch_compile": "train.compile",
    "gradient_checkpointing": "train.checkpoint_layers",
    "activation_checkpointing": "train.checkpoint_layers",
    "tf32": "train.precision=tf32",
    "attn_implementation": "model.attention",
    "load_in_4bit": "model.load=4bit",
    "load_in_8bit": "model.load=8bit",
    "quantization": "model.load",
    "full_determinism": "train.deterministic",
}
LAUNCHER = "hydra.launcher."  # of the engine that makes the runs of a sweep
RANGES = "search"  # what `ftrun compare --search` draws from
KEY = re.compile(r"( *)([A-Za-z_]\w*): ?(.*)")


def keys(path: Path) -> dict[str, str]:
    """The dotted names of a YAML file's settings, two levels deep, with the rest of their lines.

    Ranges of a search are none.
    """
    found, parent = {}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        match = KEY.match(line)
        if match and not match[1]:
            parent = match[2]
        if not match or parent == RANGES:
            continue
        if not match[1]:
            found[parent] = match[3]
        elif len(match[1]) == 2:
            found[f"{parent}.{match[2]}"] = match[3]
    return found


def owner(name: str) -> str | None:
    """The strategy that has this setting, if any."""
    for path in sorted((CONF / "strategy").glob("*.yaml")):
        if name in keys(path).keys() - {"strategy", "train", "model"}:
            return path.stem
    return None


def kinds_with(name: str) -> list[str]:
    """The kinds of task that have this setting."""
    files = sorted((CONF / "task").glob("*.yaml"))
    return [path.stem for path in files if {"kind", name} <= keys(path).keys()]


def aside(name: str) -> tuple[bool, str]:
    """A sort key that puts a run's own settings before those of source, protect and compose."""
    return name.startswith(("source.", "protect.", "compose.")), name


def everywhere() -> set[str]:
    """Every setting in config.yaml or in a group of options."""
    found = {name for name in keys(CONF / "config.yaml") if not name.startswith(("defaults", "hydra"))}
    for group in ("task", "model", "schedule", "compose", "protect", "source", "pretrain"):
        found.add(group)
        for path in (CONF / group).glob("*.yaml"):
            found |= {f"{group}.{name}" for name in keys(path) if "." not in name}
    return found | {"strategy"}


def of_launchers(name: str, own: set[str]) -> str:
    """The end of a message about a setting that a launcher does not have: which has it, or one like it.

    `own` are those of the chosen one, which come first.
    """
    homes: dict[str, list[str]] = {}
    for path in sorted((CONF / "hydra" / "launcher").glob("*.yaml")):
        if "The former name" not in path.read_text(encoding="utf-8"):
            for key in keys(path).keys() - {"_target_"}:
                homes.setdefault(key, []).append(path.stem)
    if name in homes:
        return f"; it belongs to hydra/launcher={', '.join(homes[name])}"
    for group in (own & homes.keys(), homes.keys() - own):
        names = sorted(group, key=lambda key: (not key.startswith(name), len(key), key))
        parts = [key for key in names if len(name) > 2 and (name in key or key in name)]
        if found := [*get_close_matches(name, names, n=1), *parts]:
            other = "" if found[0] in own else f" of hydra/launcher={', '.join(homes[found[0]])}"
            return f"; did you mean '{LAUNCHER}{found[0]}'{other}?"
    return ""


def meant(name: str, known: Iterable[str] = ()) -> str:
    """The end of an error message about an unknown setting: its strategy, its name in ftrun or a similar one.

    `known` are names that exist only in this run, such as the settings of its strategy.
    """
    last = name.split(".")[-1]
    if name.startswith(LAUNCHER):
        return of_launchers(last, {each.removeprefix(LAUNCHER) for each in known})
    possible = (everywhere() | set(known)) - {name}
    if name.startswith("pretrain."):
        inner = {f"pretrain.{each}" for each in possible if each.startswith(("task.", "train."))}
        possible = inner | {each for each in possible if each.startswith("pretrain.")}
    group = any(each.startswith(f"{last}.") for each in possible) and not (CONF / last).is_dir()
    if last in possible and "." not in last and last != name and not group:  # train= has no value
        return f"; write {last}=, without {name.removesuffix(last)}"
    if strategy := owner(last):
        return f"; it belongs to strategy={strategy}" + ("" if last == name else f", write {last}=")
    if last in ELSEWHERE:
        return f"; ftrun calls it {ELSEWHERE[last]}"
    if name.startswith("task.") and (kinds := kinds_with(last)):
        return f"; these tasks have it: {', '.join(kinds)}"
    same = sorted((place for place in possible if place.split(".")[-1] == last), key=aside)
    if same:
        return f"; did you mean '{same[0]}'?"
    leaves = {place.split(".")[-1]: place for place in possible}
    close = near(last, leaves)
    return near(name, possible) or (close and f"; did you mean '{leaves[close.split(chr(39))[1]]}'?")
