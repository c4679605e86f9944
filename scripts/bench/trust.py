"""Are the report's statistics true? Studies of known truth through the functions that the report calls.

    python scripts/bench/trust.py                       # every table, in a few minutes of one core
    python scripts/bench/trust.py --studies 300 --tables alike unlike

A study is items × ways × seeds of right and wrong answers. An answer is right with chance
expit(way + item + way × item + seed). The item's difficulty, shared by the ways, is normal with standard
deviation 3.7, the way's own with an item 1.2, and the seed's is set so that a run's true accuracy has the
wanted standard deviation. The rest, seed × item, is the draw of the answer. Truth is the integral over items
and seeds. Of equal ways of 80 %, two runs of one way then answer 13 % of the items differently (full, lora
and adapter on 1,000 rows of SST-2 with MiniLM: 12 %), and two ways 16 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from ftrun.reports.statistics.power import items_needed, smallest_difference
from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import difference
from ftrun.tasks.metrics.rescoring import scored

sys.path.insert(0, str(Path(__file__).parent))
from trust_studies import Array, cell, drawn, judged, runs_of

Rows = Iterator[list[Any]]


def alike(studies: int) -> Rows:
    """Three ways with the same spread over seeds, in points; power where one is 3.5 points ahead."""
    yield [
        "test rows", "seeds", "spread", "score", "difference before", "now", "false before", "now", "power",
    ]  # fmt: skip
    for items, count, points in [
        (100, 1, 0.2), (400, 1, 0.2), (1800, 1, 0.2), (400, 1, 2.7), (100, 3, 0.9), (400, 2, 0.2),
        (400, 3, 0.2),
        (1800, 2, 0.2), (1800, 3, 0.2), (1800, 2, 0.9), (1800, 3, 0.9), (1800, 5, 0.9), (400, 2, 2.7),
        (400, 3, 2.7), (1800, 2, 2.7), (1800, 3, 2.7), (1800, 5, 2.7),
    ]:  # fmt: skip
        equal, ahead = cell(studies, items, [count] * 3, [points] * 3)
        false = "of runs" if count == 1 else equal["false"]
        yield [
            f"{items:,}", str(count), str(points), equal["score"], equal["before"],
            (equal["difference"] + ahead["difference"]) / 2, equal["false before"], false, ahead["power"],
        ]  # fmt: skip


def unlike(studies: int) -> Rows:
    """Other families: seeds that ways share, spreads that differ, numbers of seeds that differ, two ways."""
    yield ["test rows", "seeds", "spreads", "shared", "score", "difference", "worst pair", "false", "power"]
    six = [0.3, 0.5, 0.7, 0.9, 1.3, 2.0]
    for items, seeds, spreads, shared in [
        (1800, [3] * 3, [0.9] * 3, 0.5), (400, [3] * 3, [0.9] * 3, 0.5), (1800, [3] * 3, [2.7] * 3, 0.5),
        (1800, [2] * 2, [0.9] * 2, 0.0), (1800, [3] * 2, [0.9] * 2, 0.0), (1800, [3] * 2, [0.9] * 2, 0.5),
        (1800, [5] * 2, [0.9] * 2, 0.5), (1800, [3] * 6, [0.9] * 6, 0.0), (1800, [3] * 6, six, 0.0),
        (1800, [3] * 6, six, 0.5), (1800, [3] * 3, [0.2, 0.2, 2.7], 0.0),
        (1800, [5] * 3, [0.2, 0.2, 2.7], 0.0),
        (1800, [3] * 6, [*[0.2] * 5, 2.7], 0.0), (1800, [3, 3, 1], [0.9] * 3, 0.0),
        (1800, [5, 1, 1], [0.9] * 3, 0.0),
    ]:  # fmt: skip
        equal, ahead = cell(studies, items, seeds, spreads, shared=shared)
        yield [
            f"{items:,}", " ".join(map(str, seeds)), " ".join(map(str, spreads)), str(shared), equal["score"],
            (equal["difference"] + ahead["difference"]) / 2, min(equal["least"], ahead["least"]),
            equal["false"], ahead["power"],
        ]  # fmt: skip


def gaps(studies: int) -> Rows:
    """Power on ways 1, 2 and 4 points apart: three ways, one ahead, spread 0.9 points, half of it shared."""
    yield ["test rows", "seeds", "1 point", "2 points", "4 points"]
    for items, count in [(100, 3), (400, 3), (1000, 3), (2000, 2), (2000, 3), (2000, 5)]:
        found = [cell(studies // 2, items, [count] * 3, [0.9] * 3, gap, 0.5)[1] for gap in (1.0, 2.0, 4.0)]
        yield [f"{items:,}", str(count), *(each["power"] for each in found)]


def sizes(studies: int) -> Rows:
    """Items said to be needed by undecided pairs of two ways on 400: for the true difference, and as seen."""
    yield [
        "seeds",
        "spread",
        "points apart",
        "said, median",
        "power there",
        "said of what was seen, quartiles",
    ]
    for count, points, gap in [(1, 0.0, 2.0), (1, 0.0, 3.0), (3, 0.2, 2.0), (3, 0.5, 2.0), (5, 0.5, 2.0)]:
        chance = numpy.random.default_rng([count, round(10 * points), round(10 * gap)])
        scores, said, seen = [0.8 + gap / 100, 0.8], [], []
        for _ in range(studies):
            family, _truths = drawn(chance, scores, [points] * 2, 400, [count] * 2)
            found = difference(*family)
            if not found.low <= 0 <= found.high:
                continue
            seen.append(items_needed(found, 400) or numpy.inf)
            found.value = gap / 100
            said.append(items_needed(found, 400) or numpy.inf)
        needed, ends = float(numpy.median(said)), numpy.quantile(seen, [0.25, 0.75], method="lower")
        quartiles = " to ".join("more seeds" if end == numpy.inf else f"{end:,.0f}" for end in ends)
        if needed == numpy.inf:
            yield [str(count), str(points), str(gap), "more seeds", "", quartiles]
            continue
        families = (
            drawn(chance, scores, [points] * 2, round(needed), [count] * 2) for _ in range(studies // 2)
        )
        power = judged(families, [False])["power"]
        yield [str(count), str(points), str(gap), f"{needed:,.0f}", power, quartiles]


def smallest(studies: int) -> Rows:
    """Power at `smallest_difference`, of three ways at a spread of 1 point that no seeds share."""
    yield ["test rows", "seeds", "smallest difference, points", "power"]
    for items, count in [(400, 2), (400, 3), (1800, 2), (1800, 3), (1800, 5)]:
        gap = 100 * smallest_difference(items, count, tests=3)
        found = cell(studies // 2, items, [count] * 3, [1.0] * 3, gap)[1]
        yield [f"{items:,}", str(count), f"{gap:.1f}", found["power"]]


def cut(chance: Any, rows: int, folds: int, splits: int, share: float) -> list[Array]:
    """The test rows of each run: of k folds, as often as there are splits, or of splits of this share."""
    if share:
        return [numpy.sort(chance.permutation(rows)[: round(share * rows)]) for _ in range(splits)]
    every = [chance.permutation(numpy.arange(rows) % folds) for _ in range(splits)]
    return [numpy.flatnonzero(places == fold) for places in every for fold in range(folds)]


def crossed(
    chance: Any, learner: Any, rows: int, tests: tuple[int, int, float], seeds: int, checked: Array | None
) -> tuple[Any, ...]:
    """Folds or splits of one learner on two exchangeable halves of the features: equal by symmetry."""
    labels = chance.integers(0, 2, rows)
    inputs = chance.normal(size=(rows, 20)) + 0.35 * (2 * labels - 1)[:, None]
    places = cut(chance, rows, *tests)
    asked = numpy.concatenate(places)
    hits, truths = numpy.zeros((2, seeds, len(asked))), []
    for way, half in enumerate((slice(0, 10), slice(10, 20))):
        for seed in range(seeds):
            found = []
            for test in places:
                train = numpy.setdiff1d(numpy.arange(rows), test)
                fitted = learner(int(chance.integers(2**31))).fit(inputs[train, half], labels[train])
                found.append(fitted.predict(inputs[test, half]) == labels[test])
                if checked is not None:
                    truths.append(float((fitted.predict(checked[0][:, half]) == checked[1]).mean()))
            hits[way, seed] = numpy.concatenate(found)
    ratio = len(places[0]) / (rows - len(places[0]))
    units = numpy.repeat(numpy.arange(len(places)), [len(test) for test in places])
    same = numpy.unique(asked, return_inverse=True)[1] if tests[1] > 1 else None
    return [replace(runs_of(each, units), rows=same, ratio=ratio) for each in hits], truths


def folds(studies: int) -> Rows:
    """Folds and repeated splits of Gaussian data; the truth is the score of their models on 20,000 rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    yield [
        "learner", "rows", "tests", "seeds", "score", "difference", "without the split's part",
        "rows as items", "false",
    ]  # fmt: skip
    learners = {
        "logistic regression": lambda seed: LogisticRegression(random_state=seed),
        "tree": lambda seed: DecisionTreeClassifier(max_features="sqrt", max_depth=4, random_state=seed),
    }
    logistic, tree = learners
    once = [(logistic, 100, 5, 1), (logistic, 400, 5, 1), (tree, 100, 5, 1), (tree, 400, 5, 1),
            (tree, 400, 10, 1), (tree, 400, 5, 3), (tree, 100, 5, 3)]  # fmt: skip
    cells = [(name, rows, (count, 1, 0.0), seeds) for name, rows, count, seeds in once]
    repeated = [(0, 3, 0.1), (0, 3, 0.2), (0, 10, 0.1), (0, 10, 0.2), (5, 2, 0.0)]
    cells += [(name, rows, how, 1) for name in learners for rows in (100, 400) for how in repeated]
    cells += [(tree, rows, how, 3) for rows in (100, 400) for how in ((0, 3, 0.2), (5, 2, 0.0))]
    for name, rows, tests, seeds in cells:
        count, splits, share = tests
        repeats = [splits, round(100 * share)] if splits > 1 else []
        chance = numpy.random.default_rng([rows, count or splits, seeds, *repeats])
        labels = chance.integers(0, 2, 20_000)
        checked = chance.normal(size=(20_000, 20)) + 0.35 * (2 * labels - 1)[:, None], labels
        known = [crossed(chance, learners[name], rows, tests, 1, checked)[1] for _ in range(15)]
        truth = float(numpy.mean(known))
        families = [crossed(chance, learners[name], rows, tests, seeds, None)[0] for _ in range(studies // 2)]
        found = judged(((family, [truth, truth]) for family in families), [True])
        bare = [[replace(runs, folds=None) for runs in family] for family in families]
        without = judged(((family, [truth, truth]) for family in bare), [True])
        apart = [[replace(runs, rows=None) for runs in family] for family in families]
        items = judged(((family, [truth, truth]) for family in apart), [True])
        again = f" × {splits}" if splits > 1 else ""
        said = f"{splits} × {100 * share:.0f} %" if share else f"{count} folds{again}"
        yield [
            name, str(rows), said, str(seeds), found["score"], found["difference"],
            without["difference"], items["difference"] if splits > 1 else "", found["false"],
        ]  # fmt: skip


def smooth(studies: int) -> Rows:
    """Scores that are no means: macro-F1 of 30 % and 70 %, and Pearson's correlation; two ways, one seed."""
    yield ["metric", "test rows", "score", "difference"]
    for metric, items in [("f1", 100), ("f1", 400), ("pearson", 100), ("pearson", 400)]:
        chance, found = numpy.random.default_rng(items), []
        for _ in range(studies):
            ways = []
            labels = chance.random(items) < 0.3 if metric == "f1" else chance.normal(size=items)
            for _way in range(2):
                if metric == "f1":
                    answers = numpy.where(chance.random(items) < 0.85, labels, ~labels)
                    lists = [["ab"[int(each)] for each in values] for values in (labels, answers)]
                else:
                    lists = [labels.tolist(), (0.8 * labels + 0.6 * chance.normal(size=items)).tolist()]
                each = scored(metric, *lists)
                ways.append(Runs([0], numpy.array([each.score]), each.left_out[:, None]))
            found.append(ways)
        parts = [2 * p * 0.85 / (p + p * 0.85 + (1 - p) * 0.15) for p in (0.3, 0.7)]
        truth = sum(parts) / 2 if metric == "f1" else 0.8
        result = judged(((ways, [truth] * 2) for ways in found), [True])
        yield [metric, str(items), result["score"], result["difference"]]


TABLES = {each.__name__: each for each in (alike, unlike, gaps, sizes, smallest, folds, smooth)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--studies", type=int, default=600, help="of a cell, equal ways and unequal ones each"
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES])
    chosen = parser.parse_args()
    for name in chosen.tables:
        rows = TABLES[name](chosen.studies)
        titles = next(rows)
        print(f"{TABLES[name].__doc__}\n\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
        for row in rows:
            print(f"| {' | '.join(f'{c:.1f}' if isinstance(c, float) else c for c in row)} |", flush=True)
        print()


if __name__ == "__main__":
    main()
