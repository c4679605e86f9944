"""The page of one run, on the terminal: its scores, what stands behind them, its cost, the next commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.data.baselines import NAMES
from ftrun.reports.diagnosing.diagnosis import diagnose
from ftrun.reports.diagnosing.evidence import Evidence
from ftrun.reports.diagnosing.forgetting import forgetting_line
from ftrun.reports.numbers import between, count, duration, score, share, size, words
from ftrun.reports.pages.breakdown import tables
from ftrun.reports.pages.console import console
from ftrun.reports.statistics.intervals import interval_of
from ftrun.reports.summary import SPEEDS, row_of
from ftrun.reports.verdicts.single import warnings_of
from ftrun.runs.artifacts import PROJECTION
from ftrun.runs.content import answers_of
from ftrun.runs.run import DETAILS, PREDICTIONS
from ftrun.runs.typed import command, prediction, setting
from ftrun.settings.read import FIXED

if TYPE_CHECKING:
    from rich.console import Console

    from ftrun.reports.diagnosing.diagnosis import Diagnosis
    from ftrun.runs.run import Run

WIDEST = 160  # columns in which a matrix is readable


def strategy_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The strategy's own settings: rank, alpha, …"""
    return {name: value for name, value in config.items() if name not in FIXED}


def show_result(run: Run) -> None:
    """The end of an experiment: its scores, its cost, its directory and the next commands."""
    from ftrun.reports.verdicts.slices import tables as slices

    screen, row = console(), row_of(run)
    card = run.read_json("data.json") or {}
    answered, metric = answers_of(run.path / PREDICTIONS), row["metric"]
    ends = interval_of(metric, answered)
    details = tables(run.read_json(DETAILS) or {}, score, run.path / DETAILS, _room(screen))
    scores = _scores(row, card.get("baselines", {}), ends)
    facts = _facts(row, card, diagnose(Evidence.of(run, metric, answered=answered)))
    _page(screen, run, row, [scores, *details, *slices(answered, metric), facts])
    screen.print(f"  compare: {command('report', run.path.parent)}", style="dim", soft_wrap=True)
    screen.print(f"  use:     {use_of(run)}\n", style="dim", soft_wrap=True)


def show_evaluation(
    run: Run, metric: str, scores: dict[str, float], answered: list[dict[str, Any]], details: Any, own: bool
) -> None:
    """Scores that are new, as the page of the run shows its own; `own` says that they are of its test split.

    `answered` are lines as in predictions.jsonl, `details` the tables behind the scores.
    """
    screen, known = console(), row_of(run)
    row = {name: value for name, value in known.items() if own or not name.startswith(("eval_", "test_"))}
    row |= {"metric": metric, **{f"test_{name}": value for name, value in scores.items()}}
    card = run.read_json("data.json") or {} if own else {}
    shown = tables(details or {}, score, run.path / DETAILS if own else None, _room(screen))
    _page(screen, run, row, [_scores(row, card.get("baselines", {}), interval_of(metric, answered)), *shown])


def _room(screen: Console) -> int:
    """Columns of a table of the page."""
    return min(screen.width, WIDEST) - 2


def _page(screen: Console, run: Run, row: dict[str, Any], parts: list[Any]) -> None:
    """What a run is, and the tables about it."""
    from rich.padding import Padding

    settings = words(strategy_settings(run.config))
    held = (run.config.get("protect") or {"name": "none"})["name"]
    title = f"{row['strategy']} {settings}".rstrip() + (f" protect={held}" if held != "none" else "")
    screen.print(
        f"\n{title} · {row['task']} · {row['model']} · seed {row['seed']}", style="bold", soft_wrap=True
    )
    for number, part in enumerate(parts):
        screen.print(Padding(part, (int(not number), 0, 1, 2), expand=False))


def use_of(run: Run) -> str:
    """The command that uses a run's model: to predict, or to train it for a task."""
    if (run.model_dir / PROJECTION).is_file():  # of contrastive learning, which predicts nothing
        own = setting("model.name", run.path)
        return command("task=image", "task.train=DATA", "strategy=linear_probe", own)
    return prediction(run.path)


def _scores(row: dict[str, Any], baselines: dict[str, Any], ends: tuple[float, float] | None) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("")
    splits = [split for split in ("eval", "test") if any(name.startswith(f"{split}_") for name in row)]
    for split in splits:
        table.add_column(split, justify="right")
    if ends is not None:
        table.add_column("95 % interval", justify="right")
    beside = [name for name in NAMES if name in baselines]
    for name in beside:
        table.add_column(NAMES[name], justify="right", style="dim")
    names = [name[5:] for name in row if name.startswith(("eval_", "test_")) and name[5:] != "score"]
    for name in dict.fromkeys([row["metric"] or "loss", *names]):
        values = [score(row.get(f"{split}_{name}"), name) for split in splits]
        if ends is not None:
            values.append(between(*ends, name) if name == row["metric"] else "")
        values += [score(baselines[each].get(f"test_{name}"), name) for each in beside]
        table.add_row(name, *values, style="bold" if name == row["metric"] else None)
    return table


def _facts(row: dict[str, Any], card: dict[str, Any], found: Diagnosis) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for word, line in warnings_of(row, card):
        table.add_row(word, line, style="bold yellow")
    if not found.healthy:
        table.add_row("diagnosis", found.text)
    if row["trained_share"] is not None:
        numbers = f"{row['trained_parameters']:,} of {row['total_parameters']:,} weights"
        table.add_row("trained", f"{numbers} ({share(row['trained_share'])})")
    for source in row["sources"]:
        table.add_row("forgetting", forgetting_line(source))
    if row.get("l2") is not None:
        table.add_row("L2 strength", f"{row['l2']:.3g}")
    elif row["step"] is not None:
        table.add_row("best step", f"{row['step']:,}")
    if row["seconds"] is not None:
        speed = "".join(f" · {count(row[name])} {unit}/s" for name, unit in SPEEDS.items() if row[name])
        memory = f" · peak memory {size(row['memory_bytes'])}" if row["memory_bytes"] else ""
        table.add_row("time", f"{duration(row['seconds'])} on {row['device']}{speed}{memory}")
    table.add_row("run", row["run"])
    return table
