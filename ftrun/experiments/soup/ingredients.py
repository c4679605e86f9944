"""Which finished runs can be averaged: of one base, on one task with the same rows, labels and head.

All is asked of their files, before anything heavy is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ftrun.errors import ConfigError
from ftrun.runs.artifacts import BOTTLENECKS, refuse_unfinished, told_beside
from ftrun.runs.content import read_object
from ftrun.runs.run import RESULT, Run
from ftrun.tasks.metrics.metric import lookup

# settings that say what a network is made of and from which weights it begins
NETWORK = ("name", "revision", "init", "layers", "width", "heads", "pooling", "load")
# of config.json: what the answers are and how a head stands on the network
HEAD = ("id2label", "target_mean", "target_scale", "ftrun_pooling", "problem_type", "vocab_size")


@dataclass(frozen=True)
class Ingredient:
    """A finished run and the score of its best weights on validation."""

    run: Run
    metric: str  # without eval_
    score: float
    loss: float

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better; among equal scores the lower loss."""
        return lookup(self.metric).sign * self.score, -self.loss


def ingredients(runs: list[Run]) -> list[Ingredient]:
    """The runs, the best on validation first, those that are equally good in the order given.

    ConfigError, in one line, where there is no average of them.
    """
    found = [ingredient(run) for run in runs]
    for other in found[1:]:
        refuse_unlike(found[0], other)
    return sorted(found, key=lambda each: each.rank, reverse=True)


def ingredient(run: Run) -> Ingredient:
    """A finished run with its score; ConfigError for one that has no weights or scores to be used here."""
    refuse_unfinished(run)
    if run.config.get("sequence"):
        raise ConfigError(f"{run.path} is a sequence of runs; take one of the runs in it")
    if not (run.model_dir / "config.json").is_file():
        raise ConfigError(f"{run.path} has no saved model, as one that was made to choose a rate has none")
    if (run.model_dir / BOTTLENECKS).is_file():
        raise ConfigError(
            f"{run.path}: {told_beside(run.model_dir)} and are no part of the network's weights, so there is"
            " no average of them; possible: runs of the other strategies"
        )
    result = run.read_json(RESULT) or {}
    metric = str(result.get("metric")).removeprefix("eval_")
    score, loss = (result.get(f"eval_{name}") for name in (metric, "loss"))
    if not isinstance(score, float) or math.isnan(score):
        raise ConfigError(f"{run.path} has no score on validation, by which runs are sorted")
    return Ingredient(run, metric, score, loss if isinstance(loss, float) else math.inf)


def refuse_unlike(first: Ingredient, other: Ingredient) -> None:
    """ConfigError that names the first thing in which two runs differ and must not."""
    mine, theirs = facts(first), facts(other)
    for name, value in mine.items():
        if value != theirs.get(name):
            raise ConfigError(
                f"{other.run.path} and {first.run.path} differ in {name} ({said(theirs.get(name))} and"
                f" {said(value)}); an average takes runs of one base, one task, the same rows and labels"
            )


def facts(each: Ingredient) -> dict[str, Any]:
    """What must be equal, by the name that a person knows it by."""
    run, config = each.run, each.run.config
    head = read_object(run.model_dir / "config.json") or {}
    found = {f"model.{name}": config["model"].get(name) for name in NETWORK[1:]}
    found["train.frozen_dtype"] = config["train"].get("frozen_dtype", "fp32")
    base = run.environment.get("network")
    found["their base checkpoint"] = config["model"]["name"] if base is None else base
    if config["model"]["init"] == "random":
        found["their random start, seed"] = config["seed"]
    task = {name: value for name, value in config["task"].items() if name not in ("subset", "name")}
    found |= {f"task.{name}": value for name, value in task.items()}
    if config["task"].get("subset") is None:  # else each seed has its own; see `greedy.refuse_other_rows`
        found["their rows"] = (run.read_json("data.json") or {}).get("fingerprint")
    labels = {name: head.get(name) for name in HEAD}
    return {
        "metric": each.metric,
        **found,
        **{f"{name} of model/config.json": v for name, v in labels.items()},
    }


def said(value: Any) -> str:
    """A value in a message; of a hash its beginning."""
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
