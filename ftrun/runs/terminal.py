"""What the user sees during a run: lines and, on a terminal, a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ftrun.runs.streams import Output, newly_lost

if TYPE_CHECKING:
    from rich.progress import Progress

    from ftrun.runs.console import Console

Watch = Callable[[int, int], None]  # step and steps in all

_console: Console | None = None
_watch: Watch | None = None
_leads = False


def console() -> Console:
    """The one console, so that lines appear above a progress bar and not inside it."""
    global _console
    if _console is None:
        from ftrun.runs.console import Console

        _console = Console()
    return _console


def leads() -> bool:
    """Whether this process prints for the run: the only one, or the first of several."""
    return _leads or os.environ.get("RANK", "0") == "0"


def several() -> bool:
    """Whether torchrun or another launcher has started more than this process."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def lead() -> None:
    """From now on this process prints, as those before it are gone."""
    global _leads
    _leads = True


def say(text: str) -> None:
    """Print one line, markup-free, from the leading process only; a warning is hard to overlook."""
    if leads():
        style = "bold yellow" if text.startswith("warning:") else None
        console().print(text, soft_wrap=True, style=style)
        if newly_lost():
            print(
                "ftrun: nobody reads standard output any more; the run goes on", file=sys.stderr, flush=True
            )


@contextmanager
def logged(path: Path, watch: Watch | None = None) -> Iterator[None]:
    """What is printed within goes to the end of this file; `watch` is told of every optimizer step."""
    global _watch
    before, _watch = _watch, watch
    try:
        with open(path, "a", encoding="utf-8") as file:
            safe = cast(IO[Any], Output(file))
            with redirect_stdout(safe), redirect_stderr(safe):
                yield
    finally:
        _watch = before


class Bar:
    """A progress bar over optimizer steps; silent where the output is no terminal."""

    def __init__(self, progress: Progress | None, total: int):
        self._progress, self._total = progress, total
        self._task = progress.add_task("", total=total) if progress else None

    def show(self, step: int, text: str) -> None:
        if _watch is not None:
            _watch(step, self._total)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step, description=text)


@contextmanager
def bar(total: int) -> Iterator[Bar]:
    if not (leads() and console().is_terminal):
        yield Bar(None, total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    with Progress(*columns, console=console(), transient=True) as progress:
        yield Bar(progress, total)
