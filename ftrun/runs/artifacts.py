"""What a finished run left in model/, read before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, UserError
from ftrun.runs.content import read_object
from ftrun.runs.typed import continuing

if TYPE_CHECKING:
    from ftrun.runs.run import Run

LORA = "adapter_config.json"  # as peft names them
LORA_WEIGHTS = "adapter_model.safetensors"
BOTTLENECKS = "adapter.json"
BESIDE = {  # by the kind in this file: what stands beside the network, and cannot become part of its weights
    "bottlenecks": "the layers of strategy=adapter hold a non-linearity",
    "prompt": "the vectors of strategy=prompt stand in front of a text's own",
    "prefix": "the keys and values of strategy=prefix stand in front of a text's own",
}
UPDATES = {"LORA": "a LoRA", "IA3": "an (IA)³", "VERA": "a VeRA"}  # by peft's names for them
BASE = "base"  # beside adapters: the weights of the checkpoint that they belong to
TOLERANCE = 1e-4  # of a logit, between a LoRA beside the weights and the network that it is folded into
MERGED = "merged"  # in a run directory: the network with its LoRA folded in
PROJECTION = "projection.safetensors"
BASELINES = "baselines.jsonl"  # the answers of the data card's baselines to the test rows


def refuse_unfinished(run: Run) -> None:
    """ConfigError for a run that has no model yet."""
    if not run.finished:
        raise ConfigError(f"{run.path} is not finished, so it has no model yet; {continuing(run.path)}")


def told_beside(directory: Path) -> str:
    """What stands beside the network of a directory that only this package reads, in words."""
    return BESIDE.get(str((read_object(directory / BOTTLENECKS) or {}).get("kind")), BESIDE["bottlenecks"])


def low_rank(run: Run, curved: str) -> dict[str, Any]:
    """The peft settings of a finished run's LoRA.

    Raises ConfigError, in one line, for a run that is not finished or damaged and for one that trained
    something else; `curved` says what cannot be done with what only stands beside weights.
    """
    refuse_unfinished(run)
    if run.config.get("sequence"):
        raise ConfigError(f"{run.path} is a sequence; take one of the runs in it")
    place = run.model_dir
    if (place / BOTTLENECKS).is_file():
        raise ConfigError(f"{run.path}: {told_beside(place)}, {curved}")
    if not (place / LORA).is_file():
        raise ConfigError(f"{run.path}: {why_no_update(run)}")
    for name in (LORA_WEIGHTS, "config.json"):
        if not (place / name).is_file():
            raise ConfigError(f"{run.path} is damaged: model/{name} is missing")
    try:
        settings = read_object(place / LORA) or {}
    except UserError as error:
        raise ConfigError(str(error)) from None
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str):
        raise ConfigError(f"{place / LORA} is damaged: it names no base_model_name_or_path")
    if Path(base).is_absolute() and not Path(base).is_dir() and not (place / BASE).is_dir():
        raise ConfigError(
            f"{run.path}: the checkpoint it was trained on is gone: {base}; put it back, "
            f"or write its new path into {place / LORA}"
        )
    return settings


def update_in(place: Path) -> str:
    """What the layers by peft in a directory are, with their article; LoRAs where nothing says."""
    kind = (read_object(place / LORA) or {}).get("peft_type")
    return UPDATES.get(str(kind), UPDATES["LORA"])


def why_no_update(run: Run) -> str:
    """Why a run's model/ holds no low-rank update."""
    if not (run.model_dir / "config.json").is_file():
        return "it is damaged: model/config.json is missing"
    whole = any(run.model_dir.glob("model*.safetensors"))
    if not whole or (run.model_dir / LORA_WEIGHTS).is_file():
        return f"it is damaged: model/{LORA} is missing"
    strategy = run.config.get("strategy")
    if run.config["model"].get("init") == "random":
        return (
            f"strategy={strategy} on random weights left no low-rank update; model/ is the whole network,"
            " with what was trained beside the weights folded in"
        )
    return (
        f"strategy={strategy} trained the weights themselves and left no low-rank update; "
        "model/ is the whole network"
    )
