"""Advice weighed by evidence: what the other studies of a report say of a setting to try."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ftrun.reports.naming import flat
from ftrun.reports.numbers import score, words

if TYPE_CHECKING:
    from ftrun.reports.diagnosing.remedies import Remedy
    from ftrun.reports.study import Group, Study


class Weighing:
    """The studies of a group, found by the settings that they share."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._ways = sorted(group.ways, key=lambda study: -group.sign * study.score.value)
        self._alike: dict[str, dict[Any, list[tuple[Study, Any]]]] = {}

    def weighed(self, remedies: list[Remedy], study: Study) -> tuple[list[str], list[str]]:
        """The remedies to try, with the score of another study that did better so; and those it refutes.

        One is refuted where the best of the studies that use it is not better than this one.
        """
        kept: list[str] = []
        refuted: list[str] = []
        for remedy in remedies:
            ours, near = _value(study, remedy.name), self._near(study, remedy.name)
            users = (other for other, theirs in near if other is not study and _uses(theirs, ours, remedy))
            best = next(users, None)
            if best is None:
                kept.append(str(remedy))
                continue
            said = words({remedy.name: _value(best, remedy.name)})
            figure = score(best.score.value, self.group.metric)
            if self.group.sign * (best.score.value - study.score.value) > 0 and not best.untaught:
                kept.append(f"{said} ({figure} here)")
            else:
                refuted.append(f"{said} ({figure})")
        return list(dict.fromkeys(kept)), list(dict.fromkeys(refuted))

    def _near(self, study: Study, name: str) -> list[tuple[Study, Any]]:
        """The studies with its settings but one, the best first, and what they have for that one.

        A strategy brings settings of its own along: of that only the number of labels is the same.
        """
        if name not in self._alike:
            found: dict[Any, list[tuple[Study, Any]]] = defaultdict(list)
            for other in self._ways:
                found[_others(other, name)].append((other, _value(other, name)))
            self._alike[name] = found
        return self._alike[name][_others(study, name)]


def _others(study: Study, name: str) -> Any:
    """A hash of all settings but one, and those that an option's group has of its own."""
    if name == "strategy":
        return study.config["task"].get("subset")
    settings = study.tried[0].row["settings"].items()
    return hash(frozenset((key, _fixed(value)) for key, value in settings if not _belongs(key, name)))


def _fixed(value: Any) -> Any:
    return tuple(map(_fixed, value)) if isinstance(value, list) else value


def _belongs(key: str, name: str) -> bool:
    return key == name or key.partition(".")[0] == name


def _value(study: Study, name: str) -> Any:
    group = name.partition(".")[0]
    return flat({group: study.config.get(group)}).get(name)


def _uses(theirs: Any, ours: Any, remedy: Remedy) -> bool:
    """Whether a setting's value follows a remedy for another."""
    if theirs == ours:
        return False
    if remedy.name == "strategy":
        return bool(theirs == remedy.value)
    if all(isinstance(value, int | float) for value in (theirs, ours, remedy.value)):
        return bool((theirs - ours) * (remedy.value - ours) > 0)
    return bool(remedy.said or remedy.value in ("auto", theirs))
