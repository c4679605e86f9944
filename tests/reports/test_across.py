"""Several data sets: tests as in scipy and baycomp, the same ways matched, a picture of planted ranks."""

from __future__ import annotations

import csv
import io
import json
from itertools import combinations
from pathlib import Path

import numpy
import pytest
from finished import finished
from scipy import stats

from ftrun.commands.report import main
from ftrun.errors import ConfigError
from ftrun.reports.across.matching import Across, across
from ftrun.reports.across.plots import ranks_plot
from ftrun.reports.across.ranking import (
    Versus,
    alike,
    bayesian,
    friedman,
    holm,
    sets_needed,
    signed_rank,
    smallest_p,
    versus,
)
from ftrun.reports.table import rows_of
from ftrun.runs.ledger import Ledger
from ftrun.runs.run import Run

SETS = {"one": 300, "two": 310, "three": 320, "four": 330, "five": 340}  # test rows
SCORES = {"full": 0.8, "lora": 0.85, "linear_probe": 0.55}


def studies(path: Path, names: list[str], seeds: int = 1, **more: float) -> list[str]:
    """A directory with finished runs of every strategy for each data set."""
    for name in names:
        for strategy, accuracy in (SCORES | more).items():
            own = {"rank": 8} if strategy == "lora" else {}
            for seed in range(seeds):
                place = path / name / f"{strategy}-{seed}"
                finished(place, strategy, seed, accuracy=accuracy, items=SETS[name], **own)
    return [str(path / name) for name in names]


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def scores(sets: int, ways: int, seed: int = 0) -> numpy.ndarray:
    return numpy.random.default_rng(seed).random((sets, ways)).round(2)


def test_friedman_is_that_of_scipy() -> None:
    for seed in range(10):
        ranks = stats.rankdata(-scores(6, 4, seed), axis=1)
        found, known = friedman(ranks), stats.friedmanchisquare(*ranks.T)
        assert found.chi_square == pytest.approx(known.statistic)
    table = numpy.array([[4, 3, 2, 1]] * 14, dtype=float)
    perfect = friedman(table)
    assert perfect.f == float("inf") and perfect.p == 0 and perfect.chi_square == pytest.approx(14 * 3)
    assert friedman(numpy.full((5, 3), 2.0)).p == 1


def test_f_of_the_worked_example_of_demsar() -> None:
    """Table 6 of Demšar 2006: C4.5, with m tuned, with cf tuned, with both, on 14 data sets."""
    aucs = numpy.array([
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ])  # fmt: skip
    ranks = stats.rankdata(-aucs, axis=1)
    assert ranks.mean(0) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=0.001)
    found = friedman(ranks)
    plain = 12 * 14 / (4 * 5) * ((ranks.mean(0) ** 2).sum() - 4 * 5**2 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)  # his, without the correction for ties
    ties = sum(((count := numpy.unique(row, return_counts=True)[1]) ** 3 - count).sum() for row in ranks)
    assert found.chi_square == pytest.approx(plain / (1 - ties / (14 * 4 * 15)))
    assert found.f == pytest.approx(13 * found.chi_square / (14 * 3 - found.chi_square))
    assert found.p == pytest.approx(stats.f.sf(found.f, 3, 39)) and found.p < 0.05


def test_pairs_are_wilcoxons_and_holms() -> None:
    gains = scores(9, 4, 3)
    pairs = versus(gains)
    assert [(pair.first, pair.second) for pair in pairs] == [*combinations(range(4), 2)]
    known = [stats.wilcoxon(gains[:, a], gains[:, b], zero_method="zsplit").pvalue for a, b in
             combinations(range(4), 2)]  # fmt: skip
    assert [pair.p for pair in pairs] == pytest.approx(known)
    assert [pair.corrected for pair in pairs] == pytest.approx(holm(known))
    assert signed_rank(numpy.zeros(5)) == 1


@pytest.mark.parametrize("sets", [3, 5, 6, 8])
def test_no_p_is_below_the_smallest(sets: int) -> None:
    clear = numpy.linspace(0.1, 0.2, sets)
    assert signed_rank(clear) == pytest.approx(smallest_p(sets, 1))
    assert (smallest_p(sets, 1) < 0.05) == (sets >= sets_needed(1) == 6)
    assert smallest_p(5, 3) == pytest.approx(3 / 16) and smallest_p(3, 10) == 1


BAYCOMP = {  # seed of the differences → better, equal, worse
    0: (0.6721, 0.3279, 0.0000),
    1: (0.8126, 0.1670, 0.0204),
    3: (0.2541, 0.3138, 0.4321),
    6: (0.9781, 0.0004, 0.0215),
}


def test_the_bayesian_test_is_that_of_its_authors() -> None:
    """baycomp 1.0.3, SignedRankTest.probs(x, y, rope=0.01, nsamples=200000, random_state=0)."""
    for seed, known in BAYCOMP.items():
        differences = numpy.random.default_rng(seed).normal(0.01, 0.03, 4 + seed)
        assert bayesian(differences) == pytest.approx(known, abs=0.006)


def test_identities_of_the_bayesian_test() -> None:
    differences = numpy.random.default_rng(7).normal(0.005, 0.03, 8)
    one, other = bayesian(differences), bayesian(-differences)
    assert one == other[::-1] and sum(one) == pytest.approx(1)
    assert bayesian(numpy.zeros(5)) == (0, 1, 0)
    assert bayesian(numpy.full(5, 0.009)) == (0, 1, 0)
    assert bayesian(numpy.full(12, 0.2))[0] >= 0.99 and bayesian(numpy.full(12, -0.2))[2] >= 0.99
    assert bayesian(differences, seed=1) == pytest.approx(one, abs=0.01)


def test_bars_are_the_largest_sets_of_which_no_two_are_told_apart() -> None:
    def pair(first: int, second: int, corrected: float) -> Versus:
        return Versus(first, second, 0.0, 0.3, 0.4, 0.3, corrected, corrected)

    apart = {(0, 2), (0, 3), (1, 3)}
    pairs = [pair(a, b, 0.01 if (a, b) in apart else 0.5) for a, b in combinations(range(4), 2)]
    assert alike(4, pairs) == [[0, 1], [1, 2], [2, 3]]
    assert alike(4, [pair(a, b, 0.01) for a, b in combinations(range(4), 2)]) == []
    assert alike(4, [pair(a, b, 0.5) for a, b in combinations(range(4), 2)]) == [[0, 1, 2, 3]]
    gap = [pair(a, b, 0.5 if (a, b) in {(0, 2)} else 0.01) for a, b in combinations(range(3), 2)]
    assert alike(3, gap) == [[0, 2]]


def test_the_picture_has_planted_ranks_and_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(
        "ftrun.reports.across.plots.Figure", lambda **own: drawn.append(Figure(**own)) or drawn[-1]
    )
    ranks = numpy.array([[1.0, 2.0, 3.0]] * 8)
    gains = numpy.array([[0.9, 0.9 - 0.01 * (-1) ** n * (n + 1), 0.5 + 0.01 * n] for n in range(8)])
    found = Across([*"abcdefgh"], ["accuracy"] * 8, ["x", "y", "z"], gains, ranks, ranks == 1, ranks, [])
    plot = ranks_plot(found, versus(gains))
    assert plot.png.startswith(b"\x89PNG") and "bars join ways, at their dots" in plot.title
    axes = drawn[0].axes[0]
    lines = [line for line in axes.get_lines() if line.get_linewidth() == 3.5]
    assert [[round(x, 2) for x in line.get_xdata()] for line in lines] == [[0.98, 2.02]]
    stems = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linewidth() == 0.9]
    assert stems == [1, 2, 3] and {text.get_text() for text in axes.texts} == {"x (1)", "y (2)", "z (3)"}


def test_the_verdict_is_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = report(capsys, *studies(tmp_path, [*SETS]), "--across", "--format", "markdown")
    first = next(line for line in text.splitlines() if line.startswith("*"))
    assert first.startswith(
        "**lora is best on 5 of 5 data sets: average rank 1; better than full (rank 2) with"
    )
    assert "| data set | metric | lora | full | linear_probe |" in text
    assert "| reviews five | accuracy |" in text and "| average rank |  | 1.00 | 2.00 | 3.00 |" in text
    assert "with 5 data sets none is below 0.19: it takes 7" in text
    assert "all data sets give the same order, p < 0.001" in text


def test_csv_html_and_pictures_hold_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = studies(tmp_path, ["one", "two", "three"], seeds=2)
    rows = [*csv.DictReader(io.StringIO(report(capsys, *places, "--across", "--format", "csv")))]
    assert len(rows) == 9 and {row["seeds"] for row in rows} == {"2"}
    assert {row["average_rank"] for row in rows if row["way"] == "lora"} == {"1.0"}
    best = [float(row["score"]) for row in rows if row["way"] == "lora"]
    assert all(score > 0.8 for score in best) and rows[0]["p_to_first"] == ""
    page = tmp_path / "page.html"
    report(capsys, *places, "--across", "--output", page, "--plots", tmp_path / "plots")
    assert "lora is best" in page.read_text() and "data:image/png" in page.read_text()
    assert (tmp_path / "plots" / "across.png").is_file()


def test_ways_are_matched_by_the_strategy_and_its_own_settings(tmp_path: Path) -> None:
    places = studies(tmp_path, ["one", "two", "three"])
    for name in ("one", "two", "three"):
        finished(tmp_path / name / "r4", "lora", accuracy=0.7, items=SETS[name], rank=4)
    finished(tmp_path / "one" / "decay", "full", accuracy=0.7, items=SETS["one"], layer_decay=0.9)
    found = across(rows_of(places))
    assert found.ways == ["lora rank=8", "full layer_decay=1", "lora rank=4", "linear_probe"]
    assert found.notes == ["full layer_decay=0.9 is left out: it was not tried on reviews two, reviews three"]
    assert found.ranks.tolist() == [[1, 2, 3, 4]] * 3


def test_runs_that_chose_a_rate_are_no_ways(tmp_path: Path) -> None:
    places = studies(tmp_path, ["one", "two"])
    for number in range(2):
        finished(tmp_path / "one" / "grid" / str(number), "full", 1000, items=300, layer_decay=number / 2)
    assert across(rows_of(places)).notes != []
    Ledger(tmp_path / "one").write("key", tmp_path / "one" / "grid" / "0", "finished")
    found = across(rows_of(places))
    assert found.notes == [] and found.ways == ["lora", "full", "linear_probe"]


def test_two_data_sets_are_a_table_and_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = report(capsys, *studies(tmp_path, ["one", "two"]), "--across", "--format", "markdown")
    assert "2 data sets are too few for a test over data sets, which needs at least 3" in text
    assert "probability" not in text and "**lora is best on 2 of 2 data sets: average rank 1**\n" in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    places = studies(tmp_path, ["one"])
    with pytest.raises(ConfigError, match="needs several data sets, and these runs are all on reviews"):
        main([*places, "--across"])
    finished(tmp_path / "two" / "full", "full", items=310)
    with pytest.raises(
        ConfigError, match="needs two ways of training that all 2 data sets have; there is only full"
    ):
        main([*places, str(tmp_path / "two"), "--across"])
    with pytest.raises(ConfigError, match="--sort test"):
        main([*places, "--across", "--sort", "test"])


def test_ways_of_equal_scores_are_level_whatever_the_rounding_of_their_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hits of three seeds are 26, 34, 32 of 60 for one way and 32, 26, 34 for another."""
    for name, items in (("one", 60), ("two", 61)):
        for strategy, hits in (("full", (26, 34, 32)), ("lora", (32, 26, 34))):
            for seed, right in enumerate(hits):
                own = {"rank": 8} if strategy == "lora" else {}
                run = finished(tmp_path / name / f"{strategy}-{seed}", strategy, seed, items=items, **own)
                _answer(run, right)
    found = across(rows_of([str(tmp_path)]))
    assert (found.ranks == 1.5).all()
    said = report(capsys, tmp_path / "one", tmp_path / "two", "--across")
    assert "no way is ahead: full and lora have the same average rank, 1.5" in said


def _answer(run: Run, right: int) -> None:
    """The run with so many right answers."""
    path = run.path / "predictions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        line["answer"] = line["label"] if place < right else "ab"[line["label"] == "a"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run.write_json("result.json", run.read_json("result.json") | {"test_accuracy": right / len(lines)})
