"""ftrun from Python: what is asked for as words of the command line, and what comes back."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

import ftrun
from ftrun.commands._python.asking import as_jsonl, words_of, written
from ftrun.errors import ConfigError, DataError, UserError
from ftrun.runs.run import Run

SHORT = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def files(toy_files):
    return Path(toy_files)


@pytest.fixture(scope="module")
def result(files, tiny_model_dir, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("python"))
        frames = {split: pandas.read_csv(files / f"{split}.csv") for split in ("train", "validation", "test")}
        return ftrun.run(
            "strategy=lora", rank=2, task={**frames, "max_length": 32}, model={"name": str(tiny_model_dir)},
            train=SHORT, device="cpu", baselines=False,
        )  # fmt: skip


def test_keywords_are_the_words_that_a_person_would_type():
    given = {
        "strategy": "lora", "rank": 4, "train": {"lr": 1e-3, "patience": None, "epochs": 2},
        "baselines": False,
        "task": {"train": "my reviews.csv", "text": ["a", "b"]}, "model": {"name": "tiny_bert"},
        "protect": {"name": "l2sp", "alpha": 0.1},
    }  # fmt: skip
    assert words_of(["seed=1"], given) == [
        "seed=1", "strategy=lora", "rank=4", "train.lr=0.001", "train.patience=null", "train.epochs=2",
        "baselines=false",
        "task=classify", 'task.train="my reviews.csv"', "task.text=[a,b]", "model=tiny_bert",
        "protect=l2sp", "protect.alpha=0.1",
    ]  # fmt: skip
    assert words_of([], {"task": {"name": "ner", "train": "a.conll"}}) == ["task=ner", "task.train=a.conll"]
    assert words_of([], {"strategy": {"name": "lora", "rank": 2}}) == ["strategy=lora", "rank=2"]
    for wrong in ({"seed": object()}, {"train": {"lr": {1}}}):
        with pytest.raises(ConfigError, match="is no value of a setting"):
            words_of([], wrong)
    with pytest.raises(ConfigError, match="3 is no setting"):
        words_of([3], {})


def test_a_run_of_data_frames_is_that_of_their_rows(result, files):
    assert Run(result.path).finished and result.settings["task"]["name"] == "classify"
    with (files / "test.csv").open(encoding="utf-8") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert result.predictions["label"].astype(str).tolist() == labels
    shares = (result.predictions["answer"].astype(str) == labels).mean()
    assert result.score == result.scores["test_accuracy"] == pytest.approx(shares)
    assert (
        result.metric == "accuracy" and "accuracy" in repr(result) and "test_accuracy" in result._repr_html_()
    )
    assert {"step", "train_loss", "eval_accuracy"} <= {*result.curves}


def test_texts_rows_and_frames_are_answered_alike_and_as_the_test_rows_were(result, files):
    frame = pandas.read_csv(files / "test.csv")
    texts = frame["text"].tolist()
    found = result.predict(texts)
    assert found["answer"].tolist() == result.predictions["answer"].tolist()
    assert found["probability"].to_numpy() == pytest.approx(
        result.predictions["probability"].to_numpy(), abs=1e-5
    )
    for rows in (frame, [{"text": text} for text in texts], str(files / "test.csv")):
        pandas.testing.assert_frame_equal(result.predict(rows), found)
    again = ftrun.load(result.path)
    pandas.testing.assert_frame_equal(again.predict(texts[:3]), found[:3], atol=1e-5)
    assert again.tokenizer is not None and not again.model.training
    with pytest.raises(ConfigError, match="int is no row of this run"):
        result.predict([1])
    with pytest.raises(DataError, match="^task.text=text: rows has no such column; it has 'words'$"):
        result.predict([{"words": "none"}])
    with pytest.raises(DataError, match="^rows is empty$"):
        result.predict([])


def test_answers_stand_beside_the_rows_of_a_frame_and_of_a_column(result, files):
    frame = pandas.read_csv(files / "test.csv")
    found = result.predict(frame)
    some = frame.iloc[[5, 3, 8]]
    pandas.testing.assert_frame_equal(result.predict(some), found.loc[[5, 3, 8]], atol=1e-5)
    pandas.testing.assert_frame_equal(result.predict(some["text"]), found.loc[[5, 3, 8]], atol=1e-5)
    some = some.assign(text=["", None, some["text"].iloc[2]], answer=result.predict(some)["answer"])
    assert some["answer"].tolist() == found["answer"].loc[[5, 3, 8]].tolist()
    given = result.predict(some["text"])
    assert given["answer"].isna().tolist() == [True, True, False] and given.index.tolist() == [5, 3, 8]


def test_a_frame_keeps_its_numbers_and_times():
    numbers = [0.1234567890123, 1e-12]
    frame = pandas.DataFrame({"y": numbers, "day": pandas.to_datetime(["2024-01-02", "2024-03-04"])})
    rows = [json.loads(line) for line in as_jsonl(frame).splitlines()]
    assert [row["y"] for row in rows] == pytest.approx(numbers, abs=1e-15)
    assert [row["day"][:10] for row in rows] == ["2024-01-02", "2024-03-04"]
    with pytest.raises(
        ConfigError, match="task.train: Series is no value of a setting; possible: .* a DataFrame"
    ):
        written("task.train", frame["y"])


@pytest.mark.parametrize(
    "words, settings, error, said",
    [
        (["strategy=lorra"], {}, ConfigError, "lora"),
        ([], {"task": {"train": "gone.csv"}}, UserError, "gone.csv"),
        (["-m", "seed=0,1"], {}, ConfigError, "-m asks for many runs"),
        ([], {"task": {"train": "gone.csv", "folds": 3}}, ConfigError, "asks for many runs"),
    ],
)
def test_what_the_command_line_prints_is_raised(tmp_path, monkeypatch, words, settings, error, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        ftrun.run(*words, **settings)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(ConfigError, match="is not a directory"):
        ftrun.load("nowhere")


def test_a_comparison_has_a_line_a_run_and_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {"strategies": ["full", "linear_probe"], "seeds": 1, "budget": "steps=4"}
    settings = {"task": "digits", "model": "mlp", "device": "cpu", "baselines": False}
    found = ftrun.compare("--lr", "default", **words, **settings)
    assert sorted(found.table["strategy"]) == ["full", "linear_probe"] and len(found.runs) == 2
    assert "linear_probe" in found.page and "<iframe" in found._repr_html_()
    before = {run.path: (run.path / "result.json").stat().st_mtime_ns for run in found.runs}
    again = ftrun.compare("--lr", "default", **words, **settings)
    assert {run.path: (run.path / "result.json").stat().st_mtime_ns for run in again.runs} == before


def test_importing_it_imports_nothing_of_weight():
    code = "import ftrun, sys; assert {'run', 'compare', 'load'} <= {*dir(ftrun)}; print([*sys.modules])"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "hydra", "pandas", "rich"} & {*json.loads(names.replace("'", '"'))}
