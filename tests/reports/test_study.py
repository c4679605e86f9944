"""The page of a comparison: what belongs together is tested in pairs, what does not is never compared."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from finished import finished

from ftrun.commands.report import main
from ftrun.reports.groups import groups_of
from ftrun.reports.pages.page import sections_of
from ftrun.reports.statistics.significance import Estimate, estimate
from ftrun.reports.study import Group
from ftrun.reports.table import rows_of
from ftrun.reports.verdicts.labelling import label_lines
from ftrun.reports.verdicts.sentences import elbow, needed, p_value_source, rounded, sentence, standard_error


def grouped(path: Path) -> tuple[list[Group], list[str]]:
    return groups_of(rows_of([str(path)]))


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Two strategies that are alike and one that is far behind, three seeds each."""
    for seed in range(3):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.8)
        finished(tmp_path / f"lora-{seed}", "lora", seed, accuracy=0.8, rank=8)
        finished(tmp_path / f"scratch-{seed}", "scratch", seed, accuracy=0.5, over=True)
    return tmp_path


def test_pairs_are_told_apart_or_not_in_words(three: Path) -> None:
    (group,), notes = grouped(three)
    assert notes == []
    assert [study.name for study in group.studies][-1] == "scratch"
    said = [sentence(pair, group) for pair in group.pairs]
    assert len(said) == 3
    assert p_value_source(group) == "p-values: paired t test over test examples and seeds"
    alike = next(line for line in said if "scratch" not in line)
    assert "do not differ significantly on 400 test examples (difference 0." in alike
    assert sum(" is better than scratch on 400 test examples (difference " in line for line in said) == 2


def test_what_a_choice_brings_along_is_said_where_like_choices_differ(tmp_path: Path) -> None:
    replay = {"name": "replay", "share": 0.5, "buffer": 200}
    chosen = {
        "none": {"name": "none"},
        "half": replay,
        "third": replay | {"share": 0.3},
        "ewc": {"name": "ewc"},
    }
    for name, node in chosen.items():
        finished(tmp_path / name, "lora", protect=node)
    (group,), _ = grouped(tmp_path)
    assert {study.name for study in group.studies} == {
        "lora", "lora, protect=ewc", "lora, protect=replay, share=0.5", "lora, protect=replay, share=0.3",
    }  # fmt: skip


def test_runs_that_logged_no_rates_have_no_picture_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(tmp_path / "runs/lora", "lora")
    (run.path / "metrics.jsonl").write_text("")
    report(capsys, tmp_path / "runs", "--plots", tmp_path / "pictures")
    assert "rates.png" not in {path.name for path in (tmp_path / "pictures").iterdir()}


def test_single_runs_are_tested_exactly(tmp_path: Path) -> None:
    finished(tmp_path / "a", "full", accuracy=0.8)
    finished(tmp_path / "b", "lora", accuracy=0.79, rank=8)
    finished(tmp_path / "c", "scratch", accuracy=0.4)
    (group,), _ = grouped(tmp_path)
    assert {pair.test for pair in group.pairs} == {"paired t test over test examples"}
    alike = next(sentence(pair, group) for pair in group.pairs if not pair.apart)
    assert "would be needed to decide" in alike or "their scores are equal" in alike


def test_single_runs_are_said_to_be_runs(tmp_path: Path) -> None:
    finished(tmp_path / "a", "full", accuracy=0.8)
    finished(tmp_path / "b", "scratch", accuracy=0.4)
    (group,), _ = grouped(tmp_path)
    assert sentence(group.pairs[0], group).startswith(
        "the run of full is better than the run of scratch on 400"
    )
    assert p_value_source(group).endswith(
        "; with one seed each they compare these runs and not their strategies, because another seed changes"
        " a score too (by a standard deviation of 1 point on 2,000 rows of SST-2): run seed=0,1,2"
    )
    assert standard_error(group.studies[0], "accuracy").endswith(
        "(one seed, so that of the seeds is unknown)"
    )
    finished(tmp_path / "c", "full", 1, accuracy=0.8)
    (group,), _ = grouped(tmp_path)
    assert sentence(group.pairs[0], group).startswith("full is better than scratch on 400")
    assert p_value_source(group).endswith("; the spread over seeds of scratch is that of the others")


def test_studies_share_their_spread_over_seeds_with_those_of_equal_labels(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.7, 0.8, 0.9)):
        finished(tmp_path / f"wild-{seed}", "full", seed, accuracy=accuracy, subset=50)
        for subset in (50, 800):
            finished(tmp_path / f"calm-{subset}-{seed}", "lora", seed, accuracy=0.8, subset=subset)
    (group,), _ = grouped(tmp_path)
    by_labels = {
        str(study.config["task"]["subset"]): study for study in group.studies if "lora" in study.name
    }
    alone = {subset: estimate(study.runs, share=True) for subset, study in by_labels.items()}
    errors = {subset: study.score.seeds_error or 0 for subset, study in by_labels.items()}
    assert errors["50"] > 3 * (alone["50"].seeds_error or 0)
    assert errors["800"] == alone["800"].seeds_error


def test_the_cheaper_of_two_that_score_alike_dominates(three: Path) -> None:
    (group,), _ = grouped(three)
    by_name = {study.name: study for study in group.studies}
    assert by_name["scratch"].dominated_by in ("full", "lora")
    assert by_name["lora"].dominated_by is None


def test_of_many_the_one_that_dominates_need_not_be_the_best(tmp_path: Path) -> None:
    for rank, accuracy in ((1, 0.7), (2, 0.75), (3, 0.78), (4, 0.8), (5, 0.82), (6, 0.9)):
        finished(tmp_path / f"lora-{rank}", "lora", accuracy=accuracy, rank=rank)
    finished(tmp_path / "scratch", "scratch", accuracy=0.4)
    (group,), _ = grouped(tmp_path)
    assert len(group.pairs) == 6  # each meets the best only
    by_name = {study.name: study.dominated_by for study in group.studies}
    assert by_name["scratch"] is not None and by_name["lora rank=6"] is None
    finished(tmp_path / "worse", "lora", accuracy=0.69, rank=5, alpha=1)  # as dear as rank 5, worse than 1
    (group,), _ = grouped(tmp_path)
    assert next(study for study in group.studies if "alpha=1" in study.name).dominated_by is not None


def test_other_test_rows_and_other_metrics_are_never_compared(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(three / "other", "full", items=300)
    finished(three / "others", "lora", labels="abc", rank=8)
    groups, _ = grouped(three)
    assert [len(group.studies) for group in groups] == [3, 1, 1]
    text = report(capsys, three, "--format", "markdown")
    assert "## Not comparable with each other" in text
    assert "reviews: accuracy on 300 test examples" in text


def test_answers_that_do_not_give_the_score_are_left_out_and_said(three: Path) -> None:
    path = three / "full-0" / "predictions.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace('"answer": "a"', '"answer": "z"').replace('"answer": "b"',
        '"answer": "z"'), *lines[1:]]) + "\n")  # fmt: skip
    (three / "lora-0" / "predictions.jsonl").write_text("{\n")
    (three / "scratch-0" / "predictions.jsonl").unlink()
    groups, notes = grouped(three)
    assert [len(study.tried) for study in groups[0].studies] == [2, 2, 2]
    assert notes[0].startswith("full-0: predictions.jsonl gives accuracy 0.")
    assert "lora-0" in notes[1] and "is damaged" in notes[1]
    assert notes[2] == "scratch-0: no predictions.jsonl, so it is not compared"


def test_overfitting_is_named_and_its_absence_too(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = report(capsys, three, "--format", "markdown")
    assert (
        "scratch (3 of 3 runs, here seed 0) overfits and is overconfident: validation loss rises from 0.540"
        " at epoch 4"
    ) in text
    assert "no sign of underfitting or overfitting: full" in text


def test_the_elbow_is_the_smallest_rank_that_is_not_told_from_the_best(tmp_path: Path) -> None:
    for rank, accuracy in ((1, 0.5), (2, 0.65), (4, 0.82), (8, 0.825), (16, 0.83)):
        for seed in range(3):
            finished(tmp_path / f"{rank}-{seed}", "lora", seed, accuracy=accuracy, items=800, rank=rank)
    (group,), _ = grouped(tmp_path)
    found = elbow(group)
    assert found is not None
    assert found[1].config["rank"] == 4
    assert found[2].startswith(
        "rank 4 is the elbow: the smallest that does not differ significantly from the best, rank 8"
    )
    group.studies = [study for study in group.studies if study.config["rank"] >= 4]
    for study in group.studies:
        study.score.value += 0.2 * (study.config["rank"] == 4)
    ends = elbow(group)
    assert ends is not None and ends[2] == "rank 4 is the elbow: the smallest rank scores best"


def test_labels_crossover_and_how_many_times_fewer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {"linear_probe": (0.7, 0.72, 0.74), "full": (0.6, 0.8, 0.9), "scratch": (0.4, 0.5, 0.7)}
    scores["lora"] = (0.61, 0.8, 0.89)  # which is no crossover
    for strategy, found in scores.items():
        for subset, accuracy in zip((50, 200, 800), found, strict=True):
            for seed in range(2):
                name = tmp_path / f"{strategy}-{subset}-{seed}"
                finished(name, strategy, seed, accuracy=accuracy, subset=subset)
    pictures = tmp_path / "pictures"
    text = report(capsys, tmp_path, "--format", "markdown", "--plots", pictures)
    assert "the curves of full and linear_probe cross at about " in text
    assert "the curves of full and lora cross, but within the margin of error" in text
    assert "full and lora cross at" not in text
    assert "full needs " in text and " times fewer labels than scratch to score " in text
    names = {path.stem for path in pictures.iterdir()}
    assert names == {"scores", "training", "scratch", "rates", "labels", "reliability"}


def test_where_the_control_has_what_pre_training_has_in_words(tmp_path: Path) -> None:
    scores = {"full": (0.6, 0.7, 0.9), "scratch": (0.4, 0.6, 0.75)}
    for strategy, found in scores.items():
        for labels, accuracy in zip((10, 100, 1000), found, strict=True):
            name = tmp_path / f"{strategy}-{labels}"
            finished(name, strategy, accuracy=accuracy, subset=f"{labels} per class", items=2000)
    (group,), _ = grouped(tmp_path)
    said = label_lines(group)[-1]
    found = re.fullmatch(
        r"labels that scratch needs: about (\d+) to match full with 10 \(\d+\.\d %\), about (\d+) to match"
        r" full with 100 \(\d+\.\d %\), more than 1,000 to match full with 1,000 \(\d+\.\d %\)",
        said,
    )
    assert found is not None, said
    assert 80 < int(found[1]) < 125 and 300 < int(found[2]) < 700


def test_html_is_one_file_with_pictures_inside(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (three / "killed").mkdir()
    unfinished = (three / "full-1" / "config.yaml").read_text()
    (three / "killed" / "config.yaml").write_text(unfinished)
    (three / "killed" / "metrics.jsonl").write_text("")
    page = three / "page.html"
    assert report(capsys, three, "--output", page) == f"saved: {page}\n"
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 5
    assert "http" not in text.replace("https://", "http://").split("<h1>")[0]
    assert "killed was interrupted" in text


def test_a_repeated_seed_counts_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        finished(tmp_path / name, "full", 0)
    (group,), _ = grouped(tmp_path)
    assert len(group.studies[0].tried) == 1


def test_two_figures_upwards() -> None:
    assert [rounded(value) for value in (5917.2, 6001, 87.3, 7)] == [6000, 6100, 88, 7]


def test_the_csv_has_a_line_for_each_run_with_what_is_known_of_its_kind(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(report(capsys, three, "--format", "csv").splitlines()))
    assert len(rows) == 9
    assert len({(row["strategy"], row["mean_score"], row["mean_low"], row["mean_high"]) for row in rows}) == 3
    assert all(float(row["mean_low"]) < float(row["mean_score"]) < float(row["mean_high"]) for row in rows)
    assert {row["dominated_by"] != "" for row in rows if row["strategy"] == "scratch"} == {True}
    assert {row["model_bytes"] for row in rows} == {"1000.0"}


def test_ranks_that_learned_nothing_have_no_elbow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in (1, 2, 4):
        finished(tmp_path / f"lora-{rank}", "lora", accuracy=0.5, rank=rank)
    text = report(capsys, tmp_path, "--format", "markdown")
    assert "elbow" not in text and text.count("underfits: test accuracy is") == 3  # training loss fell
    assert "no sign of" not in text


def test_an_interval_of_few_degrees_of_freedom_says_how_wide_they_make_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.5 + 0.4 * seed)
        finished(tmp_path / f"lora-{seed}", "lora", seed, accuracy=0.9 - 0.4 * seed)
    (group,), _ = grouped(tmp_path)
    study = group.studies[0]
    said = standard_error(study, "accuracy")
    times = float(said.split("the interval reaches ")[1].split(" ")[0])
    assert study.score.freedom < 10 and times > 2.2
    pair = group.pairs[0]
    assert pair.found.freedom < 3 and "more seeds are needed" in needed(pair, group)


@pytest.mark.parametrize(
    ("value", "items_error", "seeds_error", "p", "end"),
    [
        (0.0, 0.01, 0.001, 1.0, "; their scores are equal"),
        (0.0001, 0.01, 0.0001, 0.9, "; the difference is too small to resolve with these seeds"),
        (1e-6, 0.01, None, 0.9, "; the difference is too small to resolve"),
        (
            0.02, 0.01, 0.05, 0.7,
            "; the seeds vary too much for a larger test set to decide, so more seeds are needed",
        ),
        (0.02, 0.01, 0.001, 0.05, "; about 1,100 would be needed to decide a difference of this size"),
        (0.04, 0.01, 0.001, 0.04, "; p = 0.04, or 0.12 corrected for 3 tests"),
    ],
)  # fmt: skip
def test_an_undecided_pair_says_what_would_decide_it(
    three: Path, value: float, items_error: float, seeds_error: float | None, p: float, end: str
) -> None:
    (group,), _ = grouped(three)
    pair = group.pairs[0]
    pair.found = Estimate(value, value - 0.1, value + 0.1, items_error, seeds_error, 2.0)
    pair.p, pair.corrected = p, min(1.0, 3 * p)
    assert needed(pair, group) == end
    if len(group.pairs) > 1 and pair.corrected > p:
        group.pairs = [pair]
        pair.corrected = p
        assert "corrected" not in needed(pair, group)


def advice(path: Path, name: str) -> str:
    """The report's line on a study."""
    (group,), _ = grouped(path)
    lines = [line for section in sections_of(group) for line in section.lines]
    return next(line for line in lines if line.startswith(f"{name} (") and " overfits" in line)


def test_no_advice_against_the_other_runs_of_a_report(tmp_path: Path) -> None:
    """The best run is not told of a LoRA that learned nothing; a better freeze is named with its score."""
    finished(tmp_path / "full", "full", accuracy=0.7, over=True)
    assert "strategy=freeze, strategy=lora, protect=l2sp" in advice(tmp_path, "full")
    finished(tmp_path / "lora", "lora", accuracy=0.5, rank=8)
    told = advice(tmp_path, "full")
    assert "Settings to try: train.patience=2, strategy=freeze, protect=l2sp." in told
    assert re.search(r"No better here: strategy=lora \(4\d\.\d %\)\. To correct", told)
    finished(tmp_path / "frozen", "freeze", accuracy=0.9, bottom=2)
    assert re.search(
        r"Settings to try: train.patience=2, strategy=freeze \((8|9)\d\.\d % here\), protect=l2sp\.",
        advice(tmp_path, "full"),
    )


def test_a_setting_is_judged_by_runs_that_differ_in_it_alone(tmp_path: Path) -> None:
    for rank, accuracy in ((8, 0.8), (2, 0.7)):
        finished(tmp_path / f"lora-{rank}", "lora", accuracy=accuracy, rank=rank, over=True)
    assert re.search(r"No better here: rank=2 \(\d\d\.\d %\)", advice(tmp_path, "lora rank=8"))
    finished(tmp_path / "other", "lora", accuracy=0.9, rank=4, alpha=1, over=True)  # differs in alpha as well
    assert "rank=4" not in advice(tmp_path, "lora rank=8")
    assert "rank=1 (now 2)" in advice(tmp_path, "lora rank=2")  # nobody went lower


def test_a_strategy_on_other_labels_is_no_evidence(tmp_path: Path) -> None:
    finished(tmp_path / "full", "full", accuracy=0.7, over=True, subset=100)
    finished(tmp_path / "lora", "lora", accuracy=0.5, rank=8, subset=1000)
    assert "strategy=lora, " in advice(tmp_path, "full, 100 rows")
