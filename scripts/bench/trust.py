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
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

import numpy
from scipy.optimize import brentq
from scipy.special import expit, ndtr, stdtr

from ftrun.reports.statistics.power import items_needed, smallest_difference
from ftrun.reports.statistics.seeds import Runs
from ftrun.reports.statistics.significance import difference, estimate, holm
from ftrun.reports.study import Study, tested
from ftrun.tasks.metrics.rescoring import scored

Array = Any
ITEM, OWN = 3.7, 1.2  # on the logit scale
NODES, WEIGHTS = numpy.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
STILL = float(numpy.hypot(ITEM, OWN))
Family = tuple[list[Runs], list[float]]  # the ways' runs, and their true scores
KNOWN: dict[tuple[float, float], tuple[float, float]] = {}


def accuracy(way: float, spread: float) -> float:
    """The truth of a way, whose items and seeds have this standard deviation together."""
    return float(WEIGHTS @ expit(way + spread * NODES))


def way_of(score: float, points: float) -> tuple[float, float]:
    """The way's and the seed's effect on the logit scale for a true accuracy and its spread over seeds."""
    if (score, points) not in KNOWN:
        middle = brentq(lambda way: accuracy(way, STILL) - score, -30, 30)
        chance = expit(middle + STILL * NODES)
        seed = points / 100 / float(WEIGHTS @ (chance * (1 - chance)))
        spread = float(numpy.hypot(STILL, seed))
        KNOWN[score, points] = brentq(lambda way: accuracy(way, spread) - score, -30, 30), seed
    return KNOWN[score, points]


def runs_of(hits: Array, folds: Array | None = None) -> Runs:
    """The runs of one way from its answers, (seeds, items), right or wrong."""
    left_out = (hits.sum(1)[:, None] - hits) / (hits.shape[1] - 1)
    return Runs([*range(len(hits))], hits.mean(1), left_out.T, folds)


def drawn(
    chance: Any,
    scores: list[float],
    spreads: list[float],
    items: int,
    seeds: list[int],
    shared: float = 0.0,
) -> Family:
    """One study; `shared` correlates the runs of one seed. With one seed each the truth is the runs' own."""
    ease, most, found, truths = chance.normal(0, ITEM, items), max(seeds), [], []
    common, luck = chance.normal(size=(most, 1)), chance.normal(size=(most, items)) if shared else 0.0
    for score, points, count in zip(scores, spreads, seeds, strict=True):
        way, seed = way_of(score, points)
        mine = shared**0.5 * common[:count] + (1 - shared) ** 0.5 * chance.normal(size=(count, 1))
        sure = expit(way + ease + chance.normal(0, OWN, items) + seed * mine)
        draw = chance.normal(size=(count, items)) if shared else chance.random((count, items))
        if shared:
            draw = ndtr(shared**0.5 * luck[:count] + (1 - shared) ** 0.5 * draw)
        found.append(runs_of(draw < sure))
        truths.append(score if most > 1 else accuracy(way + seed * float(mine[0, 0]), STILL))
    return found, truths


def before(family: list[Runs], truths: list[float]) -> tuple[list[bool], bool]:
    """What the sum of both errors with a paired t over seeds said: coverage, and whether a verdict fell."""
    covered, ps = [], []
    for (first, second), truth in zip(combinations(family, 2), truths, strict=True):
        apart = first.observed - second.observed
        effect = first.influence.mean(1) - second.influence.mean(1)
        items, count = float((effect**2).mean()) / len(effect), len(apart)
        seeds = float(apart.var(ddof=1)) / count if count > 1 else 0.0
        freedom = min(1e9, (count - 1) * ((items + seeds) / seeds) ** 2 if seeds else 1e9)
        error = (items + seeds) ** 0.5 or 1e-9
        covered.append(2 * stdtr(freedom, -abs(apart.mean() - truth) / error) >= 0.05)
        ps.append(float(2 * stdtr(freedom, -abs(apart.mean()) / error)))
    return covered, min(holm(ps)) < 0.05


def judged(
    families: Iterable[Family], equal: list[bool], old_truths: list[float] | None = None
) -> dict[str, float]:
    """Percent over studies: coverage, verdicts on equal pairs in a family, and power on the others."""
    score, cover, apart, old, old_apart = [], [], [], [], []
    for family, truths in families:
        studies = [Study("", "", [], runs, estimate(runs, family, share=True), {}) for runs in family]
        pairs = tested([*combinations(studies, 2)])
        gaps = [one - other for one, other in combinations(truths, 2)]
        score.append([s.score.low <= t <= s.score.high for s, t in zip(studies, truths, strict=True)])
        cover.append([p.found.low <= gap <= p.found.high for p, gap in zip(pairs, gaps, strict=True)])
        apart.append([pair.apart for pair in pairs])
        if len({len(runs.seeds) for runs in family}) == 1:
            covered, fell = before(family, old_truths or gaps)
            old.append(covered)
            old_apart.append(fell)
    same, verdicts = numpy.array(equal), numpy.array(apart)
    return {
        "score": 100 * float(numpy.mean(score)),
        "difference": 100 * float(numpy.mean(cover)),
        "least": 100 * float(numpy.mean(cover, 0).min()),
        "false": 100 * float(verdicts[:, same].any(1).mean()) if same.any() else 0.0,
        "power": 100 * float(verdicts[:, ~same].mean()) if not same.all() else 0.0,
        "before": 100 * float(numpy.mean(old)) if old else float("nan"),
        "false before": 100 * float(numpy.mean(old_apart)) if old else float("nan"),
    }


def cell(
    studies: int, items: int, seeds: list[int], spreads: list[float], gap: float = 3.5, shared: float = 0.0
) -> tuple[dict[str, float], dict[str, float]]:
    """Equal ways of 80 %, and the same with the first `gap` points ahead."""
    found = []
    for ahead in (0.0, gap):
        chance = numpy.random.default_rng([items, sum(seeds), round(10 * sum(spreads)), round(10 * ahead)])
        scores = [0.8 + ahead / 100, *[0.8] * (len(seeds) - 1)]
        families = (drawn(chance, scores, spreads, items, seeds, shared) for _ in range(studies))
        gaps = [one - other for one, other in combinations(scores, 2)]
        found.append(judged(families, [not each for each in gaps], gaps))
    return found[0], found[1]


Rows = Iterator[list[Any]]


def alike(studies: int) -> Rows:
    """Three ways with the same spread over seeds, in points; power where one is 3.5 points ahead."""
    yield [
        "test rows",
        "seeds",
        "spread",
        "score",
        "difference before",
        "now",
        "false before",
        "now",
        "power",
    ]
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


def crossed(
    chance: Any, learner: Any, rows: int, folds: int, seeds: int, checked: Array | None
) -> tuple[Any, ...]:
    """Cross-validation of one learner on two exchangeable halves of the features: equal by symmetry."""
    labels = chance.integers(0, 2, rows)
    inputs = chance.normal(size=(rows, 20)) + 0.35 * (2 * labels - 1)[:, None]
    places = chance.permutation(numpy.arange(rows) % folds)
    hits, truths = numpy.zeros((2, seeds, rows)), []
    for way, half in enumerate((slice(0, 10), slice(10, 20))):
        for seed in range(seeds):
            for fold in range(folds):
                held = places == fold
                fitted = learner(int(chance.integers(2**31))).fit(inputs[~held, half], labels[~held])
                hits[way, seed, held] = fitted.predict(inputs[held, half]) == labels[held]
                if checked is not None:
                    truths.append(float((fitted.predict(checked[0][:, half]) == checked[1]).mean()))
    return [runs_of(each, places) for each in hits], truths


def folds(studies: int) -> Rows:
    """Cross-validation on Gaussian data; the truth of a score is that of the folds' models on 20,000 rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    yield ["learner", "rows", "folds", "seeds", "score", "difference", "without the split's part", "false"]
    learners = {
        "logistic regression": lambda seed: LogisticRegression(random_state=seed),
        "tree": lambda seed: DecisionTreeClassifier(max_features="sqrt", max_depth=4, random_state=seed),
    }
    for name, rows, count, seeds in [
        ("logistic regression", 100, 5, 1), ("logistic regression", 400, 5, 1), ("tree", 100, 5, 1),
        ("tree", 400, 5, 1), ("tree", 400, 10, 1), ("tree", 400, 5, 3), ("tree", 100, 5, 3),
    ]:  # fmt: skip
        chance = numpy.random.default_rng([rows, count, seeds])
        labels = chance.integers(0, 2, 20_000)
        checked = chance.normal(size=(20_000, 20)) + 0.35 * (2 * labels - 1)[:, None], labels
        known = [crossed(chance, learners[name], rows, count, 1, checked)[1] for _ in range(15)]
        truth = float(numpy.mean(known))
        families = [crossed(chance, learners[name], rows, count, seeds, None)[0] for _ in range(studies // 2)]
        found = judged(((family, [truth, truth]) for family in families), [True])
        bare = [[Runs(r.seeds, r.observed, r.left_out) for r in family] for family in families]
        without = judged(((family, [truth, truth]) for family in bare), [True])
        yield [
            name, str(rows), str(count), str(seeds), found["score"], found["difference"],
            without["difference"], found["false"],
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
