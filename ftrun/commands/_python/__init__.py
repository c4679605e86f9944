"""ftrun from Python and notebooks: `ftrun.run`, `ftrun.compare` and `ftrun.load`.

Each does what the command line does, in this process, and raises what that prints: `ftrun.errors.ConfigError`
for a wrong setting, `DataError` for wrong rows, `UserError` for what else a person can do something about. A
signal that ends a run raises `Interrupted`, a KeyboardInterrupt.
"""

from __future__ import annotations

import os
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from ftrun.commands._python.asking import STRATEGY, said, words_of
from ftrun.commands._python.results import Comparison, Result
from ftrun.errors import ConfigError, UserError, memory_told
from ftrun.runs.typed import setting

Place = str | os.PathLike[str]


def run(*words: str, dir: Place | None = None, **settings: Any) -> Result:
    """Run one experiment, as `ftrun WORDS…` does, and return what came of it.

    `words` are settings as they are typed, "strategy=lora", "rank=4". The same can be keywords: `rank=4`,
    nested ones as dicts, `train={"epochs": 3}`. Of a dict for a group such as `task` the key "name" chooses
    the option, "classify" where there is none and "train" names rows. Rows may be a pandas DataFrame:
    `task={"train": frame, "text": "review", "label": "stars"}`. `dir` is the run directory; by default one of
    its own in outputs/, named after the time. Raises ConfigError for settings that cannot be, and for those
    of many runs; DataError and UserError as the command line prints them.
    """
    asked = words_of(words, settings)
    strategy = said(asked, STRATEGY) or "full"
    refuse_many(asked)
    path = (
        Path(dir)
        if dir is not None
        else Path(f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S}-{strategy}-{os.getpid()}")
    )
    asked.append(setting("hydra.run.dir", path))
    with memory_told():
        if f"{STRATEGY}=auto" in asked:
            asked = import_module("ftrun.commands.advise").auto(asked)
        import_module("ftrun.experiments.launch").launch(asked)
    return Result(path)


def compare(
    *words: str,
    strategies: str | list[str] | None = None,
    seeds: int | None = None,
    budget: str | None = None,
    dir: Place | None = None,
    **settings: Any,
) -> Comparison:
    """Compare strategies on one task, as `ftrun compare WORDS…` does, and return what was found.

    `strategies` are names, `budget` is "steps=N" or "minutes=M"; the settings are those of `run`. Repeating
    the call with the same settings continues the study or adds seeds to it. Raises as `run` does, and
    UserError where no run finished.
    """
    command: Any = import_module("ftrun.commands.compare")
    asked = words_of(words, settings)
    names = strategies if isinstance(strategies, str) or strategies is None else ",".join(strategies)
    for name, value in (("strategies", names), ("seeds", seeds), ("budget", budget), ("dir", dir)):
        asked += [] if value is None else [f"--{name}", str(value)]
    options = command.parse(asked)
    _, given = command.launched(options)
    place = Path(options.dir or command.place(given, options))
    with memory_told():
        failed = command.main(asked)
    found = Comparison(place)
    if failed and not found.runs:
        raise UserError(f"no run of the comparison in {place} finished")
    return found


def load(path: Place) -> Result:
    """A finished run, or a model directory that `ftrun merge` or `ftrun compose` wrote.

    Raises ConfigError for what is neither.
    """
    return Result(Path(path))


def refuse_many(words: list[str]) -> None:
    """ConfigError for words that ask for many runs, which have no one result."""
    from ftrun.experiments.overrides import fold_words

    if folds := fold_words(words):
        raise ConfigError(f"{folds[0]} asks for many runs; ftrun.run makes one, ftrun.compare takes folds")
    if many := [word for word in words if word in ("-m", "--multirun")]:
        raise ConfigError(f"{many[0]} asks for many runs; call ftrun.run once for each")
