"""`ftrun errors` on a run: what was planted is found, in the terminal and in the file."""

import csv
import json
import shutil

import pytest
from lab import ran, toy

TURNED = {"train": {5, 40, 77}, "test": {2, 21}}  # rows whose labels are turned over, from 1


@pytest.fixture(scope="module")
def made(tmp_path_factory, toy_files, tiny_model_dir):
    """A run on the toy task, with wrong labels in train and test."""
    place = tmp_path_factory.mktemp("errors")
    for split in ("train", "validation", "test"):
        with (toy_files / f"{split}.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        for number in TURNED.get(split, ()):
            rows[number - 1][1] = {"positive": "negative", "negative": "positive"}[rows[number - 1][1]]
        with (place / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    learn = "train.epochs=6", "train.lr=1e-2", "model.pooling=mean"
    return ran(place / "run", toy(place, tiny_model_dir, "strategy=full", *learn))


def test_planted_labels_of_test_are_found(made, ftrun_inprocess, tmp_path):
    said = ftrun_inprocess("errors", str(made.path), "--output", "errors.csv").stdout
    assert "test rows wrong" in said and "Most confused" in said and "Labels in doubt" in said
    rows = list(csv.DictReader((tmp_path / "errors.csv").read_text().splitlines()))
    assert TURNED["test"] <= {int(row["file_row"]) for row in rows if row["in_doubt"] == "True"}
    for row in rows:
        assert row["file"].endswith("test.csv") and row["text"] and row["rather"] in ("", row["answer"])
        assert float(row[f"probability_{row['answer']}"]) == pytest.approx(
            float(row["probability"]), abs=1e-6
        )
    assert all(f"test.csv:{number}" in said for number in TURNED["test"])


def test_planted_labels_of_train_are_found_out_of_fold(made, ftrun_inprocess, tmp_path):
    words = ["errors", str(made.path), "--split", "train", "--output", "errors.jsonl", "--most", "2"]
    said = ftrun_inprocess(*words).stdout
    assert "train: answered out-of-fold, by logistic regression in 5 folds on the frozen features of" in said
    rows = [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]
    doubted = {row["file_row"] for row in rows if row["in_doubt"]}
    assert len(TURNED["train"] & doubted) >= 2 and len(doubted) <= 6  # of random weights' features
    ftrun_inprocess(*words)
    assert rows == [json.loads(line) for line in (tmp_path / "errors.jsonl").read_text().splitlines()]


def test_doubts_of_a_run_that_learned_nothing_are_put_in_doubt(
    made, ftrun_inprocess, tmp_path, toy_files, tiny_model_dir
):
    words = "strategy=full", "model.pooling=mean", "train.max_steps=2", "train.lr=1e-8"
    short = ran(tmp_path / "short", toy(toy_files, tiny_model_dir, *words))
    notes = [
        "the doubts say little of the labels, as the run" in ftrun_inprocess("errors", str(run.path)).stdout
        for run in (short, made)
    ]
    assert notes == [True, False]


def test_predictions_do_not_replace_the_rows_that_are_read(made, ftrun_inprocess, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,probability\na good film,mine\n")
    file.with_name("link.csv").symlink_to(file)
    done = ftrun_inprocess(
        "predict", str(made.path), "--input", str(file), "--output", "link.csv", check=False
    )
    assert done.returncode == 2 and "link.csv would replace what is read, " in done.stderr
    assert "mine" in file.read_text()


def test_a_run_whose_model_is_gone_shows_its_answers_and_refuses_new_ones(made, ftrun_inprocess, tmp_path):
    shutil.copytree(made.path, tmp_path / "gone", ignore=shutil.ignore_patterns("model"))
    (tmp_path / "gone" / "metrics.jsonl").write_text("garbage\n{}\n")
    assert "Labels in doubt" in ftrun_inprocess("errors", "gone").stdout
    for words in (["evaluate", "gone"], ["calibrate", "gone"]):
        done = ftrun_inprocess(*words, check=False)
        assert (
            done.returncode == 2 and done.stderr == "ftrun: gone has no saved model: gone/model is missing\n"
        )


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--most", "0"], 2, "errors: --most 0 is not 1 or more"),
        (["--most", "2.5"], 2, "errors: --most 2.5: expected a whole number"),
        (
            ["--output", "a.txt"],
            2,
            "a.txt: cannot tell what to write from its ending; possible: .csv, .jsonl",
        ),
        (["--split", "dev"], 2, "errors: --split dev: possible: test, train\n"),
    ],
)
def test_what_is_refused(made, ftrun_inprocess, words, code, why):
    result = ftrun_inprocess("errors", str(made.path), *words, check=False)
    assert result.returncode == code and why in result.stderr and result.stderr.count("\n") == 1


def test_a_run_whose_predictions_are_empty_says_so(made, ftrun_inprocess, tmp_path):
    shutil.copytree(made.path, tmp_path / "run")
    (tmp_path / "run" / "predictions.jsonl").write_text("")
    result = ftrun_inprocess("errors", "run", check=False)
    assert result.returncode == 3 and result.stderr == "ftrun: run has no rows in predictions.jsonl\n"


def test_a_run_without_predictions_says_so(ftrun_inprocess, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{}")
    (tmp_path / "run" / "metrics.jsonl").touch()
    result = ftrun_inprocess("errors", "run", check=False)
    assert result.returncode == 1
    assert (
        "run has no predictions.jsonl (it is interrupted; to continue it: ftrun resume run)" in result.stderr
    )
