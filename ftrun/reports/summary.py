"""The summary of one run, read from its directory: its row of facts, and the end of an experiment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.reports.breakdown import tables
from ftrun.reports.diagnosis import diagnose
from ftrun.reports.evidence import Evidence
from ftrun.reports.numbers import count, duration, score, share, short, size, words
from ftrun.runs.artifacts import PROJECTION
from ftrun.runs.run import CONFIG, DETAILS, FAILURE, RESULT
from ftrun.settings.read import FIXED
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from rich.console import Console

    from ftrun.reports.diagnosis import Diagnosis
    from ftrun.runs.run import Run

NEEDED = ("seed", "task", "model", "train", "strategy")  # settings without which a run is damaged


def row_of(run: Run) -> dict[str, Any]:
    """The raw facts of a run, finished or not; None for what it does not have yet."""
    config, result = run.config, run.read_json(RESULT) or {}
    if missing := [name for name in NEEDED if name not in config]:
        raise ConfigError(f"{run.path / CONFIG} is no configuration of ftrun: it lacks {', '.join(missing)}")
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
        "step": result.get("best_step", seen.get("step")),  # the latest one while there is no best
        **{name: cost.get(name) for name in ("seconds", "cpu_seconds", *SPEEDS)},
        "peak_memory_bytes": cost.get("peak_memory_bytes"),
        "device": cost.get("device"),
        **forgetting_of(result, metric),
        "failure": failure.get("message"),
        "config": config,
        "asked": run.asked,
        **scores,
    }


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
    chosen = config["train"]["metric"] or result.get("metric")
    return chosen.removeprefix("eval_") if chosen else next(iter(known), None)


def strategy_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The strategy's own settings: rank, alpha, …"""
    return {name: value for name, value in config.items() if name not in FIXED}


def console() -> Console:
    """The terminal; a pipe is 240 columns wide, and rich respects NO_COLOR."""
    from rich.console import Console

    terminal = Console(highlight=False, markup=False, soft_wrap=False)
    if not terminal.is_terminal and "COLUMNS" not in os.environ:
        terminal.width = 240
    return terminal


def show_result(run: Run) -> None:
    """The end of an experiment: its scores, its cost, its directory and the next commands."""
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
    screen.print(Padding(_facts(row, card, diagnose(Evidence.of(run, row["metric"]))), (0, 0, 1, 2)))
    screen.print(f"  compare: ftrun report {run.path.parent}", style="dim", soft_wrap=True)
    screen.print(f"  use:     {use_of(run)}\n", style="dim", soft_wrap=True)


def use_of(run: Run) -> str:
    """The command that uses a run's model: to predict, or to train it for a task."""
    if (run.model_dir / PROJECTION).is_file():  # of contrastive learning, which predicts nothing
        return f"ftrun task=image task.train=DATA strategy=linear_probe model.name={run.path}"
    return f"ftrun predict {run.path} --input FILE --output FILE"


SPEEDS = {"tokens_per_second": "tokens", "images_per_second": "images"}  # of training
WEAK = 0.5  # of a uniform guess's nats, at least: tiny_bert's own head has 0.46, one fitted on MiniLM 0.60
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


def baseline_warnings(row: dict[str, Any], baselines: dict[str, Any]) -> list[str]:
    """A sentence for each baseline whose test score the run does not beat."""
    metric, ours = row["metric"], row["test_score"]
    sign, lines = lookup(metric).sign, []
    for name in BASELINES:
        theirs = baselines.get(name, {}).get(f"test_{metric}")
        if ours is None or theirs is None or sign * theirs < sign * ours:
            continue
        figures = f"({metric} {score(theirs, metric)} against {score(ours, metric)})"
        if name == "majority":
            lines.append(
                f"no better than always answering the most frequent label on the test split {figures}"
            )
        else:
            verdict = "matches" if theirs == ours else "beats"
            lines.append(f"{BASELINES[name]} {verdict} this model on the test split {figures}")
    return lines


def forgetting_line(source: dict[str, Any]) -> str:
    """accuracy on reviews fell by 5.2 points (80.1 % → 74.9 %)."""
    metric, name = source["metric"], source["name"]
    before, after = source["before"][metric], source["after"][metric]
    what = f"pre-training {metric}" if name == "pretraining" else f"{metric} on {name}"
    change = f"{score(before, metric)} → {score(after, metric)}"
    if before == after:
        return f"{what} is unchanged ({score(after, metric)}){gauge(source)}"
    by = score(abs(after - before), metric).replace(" %", " points")
    return f"{what} {'rose' if after > before else 'fell'} by {by} ({change}){gauge(source)}"


def is_weak(source: dict[str, Any]) -> bool:
    """Whether the head that measures what is left knew too little of it."""
    return bool(source.get("gauge", {}).get("share", 0.0) >= WEAK)


def marked(forgetting: str, row: dict[str, Any]) -> str:
    """The forgetting of a row with the mark of a weak gauge."""
    weak = forgetting and any(map(is_weak, row.get("sources", [])))
    return f"{forgetting} (weak gauge)" if weak else forgetting


def gauge(source: dict[str, Any]) -> str:
    """Of a weak gauge how weak it is, and what needs no head."""
    if not is_weak(source):
        return ""
    found, last = source["gauge"], source.get("drift", {})
    head = "the head fitted on the frozen network" if found["fitted"] else "the checkpoint's head"
    guess = f"{100 * found['share']:.0f} % of the loss of a uniform guess ({found['uniform_loss']:.1f} nats)"
    text = f"; a weak gauge, for {head} had {guess} before training"
    cka, kept = last.get("cka"), last.get("neighbours")  # null where there is a single example
    known = [] if cka is None else [f"CKA of the last layer {cka:.2f}"]
    known += [] if kept is None else [f"{100 * kept:.0f} % of the nearest neighbours kept"]
    return f"{text}; without a head: {', '.join(known)}" if known else text


def _facts(row: dict[str, Any], card: dict[str, Any], found: Diagnosis) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for leak in card.get("leaks", []):
        some = f"{leak['rows']:,} of {leak['of']:,} {leak['split']} {leak['unit']}"
        table.add_row("LEAK", f"{some} are also in {leak['other']}", style="bold yellow")
    for line in baseline_warnings(row, card.get("baselines", {})):
        table.add_row("warning", line, style="bold yellow")
    if not found.healthy:
        table.add_row("diagnosis", found.text)
    if row["trained_share"] is not None:
        numbers = f"{row['trained_parameters']:,} of {row['total_parameters']:,} weights"
        table.add_row("trained", f"{numbers} ({share(row['trained_share'])})")
    for source in row["sources"]:
        table.add_row("forgetting", forgetting_line(source))
    if row["step"] is not None:
        table.add_row("best step", f"{row['step']:,}")
    if row["seconds"] is not None:
        speed = "".join(f" · {count(row[name])} {unit}/s" for name, unit in SPEEDS.items() if row[name])
        memory = f" · peak memory {size(row['peak_memory_bytes'])}" if row["peak_memory_bytes"] else ""
        table.add_row("time", f"{duration(row['seconds'])} on {row['device']}{speed}{memory}")
    table.add_row("run", row["run"])
    return table
