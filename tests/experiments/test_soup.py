"""`ftrun merge` of several runs: the greedy average of their weights, chosen on validation alone."""

import json
import shutil

import pytest
import torch
from lab import ran, settings, toy
from safetensors.torch import load_file
from saved import refused

from ftrun.errors import ConfigError, DataError
from ftrun.experiments.soup import greedy
from ftrun.experiments.soup.greedy import plain
from ftrun.experiments.soup.ingredients import ingredients
from ftrun.runs.run import Run

DIGITS = [
    "task=digits", "task.subset=100", "model=mlp", "device=cpu", "baselines=false", "train.max_steps=9",
    "train.eval_every=3", "train.patience=null",
]  # fmt: skip
RATES = {"fast": "0.05", "slow": "0.02", "wild": "3"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs from the same weights, of which one has learned nothing, and one from other weights."""
    place = tmp_path_factory.mktemp("soup")
    for name, rate in RATES.items():
        ran(place / "same" / name, settings(*DIGITS, f"train.lr={rate}"))
    ran(place / "other", settings(*DIGITS, "seed=1", "train.lr=0.05"))
    return place


def soup_of(ftrun, output, *words):
    out = ftrun("merge", *map(str, words), "--output", str(output)).stdout
    return json.loads((output / "soup.json").read_text()), out


def mean_of(places):
    """In fp64."""
    found = [load_file(place / "model.safetensors") for place in places]
    return {name: sum(each[name].double() for each in found) / len(found) for name in found[0]}


@pytest.mark.parametrize("method", ["greedy", "uniform"])
def test_runs_are_added_as_long_as_validation_does_not_fall(runs, ftrun_inprocess, tmp_path, method):
    """The best first; what is written is the mean of those that are in, and has the scores that are told."""
    record, out = soup_of(ftrun_inprocess, tmp_path / "soup", runs / "same", "--method", method)
    assert ("chosen on these rows" in out) == (method == "greedy" and "an average of" in out)
    alone = {name: Run.open(runs / "same" / name).read_json("result.json") for name in RATES}
    order = sorted(RATES, key=lambda name: (-alone[name]["eval_accuracy"], alone[name]["eval_loss"]))
    assert [each["run"] for each in record["runs"]] == order
    best = -1.0
    for each in record["runs"]:
        assert each["alone"] == alone[each["run"]]["eval_accuracy"]
        assert each["added"] == (each["together"] >= best or method == "uniform")
        best = each["together"] if each["added"] else best
    assert record["runs"][0]["together"] == pytest.approx(record["runs"][0]["alone"])
    inside = [each["run"] for each in record["runs"] if each["added"]]
    assert len(inside) == 3 if method == "uniform" else "wild" not in inside
    expected = mean_of([runs / "same" / name / "model" for name in inside])
    for name, value in load_file(tmp_path / "soup/model.safetensors").items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)
    assert (
        f"test_accuracy              {record['test_accuracy']:.6f}"
        in ftrun_inprocess("evaluate", "soup").stdout
    )
    assert f"test_accuracy {record['test_accuracy']:.4f}, scored once, of the best run alone" in out


def test_the_average_of_a_run_with_itself_is_the_run(runs, ftrun_inprocess, tmp_path):
    shutil.copytree(runs / "same/fast", tmp_path / "again")
    record, out = soup_of(ftrun_inprocess, tmp_path / "soup", runs / "same/fast", "again")
    assert [each["added"] for each in record["runs"]] == [True, True]
    ours, theirs = (
        load_file(place / "model.safetensors") for place in (tmp_path / "soup", runs / "same/fast/model")
    )
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert record["test_accuracy"] == Run.open(runs / "same/fast").read_json("result.json")["test_accuracy"]


def test_the_test_split_is_scored_once_and_last(runs, monkeypatch, tmp_path):
    seen, honest = [], greedy.Judge.scores
    monkeypatch.setattr(
        greedy.Judge,
        "scores",
        lambda judge, weights, split: seen.append(split) or honest(judge, weights, split),
    )
    greedy.soup(ingredients([Run.open(runs / "same" / name) for name in RATES]), tmp_path / "soup", "greedy")
    assert seen == ["validation"] * 3 + ["test"]


@pytest.mark.ci
def test_updates_beside_the_weights_are_folded_into_them_first(
    toy_files, tiny_dir, tmp_path, ftrun_inprocess
):
    words = "train.lr=1e-2", "train.max_steps=2", "baselines=false"
    for name in ("lora", "full"):
        ran(tmp_path / name, toy(toy_files, tiny_dir("bert"), f"strategy={name}", *words))
    soup_of(ftrun_inprocess, tmp_path / "soup", "lora", "full", "--method", "uniform")
    one, other = (plain(Run.open(tmp_path / name)).state_dict() for name in ("lora", "full"))
    for name, value in load_file(tmp_path / "soup/model.safetensors").items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2, rtol=0, atol=1e-6)
    assert "model-soup" in (tmp_path / "soup/README.md").read_text()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("bottlenecks", "the layers of strategy=adapter hold a non-linearity"),
        ("prompt", "the vectors of strategy=prompt stand in front of a text's own"),
    ],
)
def test_what_stands_beside_a_network_has_no_average_and_is_called_what_it_is(runs, tmp_path, kind, said):
    shutil.copytree(runs / "same/fast", tmp_path / "beside")
    (tmp_path / "beside/model/adapter.json").write_text(json.dumps({"kind": kind}))
    with pytest.raises(ConfigError, match=f"{said} and are no part of the network's weights"):
        ingredients([Run.open(tmp_path / "beside")])


def edited(run, place, file, before, after):
    shutil.copytree(run, place)
    text = (place / file).read_text()
    assert before in text
    (place / file).write_text(text.replace(before, after))
    return place


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("model/config.json", '"0": "0"', '"0": "zero"', "differ in id2label of model/config.json"),
        ("config.yaml", "modulo: null", "modulo: 2", "differ in task.modulo (2 and null)"),
        ("config.yaml", "width: null", "width: 8", "differ in model.width (8 and null)"),
        ("result.json", '"eval_accuracy":', '"eval_f1":', "has no score on validation"),
    ],
)
def test_runs_that_do_not_go_together_are_refused(runs, ftrun_inprocess, tmp_path, file, before, after, said):
    other = edited(runs / "same/slow", tmp_path / "other", file, before, after)
    assert said in refused(ftrun_inprocess, "merge", str(runs / "same/fast"), str(other))


def test_what_is_no_average_is_refused(runs, ftrun_inprocess, tmp_path):
    one, many = str(runs / "same/fast"), str(runs / "same")
    say = lambda *words: refused(ftrun_inprocess, "merge", *words)  # noqa: E731
    assert "differ in their random start, seed (1 and 0)" in say(one, str(runs / "other"))
    assert "--method greedy averages several runs" in say(one, "--method", "greedy")
    assert "--dtype is for folding one run, and 3 are given" in say(many, "--dtype", "bf16")
    shutil.copytree(one, tmp_path / "half")
    (tmp_path / "half/result.json").unlink()
    assert "half is not finished" in say(one, "half")


def test_runs_on_other_rows_are_refused(runs, tmp_path):
    """Where each seed has training rows of its own, validation and test are compared."""
    other = edited(
        runs / "same/slow", tmp_path / "other", "data.json", '"fingerprint": "', '"fingerprint": "0'
    )
    found = ingredients([Run.open(runs / "same/fast"), Run.open(other)])
    with pytest.raises(DataError, match="other: its rows have changed since it was trained"):
        greedy.Judge(found)
    split = edited(runs / "same/slow", tmp_path / "split", "config.yaml", "split_seed: 0", "split_seed: 1")
    with pytest.raises(ConfigError, match=r"differ in task.split_seed \(1 and 0\)"):
        ingredients([Run.open(runs / "same/fast"), Run.open(split)])
