"""pretrain=: random weights are pre-trained once, and what follows starts from them."""

import threading

import pytest
import torch
from safetensors.torch import load_file
from toys_mlm import files

from ftrun.experiments import pretrain as pretraining
from ftrun.runs.run import Run


@pytest.fixture
def line(tmp_path, toy_words, monkeypatch):
    """The settings of a short pre-training on toy text and of a shorter fine-tuning on labels."""
    place = files(tmp_path / "data")
    return [
        *toy_words, "pretrain=mlm", f"pretrain.task.train={place}/text.txt", "pretrain.task.documents=line",
        "pretrain.task.block=32", "pretrain.train.max_steps=4", "train.max_steps=2", "train.eval_every=2",
    ]  # fmt: skip


def weights(run):
    """By their names in the network below the head."""
    kept = load_file(run / "model" / "model.safetensors")
    return {name.removeprefix("bert."): value for name, value in kept.items()}


def test_a_run_starts_where_its_pre_training_ended(ftrun_inprocess, line, tmp_path):
    ftrun_inprocess(*line, "hydra.run.dir=run", "train.lr=1e-12", "train.weight_decay=0", "seed=3")
    before, after = weights(tmp_path / "run/pretraining"), weights(tmp_path / "run")
    shared = [name for name in after if name in before]
    assert len(shared) > 30
    for name in shared:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-8)
    first, then = Run.open(tmp_path / "run/pretraining"), Run.open(tmp_path / "run")
    assert (first.config["task"]["name"], first.config["model"]["init"], first.config["seed"]) == (
        "mlm",
        "random",
        0,
    )
    assert (first.config["train"]["max_steps"], then.config["train"]["max_steps"]) == (4, 2)
    assert (first.config["model"]["pooling"], then.config["model"]["pooling"]) == ("head", "mean")
    assert then.config["model"]["name"] == str(first.path) and first.config["pretrain"] == {"name": "none"}


def logs(sweep):
    """What the runs of a sweep said."""
    return "".join(file.read_text() for file in sorted(sweep.glob("*/log.txt")))


def test_images_are_pre_trained_without_their_labels(ftrun_inprocess, tmp_path):
    line = [
        "-m", "experiment=pretraining_pays_images", "pretrain.train.max_steps=3", "train.max_steps=2",
        "pretrain.task.bank_size=200", "train.lr=1e-12", "train.weight_decay=0", "strategy=full,scratch",
        "task.subset=2 per class", "seed=0", "hydra.sweep.dir=pays",
    ]  # fmt: skip
    assert "2 of 2 runs finished" in ftrun_inprocess(*line).stdout
    assert logs(tmp_path / "pays").count("pre-training first: simclr_28") == 1
    before, after = weights(tmp_path / "pays/pretraining"), weights(tmp_path / "pays/0-full")
    shared = [name for name, value in after.items() if name in before and value.is_floating_point()]
    assert len(shared) > 30 and not any("classifier" in name for name in before)
    for name in shared:
        if "running" not in name:  # the batches' statistics
            torch.testing.assert_close(before[name], after[name], rtol=0, atol=1e-8)
    assert (tmp_path / "pays/scratch.png").is_file()


def test_the_control_has_the_network_and_none_of_its_weights(ftrun_inprocess, line, tmp_path):
    shape = ["model.init=random", "model.layers=1", "model.width=16", "model.heads=2"]
    ftrun_inprocess(*line, *shape, "strategy=scratch", "hydra.run.dir=run", "train.lr=1e-12")
    before, after = weights(tmp_path / "run/pretraining"), weights(tmp_path / "run")
    name = "encoder.layer.0.output.dense.weight"
    assert after[name].shape == before[name].shape and "layer.1." not in str(after.keys())
    assert not torch.allclose(before[name], after[name], atol=1e-3)
    assert Run.open(tmp_path / "run").config["model"]["pooling"] == "mean"  # as what it is the control of
    assert (tmp_path / "run/model/tokenizer.json").read_bytes() == (
        tmp_path / "run/pretraining/model/tokenizer.json"
    ).read_bytes()


def test_a_sweep_shares_one_and_ends_with_its_page(ftrun_inprocess, line, tmp_path):
    sweep = [
        "-m", *line, "strategy=full,scratch", "task.subset=2 per class,4 per class", "hydra.sweep.dir=pays",
        "+hydra.callbacks.page._target_=ftrun.experiments.callbacks.Page",
    ]  # fmt: skip
    said, logged = ftrun_inprocess(*sweep).stdout, logs(tmp_path / "pays")
    assert logged.count("pre-training first: mlm") == 1 and logged.count("already pre-trained") == 3
    assert "4 of 4 runs finished" in said and "report with plots: pays/report.html" in said
    page = (tmp_path / "pays/report.html").read_text()
    assert "labels than scratch" in page or "does not reach" in page
    assert {"labels.png", "scratch.png"} <= {path.name for path in (tmp_path / "pays").glob("*.png")}
    again = ftrun_inprocess(*sweep).stdout
    assert logs(tmp_path / "pays") == logged and again.count("already finished: pays") == 4


def test_a_pre_training_that_was_stopped_goes_on(ftrun_inprocess, line, tmp_path):
    ftrun_inprocess(*line, "hydra.run.dir=run", "pretrain.directory=prior")
    whole = weights(tmp_path / "prior")
    (tmp_path / "prior/result.json").unlink()
    said = ftrun_inprocess(*line, "hydra.run.dir=again", "pretrain.directory=prior").stdout
    assert "resuming at step 4 of 4" in said
    assert all(torch.equal(value, whole[name]) for name, value in weights(tmp_path / "prior").items())


def test_two_that_begin_at_once_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "WAIT", 0.01)
    first = pretraining.held(tmp_path / "prior")
    got = []
    second = threading.Thread(target=lambda: got.append(pretraining.held(tmp_path / "prior")))
    second.start()
    second.join(0.8)
    assert second.is_alive() and not got
    first.release()
    second.join(5)
    assert not second.is_alive() and len(got) == 1
    got[0].release()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["pretrain.task.train=null"], "pretrain=mlm: task=mlm: task.train is not set"),
        (["pretrain.train.lr=0"], "pretrain=mlm: train.lr is above 0"),
        (["pretrain.task.maks=0.4"], "did you mean 'pretrain.task.mask'?"),
        (["pretrain.epochs=3"], "pretrain.train.epochs"),
        (["pretrain=clm"], "there is no pretrain 'clm'; possible: mlm, none"),
        (["strategy=lora", "rank=0"], "rank is at least 1"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_trained(ftrun_inprocess, line, tmp_path, more, said):
    found = ftrun_inprocess(*line, *more, "hydra.run.dir=run", check=False)
    assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1, found.stderr
    assert "pre-training first" not in found.stdout


def test_a_directory_of_something_else_is_refused(ftrun_inprocess, line, tmp_path):
    ftrun_inprocess(*line, "hydra.run.dir=run", "pretrain.directory=prior")
    more = ["pretrain.directory=prior", "pretrain.seed=1", "hydra.run.dir=other"]
    found = ftrun_inprocess(*line, *more, check=False)
    assert found.returncode == 2 and "contains a run with other settings" in found.stderr
