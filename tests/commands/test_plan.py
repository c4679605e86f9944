"""What is said before any run: the numbers of a run with these settings, and nothing trained or written."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ftrun.commands.plan import folded, main, ways_of
from ftrun.errors import ConfigError
from ftrun.reports.rare import equal_rows
from ftrun.reports.statistics.power import smallest_correlation_difference, smallest_difference
from ftrun.reports.verdicts.planning import power_lines


@pytest.fixture
def table(tmp_path: Path, tiny_model_dir: Path) -> list[str]:
    """Settings of a task of 100 rows with a column `source`."""
    with (tmp_path / "all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "source"])
        for row in range(100):
            words = "good nice" if row % 2 else "bad sad"
            writer.writerow(
                [f"{words} {'word ' * (row % 7)}{row}", "ab"[row % 2], ("shop", "film")[row % 3 == 0]]
            )
    return [
        "task=classify", f"task.train={tmp_path / 'all.csv'}", "task.slices=[source]", "device=cpu",
        f"model.name={tiny_model_dir}", "task.max_length=24",
    ]  # fmt: skip


def test_the_plan_is_what_a_run_says_and_leaves_nothing(
    table: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ftrun_inprocess: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("ftrun.training.loop.Loop.run", None)  # what trains would not run
    said = ftrun_inprocess("plan", *table, "--strategies", "full,linear_probe", "--seeds", "2").stdout
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    assert "rows: train 80, validation 10, test 10" in said
    assert "2 ways × 2 seeds = 4 runs, " in said and "adds 3 runs or more, 3 of each way that has one" in said
    assert (
        "  linear_probe: solver: lbfgs, since the head is one linear layer on fixed features; at most" in said
    )
    found = re.search(r"10 test rows, 2 seeds, 2 ways \(1 test\): differences below about (\d+) points", said)
    assert found is not None
    run = ftrun_inprocess(*table, "strategy=full", f"hydra.run.dir={tmp_path / 'run'}").stdout
    (auto,) = [line for line in run.splitlines() if line.startswith("auto: ")]
    assert f"  full: {auto.removeprefix('auto: ')}" in said.splitlines()
    for line in run.splitlines():
        if line.startswith(("train: ", "test: ", "labels: ")):
            assert f"  {line}" in said.splitlines()


def test_predictions_know_their_slices_and_are_the_same_again(
    table: list[str], tmp_path: Path, ftrun_inprocess: Any
) -> None:
    files = []
    for name in ("one", "two"):
        words = ["strategy=linear_probe", "train.max_steps=2", f"hydra.run.dir={tmp_path / name}"]
        said = ftrun_inprocess(*table, *words).stdout
        files.append((tmp_path / name / "predictions.jsonl").read_bytes())
    assert files[0] == files[1]
    slices = [json.loads(line)["slices"] for line in files[0].splitlines()]
    assert {own["source"] for own in slices} == {"shop", "film"}
    lengths = {own["length"] for own in slices}
    assert 1 < len(lengths) <= 3 and all(name.endswith(" tokens") for name in lengths)
    assert [list(own) for own in slices] == [["length", "source"]] * 10
    assert re.search(r"source +rows +accuracy", said) and re.search(r"length +rows +accuracy", said)


def test_folds_have_the_same_slices_and_all_rows_are_tested(
    table: list[str], tmp_path: Path, ftrun_inprocess: Any
) -> None:
    words = [*table, "task.folds=2", "strategy=linear_probe"]
    said = ftrun_inprocess("plan", *words, "--seeds", "1").stdout
    assert "1 way × 1 seed × 2 folds = 2 runs, " in said and "100 test rows, 1 seed" in said
    names = []
    for fold in range(2):
        place = tmp_path / str(fold)
        ftrun_inprocess(*words, f"task.fold={fold}", "train.max_steps=2", f"hydra.run.dir={place}")
        names += [
            json.loads(line)["slices"]["length"]
            for line in (place / "predictions.jsonl").read_text().splitlines()
        ]
    assert len(names) == 100 and len(set(names)) <= 3


def test_a_missing_column_is_refused_before_the_network(
    table: list[str], tmp_path: Path, ftrun_inprocess: Any
) -> None:
    result = ftrun_inprocess(*table, "task.slices=[sorce]", check=False)
    assert result.returncode == 3 and "task.slices=sorce: " in result.stderr
    assert "did you mean 'source'?" in result.stderr and not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["foo"], "plan: 'foo' is not key=value"),
        (["task.trian=a.csv"], "did you mean 'task.train'"),
        (["seed=3"], "plan: seed= cannot be set here; use --seeds"),
        (["task=digits", "--seeds", "0"], "plan: --seeds must be at least 1"),
        (["strategy=lora", "--strategies", "full"], "name the ways twice"),
        (
            ["task=digits", "model=mlp", "strategy=adapter"],
            "plan: adapter cannot be trained: ",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        main(words)


def test_ways_are_strategies_or_what_commas_part() -> None:
    assert list(ways_of(["task=digits"], "full,lora")) == ["full", "lora"]
    assert list(ways_of(["strategy=lora", "rank=1,2", "task.text=[a,b]"], None)) == ["rank=1", "rank=2"]
    assert ways_of(["strategy=lora"], None) == {"lora": ["strategy=lora"]}
    crossed = ways_of(["strategy=full,lora", "task.subset=10,20"], None)
    assert list(crossed)[0] == "full task.subset=10" and len(crossed) == 4
    assert folded(["task.folds=5"]) == (["task.folds=5", "task.fold=0"], 5)
    assert folded(["task.folds=5", "task.fold=1"])[1] == 1


def test_the_smallest_difference_is_the_rule_s_and_folds_are_advised_where_they_help() -> None:
    lines = power_lines("accuracy", 388, 3, 3, 3, None, 3880)
    points = 100 * smallest_difference(388, 3, 3)
    assert lines[0] == (
        f"388 test rows, 3 seeds, 3 ways (3 tests): differences below about {points:.2g} points will not be"
        " told apart"
    )
    folds = 100 * smallest_difference(3880, 3, 3)
    assert any(
        f"task.folds=5, which tests all 3,880 rows: {folds:.2g} points; advised" in line for line in lines
    )
    assert not any("task.folds" in line for line in power_lines("accuracy", 388, 3, 3, 3, None, None))
    assert "advised" not in "".join(power_lines("accuracy", 3880, 3, 3, 3, None, 4000))
    easier = power_lines("accuracy", 388, 3, 3, 3, 0.05, None)
    assert f"below about {100 * smallest_difference(388, 3, 3, error_rate=0.05):.2g} points" in easier[0]
    assert "wrong on 5 % of the rows, TF-IDF's share" in easier[1]


def test_metrics_that_are_no_share_are_not_treated_as_one() -> None:
    value = smallest_correlation_difference(388, 3)
    assert f"below about {value:.2g} will not" in power_lines("pearson", 388, 3, 2, 1, 0.2, None)[0]
    (line,) = power_lines("rmse", 388, 3, 2, 1, None, 4000)
    assert "no rule tells before a run" in line
    assert any("a rough guide" in line for line in power_lines("f1", 388, 3, 2, 1, None, None))


def test_a_mean_over_labels_is_as_unsure_as_its_rarest_label_makes_it() -> None:
    alike = power_lines("f1", 388, 3, 2, 1, None, None, {"a": 97, "b": 97, "c": 97, "d": 97})
    plain = power_lines("accuracy", 388, 3, 2, 1, None, None)
    assert alike[0] == plain[0]
    rare = power_lines("f1", 99, 3, 2, 1, 0.03, 990, {"no": 96, "yes": 3})
    points = 100 * smallest_difference(round(4 / (1 / 96 + 1 / 3)), 3)
    assert f"differences below about {points:.2g} points" in rare[0]
    assert (
        "mean over 2 labels, of which 'yes' has 3 test rows: as unsure as 12 rows of equal labels" in rare[1]
    )
    assert not any("a rough guide" in line for line in rare)
    assert any("task.folds=5, which tests all 990 rows" in line for line in rare)


def test_equal_rows_are_those_of_draws() -> None:
    import numpy

    draws = numpy.random.default_rng(0)
    counts = (200, 30, 5)
    means = numpy.mean([draws.binomial(count, 0.8, 20_000) / count for count in counts], 0)
    assert means.var() == pytest.approx(0.16 / equal_rows(counts), rel=0.05)


def test_the_spread_of_two_correlations_is_that_of_draws() -> None:
    import numpy
    from scipy.special import ndtri

    items, chance = 300, numpy.random.default_rng(0)
    together = numpy.array([[1, 0.8, 0.8], [0.8, 1, 0.9], [0.8, 0.9, 1]])
    draws = chance.multivariate_normal(numpy.zeros(3), together, (3000, items))
    draws -= draws.mean(1, keepdims=True)
    draws /= numpy.sqrt((draws**2).sum(1, keepdims=True))
    off = (draws[..., 0] * (draws[..., 1] - draws[..., 2])).sum(1)
    rule = smallest_correlation_difference(items, 1, seed_spread=0.0) / (ndtri(0.975) + ndtri(0.8))
    assert rule == pytest.approx(off.std(), rel=0.05)
