"""Composed LoRAs through the command line: what is written is the sum; what cannot be summed is refused."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from lab import ran, toy
from saved import answered, logits, refused
from transformers import AutoModelForSequenceClassification

from ftrun.errors import ConfigError
from ftrun.experiments.lora.blend import with_head
from ftrun.experiments.lora.lowrank import read_update, refuse_other_bases
from ftrun.models.load import quiet
from ftrun.models.reload import reload
from ftrun.runs.manifest import SEAL
from ftrun.runs.run import Run

AUTO = "AutoModelForSequenceClassification"
RUNS = {
    "one": ["rank=2"],
    "two": ["rank=3", "targets=all", "variant=rslora", "seed=1"],
    "three": ["rank=2", "targets=[query]", "variant=pissa", "seed=2"],
    "dora": ["variant=dora"],
    "pooled": ["rank=2", "model.pooling=mean"],
}


@pytest.fixture(scope="module")
def runs(toy_files, tiny_model_dir, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")

    def path(name):
        if not (place / name).is_dir():
            words = "strategy=lora", *RUNS[name], "train.lr=1e-2", "train.epochs=1"
            ran(place / name, toy(toy_files, tiny_model_dir, *words))
        return str(place / name)

    return path


def summed(weights, paths, head):
    """The base with the head of a run and Σ wᵢ·(merged weight − base weight) of every run, in fp64."""
    updates = [read_update(Run.open(path)) for path in paths]
    net = with_head(updates[head]).double()
    start = {name: value.clone() for name, value in net.bert.state_dict().items()}
    for weight, path in zip(weights, paths, strict=True):
        with quiet():
            merged = reload(Run.open(path).model_dir, AUTO).merge_and_unload().bert.state_dict()
        for name in start:
            if "encoder" in name:
                net.bert.state_dict()[name].add_(weight * (merged[name].double() - start[name]))
    return logits(net, Run.open(path).model_dir)


def test_the_adapter_written_is_the_sum_of_other_variants_ranks_and_layers(runs, ftrun_inprocess, tmp_path):
    paths = [runs("one"), runs("two"), runs("three")]
    words = "--weights", "-0.3,0.7,0.5", "--head", paths[1], "--output", "sum"
    out = ftrun_inprocess("compose", *paths, *words).stdout
    assert "linear: -0.3·one + 0.7·two + 0.5·three, rank 9" in out  # 2 + 3 + twice 2
    wanted = summed([-0.3, 0.7, 0.5], paths, 1)
    torch.testing.assert_close(answered(tmp_path / "sum").double(), wanted, atol=1e-5, rtol=0)
    record = json.loads((tmp_path / "sum" / "compose.json").read_text())
    assert (tmp_path / "sum" / SEAL).is_file()
    assert [run["weight"] for run in record["runs"]] == [-0.3, 0.7, 0.5] and record["head"] == "two"


def test_one_with_weight_one_is_that_run_and_zeros_are_the_base(runs, ftrun_inprocess, toy_files, tmp_path):
    one, two = runs("one"), runs("two")
    ftrun_inprocess("compose", one, "--weights", "1", "--output", "same")
    torch.testing.assert_close(
        answered(tmp_path / "same"), answered(Run.open(one).model_dir), atol=1e-5, rtol=0
    )
    ftrun_inprocess("compose", one, two, "--weights=0,0", "--merge", "--output", "none")
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "none")
    base = with_head(read_update(Run.open(one)))
    assert torch.equal(logits(net, tmp_path / "none"), logits(base, tmp_path / "none"))
    assert not list((tmp_path / "none").glob("adapter*"))
    ftrun_inprocess("predict", "same", "--input", f"{toy_files}/test.csv", "--output", "answers.csv")


def test_a_search_finds_weights_and_shows_the_surface(runs, ftrun_inprocess, toy_files, tmp_path):
    one, two = runs("one"), runs("two")
    words = "--search", f"{toy_files}/validation.csv", "--grid=-0.5,0,0.5", "--output", "best"
    out = ftrun_inprocess("compose", one, two, *words).stdout
    assert "accuracy: one downwards, two across\n" in out and "-0.5        0      0.5\n" in out
    assert "LEAK" not in out
    words = "--search", f"{toy_files}/train.csv", "--grid=0,1", "--output", "known"
    known = ftrun_inprocess("compose", one, two, *words).stdout
    for run in (one, two):
        assert f"warning: LEAK: 120 of 120 test rows are among the rows that {run} was trained on" in known
    for said in ("40 rows", "9 points", "chosen", "no LoRA", "one alone", "two alone", "95 % interval"):
        assert said in out
    found = json.loads((tmp_path / "best" / "compose.json").read_text())
    points = found["search"]["points"]
    assert len(points) < 60  # it stays within the grid, also where more of everything scores better
    assert found["search"]["score"] == max(point["score"] for point in points)
    assert [run["weight"] for run in found["runs"]] == points[0]["weights"]
    assert found["search"]["interval"][0] <= found["search"]["score"] <= found["search"]["interval"][1]
    alone = next(point for point in points if point["weights"] == [1.0, 0.0])
    scores = ftrun_inprocess("evaluate", one, "--input", f"{toy_files}/validation.csv").stdout
    assert f"test_accuracy              {alone['score']:.6f}" in scores


@pytest.mark.parametrize("method", ["svd", "ties", "dare"])
def test_the_methods_of_peft_write_an_adapter(runs, ftrun_inprocess, tmp_path, method):
    words = "--weights", "0.5,0.5", "--method", method, "--output", "sum"
    ftrun_inprocess("compose", runs("one"), runs("two"), *words)
    assert answered(tmp_path / "sum").isfinite().all()


def test_nothing_but_the_output_changes_and_a_layer_the_base_lacks_is_refused(
    runs, ftrun_inprocess, tiny_model_dir, tmp_path
):
    paths = [runs("one"), runs("two")]

    def content():
        files = [f for top in (tiny_model_dir, *paths) for f in Path(top).rglob("*") if f.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    before = content()
    for number, words in enumerate((["--merge"], ["--method", "svd"])):
        ftrun_inprocess("compose", *paths, "--weights", "0.5,2", "--output", f"sum{number}", *words)
    assert content() == before
    updates = [read_update(Run.open(path)) for path in paths]
    updates[1].factors["encoder.layer.7.attention.self.query"] = next(iter(updates[1].factors.values()))
    with pytest.raises(ConfigError, match=r"encoder\.layer\.7\.attention\.self\.query\)"):
        refuse_other_bases(updates)


def test_a_pooled_head_serves(runs, ftrun_inprocess, tmp_path):
    words = "--weights", "1,0.1", "--output", "sum"
    ftrun_inprocess("compose", runs("pooled"), runs("one"), *words)
    assert answered(tmp_path / "sum").isfinite().all()


def test_another_base_is_refused_by_its_content(runs, ftrun_inprocess, toy_files, tiny_model_dir, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(tiny_model_dir, same)
    from transformers import BertModel

    net = BertModel.from_pretrained(tiny_model_dir)
    net.encoder.layer[0].output.dense.bias.data[0] += 1e-6
    shutil.copytree(tiny_model_dir, other)
    net.save_pretrained(other)
    for base in (same, other):
        words = "strategy=lora", "rank=2", "train.max_steps=1"
        ran(base / "run", toy(toy_files, base, *words))
    one = runs("one")
    ftrun_inprocess("compose", one, str(same / "run"), "--weights", "1,1", "--output", "sum")
    said = refused(ftrun_inprocess, "compose", one, str(other / "run"), "--weights", "1,1", "--output", "no")
    assert "have different base checkpoints (1 of 39 tensors differ, such as encoder.layer.0.output" in said
    assert not (tmp_path / "no").exists()


def test_what_cannot_be_composed_is_said_in_a_line(runs, ftrun_inprocess, toy_files, tmp_path):
    one, two = runs("one"), runs("two")

    def said(*words):
        return refused(ftrun_inprocess, "compose", *words, "--output", "no")

    assert "variant=dora divides by the norm" in said(one, runs("dora"), "--weights", "1,1")
    assert "--weights 1: 1 weight for 2 runs" in said(one, two, "--weights", "1")
    assert "--weights 1,x: 'x' is not a number" in said(one, two, "--weights", "1,x")
    assert "'nan' is not a number" in said(one, two, "--weights", "1,nan")
    assert "give either the weights" in said(one, two)
    assert "is not a directory" in said(one, "nowhere", "--weights", "1,1")
    assert "is not one of the composed runs" in said(one, two, "--weights", "1,1", "--head", "elsewhere")
    assert "--search needs --method linear" in said(one, two, "--search", "x.csv", "--method", "svd")
    assert "more than 400; use fewer values" in said(one, *[two] * 5, "--search", f"{toy_files}/test.csv")
    assert "--rank must be at least 1" in said(one, two, "--weights", "1,1", "--rank", "3")
    result = ftrun_inprocess("compose", one, two, "--search", "gone.csv", "--output", "no", check=False)
    assert result.returncode == 3 and "gone.csv does not exist" in result.stderr
    assert list(tmp_path.iterdir()) == []
