"""Several labels per row: how they are read, the loss of transformers, scores of scikit-learn, and a run."""

import csv
import io
import json
import random
from types import SimpleNamespace

import numpy
import pytest
import torch
import toys_text
from lab import ran, settings
from sklearn.metrics import f1_score, precision_recall_fscore_support
from toys import tiny_tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification

from ftrun.data.label_columns import names_in, one_each, rarest, several
from ftrun.errors import ConfigError, DataError
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Example
from ftrun.tasks.objective import targets_of

NAMES = ["a", "b", "c", "d"]
GENRES = ["drama", "crime", "comedy"]


def task_of(tmp_path, *words, suffix=".jsonl"):
    return settings(*toys_text.multilabel(tmp_path, suffix), *words).task


def network(tmp_path):
    """What the configuration of a saved network with four labels says."""
    return SimpleNamespace(id2label=dict(enumerate(NAMES)), num_labels=len(NAMES))


def known(tmp_path, *words):
    """The data of the task with four labels, without rows to speak of."""
    file = toys_text.write(tmp_path / "few.jsonl", [{"text": "some text", "genres": ["a"]}])
    data = TaskData.of_file(task_of(tmp_path, *words), str(file), network(tmp_path))
    data.processor = tiny_tokenizer("bert")
    return data


@pytest.mark.parametrize(
    ("value", "separator", "names"),
    [
        (["b", "a", "b"], None, ["b", "a"]),
        ([1, 2.0, True], None, ["1", "2", "True"]),
        ([], None, []),
        ("", None, []),
        ('["x", "y z"]', None, ["x", "y z"]),
        ("x, y z,,x", ",", ["x", "y z"]),
        ("", ",", []),
        (["x,y"], ",", ["x,y"]),
        (numpy.array(["x"]), None, ["x"]),
        (None, ",", None),
        (float("nan"), None, None),
    ],
)
def test_what_a_cell_holds(value, separator, names):
    assert several(separator, None).read(value) == names


@pytest.mark.parametrize(
    ("value", "separator"),
    [
        ([1, 0, 1], None),
        ([1.0, 0.0, True], None),
        ("[1, 0, 1]", None),
        ("1|0|1", "|"),
        (["1", "0", "1"], None),
    ],
)
def test_a_list_of_0_and_1_is_read_by_its_positions(value, separator):
    """Under the names of positions; without them it is refused, as its labels would be '0' and '1'."""
    assert several(separator, ["a", "b", "c"]).read(value) == ["a", "c"]
    with pytest.raises(DataError, match=r"every list holds 3 times 0 or 1.*task.positions=\[NAME,…\]"):
        several(separator, None).notes([value, None, value])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 0], "task.positions has 3 names, but the list 2 entries"),
        ([1, 0, 2], "a list holds 0 and 1, not '2'"),
        (["a", "b", "c"], "a list holds 0 and 1, not 'a'"),
    ],
)
def test_what_is_no_list_of_0_and_1(value, said):
    with pytest.raises(DataError, match=said):
        several(None, ["a", "b", "c"]).read(value)


def test_a_label_twice_in_a_list_is_said():
    cells = [["a"], ["b", "c", "b"], [1, 0], ["c", "c"], []]
    assert several(None, None).notes(cells) == [
        "2 rows with the same label twice, which counts once (row 2: 'b')"
    ]
    assert several(None, None).notes([["0"], ["1"], ["0"]]) == []  # a label each, whatever its name


def test_positions_are_the_labels_of_the_head_in_their_order(tmp_path):
    """Also where no row has one of them; and their names are checked with the settings."""
    names = ["z", "a", "m"]
    rows = [{"text": f"row {n}", "genres": [n % 2, 1 - n % 2, 0]} for n in range(20)]
    words = [*toys_text.multilabel(tmp_path, ".jsonl"), f"task.positions=[{','.join(names)}]"]
    for split in ("train", "validation", "test"):
        toys_text.write(tmp_path / f"{split}.jsonl", rows)
    data = TaskData.read(settings(*words).task, 0)
    assert list(data.spec.labels) == names
    assert [row["genres"] for row in data.rows.splits["train"][:2]] == [["a"], ["z"]]
    assert "label 'm' is declared, but no row has it" in data.rows.notes
    with pytest.raises(ConfigError, match=r"task.positions=\['a'\]: two or more different labels"):
        task_of(tmp_path, "task.positions=[a]")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x, y", "'x, y' is not a list; task.separator sets what separates labels"),
        ("[x", "is not a JSON list"),
        (
            "1",
            r"'1' is no list of labels; possible where each label has a column of 0 and 1: task.label=",
        ),
        (0, "0 is no list of labels; possible where each label has a column of 0 and 1"),
        (3, "several labels are a list, not an integer; one per row: task=classify"),
        ([["x"]], "a label is text"),
    ],
)
def test_what_a_cell_cannot_hold(value, said):
    with pytest.raises(DataError, match=said):
        names_in(value, None)


def in_columns(tmp_path):
    """The words of the task with a column of 0 and 1 for each label, in csv files, and those with lists."""
    lists = toys_text.multilabel(tmp_path)
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        flags = [{name: int(name in row["genres"]) for name in GENRES} for row in rows]
        own = [{"text": row["text"]} | each for row, each in zip(rows, flags, strict=True)]
        toys_text.write(tmp_path / f"{split}.csv", own)
    words = [word.replace(".jsonl", ".csv") for word in lists if "task.label" not in word]
    return [*words, f"task.label=[{','.join(GENRES)}]"], lists


@pytest.mark.parametrize("more", [[], ["task.stream=true"]])
def test_a_column_of_0_and_1_for_each_label_is_the_list_of_those_with_1(tmp_path, more):
    columns, lists = (TaskData.read(settings(*words, *more).task, 0) for words in in_columns(tmp_path))
    assert columns.spec.labels == tuple(GENRES) == ("drama", "crime", "comedy")
    assert {*lists.spec.labels} == {*GENRES}
    for split in ("train", "validation", "test"):
        found = [[{*row[data.task.column]} for row in data.rows.splits[split]] for data in (columns, lists)]
        assert found[0] == found[1]
    if more:
        assert columns.rows.stream.tally.counts == lists.rows.stream.tally.counts


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        ([1, 0, 1], ["a", "c"]),
        (["1.0", "0", ""], r"each holds 0 or 1, not an empty cell \(column 'c'\)"),
        ([True, False, False], ["a"]),
        ([0, 0, 0], []),
        (["", None, float("nan")], None),
        (["-1", "-1", "-1"], "each holds 0 or 1, not '-1'"),
        (["yes", "no", "no"], "each holds 0 or 1, not 'yes'"),
    ],
)
def test_what_several_columns_say(cells, found):
    if isinstance(found, str):
        with pytest.raises(DataError, match=found):
            one_each(["a", "b", "c"]).read(cells)
    else:
        assert one_each(["a", "b", "c"]).read(cells) == found


def test_a_run_on_a_column_for_each_label_is_scored_predicted_and_asked_again(
    tmp_path, ftrun_inprocess, tiny_model_dir
):
    words, _ = in_columns(tmp_path)
    small = f"model.name={tiny_model_dir}", "device=cpu", "train.max_steps=2", "hydra.run.dir=made"
    ftrun_inprocess(*words, *small)
    out = ftrun_inprocess("evaluate", "made", "--input", "train.csv").stdout
    assert "warning: LEAK: 96 of 96 test rows are among the rows that made was trained on" in out
    ftrun_inprocess("predict", "made", "--input", "test.csv", "--output", "out.csv")
    new = [{"text": f"some music {word}", "drama": ""} for word in ("good", "bad", "dull")]
    toys_text.write(tmp_path / "new.csv", [*new, {"text": "a film", "drama": 0}])
    out = ftrun_inprocess("suggest", "made", "--input", "new.csv", "--rows", "2", "--output", "n.csv").stdout
    assert "1 row labelled already (column 'drama') (row 4)" in out
    assert "2 rows to label: n.csv (columns 'drama', 'crime', 'comedy' are empty)" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["task=classify"],
            "a label is in one column; possible: one of them, or task=multilabel, where each column",
        ),
        (
            ["task=regress"],
            "a label is in one column; possible: one of them, or task=multilabel, where each column",
        ),
        (["task.separator=';'"], "so that there is neither task.separator nor task.positions"),
        (["task.positions=[a,b]"], "so that there is neither task.separator nor task.positions"),
        (
            ["task.label=[drama,drama]"],
            r"task.label=\[drama,drama\]: a column, or two or more different ones",
        ),
        (["task.label=[drama]"], r"task.label=\[drama\]: a column, or two or more different ones"),
    ],
)
def test_several_label_columns_are_of_multilabel_alone_and_need_nothing_else(words, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        settings("task=multilabel", "task.train=a.csv", "task.label=[drama,crime]", *words)


def test_a_label_column_that_is_not_there_is_named(tmp_path):
    words, _ = in_columns(tmp_path)
    with pytest.raises(DataError, match="task.label=horror: .*train.csv has no such column; it has 'text'"):
        TaskData.read(settings(*words, "task.label=[drama,horror]").task, 0)


def test_rows_are_drawn_by_their_rarest_label():
    assert rarest([["a", "b"], ["a"], [], ["b", "a"], ["a", "c"]]) == ["b", "a", "", "b", "c"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_lists_and_separated_labels_are_the_same_rows(tmp_path, suffix):
    data = TaskData.read(task_of(tmp_path, suffix=suffix), 0)
    assert data.spec.labels == ("comedy", "crime", "drama")
    assert [row["genres"] for row in data.rows.splits["train"][:4]] == [
        [],
        ["drama"],
        ["comedy"],
        ["drama", "comedy"],
    ]
    assert "train: 1.50 of 3 labels per row, 12 of 96 rows without a label" in data.rows.notes
    assert data.spec.config["problem_type"] == "multi_label_classification"


def test_a_null_is_a_row_without_an_answer_and_an_empty_list_is_one(tmp_path):
    task = task_of(tmp_path)
    rows = toys_text.many_rows(40, random.Random(0))
    toys_text.write(tmp_path / "train.jsonl", [*rows, rows[3] | {"genres": None}])
    data = TaskData.read(task, 0)
    assert "train: 1 of 41 rows dropped, no label (row 41)" in data.rows.notes
    assert len(data.rows.splits["train"]) == 40


def test_classify_says_which_task_takes_lists(tmp_path):
    words = [word for word in toys_text.multilabel(tmp_path) if "multilabel" not in word]
    with pytest.raises(DataError, match="not a list; several labels per row: task=multilabel"):
        TaskData.read(settings("task=classify", *words).task, 0)


def test_a_foreign_label_of_a_new_file_is_named(tmp_path):
    task = task_of(tmp_path)
    rows = [{"text": "some text", "genres": ["a", "e"]}]
    with pytest.raises(
        DataError, match=r"label 'e' of the test row 'some text' \(row 1 of .*\) is not a label of this run"
    ):
        TaskData.of_file(task, str(toys_text.write(tmp_path / "new.jsonl", rows)), network(tmp_path))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("task.threshold=1", "task.threshold is between 0 and 1, not 1"),
        ("task.separator=''", "task.separator is empty"),
        ("task.subset='3 per class'", "a row may have several labels; it is a number of rows here"),
    ],
)
def test_wrong_settings(tmp_path, word, said):
    with pytest.raises(ConfigError, match=said):
        task_of(tmp_path, word)


def test_the_loss_is_that_of_transformers(tmp_path, tiny_dir):
    data = known(tmp_path)
    net = AutoModelForSequenceClassification.from_pretrained(tiny_dir("bert"), **data.spec.config).eval()
    examples = [Example([2, 7, 8, 3], (0, 2), 0), Example([2, 9, 3], (), 1), Example([2, 5, 3], (3,), 2)]
    batch = data.dataset("test").collate(examples)
    theirs = net(**batch["inputs"], labels=batch["labels"].float())
    loss = data.objective.loss(theirs.logits, batch)
    assert targets_of(data.objective, batch) == data.objective.count([batch]) == 12
    torch.testing.assert_close(loss.sum / targets_of(data.objective, batch), theirs.loss)


def test_answers_and_scores_are_those_of_scikit_learn(tmp_path):
    scorer = known(tmp_path).scorer
    chance = numpy.random.default_rng(0)
    logits = chance.normal(size=(50, 4)).astype("float32")
    given = (chance.random((50, 4)) < 0.4).astype(int)
    given[:, 3] = 0  # a label that no row has
    examples = [Example([1], tuple(int(i) for i in row.nonzero()[0]), n) for n, row in enumerate(given)]
    answers = scorer.answers(torch.tensor(logits), {})
    answered = (logits >= 0).astype(int)
    assert [answer["answer"] for answer in answers[:9]] == [
        [NAMES[i] for i in row.nonzero()[0]] for row in answered[:9]
    ]
    assert answers[0]["probabilities"].keys() == set(NAMES)
    found = scorer.rows(answers, examples)
    scores = scorer.score(found)
    assert scores["micro_f1"] == f1_score(given, answered, average="micro", zero_division=0)
    assert scores["macro_f1"] == f1_score(given, answered, average="macro", zero_division=0)
    assert scores["subset_accuracy"] == (given == answered).all(1).mean()
    table = scorer.tables(found)["details.json"]["classes"]
    theirs = precision_recall_fscore_support(given, answered, zero_division=0)
    assert [[*row.values()] for row in table.values()] == [list(row) for row in zip(*theirs, strict=True)]


def test_a_higher_threshold_answers_less(tmp_path):
    strict = known(tmp_path, "task.threshold=0.9")
    (answer,) = strict.scorer.answers(torch.tensor([[3.0, 2.0, 0.1, -1.0]]), {})
    assert answer["answer"] == ["a"]


def test_a_run_learns_and_answers_files(tmp_path, tiny_dir, ftrun_inprocess):
    learn = ["train.epochs=10", "train.lr=1e-2", "model.pooling=mean", "train.eval_every=20"]
    words = [*toys_text.multilabel(tmp_path, ".csv"), f"model.name={tiny_dir('bert')}", *learn]
    run = ran(tmp_path / "run", settings(*words))
    assert run.read_json("result.json")["test_micro_f1"] > 0.95
    assert run.read_json("details.json")["classes"].keys() == {"comedy", "crime", "drama"}
    config = AutoConfig.from_pretrained(run.model_dir)
    assert config.problem_type == "multi_label_classification"
    out = tmp_path / "out.csv"
    ftrun_inprocess("predict", str(run.path), "--input", str(tmp_path / "test.csv"), "--output", str(out))
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    kept = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert [json.loads(row["answer"]) for row in rows] == [line["answer"] for line in kept]
    for row, line in zip(rows, kept, strict=True):
        shares = {name: float(row[f"probability_{name}"]) for name in ("comedy", "crime", "drama")}
        assert shares == line["probabilities"]
    seen = ftrun_inprocess("evaluate", str(run.path)).stdout
    assert f"in the run {run.read_json('result.json')['test_micro_f1']:.6f}" in seen
