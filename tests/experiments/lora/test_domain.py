"""compose=domain through the command line: two LoRAs, their composition, and all that it is compared with."""

import json
import re

import pytest

from ftrun.errors import ConfigError
from ftrun.experiments.lora.domain import parts_of, refuse
from ftrun.experiments.overrides import compose
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData

NAMES = ["model", "composed", "task", "domain-probe", "none", "both"]


@pytest.fixture
def words(toy_words, toy_files):
    """The toy task, whose own training texts are the domain's text, and two steps of every run."""
    return [
        "experiment=compose", *toy_words, f"compose.text.train={toy_files}/train.csv",
        "compose.text.block=16", f"compose.rows={toy_files}/test.csv", "train.max_steps=2",
        "compose.train.max_steps=2",
    ]  # fmt: skip


def answers(place):
    lines = (place / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_it_trains_composes_compares_and_goes_on(words, ftrun_inprocess, tmp_path):
    out = ftrun_inprocess(*words, "compose.weights=[1,0]", "hydra.run.dir=both").stdout
    place = tmp_path / "both"
    result = json.loads((place / "result.json").read_text())
    assert list(result["names"]) == NAMES
    assert [each["name"] for each in result["contest"]] == list(result["names"].values())
    assert result["test_accuracy"] == result["contest"][0]["score"]
    assert all(each["low"] <= each["score"] <= each["high"] for each in result["contest"])
    assert "classify: accuracy on 20 rows of the domain" in out and out.count("on 20 test examples (") == 5
    assert "do not differ significantly" in (place / "comparison.md").read_text()
    for one, other in zip(answers(place / "composed"), answers(place / "task"), strict=True):
        assert one["answer"] == other["answer"]  # 1 and 0 are the task's LoRA alone
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
    parts = {path.stem: len(path.read_text().splitlines()) for path in (place / "rows").iterdir()}
    assert parts == {"task": 120, "validation": 40, "few": 20, "both": 140, "test": 20}
    before = (place / "both" / "result.json").stat().st_mtime_ns
    (place / "result.json").unlink()
    (place / "none" / "result.json").unlink()
    again = ftrun_inprocess("resume", "both").stdout
    assert (place / "both" / "result.json").stat().st_mtime_ns == before
    assert json.loads((place / "result.json").read_text()) == result
    assert "search:" not in again and "accuracy on 20 rows" in ftrun_inprocess("resume", "both").stdout
    assert "both" in ftrun_inprocess("report", ".").stdout
    ftrun_inprocess("predict", "both", "--input", "both/rows/test.jsonl", "--output", "answered.jsonl")
    said = [json.loads(line)["answer"] for line in (tmp_path / "answered.jsonl").read_text().splitlines()]
    assert said == [each["answer"] for each in answers(place)]
    assert "folded in fp32" in ftrun_inprocess("merge", "both").stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["strategy=full"], "which strategy=full does not have"),
        (["variant=dora"], "which variant=dora does not have"),
        (["model.init=random"], "not model.init=random"),
        (["source=pretraining"], "takes no source="),
        (["compose.weights=[1]"], "compose.weights is a list of two numbers, for task and domain, not [1.0]"),
        (["compose.weights=[1,nan]"], "compose.weights is a finite number, not nan"),
        (["compose.rows=null"], "compose.rows is not set"),
        (["compose.columns=[text]"], "compose.columns=['text'] has 1 column;"),
        (["compose.rwos=a.csv"], "did you mean 'compose.rows'?"),
        (["compose.text.blokc=8"], "did you mean"),
        (["task=digits", "model=mlp"], "not task=digits;"),
        (["compose=domian"], "did you mean 'domain'?"),
    ],
)
def test_what_cannot_be_composed_is_a_line(words, more, said):
    toy = [] if more[0].startswith("task=") else words[1:]
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        settings = read(compose(["experiment=compose", *toy, *more]))
        refuse(settings)
        parts_of(settings, TaskData.read(settings.task, 0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["compose.rows=gone.csv"], "gone.csv does not exist"),
        (["compose.rows=foreign.csv"], "compose.rows has the labels 'so so'; possible: "),
        (["compose.text.train=gone.txt"], "gone.txt"),
    ],
)
def test_wrong_rows_are_said_before_anything_is_trained(words, ftrun_inprocess, tmp_path, more, said):
    (tmp_path / "foreign.csv").write_text("text,label\na film,so so\na plot,positive\n")
    result = ftrun_inprocess(*words, *more, "hydra.run.dir=both", check=False)
    assert result.returncode == 3 and said in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "both").exists()
