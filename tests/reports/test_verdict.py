"""The first sentence of a report, on studies made for it, and the names that keep unlike runs apart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from finished import finished

from ftrun.reports.groups import groups_of
from ftrun.reports.numbers import points
from ftrun.reports.pages.page import sections_of
from ftrun.reports.statistics.power import items_needed, measured_difference
from ftrun.reports.study import Group
from ftrun.reports.table import rows_of
from ftrun.reports.verdicts.verdict import verdict

ALL = {"majority": 0.5, "tfidf": 0.6, "features": 0.7}


def group_of(path: Path) -> Group:
    (group,), notes = groups_of(rows_of([str(path)]))
    assert notes == []
    return group


def made(path: Path, scores: dict[str, float], seeds: int = 3, **more: object) -> Group:
    """A study of strategies with these accuracies."""
    for strategy, accuracy in scores.items():
        for seed in range(seeds):
            own = {"rank": 8} if strategy == "lora" else {}
            finished(path / f"{strategy}-{seed}", strategy, seed, accuracy=accuracy, **own, **more)  # type: ignore[arg-type]
    return group_of(path)


def test_a_clear_winner_is_the_one_to_use(tmp_path: Path) -> None:
    group = made(tmp_path, {"full": 0.9, "lora": 0.6, "linear_probe": 0.58}, items=1000, baselines=ALL)
    first = verdict(group)[0]
    assert first.startswith("Use full (9") and " to " in first
    assert "better than every other way (next: lora, 6" in first and "p < 0.001" in first
    assert first.endswith("; frozen features have 75.9 %.")


def test_of_two_as_good_the_cheaper_is_the_one_to_use(tmp_path: Path) -> None:
    first = verdict(made(tmp_path, {"full": 0.8, "lora": 0.8}, items=1000))[0]
    assert first.startswith("Use lora (")
    assert first.endswith(": as good as full within noise at 1.65 % of the trained weights.")


def test_a_cheaper_way_that_is_a_little_worse_is_not_chosen_for_being_undecided(tmp_path: Path) -> None:
    lines = verdict(made(tmp_path, {"full": 0.8, "lora": 0.75}, items=40))
    assert lines[0].startswith("Use full (") and "the best score, but lora may be as good" in lines[0]


def test_too_few_rows_say_how_small_a_difference_they_can_show(tmp_path: Path) -> None:
    lines = verdict(made(tmp_path, {"full": 0.8, "lora": 0.75}, items=40))
    size = next(line for line in lines if line.startswith("With 40 test rows and 3 seeds, differences below"))
    assert int(size.split("about ")[1].split(" ")[0]) >= 10


def test_one_seed_says_that_others_may_order_them_otherwise(tmp_path: Path) -> None:
    lines = verdict(made(tmp_path, {"full": 0.9, "lora": 0.6}, seeds=1))
    assert any(line.startswith("One seed each: another may change the order") for line in lines)
    more = made(tmp_path / "more", {"full": 0.9, "lora": 0.6}, seeds=2)
    assert not any(line.startswith("One seed") for line in verdict(more))


def test_a_baseline_that_is_ahead_is_the_one_to_use(tmp_path: Path) -> None:
    group = made(tmp_path, {"full": 0.6, "lora": 0.55}, items=1000, baselines=ALL | {"tfidf": 0.85})
    first = verdict(group)[0]
    assert first.startswith("Use TF-IDF (9")
    assert "no way of training scores higher here; the best, full, has 61.9 %, p < 0.001." in first


def test_a_baseline_that_is_ahead_within_noise_is_the_one_to_use_as_well(tmp_path: Path) -> None:
    group = made(tmp_path, {"full": 0.6, "lora": 0.5}, items=40, baselines=ALL)
    pair = next(p for p in group.pairs if p.first is group.best and p.second.name == "frozen features")
    first = verdict(group)[0]
    assert not pair.apart and pair.found.value < 0
    assert first.startswith("Use frozen features (") and "the best, full, has " in first


def test_a_baseline_that_may_be_as_good_puts_training_in_doubt(tmp_path: Path) -> None:
    more = ALL | {"features": 0.78}
    first = verdict(made(tmp_path, {"full": 0.8, "lora": 0.5}, baselines=more, items=60))[0]
    assert first.startswith("Use full (") and "; frozen features have " in first
    assert "%, not significantly less (p = " in first
    assert first.endswith("), so training may not be worth it.")


def test_what_learned_nothing_is_not_judged(tmp_path: Path) -> None:
    for seed in range(2):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.9, items=1000)
        blank(tmp_path / f"lora-{seed}", seed)
    lines = verdict(group_of(tmp_path))
    assert lines[0].startswith("Use full (") and "it is the only way that was tried" in lines[0]
    assert lines[1].startswith("lora learned nothing and is not judged")


def test_what_learned_nothing_and_scores_higher_is_not_what_others_are_compared_with(tmp_path: Path) -> None:
    rare, own = "ab" + "a" * 29, {"items": 1000, "baselines": {"majority": 0.9, "tfidf": 0.89}}
    for seed in range(2):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.885, labels=rare, **own)
        blank(tmp_path / f"lora-{seed}", seed, rare)
    group = group_of(tmp_path)
    lora, full = (next(each for each in group.ways if each.name == name) for name in ("lora", "full"))
    assert lora.untaught and lora.score.value > full.score.value and group.best is full
    rivals = [study for study in group.studies if study.baseline]
    assert len(rivals) == 2 and all(group.pair(full, rival) for rival in rivals)
    assert group.pair(full, lora) and verdict(group)[0].startswith("No verdict: nothing here is told apart")


def test_there_is_no_verdict_where_nothing_was_learned(tmp_path: Path) -> None:
    blank(tmp_path / "lora", 0)
    group = group_of(tmp_path)
    assert verdict(group)[0].startswith("No verdict: lora learned nothing")
    titles = [section.title for section in sections_of(group)]
    assert "Runs that learned nothing" in titles and "Overfitting" not in titles  # nothing stands below it


def blank(path: Path, seed: int, labels: str = "ab") -> None:
    """A run whose answers have nothing to do with the labels."""
    import json

    run = finished(path, "lora", seed, accuracy=0.5, items=1000, rank=8, labels=labels)
    lines = [json.loads(line) for line in (path / "predictions.jsonl").read_text().splitlines()]
    right = sum(line["label"] == "a" for line in lines) / len(lines)
    text = "".join(json.dumps(line | {"answer": "a"}) + "\n" for line in lines)
    (path / "predictions.jsonl").write_text(text)
    metrics = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    same = {"train_loss": 0.7, "eval_loss": 0.7, "eval_accuracy": right}
    still = [line | {name: same[name] for name in line if name in same} for line in metrics]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in still))
    result = run.read_json("result.json") | {"test_accuracy": right, "train_matthews_correlation": 0.0}
    run.write_json("result.json", result)


def test_twice_the_labels_are_told_from_a_measured_curve_with_their_uncertainty(tmp_path: Path) -> None:
    for labels, accuracy in ((100, 0.6), (200, 0.7), (400, 0.8)):
        for seed in range(3):
            name = tmp_path / f"{labels}-{seed}"
            finished(name, "full", seed, accuracy=accuracy, subset=labels, items=2000)
    line = next(line for line in verdict(group_of(tmp_path)) if line.startswith("Twice the labels"))
    assert "would bring about 12.7 points (11" in line
    assert "by the step from 200 to 400" in line


def test_runs_of_unlike_networks_rows_budgets_and_holds_are_different_ways(tmp_path: Path) -> None:
    finished(tmp_path / "a", "full", model="models/MiniLM", subset=400)
    finished(tmp_path / "b", "full", model="models/tiny", subset=400)
    finished(tmp_path / "c", "full", model="models/tiny", subset=200)
    finished(tmp_path / "d", "full", model="models/tiny", subset=400, protect={"name": "ewc"})
    finished(tmp_path / "e", "lora", model="models/tiny", subset=400, rank=8)
    names = {study.name for study in group_of(tmp_path).studies}
    assert names == {
        "full, MiniLM, 400 rows", "full, tiny, 400 rows", "full, tiny, 200 rows",
        "full, tiny, 400 rows, protect=ewc", "lora, tiny, 400 rows",
    }  # fmt: skip


def test_what_is_scored_beside_the_score_makes_no_other_way(tmp_path: Path) -> None:
    task = {"kind": "classify", "name": "reviews", "subset": None}
    for seed, slices in enumerate((None, ["genre"], ["genre", "year"])):
        finished(tmp_path / f"{seed}", "full", seed, task=task | {"slices": slices})
    (study,) = group_of(tmp_path).studies
    assert study.name == "full" and len(study.tried) == 3


def test_networks_of_one_name_are_told_apart_by_their_places(tmp_path: Path) -> None:
    finished(tmp_path / "a", "full", model="one/model")
    finished(tmp_path / "b", "full", model="two/model")
    assert {study.name for study in group_of(tmp_path).studies} == {"full, one/model", "full, two/model"}


def test_baselines_are_rows_once_and_meet_the_best_way_alone(tmp_path: Path) -> None:
    group = made(tmp_path, {"full": 0.9, "lora": 0.6}, baselines=ALL)
    rivals = [study for study in group.studies if study.baseline]
    assert [study.name for study in rivals] == ["frozen features", "TF-IDF", "most frequent label"]
    assert [len(study.tried) for study in rivals] == [1, 1, 1]  # the same for all strategies and seeds
    met = [pair for pair in group.pairs if pair.second.baseline or pair.first.baseline]
    assert len(met) == 3 and all(pair.first is group.best for pair in met)
    assert len(group.pairs) == 4


def test_damaged_baselines_are_named_and_their_run_is_compared(tmp_path: Path) -> None:
    for strategy in ("full", "lora"):
        finished(tmp_path / strategy, strategy, baselines=ALL if strategy == "full" else None)
    (tmp_path / "full" / "baselines.jsonl").write_text("garbage\n{}\n")
    (group,), (note,) = groups_of(rows_of([str(tmp_path)]))
    assert {study.name for study in group.studies} == {"full", "lora"}
    assert "baselines.jsonl is damaged" in note and note.endswith("so its baselines are not compared")


def test_baselines_of_other_rows_are_not_compared(tmp_path: Path) -> None:
    group = made(tmp_path, {"full": 0.9}, seeds=1, baselines=ALL)
    assert len(group.studies) == 4
    file = tmp_path / "full-0" / "baselines.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[1:]))
    assert [study.name for study in group_of(tmp_path).studies] == ["full"]


@pytest.mark.parametrize("labels", [50, 200])
def test_a_baseline_belongs_to_its_number_of_rows(tmp_path: Path, labels: int) -> None:
    for subset, score in ((50, 0.4), (200, 0.55)):
        finished(
            tmp_path / f"{subset}", "full", accuracy=0.8, subset=subset, baselines=ALL | {"tfidf": score}
        )
    names = {study.name for study in group_of(tmp_path).studies}
    assert {f"TF-IDF, {labels} rows", f"full, {labels} rows"} <= names


def test_where_nothing_is_told_from_the_most_frequent_label_there_is_no_verdict(tmp_path: Path) -> None:
    poor = {"majority": 0.5, "tfidf": 0.55, "features": 0.45}
    first = verdict(made(tmp_path / "poor", {"full": 0.52, "lora": 0.5}, items=40, baselines=poor))[0]
    assert first.startswith("No verdict: nothing here is told apart from always answering the most frequent")
    assert "; the best score, of " in first and first.count(" to ") == 1
    words = {"majority": 0.5, "tfidf": 0.9, "features": 0.45}  # here the words tell more
    first = verdict(made(tmp_path / "words", {"full": 0.52, "lora": 0.5}, items=40, baselines=words))[0]
    assert first.startswith("Use TF-IDF (")
    full = made(tmp_path / "full", {"full": 0.9, "lora": 0.5}, items=40, baselines=poor)
    assert verdict(full)[0].startswith("Use full (")


@pytest.mark.parametrize(
    ("balance", "labels", "named"),
    [("none", "a" * 30 + "b", True), ("weights", "a" * 30 + "b", False), ("none", "aab", False)],
)
def test_a_metric_that_hides_rare_labels_is_named_with_what_counts_them(
    tmp_path: Path, balance: str, labels: str, named: bool
) -> None:
    task = {"kind": "classify", "name": "mail", "subset": None, "balance": balance}
    for seed in range(2):
        finished(tmp_path / f"full-{seed}", "full", seed, accuracy=0.9, labels=labels, task=task)
    lines = [line for line in verdict(group_of(tmp_path)) if "hardly counts" in line]
    assert bool(lines) == named
    for line in lines:
        most, rest = re.findall(
            r"(\d+) of 400 test rows are 'a', so accuracy hardly counts the other (\d+)", line
        )[0]
        assert int(most) + int(rest) == 400 and line.endswith(
            "; what does: task.balance=weights train.metric=f1."
        )


def test_test_rows_of_one_label_tell_nothing_of_others(tmp_path: Path) -> None:
    for seed in range(2):
        finished(tmp_path / f"full-{seed}", "full", seed, labels="a", items=50, baselines={"majority": 1.0})
    lines = verdict(group_of(tmp_path))
    assert "All 50 test rows are 'a', so no score tells anything of other labels." in lines


def test_the_smallest_difference_goes_by_the_runs_own_errors(tmp_path: Path) -> None:
    group = made(tmp_path, {"full": 0.8, "lora": 0.79}, items=40)
    (pair,) = group.pairs
    (line,) = [line for line in verdict(group) if "cannot be told apart" in line]
    least = measured_difference(pair.found)
    assert f"differences below about {points(least, 'accuracy')} cannot" in line
    needed = items_needed(replace(pair.found, value=least), 40)
    assert needed == pytest.approx(40, rel=0.2)
