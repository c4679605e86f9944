"""What a run or a comparison came to, with its tables as pandas DataFrames."""

from __future__ import annotations

import html
from collections.abc import Iterable
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.commands._studies.study import RUNS
from ftrun.errors import UserError, counted, needs
from ftrun.reports.numbers import score
from ftrun.reports.summary import row_of
from ftrun.runs.content import answers_of
from ftrun.runs.find import find_runs, open_trained
from ftrun.runs.publish import METRICS
from ftrun.runs.run import PREDICTIONS, Run

if TYPE_CHECKING:
    import pandas
    from torch import nn

    from ftrun.experiments.inference import FinishedRun


class Result:
    """One run: `scores`, `model`, `predictions`, `curves`, and `predict` for new rows."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._run: Run = open_trained(self.path)

    @cached_property
    def scores(self) -> dict[str, float]:
        """test_accuracy, eval_loss and the like; shares are between 0 and 1."""
        found = self._run.read_json("result.json") or {}
        return {name: value for name, value in found.items() if name.startswith(("eval_", "test_"))}

    @cached_property
    def row(self) -> dict[str, Any]:
        """What a report says of it, by name."""
        return row_of(self._run)

    @property
    def metric(self) -> str | None:
        """The name of the main score, such as accuracy."""
        found: str | None = self.row["metric"]
        return found

    @property
    def score(self) -> float | None:
        """The main score of the test rows."""
        return self.scores.get(f"test_{self.metric}")

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting, as config.yaml has it."""
        return self._run.settings

    @cached_property
    def model(self) -> nn.Module:
        """The network: a transformers model, or one of peft's where it was trained so, in evaluation mode."""
        net: nn.Module = self._finished.model.net
        return net.eval()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, or the image processor; None where rows are scaled by the task itself."""
        return self._finished.processor

    @cached_property
    def predictions(self) -> pandas.DataFrame:
        """A line for each test row: its label, the answer and the probability of each label."""
        return table(answers_of(self._there(PREDICTIONS)))

    @cached_property
    def curves(self) -> pandas.DataFrame:
        """A line for each entry of metrics.jsonl: losses, scores and learning rates by step."""
        self._there(METRICS)
        return table(self._run.metrics())

    def predict(self, rows: Any) -> pandas.DataFrame:
        """The answers to new rows: texts, a DataFrame or dicts with the run's columns, or the name of a file.

        Those to a DataFrame, or to a column of one, have its index, by which pandas puts them beside the
        rows. Raises DataError where a column that the run reads is missing.
        """
        from ftrun.commands._python.predicting import predicted

        return table(predicted(self._finished, rows), getattr(rows, "index", None))

    def _there(self, name: str) -> Path:
        """A file of the run; UserError where there is none, as in what merge and compose write."""
        if not (self.path / name).is_file():
            raise UserError(f"{self.path / name} does not exist")
        return self.path / name

    @cached_property
    def _finished(self) -> FinishedRun:
        from ftrun.experiments.inference import FinishedRun

        return FinishedRun(self._run)

    def __repr__(self) -> str:
        return f"<ftrun run {self.path}: {self._told()}>"

    def _told(self) -> str:
        return (
            f"{self.metric} {score(self.score, self.metric)}" if self.score is not None else self._run.state
        )

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{name}</td><td>{value:.4f}</td></tr>" for name, value in self.scores.items())
        return f"<b>{html.escape(str(self.path))}</b><table>{rows}</table>"


class Comparison:
    """The runs of `ftrun compare`, with its page."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @cached_property
    def runs(self) -> list[Result]:
        """The finished ones that are compared."""
        top = self.path / RUNS
        paths = find_runs([top if top.is_dir() else self.path])
        return [Result(path) for path in paths if Run(path).finished]

    @cached_property
    def table(self) -> pandas.DataFrame:
        """A line for each run: strategy, seed, scores, trained parameters, seconds, memory."""
        keys = ("strategy", "seed", "metric", "test_score", "eval_score", "trained_parameters", "seconds",
            "memory_bytes", "run")  # fmt: skip
        return table([{key: run.row[key] for key in keys} for run in self.runs])

    @property
    def page(self) -> str:
        """The report as markdown: tables with intervals, tests and the verdict."""
        return self._page("markdown")

    def _page(self, form: str) -> str:
        from ftrun.reports import table

        with redirect_stdout(StringIO()) as found:
            table.write([str(run.path) for run in self.runs], form)
        return found.getvalue()

    def _repr_html_(self) -> str:
        """The page in a frame of its own: its styles and its pictures stay inside."""
        page = html.escape(self._page("html"), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="640" style="border:0"></iframe>'

    def __repr__(self) -> str:
        return f"<ftrun comparison {self.path}: {counted(len(self.runs), 'run')}>"


def table(rows: Iterable[dict[str, Any]], index: Any = None) -> pandas.DataFrame:
    """Rows as a DataFrame, a column for each label's probability."""
    needs("a DataFrame", "hub", "pandas")
    import pandas

    from ftrun.tasks.scorer import as_columns

    return pandas.DataFrame([as_columns(row) for row in rows], None if callable(index) else index)
