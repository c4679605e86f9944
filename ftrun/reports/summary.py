"""What a run came to, read from its directory: the facts, their words, and the end of an experiment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.reports.breakdown import tables
from ftrun.runs.run import CONFIG, DETAILS, FAILURE, RESULT
from ftrun.settings.schema import FIXED

if TYPE_CHECKING:
    from rich.console import Console

    from ftrun.runs.run import Run

NEEDED = ("seed", "task", "model", "train", "strategy")  # to say anything about a run
PERCENT = (
    "accuracy",
    "next_accuracy",
    "top5_accuracy",
    "f1",
    "f1_weighted",
    "micro_f1",
    "macro_f1",
    "subset_accuracy",
    "precision",
    "recall",
    "exact_match",
)


def row_of(run: Run) -> dict[str, Any]:
    """The raw facts of a run, finished or not; None stands for what it does not have yet."""
    config, result = run.config, run.read_json(RESULT) or {}
    if missing := [name for name in NEEDED if name not in config]:
        raise ConfigError(f"{run.path / CONFIG} is not of ftrun: it has no {', '.join(missing)}")
    cost, failure = run.read_json("cost.json") or {}, run.read_json(FAILURE) or {}
    seen: dict[str, Any] = {}
    for line in run.metrics():
        seen.update(line)
    scores = {name: value for name, value in (result or seen).items() if name.startswith(("eval_", "test_"))}
    metric = metric_of(config, result, scores)
    trained, total = result.get("trained_parameters"), result.get("total_parameters")
    return {
        "run": str(run.path),
        "state": run.state,
        "task": " → ".join(result.get("sequence", [config["task"]["name"]])),
        "model": short(config["model"]["name"]),
        "strategy": config["strategy"],
        "seed": config["seed"],
        "trained_parameters": trained,
        "total_parameters": total,
        "trained_share": trained / total if trained is not None and total else None,
        "metric": metric,
        "eval_score": scores.get(f"eval_{metric}"),
        "test_score": scores.get(f"test_{metric}"),
        "best_step": result.get("best_step"),
        "step": result.get("best_step", seen.get("step")),  # how far it came, while there is no best
        **{name: cost.get(name) for name in ("seconds", "cpu_seconds", *SPEEDS)},
        "peak_memory_bytes": cost.get("peak_memory_bytes"),
        "device": cost.get("device"),
        **forgetting_of(result, metric),
        "failure": failure.get("message"),
        "config": config,
        **scores,
    }


def forgetting_of(result: dict[str, Any], metric: str | None) -> dict[str, Any]:
    """How much of the earlier tasks is lost, and in which unit; a sequence's own number where it is one."""
    sources = result.get("sources", [])
    unit = sources[-1]["metric"] if sources else metric
    return {"forgetting": result.get("forgetting"), "forgetting_metric": unit, "sources": sources}


def metric_of(config: dict[str, Any], result: dict[str, Any], scores: dict[str, Any]) -> str | None:
    """The metric that chose the best weights, without eval_; the first score where nothing names it."""
    known = [name[5:] for name in scores if name.startswith("eval_") and name != "eval_loss"]
    said = config["train"]["metric"] or result.get("metric")
    return said.removeprefix("eval_") if said else next(iter(known), None)


def lower_is_better(metric: str | None) -> bool:
    """Whether a smaller value of the metric is the better one."""
    return (metric or "").endswith(("loss", "perplexity", "bits_per_byte", "error", "mae", "rmse"))


def strategy_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that only this strategy has: rank, alpha, …"""
    return {name: value for name, value in config.items() if name not in FIXED}


def short(model: str) -> str:
    """The last part of a path, a Hub name or embedded:NAME."""
    return model.rstrip("/").replace(":", "/").rsplit("/", 1)[-1]


def words(settings: dict[str, Any]) -> str:
    """Settings as one would type them: rank=4 targets=[query,value]."""
    return " ".join(f"{name}={_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_value, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def score(value: float | None, metric: str | None, spread: float | None = None) -> str:
    """84.4 %, with its standard deviation 84.4 ± 0.3 %; a metric without an upper end as it is."""
    if value is None:
        return ""
    percent = metric is not None and metric.startswith(PERCENT)  # f1_person, too
    factor, form = (100, ".1f") if percent else (1, ".3f" if 0.01 <= abs(value) < 1000 else ".3g")
    text = format(factor * value, form)
    if spread is not None:
        text += f" ± {format(factor * spread, '.1f' if percent else '.2g')}"
    return f"{text} %" if percent else text


def share(value: float | None) -> str:
    """100 %, 3.38 %, 0.0673 %."""
    return "" if value is None else f"{100 * value:.3g} %"


def count(value: float | None) -> str:
    """512, 73.7 k, 2.18 M."""
    return "" if value is None else _scaled(value, ("", " k", " M", " G", " T"))


def size(value: float | None) -> str:
    """512 MB, 1.25 GB."""
    return "" if value is None else _scaled(value, (" B", " kB", " MB", " GB", " TB"))


def duration(seconds: float | None) -> str:
    """8.2 s, 72 s, 4:05 min, 2:05 h."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5999.5:
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d} min"
    return f"{round(seconds / 60) // 60}:{round(seconds / 60) % 60:02d} h"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}{units[-1]}"


def console() -> Console:
    """The terminal; a pipe is as wide as the table wants, NO_COLOR is heeded by rich."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False, soft_wrap=False)
    if not terminal.is_terminal and "COLUMNS" not in os.environ:
        terminal.width = 240
    return terminal


def show_result(run: Run) -> None:
    """The end of an experiment: what it scored, what it cost, where it lies and how to go on."""
    from rich.padding import Padding

    screen, row = console(), row_of(run)
    settings = words(strategy_settings(run.config))
    held = (run.config.get("protect") or {"name": "none"})["name"]
    title = f"{row['strategy']} {settings}".rstrip() + (f" protect={held}" if held != "none" else "")
    screen.print(
        f"\n{title} · {row['task']} · {row['model']} · seed {row['seed']}", style="bold", soft_wrap=True
    )
    card = run.read_json("data.json") or {}
    screen.print(Padding(_scores(row, card.get("baselines", {})), (1, 0, 1, 2)))
    for table in tables(run.read_json(DETAILS) or {}, score, run.path / DETAILS):
        screen.print(Padding(table, (0, 0, 1, 2)))
    screen.print(Padding(_facts(row, card), (0, 0, 1, 2)))
    screen.print(f"  compare: ftrun report {run.path.parent}", style="dim", soft_wrap=True)
    screen.print(f"  use:     {use_of(run)}\n", style="dim", soft_wrap=True)


def use_of(run: Run) -> str:
    """What to do with a run's model: answer rows, or train it for a task."""
    from ftrun.settings.resolve import load_class

    if load_class("tasks", run.config["task"]["kind"]).pretrains:
        return f"ftrun task=image task.train=PLACE strategy=linear_probe model.name={run.path}"
    return f"ftrun predict {run.path} --input FILE --output FILE"


SPEEDS = {"tokens_per_second": "tokens", "images_per_second": "images"}  # of training
BASELINES = {"majority": "most frequent label", "tfidf": "TF-IDF"}  # their scores on test


def _scores(row: dict[str, Any], baselines: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("eval", justify="right")
    table.add_column("test", justify="right")
    beside = [name for name in BASELINES if name in baselines]
    for name in beside:
        table.add_column(BASELINES[name], justify="right", style="dim")
    names = [name[5:] for name in row if name.startswith(("eval_", "test_")) and name[5:] != "score"]
    for name in dict.fromkeys([row["metric"] or "loss", *names]):
        values = [score(row.get(f"{split}_{name}"), name) for split in ("eval", "test")]
        values += [score(baselines[each].get(f"test_{name}"), name) for each in beside]
        table.add_row(name, *values, style="bold" if name == row["metric"] else None)
    return table


def better_baselines(row: dict[str, Any], baselines: dict[str, Any]) -> list[str]:
    """The baselines whose test score the run does not beat."""
    metric, sign = row["metric"], -1 if lower_is_better(row["metric"]) else 1
    found = {name: baselines.get(name, {}).get(f"test_{metric}") for name in BASELINES}
    ours = row["test_score"]
    return [
        name
        for name, theirs in found.items()
        if ours is not None and theirs is not None and sign * theirs >= sign * ours
    ]


def _facts(row: dict[str, Any], card: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for leak in card.get("leaks", []):
        some = f"{leak['rows']:,} of {leak['of']:,} {leak['split']} {leak['unit']}"
        said = f"{some} are also in {leak['other']}"
        table.add_row("LEAK", said, style="bold yellow")
    for name in better_baselines(row, card.get("baselines", {})):
        table.add_row("warning", f"{BASELINES[name]} scores no less on test", style="bold yellow")
    if row["trained_share"] is not None:
        numbers = f"{row['trained_parameters']:,} of {row['total_parameters']:,} weights"
        table.add_row("trained", f"{numbers} ({share(row['trained_share'])})")
    for past in row["sources"]:
        metric = past["metric"]
        before, after = (score(past[when][metric], metric) for when in ("before", "after"))
        lost = score(past["forgetting"], metric)
        table.add_row("forgotten", f"{lost} of {past['name']} ({metric} {before} → {after})")
    if row["step"] is not None:
        table.add_row("best step", f"{row['step']:,}")
    if row["seconds"] is not None:
        speed = "".join(f" · {count(row[name])} {unit}/s" for name, unit in SPEEDS.items() if row[name])
        memory = f" · peak memory {size(row['peak_memory_bytes'])}" if row["peak_memory_bytes"] else ""
        table.add_row("time", f"{duration(row['seconds'])} on {row['device']}{speed}{memory}")
    table.add_row("run", row["run"])
    return table
