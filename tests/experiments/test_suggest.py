"""Which rows to label next: unsure and unlike each other, new to the run; and what they are to bring."""

import csv
import json
import math

import numpy
import pytest
import torch
import toys_lm
import toys_text
from finished import finished
from lab import ran, settings

from ftrun.experiments.active.choosing import Answered, nearest
from ftrun.models.features.last_layer import recorded
from ftrun.models.load import load
from ftrun.reports.verdicts.more_rows import curve_of, expected, growth, no_better_than_majority
from ftrun.tasks.data import TaskData


def test_one_row_of_each_cluster_the_one_with_most_uncertainty_first():
    chance = numpy.random.default_rng(0)
    places = numpy.array([[0, 0], [100, 0], [0, 100]])
    features = numpy.concatenate([place + chance.normal(size=(20, 2)) for place in places])
    weights = numpy.repeat([0.1, 1.0, 0.5], 20)
    chosen = nearest(features, weights, 3, seed=1)
    assert [row // 20 for row in chosen] == [1, 2, 0]
    assert chosen == nearest(features, weights, 3, seed=1)


def test_where_the_network_is_unsure_more_rows_are_chosen():
    """On a line whose left half is sure and whose right half is not; alone by diversity both get as many."""
    features = numpy.linspace(0, 1, 400)[:, None]
    likely = numpy.where(features[:, 0] < 0.5, 0.999, 0.55)
    found = Answered(numpy.stack([likely, 1 - likely], 1), features)
    unsure = [row >= 200 for row in found.chosen(20, 0)]
    assert sum(unsure) >= 14
    assert 8 <= sum(row >= 200 for row in found.chosen(20, 0, sure=False)) <= 12


def test_fewer_rows_that_differ_than_are_wanted():
    features = numpy.zeros((9, 2))
    features[8] = 1
    chosen = nearest(features, numpy.ones(9), 5, seed=0)
    assert len({*chosen}) == 5 and 8 in chosen
    assert nearest(features[:3], numpy.array([0.1, 0.9, 0.5]), 3, seed=0) == [1, 2, 0]


def test_margins_and_how_sure_an_answer_is():
    one = Answered(numpy.array([[0.5, 0.3, 0.2]]), numpy.zeros((1, 1)))
    assert one.margins == pytest.approx([0.2]) and one.sure == pytest.approx([0.5])
    several = Answered(numpy.array([[0.9, 0.4]]), numpy.zeros((1, 1)), numpy.array([0.5, 0.3]))
    assert several.margins == pytest.approx([0.2]) and several.sure == pytest.approx([0.9 * 0.4])


@pytest.mark.parametrize("network", ["bert", "pooled", "lora", "gpt2", "mlp"])
def test_the_logits_are_a_linear_function_of_the_features(network, toy_words, tmp_path):
    """Whatever pools or adapts: those of 12 texts of different lengths, in one batch."""
    words = [*toy_words, "task.subset=12"]
    words += {"pooled": ["model.pooling=mean"], "lora": ["strategy=lora"]}.get(network, [])
    if network == "gpt2":
        words = [word for word in words if not word.startswith("model.name")]
        words.append(f"model.name={toys_lm.tiny_decoder('gpt2', tmp_path / 'gpt2')}")
    chosen = settings(*(["task=digits", "model=mlp", "task.subset=12"] if network == "mlp" else words))
    data = TaskData.read(chosen.task, 0)
    model = load(chosen.model, data.spec, 0)
    data.encode(model.tokenizer, "train")
    chosen.strategy.prepare(model)
    model.eval()
    batch = data.dataset("train").collate(data.dataset("train").examples)
    heads = [layer for layer in model.head_layers() if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad(), recorded(model, data.spec.config["num_labels"]) as latest:
        logits = model(**batch["inputs"])
        features = latest(logits)
        assert torch.allclose(heads[-1](features), logits, atol=1e-6)
    assert features.shape == (12, heads[-1].in_features) and not heads[-1]._forward_hooks


def test_more_rows_by_a_straight_line_over_the_logarithm():
    curve = [(rows, 0.5 + 0.1 * math.log(rows)) for rows in (25, 50, 100, 100, 1000)]
    found = growth(curve, 50, 50)
    assert found.gain == pytest.approx(0.1 * math.log(2)) and (found.runs, found.most) == (4, 100)
    assert found.low == pytest.approx(found.gain, abs=1e-6) == found.high
    noisy = growth([(25, 0.5), (50, 0.7), (100, 0.6)], 50, 50)
    assert noisy.low < 0 < noisy.gain < noisy.high
    assert growth([(50, 0.5)] * 4, 50, 50) is None and growth(curve[:2], 50, 50) is None


def test_the_curve_is_of_runs_that_differ_in_their_rows_alone(tmp_path):
    for number, (rows, seed) in enumerate([(100, 0), (100, 1), (200, 0), (400, 0)]):
        finished(tmp_path / f"r{number}", "lora", seed, accuracy=0.6 + rows / 2000, subset=rows)
    run = finished(tmp_path / "here", "lora", 2, accuracy=0.7, subset=200)
    finished(tmp_path / "way", "full", 0, subset=200)
    finished(tmp_path / "rate", "lora", 3, subset=200, layer_decay=0.9)
    finished(tmp_path / "others", "lora", 0, subset=100, items=300)
    metric, curve = curve_of(run, [])
    assert metric == "accuracy" and sorted(rows for rows, _ in curve) == [100, 100, 200, 200, 400]
    said = expected(run, 50, [])
    assert "50 more rows drawn at random are expected to bring +" in said
    assert "points of accuracy" in said and f"5 runs on 100 to 400 rows in {tmp_path}" in said
    assert "no learning curve says what 1 more row would bring" in expected(run, 1, [str(tmp_path / "here")])


@pytest.mark.parametrize(("accuracy", "none"), [(0.55, True), (0.9, False)])
def test_whether_the_majority_is_beaten(accuracy, none, tmp_path):
    run = finished(tmp_path / "run", accuracy=accuracy, baselines={"majority": 0.55})
    said = no_better_than_majority(run)
    assert bool(said) == none and (not none or "is no better than" in said)
    assert not no_better_than_majority(finished(tmp_path / "bare", accuracy=0.5))


@pytest.fixture(scope="module")
def made(toy_words, tmp_path_factory):
    """A finished run that has learned the toy task."""
    words = "strategy=full", "train.epochs=8", "train.lr=3e-3"
    return ran(tmp_path_factory.mktemp("suggest") / "made", settings(*toy_words, *words))


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_rows_that_are_new_to_the_run_in_the_order_of_their_choice(
    ftrun_inprocess, made, toy_files, tmp_path
):
    train = table(toy_files / "train.csv")[0]["text"]
    rows = [{"text": f"the film {word} good {n}", "id": n, "label": ""} for n, word in enumerate("abcdefgh")]
    rows += [
        {"text": train.upper(), "id": 8},
        {"text": "THE  film a good 0", "id": 9},
        {"text": " ", "id": 10},
    ]
    rows.append({"text": "bad film", "id": 11, "label": "negative"})
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "id", "label"])
        writer.writeheader()
        writer.writerows(rows)
    asked = "suggest", str(made.path), "--input", "new.csv", "--rows"
    out = ftrun_inprocess(*asked, "5", "--output", "next.csv").stdout
    for said in (
        "left out: 1 row also in train (row 9)",
        "left out: 1 row that repeat",
        "left out: 1 row labelled already (column 'label') (row 12)",
        "left out: 1 row empty or unreadable (row 11)",
        "5 rows chosen out of 8 by uncertainty and diversity",
        "no learning curve says what 5 more rows would bring",
        "5 rows to label: next.csv (column 'label' is empty)",
    ):
        assert said in out
    found = table(tmp_path / "next.csv")
    assert [*found[0]] == ["text", "id", "label", "rank", "answer", "probability", "margin"]
    assert [row["rank"] for row in found] == ["1", "2", "3", "4", "5"] and {
        row["label"] for row in found
    } == {""}
    assert {row["id"] for row in found} <= {*map(str, range(8))} and len({row["id"] for row in found}) == 5
    ftrun_inprocess(*asked, "9", "--output", "all.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(lines) == 8 and all(line["label"] is None and line["probability"] >= 0.5 for line in lines)
    margins = [2 * line["probability"] - 1 for line in lines]
    assert margins == pytest.approx([line["margin"] for line in lines], abs=1e-5) and margins == sorted(
        margins
    )
    ftrun_inprocess("predict", str(made.path), "--input", "all.jsonl", "--output", "same.jsonl")
    answers = [json.loads(line) for line in (tmp_path / "same.jsonl").read_text().splitlines()]
    assert [a["answer"] for a in answers] == [line["answer"] for line in lines]
    again = ftrun_inprocess(*asked, "5", "--output", "next.csv", check=False)
    assert again.returncode == 2 and "next.csv exists; nothing is overwritten" in again.stderr
    (tmp_path / "known.csv").write_text(f"text,label\n{train},\n")
    none = ftrun_inprocess(
        "suggest", str(made.path), "--input", "known.csv", "--output", "x.csv", check=False
    )
    assert (
        none.returncode == 3
        and "known.csv: no row is left to suggest; left out: 1 row also in" in none.stderr
    )


def test_what_it_cannot_do_is_one_sentence(ftrun_inprocess, made, tiny_dir, tmp_path):
    words = [
        *toys_text.regress(tmp_path),
        f"model.name={tiny_dir('bert')}",
        "device=cpu",
        "train.max_steps=1",
    ]
    ran(tmp_path / "numbers", settings(*words))
    (tmp_path / "a.csv").write_text("text\ngood\n")
    for place, more, message in (
        ("numbers", [], "suggest: task=regress does not answer with the probabilities of labels"),
        (str(made.path), ["--rows", "0"], "suggest: --rows 0 is not 1 or more"),
        (str(made.path), ["--output", "a.txt"], "a.txt: cannot tell what to write from its ending"),
        (str(made.path), ["--input", "b.csv"], "b.csv does not exist"),
    ):
        asked = ["suggest", place, "--input", "a.csv", *more]
        result = ftrun_inprocess(*asked, check=False)
        assert result.returncode in (2, 3) and message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "next.csv").exists()
