"""What the data card finds: leaks, repeated rows, labels, and baselines; what a person is told of it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from lab import ran, settings, toy

from ftrun.data import baselines
from ftrun.data.card import distribution, frequencies, lines, named_scores, repetitions
from ftrun.data.leaks import normalised, of_columns
from ftrun.data.rows import load_splits
from ftrun.data.splits import choose
from ftrun.errors import ConfigError, DataError
from ftrun.runs.run import Run


def table(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return str(path)


def rows_of(name: str, count: int) -> list[tuple[str, str]]:
    return [(f"{name} {number}", "ab"[number % 2]) for number in range(count)]


@pytest.fixture
def leaking(tmp_path: Path) -> dict[str, str]:
    """Two test rows and one of validation are in train, spelled otherwise; one is in both."""
    train = rows_of("Train", 20)
    test = [("TRAIN  3", "b"), (" ｔrain 4", "a"), ("new", "b"), *rows_of("test", 7)]
    validation = [("train 3\u00a0", "b"), ("NEW", "a"), *rows_of("validation", 8)]
    return {
        split: table(tmp_path / f"{split}.jsonl", rows)
        for split, rows in (("train", train), ("validation", validation), ("test", test))
    }


def load(files: dict[str, str], leaks: str, subset: Any = None) -> Any:
    return load_splits(**files, text="text", label="label", subset=subset, seed=0, leaks=leaks)


def test_texts_are_compared_without_case_blanks_and_forms_of_characters() -> None:
    assert normalised(" Straße\u00a0\n ﬁne ") == normalised("STRASSE fine") == "strasse fine"
    assert normalised("a b") != normalised("ab")


def test_a_leak_is_warned_of_with_examples(leaking: dict[str, str]) -> None:
    splits = load(leaking, "warn")
    assert len(splits.train) == 20
    assert splits.notes == [
        "warning: LEAK: 1 of 10 validation rows is also in train ('train 3\\xa0'); "
        "task.leaks=drop takes them out of train",
        "warning: LEAK: 2 of 10 test rows are also in train ('TRAIN  3', ' ｔrain 4'); "
        "task.leaks=drop takes them out of train",
        "warning: LEAK: 2 of 10 test rows are also in validation ('TRAIN  3', 'new')",
    ]


def test_leaks_are_dropped_from_train_before_a_subset_is_chosen(leaking: dict[str, str]) -> None:
    splits = load(leaking, "drop", subset=18)
    assert len(splits.train) == 18 and not {"Train 3", "Train 4"} & {row["text"] for row in splits.train}
    assert splits.notes[0] == (
        "train: 2 of 20 rows dropped, their texts are in validation or test ('Train 3', 'Train 4')"
    )
    assert [note for note in splits.notes if "LEAK" in note] == [
        "warning: LEAK: 2 of 10 test rows are also in validation ('TRAIN  3', 'new')"
    ]


def test_leaks_can_be_an_error(leaking: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task\.leaks=error: 1 of 10 validation rows .*; 2 of 10 test rows"):
        load(leaking, "error")
    with pytest.raises(DataError, match="leaves no training row"):
        load(leaking | {"train": leaking["test"]}, "drop")
    with pytest.raises(ConfigError, match="task.leaks"):
        settings("task=classify", "task.train=a.csv", "task.leaks=ignore")


def test_the_card_counts_rows_labels_and_repetitions() -> None:
    train = [{"text": text, "label": label} for text, label in [*rows_of("x", 6), ("X 1", "b"), ("x 1", "b")]]
    held = [{"text": "other", "label": "a"}]
    rows = {"train": train, "validation": held, "test": held}
    card = {
        "rows": {"train": 8},
        "labels": frequencies({"train": [row["label"] for row in train]}),
        **repetitions(of_columns(rows, "text")),
    }
    assert card["labels"]["train"] == {"b": 5, "a": 3}
    assert card["duplicates"]["train"] == {"rows": 2, "examples": ["x 1"]}
    assert [(leak["split"], leak["other"], leak["rows"]) for leak in card["leaks"]] == [
        ("test", "validation", 1)
    ]
    assert lines(card, "accuracy") == [
        "labels: b 62.5%, a 37.5%",
        "duplicate rows: train 2 ('x 1')",
    ]


def test_pairs_are_the_same_only_when_both_texts_are() -> None:
    def pair(first: str, second: str) -> dict[str, str]:
        return {"one": first, "two": second}

    rows = {"train": [pair("a", "b c")], "validation": [pair("a b", "c")], "test": [pair("A", "B  C")]}
    leaks = repetitions(of_columns(rows, ["one", "two"]))["leaks"]
    assert [(leak["split"], leak["other"], leak["examples"]) for leak in leaks] == [
        ("test", "train", ["A | B  C"])
    ]


def test_a_run_keeps_its_card_and_shows_the_baselines_beside_its_score(
    toy_files: Path, tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "train.max_steps=1", "baselines=true"
    run = ran(tmp_path / "run", toy(toy_files, tiny_model_dir, *words))
    card = run.read_json("data.json")
    assert card["rows"] == {"train": 120, "validation": 40, "test": 40}
    assert card["lengths"]["train"]["rows"] == 120
    assert card["baselines"]["majority"]["test_accuracy"] == 0.5
    assert card["baselines"]["tfidf"]["test_accuracy"] == 1.0  # one word tells the label
    said = capsys.readouterr().out
    assert "baselines: test_accuracy 0.500 always the most frequent label, 1.000 TF-IDF" in said
    assert re.search(r"eval +test +95 % interval +most frequent label +TF-IDF", said)
    assert "TF-IDF beats this model on the test split (accuracy 100.0 % against " in said
    again = ran(tmp_path / "again", toy(toy_files, tiny_model_dir, *words, "seed=0"))
    assert (again.path / "data.json").read_bytes() == (run.path / "data.json").read_bytes()
    assert Run.open(run.path).finished


def test_baselines_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    chance = random.Random(0)
    words = [f"word{number}" for number in range(50)]
    texts = [" ".join(chance.choices(words, k=12)) for _ in range(200)]
    labels = ["many" if text.count("word1") > 2 else "few" for text in texts]
    reference = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts[:150], labels[:150])
    rows, found = baselines.Words(texts[:150], labels[:150]).answers(texts[150:], "test")
    assert rows == list(range(50))
    assert [answer["answer"] for answer in found] == list(reference.predict(texts[150:]))
    assert [answer["probability"] for answer in found] == pytest.approx(
        reference.predict_proba(texts[150:]).max(1)
    )


def test_labels_with_commas_are_quoted_among_others() -> None:
    assert distribution({"pos, really": 3, "neg": 1}, 4) == "'pos, really' 75.0%, neg 25.0%"


def test_a_baseline_s_score_keeps_its_digits_whatever_its_unit_is() -> None:
    scores = {"mae": 2.123456789e-12, "pearson": 0.123456789, "rmse": 351785.123456789}
    written = {"test_mae": 2.12346e-12, "test_pearson": 0.123457, "test_rmse": 351785.123457}
    assert named_scores(scores, "test") == written


def test_several_labels_have_a_regression_each() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    chance = random.Random(0)
    words = [f"word{number}" for number in range(20)]
    texts = [" ".join(chance.choices(words, k=9)) for _ in range(150)]
    labels = [
        ["text", *(name for name in ("word1", "word2", "word3") if name in text.split())] for text in texts
    ]
    given = [[name in names for name in ("word1", "word2", "word3")] for names in labels]
    model = OneVsRestClassifier(LogisticRegression())
    reference = make_pipeline(TfidfVectorizer(), model).fit(texts[:100], given[:100])
    found = baselines.SeveralWords(texts[:100], labels[:100], 0.5).answers(texts[100:], "test")[1]
    answered = [[name in row["answer"] for name in ("word1", "word2", "word3")] for row in found]
    assert answered == reference.predict(texts[100:]).astype(bool).tolist()
    assert all(row["answer"][0] == "text" for row in found)  # nothing to learn of what every row has
    assert baselines.majority_of_several(labels, 2) == [{"answer": ["text"]}] * 2


def test_a_baseline_that_would_take_long_takes_a_part_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "FITTED", 100)
    monkeypatch.setattr(baselines, "SCORED", 50)
    monkeypatch.setattr(baselines, "FEATURES", 3)
    texts = [f"{'good' if number % 2 else 'bad'} word" for number in range(40)]
    words = baselines.Words(texts, ["ab"[number % 2] for number in range(40)])
    rows, answers = words.answers(texts, "test")
    assert len(rows) == len(answers) < 7
    assert words.notes == [
        "fitted 11 of 40 rows", "the 3 most frequent words", f"scored on test: {len(rows)} of 40 rows"
    ]  # fmt: skip


def test_where_there_is_no_word_there_is_no_baseline_of_words() -> None:
    assert not baselines.Words(["!", "?"], ["a", "b"]).fits
    assert not baselines.Words(["x", "y"], ["a", "a"]).fits


@pytest.mark.parametrize("seed", [0, 1])
def test_every_subset_lies_in_every_larger_one_and_is_stratified(seed: int) -> None:
    names = ["a"] * 300 + ["b"] * 150 + ["c"] * 45 + ["d"] * 5
    random.Random(7).shuffle(names)
    assert choose(names, 3, seed)[1] == ["train: 3 rows for 4 classes, some have none"]
    assert choose(names, 3, seed, "quantile")[1] == ["train: 3 rows for 4 quantiles, some have none"]
    smaller: set[int] = set()
    for size in range(1, 501):
        chosen = set(choose(names, size, seed)[0])
        assert len(chosen) == size and smaller <= chosen
        smaller = chosen
        for name in "abcd":
            share = names.count(name) / 500
            assert abs(sum(names[row] == name for row in chosen) - size * share) <= 3
    smaller = set()
    for count in range(1, 301):
        chosen = set(choose(names, f"{count} per class", seed)[0])
        assert smaller <= chosen
        assert all(
            sum(names[row] == name for row in chosen) == min(count, names.count(name)) for name in "abcd"
        )
        smaller = chosen
