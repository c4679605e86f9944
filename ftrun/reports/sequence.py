"""The result of a sequence of tasks: its score matrix as a table and a heat map, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError
from ftrun.reports.numbers import score
from ftrun.reports.pages.console import console
from ftrun.runs.run import DETAILS, RESULT, Run, is_run
from ftrun.settings.read import named_apart
from ftrun.tasks.metrics import continual
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

Result = dict[str, Any]


def show(directory: Run, result: Result) -> None:
    """The matrix as a table and a plot, and the four figures that summarise it."""
    screen = console()
    metric = result["metric"].removeprefix("eval_")
    title = f"{result['strategy']} · {' → '.join(result['sequence'])} · scenario {result['scenario']}"
    screen.print(f"\n{title} · {metric}\n", style="bold", soft_wrap=True)
    found = ceilings(directory, result)
    screen.print(table_of(result, metric, found))
    for name in ("average", "forgetting", "backward_transfer", "forward_transfer"):
        value = result.get(name)
        text = "undefined, as each task has its own head" if value is None else score(value, metric)
        screen.print(f"  {name.replace('_', ' '):<20}{text}")
    for ceiling in found:
        for line in ceiling.lines(directory, result, metric):
            screen.print(f"  {line}", soft_wrap=True)
    heat_map(result, directory.path / "matrix.png", metric)
    screen.print(
        f"\n  run       {directory.path}\n  plot      {directory.path / 'matrix.png'}\n", soft_wrap=True
    )


@dataclass
class Ceiling:
    """One network that was trained on all tasks of a sequence together."""

    name: str
    run: Run
    scores: list[float]  # of each task's test split

    def lines(self, sequence: Run, result: Result, metric: str) -> list[str]:
        """How far the sequence stays below it, and what steps it took."""
        sign = lookup(metric).sign
        gains = [[None if value is None else sign * value for value in row] for row in result["matrix"]]
        behind = continual.intransigence(gains, [sign * value for value in self.scores])
        places = [sequence.path / f"{number}-{name}" for number, name in enumerate(result["sequence"], 1)]
        steps = [(Run(place).read_json(RESULT) or {}).get("steps", 0) for place in places]
        own = self.run.result("steps")["steps"]
        return [
            f"{'intransigence':<20}{score(behind, metric)} (right after its training a task is so far below"
            f" {self.name})",
            f"{self.name}: {own:,} steps on all tasks together, the sequence"
            f" {' + '.join(f'{number:,}' for number in steps)}; forgetting is not defined for it",
        ]


def ceilings(directory: Run, result: Result) -> list[Ceiling]:
    """The finished joint runs beside a sequence: of the same tasks, scenario, network and seed."""
    tasks, metric = named_apart(directory.config["sequence"]), result["metric"].removeprefix("eval_")
    found = []
    for path in sorted(directory.path.resolve().parent.iterdir()):
        if not (path.is_dir() and is_run(path)):
            continue
        try:
            run = Run.open(path)
            theirs = run.config["task"]
            like = network_of(run) == network_of(directory) and run.config["seed"] == directory.config["seed"]
            joint = theirs.get("tasks") == tasks and theirs.get("scenario") == result["scenario"]
            if joint and like and run.finished:
                each = (run.read_json(DETAILS) or {})["tasks"]
                scores = [each[name][metric] for name in result["sequence"]]
                found.append(Ceiling(f"joint {run.config['strategy']} (ceiling)", run, scores))
        except (UserError, KeyError, AttributeError):  # damaged, or of an older version: it is none
            continue
    return found


def network_of(run: Run) -> dict[str, Any]:
    """Its settings but for the pooling, which a single run settles and a sequence leaves to its parts."""
    return {name: value for name, value in run.config["model"].items() if name != "pooling"}


def table_of(result: Result, metric: str, ceilings: list[Ceiling]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False)
    table.add_column("after")
    for name in result["sequence"]:
        table.add_column(name, justify="right")
    rows = [("untrained", result["untrained"]), *zip(result["sequence"], result["matrix"], strict=True)]
    for name, values in rows:
        if any(value is not None for value in values):
            table.add_row(name, *(score(value, metric) or "–" for value in values))
    for each in ceilings:
        table.add_row(each.name, *(score(value, metric) for value in each.scores))
    return table


def heat_map(result: Result, file: Path, metric: str) -> None:
    """The matrix as a heat map: a row for each task trained, a column for each task scored."""
    import matplotlib
    from matplotlib.figure import Figure

    from ftrun.reports.plots.drawing import TEXT, WIDTH, folded

    matrix, texts = result["matrix"], folded(result["sequence"], 16)
    names = [texts[name] for name in result["sequence"]]
    values = [[float("nan") if value is None else value for value in row] for row in matrix]
    with matplotlib.rc_context(TEXT | {"axes.grid": False}):
        size = max(WIDTH, 2.2 + 0.8 * len(names))
        figure = Figure(figsize=(size, 1.6 + 0.55 * len(names)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            values, cmap="cividis", vmin=0 if lookup(metric).is_share else None, aspect="auto"
        )
        axes.set_facecolor("#EEEEEE")  # where nothing was scored
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                dark = value is not None and image.norm(value) < 0.5
                text = score(value, metric) or "–"
                axes.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
        axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 4 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("scored on")
        axes.set_ylabel("after training on")
        axes.set_title(f"{result['strategy']}: {metric}")
        figure.colorbar(image, ax=axes, format=lambda value, _: score(value, metric))
        figure.savefig(file, dpi=150)
