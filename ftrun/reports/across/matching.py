"""The ways of training that several data sets have in common, with their scores on each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os.path import abspath, commonpath, dirname, relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError
from ftrun.reports.groups import groups_of
from ftrun.reports.naming import of_strategy
from ftrun.reports.numbers import words
from ftrun.runs.ledger import is_study
from ftrun.tasks.metrics.metric import lookup

if TYPE_CHECKING:
    from ftrun.reports.comparison import Row
    from ftrun.reports.study import Group, Study

Array = Any  # numpy.ndarray of floats
Settings = dict[str, Any]
DIGITS = 12  # of scores: means over seeds that are equal but for their rounding are tied
TRIALS = ("grid", "pilots")  # folders of `ftrun compare` with runs that choose a rate or measure the time


@dataclass
class Across:
    """Data sets in rows, ways of training in columns, by growing average rank."""

    sets: list[str]
    metrics: list[str]  # of each set
    ways: list[str]
    scores: Array  # (sets, ways), the mean over seeds
    ranks: Array  # (sets, ways), 1 is the best; ways with the same score share the mean of their ranks
    tied: Array  # (sets, ways) of bool: the best on the set, or not told apart from it on its test rows
    seeds: Array  # (sets, ways) of int
    notes: list[str]

    @property
    def average(self) -> Array:
        """The average rank of each way, (ways,)."""
        return self.ranks.mean(0)

    @property
    def shares(self) -> list[int]:
        """The sets whose scores are shares of 1, so that differences on them are in the same unit."""
        return [number for number, metric in enumerate(self.metrics) if lookup(metric).is_share]

    def gains(self) -> Array:
        """The scores on these sets, (shares, ways), where more is better."""
        import numpy

        chosen = self.shares
        signs = numpy.array([[lookup(self.metrics[number]).sign] for number in chosen])
        found: Array = signs.reshape(-1, 1) * self.scores[chosen]
        return found


def across(rows: list[Row]) -> Across:
    """The comparison of finished runs on several data sets: groups with the same test rows and metric.

    Two runs are the same way where the strategy, its own settings, and whatever else distinguishes runs of
    one strategy on one data set are equal. Raises ConfigError without two data sets or two ways on all.
    """
    groups, notes = groups_of([row for row in rows if not is_trial(row)])
    if len(groups) < 2:
        there = f"are all on {groups[0].task}" if groups else "have no predictions that can be scored"
        raise ConfigError(f"report: --across needs several data sets, and these runs {there}")
    names = set_names(groups)
    varied = varied_settings(groups)
    found = [{identity(study, varied): study for study in group.ways} for group in groups]
    common = [key for key in found[0] if all(key in each for each in found)]
    titles = way_names([key for each in found for key in each])
    notes += left_out(found, names, titles)
    if len(common) < 2:
        raise ConfigError(
            f"report: --across needs two ways of training that all {len(groups)} data sets have; "
            f"there {'is only ' + titles[common[0]] if common else 'is none'}"
            + "".join(f"; {note}" for note in notes[:3])
        )
    return tabulated(groups, names, found, common, titles, notes)


def is_trial(row: Row) -> bool:
    """Whether `ftrun compare` has made this run to choose a learning rate."""
    folder = Path(row["run"]).parent
    return folder.name in TRIALS and is_study(folder.parent)


def set_names(groups: list[Group]) -> list[str]:
    """Short and different: the task's name, with the directory of its runs, and the metric, where needed."""
    places = [commonpath([abspath(each.row["run"]) for each in tried(group)]) for group in groups]
    top = commonpath([dirname(place) for place in places])
    folders = [relpath(place, top).removesuffix("/runs") for place in places]
    names = [group.task for group in groups]
    for more in (folders, [group.metric for group in groups], [str(n + 1) for n in range(len(groups))]):
        names = [
            f"{name} {own}" if names.count(name) > 1 else name for name, own in zip(names, more, strict=True)
        ]
    return names


def tried(group: Group) -> Iterable[Any]:
    return [each for study in group.ways for each in study.tried]


def settings_of(study: Study) -> Settings:
    found: Settings = study.tried[0].row["settings"]
    return found


def varied_settings(groups: list[Group]) -> dict[str, set[str]]:
    """For each strategy the settings in which its studies differ on one and the same data set."""
    found: dict[str, set[str]] = {}
    for group in groups:
        by_strategy: dict[str, list[Settings]] = {}
        for study in group.ways:
            by_strategy.setdefault(study.config["strategy"], []).append(settings_of(study))
        for strategy, like in by_strategy.items():
            names = {name for settings in like for name in settings}
            found.setdefault(strategy, set()).update(
                name for name in names if any(each.get(name) != like[0].get(name) for each in like)
            )
    return found


Key = tuple[str, tuple[tuple[str, str], ...]]  # strategy, and settings as words by their names


def identity(study: Study, varied: dict[str, set[str]]) -> Key:
    """What must be equal on every data set."""
    strategy = study.config["strategy"]
    kept = {
        name: words({name.rsplit(".", 1)[-1]: value})
        for name, value in settings_of(study).items()
        if of_strategy(name) or name in varied[strategy]
    }
    return strategy, tuple(sorted(kept.items()))


def way_names(keys: list[Key]) -> dict[Key, str]:
    """The strategy and the settings in which it differs from the same strategy elsewhere."""
    titles = {}
    for key in keys:
        strategy, settings = key
        like = [dict(other) for name, other in keys if name == strategy]
        differing = [text for name, text in settings if any(each.get(name) != text for each in like)]
        titles[key] = " ".join([strategy, *differing])
    return titles


def left_out(found: list[dict[Key, Study]], names: list[str], titles: dict[Key, str]) -> list[str]:
    """A line for each way that some data set lacks."""
    lines = []
    for key in dict.fromkeys(key for each in found for key in each):
        lacking = [name for name, each in zip(names, found, strict=True) if key not in each]
        if lacking:
            lines.append(f"{titles[key]} is left out: it was not tried on {', '.join(lacking)}")
    return lines


def tabulated(
    groups: list[Group],
    names: list[str],
    found: list[dict[Key, Study]],
    common: list[Key],
    titles: dict[Key, str],
    notes: list[str],
) -> Across:
    """The arrays, ways with the lowest average rank first."""
    import numpy
    from scipy.stats import rankdata

    signs = numpy.array([[group.sign] for group in groups])
    scores = numpy.array([[each[key].score.value for key in common] for each in found])
    ranks = rankdata((-signs * scores).round(DIGITS), axis=1)
    tied = [
        tied_ways(group, [each[key] for key in common]) for group, each in zip(groups, found, strict=True)
    ]
    seeds = [[len(each[key].tried) for key in common] for each in found]
    order = numpy.lexsort((-(signs * scores).mean(0), ranks.mean(0)))
    return Across(
        names,
        [group.metric for group in groups],
        [titles[common[place]] for place in order],
        scores[:, order],
        ranks[:, order],
        numpy.array(tied)[:, order],
        numpy.array(seeds)[:, order],
        notes,
    )


def tied_ways(group: Group, studies: list[Study]) -> list[bool]:
    """Which of these are the best on a data set, or not told apart from the best by the paired test there."""
    best = max(studies, key=lambda study: group.sign * study.score.value)
    alike = {id(study) for study in studies if study.score.value == best.score.value}
    for pair in group.pairs:
        if best in (pair.first, pair.second) and not pair.apart:
            alike |= {id(pair.first), id(pair.second)}
    return [id(study) in alike for study in studies]
