"""The trials of a search in Optuna's study of a strategy, which is kept in SQLite beside the runs.

A trial is written whole, with its settings, before its run begins, and told when it has ended. What is killed
in between is found as running, and its run is there to go on. What is drawn next is a function of the trials
before it: a search that was interrupted draws what it would have drawn.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, DiskFull, UserError, told
from ftrun.experiments.study.values import Range
from ftrun.runs.leases.lease import Lease
from ftrun.settings.seeds import stream

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

DATABASE = "search.db"
STARTUP = 5  # trials drawn at random before the sampler learns from them
PATIENCE = 60.0  # seconds, while somebody reads the file
AGAIN = 100  # draws that were there already, after which everything in the ranges counts as tried


def installed() -> None:
    """ConfigError where Optuna is not there."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("compare: --search needs Optuna: pip install 'ftrun[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class Trials:
    """The trials of one strategy; `close` lets the file go."""

    def __init__(self, file: Path, name: str, maximize: bool, seed: int) -> None:
        import optuna

        self.file, self.seed = file, seed
        self.direction = "maximize" if maximize else "minimize"
        place = str(file.absolute())  # a URL would read {, ? and % of a path otherwise
        connect = partial(sqlite3.connect, place, timeout=PATIENCE, check_same_thread=False)
        with told_of(file, RuntimeError):  # of a file of another version of Optuna
            self.storage = optuna.storages.RDBStorage(f"sqlite:///{DATABASE}", {"creator": connect})
            self.study = optuna.create_study(
                storage=self.storage, study_name=name, direction=self.direction, load_if_exists=True
            )

    def close(self) -> None:
        with told_of(self.file):
            self.storage.remove_session()
            self.storage.engine.dispose()

    @property
    def all(self) -> list[FrozenTrial]:
        """Every trial, oldest first."""
        with told_of(self.file):
            return self.study.get_trials(deepcopy=False)

    def drawn(
        self, ranges: Mapping[str, Range], bases: Mapping[str, Any], known: int | None = None
    ) -> dict[str, Any] | None:
        """Parameters of a trial that is new; None where none is found any more.

        Drawn by the tree-structured Parzen estimator (Bergstra et al. 2011), at random for the first ones and
        where it comes back to what was tried. How the trials behind the first `known` ended is not looked at:
        they count as bad ones, so that others are drawn (the constant liar of Ginsbourger et al. 2010).
        """
        import optuna

        trials = self.all
        known = len(trials) if known is None else known
        tried = [trial.user_attrs["values"] for trial in trials]
        study = optuna.create_study(direction=self.direction)
        study.add_trials([*trials[:known], *map(begun, trials[known:])])
        space = {key: each.distribution for key, each in ranges.items()}
        for attempt in range(AGAIN):
            study.sampler = self.sampler(len(trials), attempt)
            asked = study.ask(space)
            values = worded(asked.params, ranges, bases)
            if values not in tried:
                return dict(asked.params)
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        return None

    def sampler(self, number: int, attempt: int) -> BaseSampler:
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import RandomSampler, TPESampler

        seed = stream(self.seed, "search", number, attempt) % 2**32
        if attempt:
            return RandomSampler(seed)
        with warnings.catch_warnings():  # Optuna 4 calls it experimental
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)

    def add(self, params: dict[str, Any], ranges: Mapping[str, Range], about: dict[str, Any]) -> int:
        """A trial that is about to begin; its number."""
        from optuna.trial import TrialState, create_trial

        space = {key: ranges[key].distribution for key in params}
        trial = create_trial(state=TrialState.RUNNING, params=params, distributions=space, user_attrs=about)
        with told_of(self.file):
            self.study.add_trial(trial)
        return len(self.all) - 1

    def tell(
        self, number: int, state: str, curve: Mapping[int, float], score: float | None, outcome: str
    ) -> None:
        """How a trial ended: COMPLETE with a score, PRUNED, or FAIL; and its score at each evaluation."""
        from optuna.trial import Trial, TrialState

        frozen = self.all[number]
        with told_of(self.file):
            trial = Trial(self.study, frozen._trial_id)
            for evaluation, value in curve.items():
                if evaluation not in frozen.intermediate_values:
                    trial.report(value, evaluation)
            trial.set_user_attr("outcome", outcome)
            self.study.tell(number, score, state=TrialState[state])


def begun(trial: FrozenTrial) -> FrozenTrial:
    """The trial as if it had not ended."""
    from optuna.trial import TrialState, create_trial

    space = trial.distributions
    return create_trial(state=TrialState.RUNNING, params=trial.params, distributions=space)


def worded(
    params: Mapping[str, Any], ranges: Mapping[str, Range], bases: Mapping[str, Any]
) -> dict[str, str]:
    """What each setting of a trial is, as it stands in key=value."""
    return {key: each.word(params[key], bases[key]) for key, each in ranges.items()}


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """The search in a study's directory is this process's alone; InUse where another one has it."""
    directory.mkdir(parents=True, exist_ok=True)
    lease = Lease(directory, f"the search in {directory}", "search.")
    try:
        yield
    finally:
        lease.release(gone=True)


@contextmanager
def told_of(file: Path, *kinds: type[Exception]) -> Iterator[None]:
    """What SQLite cannot do with the file inside, and errors of these kinds: a UserError that names it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error, *kinds) as error:
        reason = error.__cause__ or error
        if "disk is full" in str(reason):
            raise DiskFull(f"no space left on the device: {file}") from None
        raise UserError(
            f"{file} cannot be used ({told(reason, 120)}); possible: move it away, as the runs that the"
            " ledger has are not made again"
        ) from None
