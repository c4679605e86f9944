"""Each command through the real command line, on a run that the real command line made."""

import csv
import gzip
import json
import re
import shutil

import pytest
from lab import ran, settings

from ftrun.runs.run import Run


@pytest.fixture(scope="module")
def made(toy_words, tmp_path_factory):
    """A finished run that has learned the toy task."""
    words = "strategy=full", "train.epochs=8", "train.lr=3e-3", "baselines=true"
    return ran(tmp_path_factory.mktemp("once") / "made", settings(*toy_words, *words)).path


@pytest.fixture
def run(made, tmp_path):
    """A copy of it to work on, as `made` in the test's directory: moving a run breaks nothing."""
    shutil.copytree(made, tmp_path / "made")
    return Run.open(tmp_path / "made")


def test_an_experiment_says_what_it_does_and_how_to_go_on(ftrun_inprocess, toy_words, tmp_path):
    words = "strategy=lora", "rank=4", "train.max_steps=2", "hydra.run.dir=said"
    out = ftrun_inprocess(*toy_words, *words).stdout
    for said in (
        "train: 120 rows",
        "none too long",
        "embeddings: frozen",
        "eval_accuracy",
    ):
        assert said in out
    first, last = (re.search(rf" {what} \((.*? %)\)", out) for what in ("parameters trained", "weights"))
    assert first and last and first[1] == last[1]  # the same share in the same digits
    assert f"ftrun predict {tmp_path / 'said'}" in out


def test_what_a_finished_run_leaves(run):
    assert run.read_json("result.json")["test_accuracy"] > 0.9
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.yaml", "settled.json", "metrics.jsonl", "timing.jsonl", "result.json", "cost.json",
        "environment.json", "data.json", "details.json", "predictions.jsonl", "baselines.jsonl",
        "checkpoints", "model",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(40))
    right = sum(line["label"] == line["answer"] for line in lines) / 40
    assert right == run.read_json("result.json")["test_accuracy"]
    cost = run.read_json("cost.json")
    assert 0 < cost["train_seconds"] < cost["seconds"] and cost["tokens"] <= cost["padded_tokens"]
    trained = run.read_json("result.json")["trained_parameters"]
    weights = (run.path / "checkpoints" / "last" / "weights.safetensors").stat().st_size
    assert 4 * trained < weights < 4 * trained + 10_000  # what trains, and nothing else


def test_evaluate_finds_the_scores_of_the_run(ftrun_inprocess, run, toy_files):
    out = ftrun_inprocess("evaluate", str(run.path)).stdout
    assert all(word in out for word in ("95 % interval", "TF-IDF", "classes", "true ↓ predicted →"))
    score = run.read_json("result.json")["test_accuracy"]
    assert f"test_accuracy              {score:.6f}   in the run {score:.6f}" in out
    other = ftrun_inprocess("evaluate", str(run.path), "--input", f"{toy_files}/validation.csv").stdout
    assert f"test_accuracy              {run.read_json('result.json')['eval_accuracy']:.6f}" in other
    assert "95 % interval" in other and "classes" in other and "TF-IDF" not in other and "eval" not in other


def test_evaluate_says_which_rows_the_run_was_trained_on(ftrun_inprocess, run, toy_files, tmp_path):
    """A warning alone: the score is that of the rows. What cannot be compared is said, too."""

    def said(run, file):
        out = ftrun_inprocess("evaluate", str(run), "--input", str(file)).stdout
        assert "test_accuracy  " in out
        return [line for line in out.splitlines() if "LEAK" in line or "not compared" in line]

    assert said(run.path, toy_files / "test.csv") == []
    head, *lines = (toy_files / "train.csv").read_text().splitlines()
    more = (toy_files / "test.csv").read_text().splitlines()[1:4]
    (tmp_path / "some.csv").write_text("\n".join([head, *lines[:5], *more]) + "\n")
    (line,) = said(run.path, tmp_path / "some.csv")
    begin = f"warning: LEAK: 5 of 8 test rows are among the rows that {run.path} was trained on ('"
    assert line.startswith(begin) and line.endswith("), so its score says little of other rows")
    card = run.read_json("data.json")
    for changed, why in (({"fingerprint": "0"}, ": they have changed since"),
                         ({"rows": {"train": 1 << 20}}, ", which are too many")):  # fmt: skip
        run.write_json("data.json", card | changed)
        (line,) = said(run.path, tmp_path / "some.csv")
        assert line.endswith(f"some.csv is not compared with the training rows of {run.path}{why}")


def test_predict_of_several_files_says_from_which_each_row_is(ftrun_inprocess, run, tmp_path):
    (tmp_path / "a1.csv").write_text("text\ngood film\n\nbad film\n")
    (tmp_path / "a2.jsonl").write_text('{"text": "awful film"}\n')
    ftrun_inprocess("predict", str(run.path), "--input", "a*", "--output", "answered.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "answered.jsonl").read_text().splitlines()]
    assert [(row["file"], row["file_row"]) for row in rows] == [
        ("a1.csv", 1), ("a1.csv", 2), ("a2.jsonl", 1)
    ]  # fmt: skip
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in rows)


def test_predict_keeps_rows_and_columns_and_adds_the_answer(ftrun_inprocess, run, toy_files, tmp_path):
    rows = table(toy_files / "test.csv")
    rows.insert(3, {"text": "  ", "label": "positive"})
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    out = ftrun_inprocess("predict", str(run.path), "--input", "new.csv", "--output", "answered.csv").stdout
    assert "predicted 40 of 41 rows: answered.csv" in out
    answered = table(tmp_path / "answered.csv")
    assert list(answered[0]) == [
        "text", "label", "answer", "probability", "probability_negative", "probability_positive"
    ]  # fmt: skip
    assert [row["text"] for row in answered] == [row["text"] for row in rows]
    assert answered[3]["answer"] == ""
    given = [row["answer"] for row in answered if row["answer"]]
    saved = [json.loads(line)["answer"] for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert given == saved
    assert all(0.5 <= float(row["probability"]) <= 1 for row in answered if row["answer"])
    again = ftrun_inprocess(
        "predict", str(run.path), "--input", "answered.csv", "--output", "again.csv"
    ).stdout
    assert (
        "answered.csv already has the columns 'answer', 'probability', 'probability_negative',"
        " 'probability_positive'; again.csv has predictions there" in again
    )
    (tmp_path / "new.csv.gz").write_bytes(gzip.compress((tmp_path / "new.csv").read_bytes()))
    ftrun_inprocess("predict", str(run.path), "--input", "new.csv.gz", "--output", "unpacked.csv")
    assert (tmp_path / "unpacked.csv").read_text() == (tmp_path / "answered.csv").read_text()


def test_report_and_resume_of_a_finished_run(ftrun_inprocess, run):
    table = ftrun_inprocess("report", "made").stdout
    assert "full" in table and "finished" in table
    assert "is finished" in ftrun_inprocess("resume", "made").stdout


def test_a_run_directory_is_not_written_into_twice(ftrun_inprocess, run, toy_words):
    before = (run.path / "metrics.jsonl").read_bytes()
    result = ftrun_inprocess(*toy_words, "hydra.run.dir=made", check=False)
    assert result.returncode == 2
    assert "already holds a run" in result.stderr and result.stderr.count("\n") == 1
    assert (run.path / "metrics.jsonl").read_bytes() == before


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.parametrize("command", ["resume", "evaluate", "predict"])
def test_a_directory_that_is_no_run(ftrun_inprocess, command):
    more = ["--input", "a.csv", "--output", "b.csv"] if command == "predict" else []
    result = ftrun_inprocess(command, "nowhere", *more, check=False)
    assert result.returncode == 2
    assert "nowhere is not a directory" in result.stderr


def test_a_run_that_is_not_finished_has_no_model_yet(ftrun_inprocess, run):
    (run.path / "result.json").unlink()
    result = ftrun_inprocess("evaluate", "made", check=False)
    assert result.returncode == 2
    assert "is not finished" in result.stderr and "ftrun resume" in result.stderr


@pytest.mark.parametrize("words", [["evaluate"], ["predict", "--output", "b.csv"]])
def test_an_input_that_is_not_there_is_said_before_the_network_is_loaded(
    ftrun_inprocess, run, monkeypatch, words
):
    def loaded(heaviest):
        raise AssertionError(f"{heaviest} is imported first")

    monkeypatch.setattr("ftrun.runs.collector.importing", loaded)
    result = ftrun_inprocess(words[0], "made", *words[1:], "--input", "gone.csv", check=False)
    assert result.returncode == 3 and "gone.csv does not exist" in result.stderr


@pytest.mark.parametrize("option", [["--inptu", "x"], []])
def test_wrong_usage_of_a_command_is_exit_2(ftrun_inprocess, option):
    assert ftrun_inprocess("predict", "made", *option, check=False).returncode == 2


def test_weights_torn_in_half_are_one_line(ftrun_inprocess, toy_words, tiny_dir, tmp_path):
    place = tmp_path / "torn"
    shutil.copytree(tiny_dir("bert"), place)
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = ftrun_inprocess(*toy_words, f"model.name={place}", check=False)
    assert result.returncode == 2
    assert f"{weights} is damaged: " in result.stderr and result.stderr.count("\n") == 1


def test_texts_longer_than_the_network_reads_are_refused_early(ftrun_inprocess, toy_words):
    result = ftrun_inprocess(*toy_words, "task.max_length=65", check=False)
    assert result.returncode == 2
    assert "task.max_length=65" in result.stderr and "64 positions" in result.stderr


def test_a_gpu_that_is_not_there(ftrun_inprocess, toy_words):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = ftrun_inprocess(*toy_words, "device=cuda", check=False)
    assert result.returncode == 2
    assert "device=cuda" in result.stderr


def test_no_space_left_is_said_before_training(ftrun_inprocess, toy_words, monkeypatch):
    import shutil as disk
    from types import SimpleNamespace

    monkeypatch.setattr(disk, "disk_usage", lambda place: SimpleNamespace(free=1000))
    result = ftrun_inprocess(*toy_words, check=False)
    assert result.returncode == 1
    assert "no space left" in result.stderr and result.stderr.count("\n") == 1


SCALES = '''
from dataclasses import dataclass

from ftrun.strategies.base import Strategy


@dataclass
class Scales(Strategy):
    """Train the normalisation layers and the head."""

    biases: bool

    def prepare(self, model):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("LayerNorm" in name or (self.biases and name.endswith("bias")))
        for _, parameter in model.head_parameters():
            parameter.requires_grad_(True)
'''
YAML = """# @package _global_
# Train the normalisation layers and the head.
strategy: lab_of_mine.scales
biases: false
train: {lr: 1e-3}
"""


@pytest.mark.ci
def test_a_strategy_of_ones_own_from_outside_the_package(ftrun, ftrun_inprocess, toy_words, tmp_path):
    (tmp_path / "lab_of_mine").mkdir()
    (tmp_path / "lab_of_mine" / "scales.py").write_text(SCALES)
    (tmp_path / "conf" / "strategy").mkdir(parents=True)
    (tmp_path / "conf" / "strategy" / "scales.yaml").write_text(YAML)
    words = "strategy=scales", "biases=true", "train.max_steps=2", "hydra.run.dir=made"
    ftrun("--config-dir", "conf", *words, *toy_words)
    result = Run.open(tmp_path / "made").read_json("result.json")
    assert result["strategy"] == "lab_of_mine.scales"
    assert 0 < result["trained_parameters"] < result["total_parameters"]
    words = "strategy=scales", "biases=perhaps"
    wrong = ftrun_inprocess("--config-dir", "conf", *words, *toy_words, check=False)
    assert wrong.returncode == 2 and "biases" in wrong.stderr


def test_an_option_that_one_of_the_house_would_hide_is_refused(ftrun_inprocess, tmp_path):
    (tmp_path / "conf" / "strategy").mkdir(parents=True)
    (tmp_path / "conf" / "strategy" / "norms.yaml").write_text(YAML)
    refused = ftrun_inprocess("--config-dir", "conf", "strategy=norms", check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "conf/strategy/norms.yaml has the name of one of ftrun's own options" in refused.stderr
