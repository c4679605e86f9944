"""How far advice is behind the best way, and the tables of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean

FITTED = ("sst2", "docstrings")  # the sets by which the rule was chosen; on all others it is judged
IMAGES = ("digits", "digits04", "usps", "mnist")
FIXED = ("full", "lora", "linear_probe")  # what one might always do
NEAR = 1.0  # points within which a recommendation counts as right
MANY = 1000  # labels per class, for the article
ARTICLE = {  # close, many → what the article recommends
    (True, False): ["freeze"],
    (True, True): ["full"],
    (False, False): ["freeze middle", "lora"],
    (False, True): ["full, decay"],
}


@dataclass
class Judged:
    """A case with its runs, and what is advised for each seed."""

    data: str
    network: str
    rows: int
    labels_per_class: float | None  # None: the network has random weights, and nothing was measured
    ways: dict[str, list[str]]  # of each seed 1 or 0 for each test row: whether it was answered right
    advised: list[str]  # the way, for each seed
    close: list[bool]  # for each seed

    @property
    def followed(self) -> list[str]:
        """The answers of who does what is advised."""
        return [self.ways[way][place] for place, way in enumerate(self.advised)]

    @property
    def chosen(self) -> dict[str, list[str]]:
        """The answers of who follows the advice, and of who always does the same."""
        return {"advised": self.followed, **self.ways}

    @property
    def behind(self) -> dict[str, float]:
        return regrets(self.ways, self.chosen)

    @property
    def cell(self) -> tuple[bool, bool] | None:
        """Close and many; None of random weights, which the article does not speak of."""
        if self.labels_per_class is None:
            return None
        return 2 * sum(self.close) >= len(self.close), self.labels_per_class >= MANY


def score(right: str) -> float:
    """Percent."""
    return 100 * right.count("1") / len(right)


def mean_score(answers: Iterable[str], half: int | None = None) -> float:
    """The mean over seeds, in percent; with `half` of every second row, from the first or second on."""
    return mean(score(right if half is None else right[half::2]) for right in answers)


def regrets(ways: dict[str, list[str]], chosen: dict[str, list[str]]) -> dict[str, float]:
    """Points that each of `chosen` is, on one half, behind that of `ways` which is best on the other half.

    Both have the answers of each seed. The mean of both ways round; below 0 where the best on one half is
    behind on the other.
    """
    behind = dict.fromkeys(chosen, 0.0)
    for half in (0, 1):
        best = max(ways, key=lambda way: mean_score(ways[way], 1 - half))
        for name, answers in chosen.items():
            behind[name] += (mean_score(ways[best], half) - mean_score(answers, half)) / 2
    return behind


def hindsight(ways: dict[str, list[str]], answers: list[str]) -> float:
    """Points behind the way that scores best on all test rows, which luck has helped."""
    return max(map(mean_score, ways.values())) - mean_score(answers)


def report(cases: list[Judged]) -> list[str]:
    """The cases, the mean regret over fitted and over judged ones, and the article's table."""
    return [*case_lines(cases), "", *mean_lines(cases), "", *article_lines(cases)]


def case_lines(cases: list[Judged]) -> list[str]:
    titles = [
        "set",
        "network",
        "rows",
        "seeds",
        "close",
        "advised",
        *FIXED,
        "freeze",
        "freeze middle",
        "regret",
    ]
    rows = []
    for each in sorted(cases, key=lambda each: (each.data not in FITTED, each.data, each.network, each.rows)):
        scores = [f"{mean_score(each.ways[way]):.1f}" if way in each.ways else "" for way in titles[6:-1]]
        close = {None: "random weights", True: "yes", False: "no"}[each.cell and each.cell[0]]
        rows.append([
            each.data, each.network, f"{each.rows:,}", str(len(each.advised)), close,
            " / ".join(dict.fromkeys(each.advised)), *scores, f"{each.behind['advised']:.1f}",
        ])  # fmt: skip
    return table(titles, rows)


def mean_lines(cases: list[Judged]) -> list[str]:
    """Mean regrets; of a fixed way over the cases that have it, beside the advice over the same ones."""
    titles = [
        "sets",
        "who does",
        "cases",
        "mean regret",
        "largest",
        "advised, same cases",
        "mean in hindsight",
    ]
    rows = []
    judged = [each for each in cases if each.data not in FITTED]
    groups = {
        "fitted": [each for each in cases if each.data in FITTED],
        "judged": judged,
        "judged, texts": [each for each in judged if each.data not in IMAGES],
    }
    for name, some in groups.items():
        for way in ("advised", *FIXED):
            own = [each for each in some if way in each.chosen]
            if own:
                values = [each.behind[way] for each in own]
                late = [hindsight(each.ways, each.chosen[way]) for each in own]
                rows.append([
                    name, way if way == "advised" else f"always {way}", str(len(own)), f"{mean(values):.2f}",
                    f"{max(values):.1f}", f"{mean(each.behind['advised'] for each in own):.2f}",
                    f"{mean(late):.2f}",
                ])  # fmt: skip
    return table(titles, rows)


def article_lines(cases: list[Judged]) -> list[str]:
    """How often each recommendation of the article is within NEAR points of the best way in hindsight."""
    rows = []
    for cell, ways in ARTICLE.items():
        for way in ways:
            own = [each for each in cases if each.cell == cell and way in each.ways]
            behind = [hindsight(each.ways, each.ways[way]) for each in own]
            right = sum(value <= NEAR for value in behind)
            rows.append([
                "high" if cell[0] else "low", "many" if cell[1] else "few", way,
                f"{right} of {len(own)}" if own else "not measured", f"{mean(behind):.1f}" if own else "",
            ])  # fmt: skip
    titles = ["similarity", "labels", "recommended", f"within {NEAR:g} point of the best", "behind it, mean"]
    return table(titles, rows)


def table(titles: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in [titles, ["---"] * len(titles), *rows]]
