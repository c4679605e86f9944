"""The result of a sequence of tasks: its score matrix as a table and a heat map, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ftrun.reports.numbers import score
from ftrun.reports.pages.console import console
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from ftrun.runs.run import Run

Result = dict[str, Any]


def show(directory: Run, result: Result) -> None:
    """The matrix as a table and a plot, and the four figures that summarise it."""
    screen = console()
    metric = result["metric"].removeprefix("eval_")
    title = f"{result['strategy']} · {' → '.join(result['sequence'])} · scenario {result['scenario']}"
    screen.print(f"\n{title} · {metric}\n", style="bold", soft_wrap=True)
    screen.print(table_of(result, metric))
    for name in ("average", "forgetting", "backward_transfer", "forward_transfer"):
        value = result.get(name)
        text = "undefined, as each task has its own head" if value is None else score(value, metric)
        screen.print(f"  {name.replace('_', ' '):<20}{text}")
    heat_map(result, directory.path / "matrix.png", metric)
    screen.print(
        f"\n  run       {directory.path}\n  plot      {directory.path / 'matrix.png'}\n", soft_wrap=True
    )


def table_of(result: Result, metric: str) -> Table:
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
