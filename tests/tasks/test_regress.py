"""Numbers: standardised inside and in their own units outside, scores of SciPy, and what is refused."""

import json
import math
import random

import numpy
import pytest
import torch
import toys_text
from lab import ran, settings
from scipy import stats
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from ftrun.data.label_columns import number_in, quantiles
from ftrun.errors import ConfigError, DataError
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Example
from ftrun.tasks.objective import targets_of
from ftrun.tasks.regress import NumberScorer
from ftrun.tasks.scorer import Row

LEARN = ["train.epochs=8", "train.lr=5e-3", "train.eval_every=24"]


def task_of(tmp_path, *words):
    return settings(*toys_text.regress(tmp_path), *words).task


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_dir):
    place = tmp_path_factory.mktemp("numbers")
    words = [*toys_text.regress(place), f"model.name={tiny_dir('bert')}", *LEARN]
    return ran(place / "run", settings(*words))


def test_it_learns_in_the_units_of_the_column(run):
    result = run.read_json("result.json")
    assert result["metric"] == "eval_pearson" and result["test_pearson"] > 0.8
    kept = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    given, answered = ([line[key] for line in kept] for key in ("label", "answer"))
    assert set(given) == {1000.0, 1250.0, 1500.0, 1750.0} and min(answered) > 500
    error = numpy.subtract(given, answered)
    assert result["test_rmse"] == pytest.approx(math.sqrt((error**2).mean()))
    assert result["test_loss"] == pytest.approx((error**2).mean() / numpy.var(given), rel=1e-4)


def test_its_baselines_are_regressions_on_words_and_features_in_the_same_units(run):
    card = run.read_json("data.json")["baselines"]
    lines = [json.loads(line) for line in (run.path / "baselines.jsonl").read_text().splitlines()]
    for name in ("tfidf", "features"):
        answers = [line[name]["answer"] for line in lines]
        found = stats.pearsonr([line["label"] for line in lines], answers).statistic
        assert card[name]["test_pearson"] == pytest.approx(found, abs=1e-5) and 900 < min(answers) < 1900
    assert card["tfidf"]["test_pearson"] > 0.8 and "majority" not in card


def test_its_constant_is_the_mean_of_the_training_rows(run):
    config, card = run.read_json("model/config.json"), run.read_json("data.json")["baselines"]["mean"]
    lines = [json.loads(line) for line in (run.path / "baselines.jsonl").read_text().splitlines()]
    assert {line["mean"]["answer"] for line in lines} == {config["target_mean"]}
    error = numpy.subtract([line["label"] for line in lines], config["target_mean"])
    assert card["test_rmse"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
    assert card["test_mae"] == pytest.approx(abs(error).mean(), rel=1e-5)
    assert card["test_pearson"] == card["test_spearmanr"] == 0


def test_a_plain_transformers_user_finds_mean_and_scale(run):
    net = AutoModelForSequenceClassification.from_pretrained(run.model_dir)
    config = net.config
    assert (config.problem_type, config.num_labels, config.id2label) == ("regression", 1, {0: "price"})
    assert config.target_mean == 1375
    assert config.target_scale == pytest.approx(numpy.std([1000, 1250, 1500, 1750]))
    first = json.loads((run.path / "predictions.jsonl").read_text().splitlines()[0])
    data = TaskData.read(settings(*toys_text.regress(run.path.parent)).task, 0)
    text = data.rows.splits["test"][first["row"]]["text"]
    with torch.no_grad():
        logit = net(**AutoTokenizer.from_pretrained(run.model_dir)(text, return_tensors="pt")).logits
    assert first["answer"] == pytest.approx(config.target_mean + config.target_scale * float(logit), rel=1e-5)


def test_files_are_answered_and_scored_with_the_scale_of_the_run(run, tmp_path, ftrun_inprocess):
    test = run.path.parent / "test.csv"
    out = tmp_path / "out.csv"
    ftrun_inprocess("predict", str(run.path), "--input", str(test), "--output", str(out))
    header, first, *_ = out.read_text().splitlines()
    kept = json.loads((run.path / "predictions.jsonl").read_text().splitlines()[0])
    assert header == "text,price,answer" and first.endswith(f",{kept['answer']}")
    seen = ftrun_inprocess("evaluate", str(run.path), "--input", str(test)).stdout
    for name in ("pearson", "spearmanr", "mae", "rmse"):
        assert f"{run.read_json('result.json')[f'test_{name}']:.6f}" in seen


def test_the_loss_is_that_of_transformers(tmp_path, tiny_dir):
    data = TaskData.read(task_of(tmp_path), 0)
    data.processor = AutoTokenizer.from_pretrained(tiny_dir("bert"))
    config = AutoConfig.from_pretrained(tiny_dir("bert"))
    config.update(data.spec.config)
    net = AutoModelForSequenceClassification.from_pretrained(tiny_dir("bert"), config=config).eval()
    examples = [Example([2, 7, 8, 3], 1000.0, 0), Example([2, 9, 3], 1375.0, 1), Example([2, 5, 3], 2e3, 2)]
    batch = data.dataset("test").collate(examples)
    assert batch["labels"][1] == 0
    theirs = net(**batch["inputs"], labels=batch["labels"].float())
    loss = data.objective.loss(theirs.logits, batch)
    torch.testing.assert_close(loss.sum / targets_of(data.objective, batch), theirs.loss)


def scored(given, answered):
    scorer = NumberScorer(float(numpy.mean(given)), float(numpy.std(given)) or 1.0)
    examples = [Example([1], float(value), row) for row, value in enumerate(given)]
    return scorer.score(scorer.rows([{"answer": float(value)} for value in answered], examples))


def test_scores_are_those_of_scipy_also_with_ties():
    chance = numpy.random.default_rng(0)
    given, answered = chance.integers(0, 5, 40) / 2, chance.normal(size=40).round(1)
    scores = scored(given, answered)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(given, answered).statistic)
    assert scores["spearmanr"] == pytest.approx(stats.spearmanr(given, answered).statistic)
    assert scores["mae"] == pytest.approx(abs(given - answered).mean())


@pytest.mark.parametrize(
    ("given", "answered", "said"),
    [
        ([1, 2, 4], [2.5, 2.5, 2.5 + 1e-9], "warning: the answer of all 3 rows is 2.5, so the correlation"),
        ([3, 3, 3], [1, 2, 3], "warning: the label of all 3 rows is 3, so the correlation"),
        ([7], [1], "warning: of 1 row the correlation is undefined; pearson and spearmanr are 0"),
    ],
)
def test_nothing_varies_and_no_correlation_is_nan(capsys, given, answered, said):
    scores = scored(given, answered)
    assert (scores["pearson"], scores["spearmanr"]) == (0, 0) and scores["rmse"] > 0
    assert said in capsys.readouterr().out


def test_that_there_is_no_correlation_is_said_once_for_the_same_rows(capsys):
    scorer = NumberScorer(0.0, 1.0)
    constant = [Row(at, float(at), {"answer": 0.5}, None) for at in range(3)]
    assert scorer.without_a_word(constant)["pearson"] == 0  # a baseline's is no fault of the run

    def score(labels, answer):
        rows = [Row(at, label, {"answer": answer}, None) for at, label in enumerate(labels)]
        assert scorer.score(rows)["pearson"] == 0

    for answer in (0.1, 0.2, 0.3):  # as training goes on
        score([1.0], answer)
        score([1.0, 2.0, 3.0], answer)
    score([4.0, 4.0], 0.5)
    assert capsys.readouterr().out.splitlines() == [
        f"warning: {why} the correlation is undefined; pearson and spearmanr are 0"
        for why in ("of 1 row", "the answer of all 3 rows is 0.1, so", "the label of all 2 rows is 4, so")
    ]


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), ("-2.5e1", -25.0), (" 4 ", 4.0), (numpy.float32(0.5), 0.5), (None, None), ("  ", None)],
)
def test_what_a_cell_holds(value, number):
    assert number_in(value) == number


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("three", "'three' is not a number"),
        ("3,5", "'3,5' is not a number"),
        ("1_000", "'1_000' is not a finite number"),
        (float("nan"), "'nan' is not a finite number; an empty cell leaves the row out"),
        ("nan", "'nan' is not a finite number"),
        ("-inf", "'-inf' is not a finite number"),
        (10**400, "is not a finite number"),
        (True, "a number is needed, not true"),
        ([1.0], r"a number is needed, not \[1.0\]"),
    ],
)
def test_what_a_cell_cannot_hold(value, said):
    with pytest.raises(DataError, match=said):
        number_in(value)


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ([1.0] * 8 + ["cheap"] + [2.0] * 8, "task.label=price: row 9 of .*: 'cheap' is not a number"),
        ([5.0] * 30, "task.label=price: 5 in each of 30 training rows; nothing to learn"),
        ([-1e308, 1e308] * 15, "row 1 of .*: '-1e[+]308' is beyond 3.4e[+]38, the largest number; rescale"),
        ([1.0, 1e300] * 15, "row 2 of .*: '1e[+]300' is beyond"),
        ([1e-200, 2e-200] * 15, "task.label=price: from 1e-200 to 2e-200; rescale the column"),
        ([""] * 4, "has no labels"),
    ],
)
def test_columns_that_cannot_be_learned(tmp_path, prices, said):
    task = task_of(tmp_path)
    toys_text.write(tmp_path / "train.csv", [{"text": f"row {n}", "price": p} for n, p in enumerate(prices)])
    with pytest.raises(DataError, match=said):
        TaskData.read(task, 0)


def test_secret_labels_are_said(tmp_path):
    task = task_of(tmp_path)
    toys_text.write(tmp_path / "test.csv", [{"text": "a", "price": -1.0}, {"text": "b", "price": -1.0}])
    with pytest.raises(DataError, match=r"test=.* has no labels .*task.test=null carves one from train"):
        TaskData.read(task, 0)


def test_text_in_the_column_is_one_line_and_exit_3(tmp_path, ftrun_inprocess):
    words = toys_text.regress(tmp_path)
    rows = toys_text.number_rows(8, random.Random(0))
    toys_text.write(tmp_path / "train.csv", [*rows, rows[0] | {"price": "free"}])
    result = ftrun_inprocess(*words, check=False)
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1 and "row 9 of" in result.stderr


@pytest.mark.parametrize("mark", ["NA", "N/A", "NULL", "None", "null"])
def test_what_stands_for_nothing_is_no_number_and_an_empty_cell_is_named(mark):
    with pytest.raises(DataError, match=f"'{mark}' is not a number; an empty cell leaves the row out"):
        number_in(mark)


@pytest.mark.parametrize(
    "cell, said",
    [
        ("3,5", "a decimal point is needed, not a comma: 3.5"),
        ("0,351", "a decimal point is needed, not a comma: 0.351"),
        ("1234,567", "a decimal point is needed, not a comma: 1234.567"),
        ("351,785", "its comma separates thousands (351785) or decimals (351.785): write one of them"),
        ("-1,234,567", "without separators of thousands it is -1234567"),
        ("1,23,456", "without separators of thousands it is 123456"),
        ("1 234", "without separators of thousands it is 1234"),
        ("1,200.50", "without separators of thousands it is 1200.50"),
        ("1.234,56", "without separators of thousands, with a decimal point, it is 1234.56"),
        ("1.234.567", "without separators of thousands it is 1234567"),
        ("$1,200", "without '$' and separators of thousands it is 1200"),
        ("12 %", "without '%' it is 12"),
        (
            "1,234 %",
            "its comma separates thousands (1234) or decimals (1.234): write one of them, without '%'",
        ),
        (
            "1.200 €",
            "its point separates thousands (1200) or decimals (1.200): write one of them, without '€'",
        ),
    ],
)
def test_a_number_that_is_written_otherwise_is_refused_with_what_it_may_be(cell, said):
    with pytest.raises(DataError) as caught:
        number_in(cell)
    assert str(caught.value) == f"{cell!r} is not a number; {said}"


@pytest.mark.parametrize("cell", ["31.05.2024", "1.2.3", "10.0.0.1", "1,2,3", "12,34,5", "free", "1,234,56"])
def test_what_is_no_number_however_it_is_read(cell):
    with pytest.raises(DataError, match=f"^'{cell}' is not a number$"):
        number_in(cell)


def test_decimals_given_to_classify_name_this_task(tmp_path):
    words = [word for word in toys_text.regress(tmp_path) if word != "task=regress"]
    toys_text.write(tmp_path / "train.csv", [{"text": f"t{n}", "price": n / 4} for n in range(12)])
    with pytest.raises(DataError, match="task=regress"):
        TaskData.read(settings("task=classify", *words).task, 0)


def test_subsets_lie_in_each_other_and_cover_the_range(tmp_path):
    chance = random.Random(0)
    prices = [chance.gauss(0, 1) ** 3 for _ in range(500)]
    task_of(tmp_path)
    toys_text.write(tmp_path / "train.csv", [{"text": f"t{n}", "price": p} for n, p in enumerate(prices)])

    def chosen(*words):
        task = settings("task=regress", "task.label=price", f"task.train={tmp_path}/train.csv", *words).task
        data = TaskData.read(task, 0)
        return [row["price"] for row in data.rows.splits["train"]], data.rows.notes, data

    small, _, _ = chosen("task.subset=100")
    large, notes, data = chosen("task.subset=200")
    assert set(small) < set(large) and len(small) == 100 and len(large) == 200
    assert "test: 50 rows split off train (10% of each quantile, seed 0)" in notes
    assert all(abs(sum(place == str(k) for place in quantiles(large)) - 20) <= 2 for k in range(10))
    every = sorted(prices)
    for part in range(10):
        inside = sum(every[50 * part] <= price <= every[50 * part + 49] for price in large)
        assert 18 <= inside <= 22
    scaling = data.spec.config["target_mean"], data.spec.config["target_scale"]
    assert scaling == pytest.approx((numpy.mean(large), numpy.std(large)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.subset='3 per class'"], "numbers have no classes; it is a number of rows here"),
        (
            ["scenario=domain"],
            "needs labels, which task=regress does not have; possible: scenario=task",
        ),
    ],
)
def test_wrong_settings(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        task_of(tmp_path, *words)
