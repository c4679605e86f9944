"""The facts of one run, read from its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, UserError
from ftrun.reports.numbers import short
from ftrun.runs.content import NUMBER, SETTING, TEXT, WHOLE, fault
from ftrun.runs.run import CONFIG, FAILURE, RESULT

if TYPE_CHECKING:
    from ftrun.runs.run import Run

SPEEDS = {"tokens_per_second": "tokens", "images_per_second": "images"}  # of training
# settings without which a run is damaged
NEEDED: dict[str, Any] = {
    "seed": WHOLE, "task": {"name": TEXT, "kind": TEXT}, "model": {"name": TEXT}, "strategy": TEXT,
    "train": {"metric": TEXT, "layer_decay": NUMBER, **dict.fromkeys(("lr", "epochs", "patience"), SETTING)},
}  # fmt: skip


def row_of(run: Run) -> dict[str, Any]:
    """The raw facts of a run, finished or not; None for what it does not have yet."""
    config, result = config_of(run), run.read_json(RESULT) or {}
    cost, failure = run.read_json("cost.json") or {}, run.read_json(FAILURE) or {}
    seen: dict[str, Any] = {}
    for line in run.metrics():
        seen.update(line)
    scores = {name: value for name, value in (result or seen).items() if name.startswith(("eval_", "test_"))}
    if (run.path / RESULT).is_file() and not scores:
        raise UserError(f"{run.path / RESULT} is damaged: it has no scores")
    metric = metric_of(config, result, scores)
    trained, total = result.get("trained_parameters"), result.get("total_parameters")
    return {
        "run": str(run.path),
        "state": run.state,
        "task": " → ".join(result.get("sequence", [str(config["task"].get("name"))])),
        "model": short(str(config["model"].get("name"))),
        "strategy": config["strategy"],
        "seed": config["seed"],
        "trained_parameters": trained,
        "total_parameters": total,
        "train_rows": result.get("rows", {}).get("train"),
        "trained_share": trained / total if trained is not None and total else None,
        "metric": metric,
        "eval_score": scores.get(f"eval_{metric}"),
        "test_score": scores.get(f"test_{metric}"),
        "best_step": result.get("best_step"),
        "l2": result.get("l2"),  # of a head that was solved for
        "step": result.get("best_step", seen.get("step")),  # the latest one while there is no best
        **{name: cost.get(name) for name in ("seconds", "cpu_seconds", *SPEEDS)},
        "memory_bytes": cost.get("memory_bytes"),
        "device": cost.get("device"),
        **forgetting_of(result, metric),
        "failure": failure.get("message"),
        "config": config,
        "asked": run.asked,
        "edited": run.is_edited,
        **scores,
    }


def config_of(run: Run) -> dict[str, Any]:
    """Its settings; ConfigError where one that every run has is missing, or is of another type."""
    config = run.config
    if missing := [name for name in NEEDED if name not in config]:
        raise ConfigError(f"{run.path / CONFIG} is no configuration of ftrun: it lacks {', '.join(missing)}")
    if wrong := fault({name: config[name] for name in NEEDED}, NEEDED, ""):
        raise ConfigError(f"{run.path / CONFIG} is damaged: {wrong}")
    return config


def forgetting_of(result: dict[str, Any], metric: str | None) -> dict[str, Any]:
    """The forgetting of earlier tasks, its metric, and the scores before and after; of a sequence its own."""
    sources = result.get("sources", [])
    if sources and result.get("drift"):  # which is measured on the latest one
        sources = [*sources[:-1], sources[-1] | {"drift": result["drift"][-1]}]
    unit = sources[-1]["metric"] if sources else metric
    return {"forgetting": result.get("forgetting"), "forgetting_metric": unit, "sources": sources}


def metric_of(config: dict[str, Any], result: dict[str, Any], scores: dict[str, Any]) -> str | None:
    """The metric that chose the best weights, without eval_; the first score where none is named."""
    known = [name[5:] for name in scores if name.startswith("eval_") and name != "eval_loss"]
    chosen = config["train"].get("metric") or result.get("metric")
    return chosen.removeprefix("eval_") if chosen else next(iter(known), None)
