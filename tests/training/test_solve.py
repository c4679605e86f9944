"""A linear probe that is solved for: scikit-learn's optimum in the saved network, and where there is none."""

from __future__ import annotations

import json
import os
import signal

import numpy
import pytest
import torch
import toys_lm
from lab import ran, settings, toy
from opened import opened
from resuming import scored_on_train
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from toys_tasks import words_of
from transformers import AutoModelForSequenceClassification

from ftrun.errors import ConfigError, Interrupted
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.single import resume
from ftrun.models.load import outline
from ftrun.runs.run import Run
from ftrun.strategies.linear_probe import LinearProbe
from ftrun.tasks.dataset import labels_of
from ftrun.training.checkpoint import read_state
from ftrun.training.solve import Solve, weights_of

PROBE = "strategy=linear_probe"


@pytest.fixture(scope="module")
def solved(toy_files, tiny_dir, tmp_path_factory):
    words = PROBE, "baselines=true"
    return ran(tmp_path_factory.mktemp("solved") / "run", toy(toy_files, tiny_dir("bert"), *words))


def pooled_by_transformers(run, dataset):
    """What goes into the classifier of a saved BERT, (rows, width), one row at a time and without ftrun."""
    net = AutoModelForSequenceClassification.from_pretrained(run.model_dir).eval()
    with torch.no_grad():
        rows = [net.bert(input_ids=torch.tensor([e.inputs])).pooler_output[0] for e in dataset.examples]
    return torch.stack(rows).double().numpy()


def test_its_loss_is_scikit_learn_s_on_the_same_features(solved):
    data = FinishedRun(solved).data()
    train = data.dataset("train")
    features, labels = pooled_by_transformers(solved, train), numpy.array([e.target for e in train.examples])
    strength = solved.read_json("result.json")["l2"]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000))
    logs = theirs.fit(features, labels).predict_log_proba(features)
    _, loss = scored_on_train(solved)
    assert loss == pytest.approx(-logs[range(len(labels)), labels].mean(), abs=1e-4)
    lines = {line["l2"]: line for line in solved.metrics() if "l2" in line}
    assert lines[strength]["train_loss"] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("after", ["vectors", "tried"])
def test_a_signal_is_heeded_before_a_strength_is_tried_and_after_one(
    solved, toy_files, tiny_dir, tmp_path, monkeypatch, after
):
    honest = getattr(Solve, after)

    def asked_to_end(self, *given):
        os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, *given)

    place = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Solve, after, asked_to_end)
        ran(place, toy(toy_files, tiny_dir("bert"), PROBE, "baselines=true"))
    assert read_state(place / "checkpoints" / "last")["step"] == (after == "tried")
    resume(place)
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (place / file).read_bytes() == (solved.path / file).read_bytes()


def test_a_line_for_each_strength_and_the_best_one_s_weights(solved):
    *tried, last = solved.metrics()
    result = solved.read_json("result.json")
    assert [line["step"] for line in tried] == list(range(1, len(tried) + 1)) and result["steps"] == len(
        tried
    )
    assert "epoch" not in tried[0] and "test_loss" in last
    best = min(tried, key=lambda line: line["eval_loss"])
    assert (best["step"], best["l2"]) == (result["best_step"], result["l2"])
    assert best["eval_loss"] == result["eval_loss"] and result["reload_difference"] < 1e-6
    assert solved.config["solver"] == "lbfgs" and solved.asked["solver"] == "auto"
    assert solved.config["train"]["lr"] == "auto"  # nothing came of it


def test_the_frozen_features_baseline_answers_as_it_does(solved):
    theirs = [json.loads(line) for line in (solved.path / "baselines.jsonl").read_text().splitlines()]
    ours = [json.loads(line) for line in (solved.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["features"]["answer"] for line in theirs] == [line["answer"] for line in ours]
    card = solved.read_json("data.json")["baselines"]["features"]
    assert card["test_accuracy"] == pytest.approx(solved.read_json("result.json")["test_accuracy"], abs=1e-6)


@pytest.mark.parametrize("name", ["eval_f1", "f1"])
def test_train_metric_chooses_the_strength_where_it_is_set(toy_files, tiny_dir, tmp_path, capsys, name):
    words = PROBE, f"train.metric={name}", "train.max_steps=3"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    tried = [line for line in run.metrics() if "l2" in line]
    best = max(tried, key=lambda line: (line["eval_f1"], -line["eval_loss"]))
    result = run.read_json("result.json")
    assert result["l2"] == best["l2"] and result["metric"] == "eval_f1"
    assert "train.epochs=2 and train.max_steps=3: without effect" in capsys.readouterr().out


@pytest.mark.parametrize("balance", ["weights", "sample"])
def test_balanced_classes_weigh_as_scikit_learn_s_do(balance, toy_files, tiny_dir):
    words = PROBE, f"task.balance={balance}", "task.subset=41"
    data, _ = opened(toy(toy_files, tiny_dir("bert"), *words), "train")
    train = data.dataset("train")
    labels = labels_of(train, train.examples).tolist()
    theirs = compute_sample_weight("balanced", labels)
    assert theirs.std() > 0.01
    found = weights_of(train, data.objective, labels, 0)
    if balance == "weights":
        assert found == pytest.approx(theirs)
    for label in set(labels):  # rows that are drawn alike often add up to the same
        chosen = numpy.array(labels) == label
        assert found[chosen].sum() == pytest.approx(theirs[chosen].sum(), rel=0.01)


@pytest.mark.parametrize("task", ["multilabel", "regress"])
def test_other_answers_are_solved_for_too(task, tiny_dir, tmp_path):
    run = ran(tmp_path / "run", settings(*words_of(task, tmp_path, tiny_dir), PROBE, "model.pooling=mean"))
    result = run.read_json("result.json")
    assert run.config["solver"] == "lbfgs" and result["reload_difference"] < 1e-5
    tried = [line for line in run.metrics() if "l2" in line]
    assert tried[0]["train_loss"] > result["train_loss"]


def test_a_head_without_a_bias_on_the_last_token(toy_files, tmp_path):
    decoder = toys_lm.tiny_decoder("gpt2", tmp_path / "gpt2")
    run = ran(tmp_path / "run", toy(toy_files, decoder, PROBE))
    assert run.config["solver"] == "lbfgs"
    data = FinishedRun(run).data()
    from_disk, _ = scored_on_train(run)
    assert data.spec.regression and from_disk == run.read_json("result.json")["train_accuracy"]


def decided(experiment):
    network = outline(experiment.model, experiment.task.spec(None))
    return experiment.strategy.chosen(experiment, network)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["roberta"], "the new weights of RobertaForSequenceClassification are those of 2 layers"),
        (["roberta", "model.pooling=mean"], ""),
        (["bert"], ""),
        (["bert", "source=pretraining"], ""),
        (["ner"], "task=ner does not make one fixed vector with one target of each example"),
        (["vit"], ""),
        (["vit", "task.augment=flip"], "task=image does not make one fixed vector"),
    ],
    ids=" ".join,
)
def test_auto_is_lbfgs_where_the_head_is_one_layer_on_a_fixed_vector(
    words, why, toy_files, tiny_dir, tmp_path
):
    name, *more = words

    def experiment(*own):
        if name in ("ner", "vit"):
            return settings(*words_of(name, tmp_path, tiny_dir), PROBE, *more, *own)
        return toy(toy_files, tiny_dir(name), PROBE, *more, *own)

    found, said = decided(experiment())
    assert found == {"solver": "adamw" if why else "lbfgs"} and why in said
    assert decided(experiment("solver=adamw")) == ({}, "")
    if why:
        with pytest.raises(ConfigError, match=f"^solver=lbfgs: .*{why[:20]}.*; possible: solver=adamw"):
            decided(experiment("solver=lbfgs"))
    else:
        assert decided(experiment("solver=lbfgs")) == ({}, "")


def test_a_wrong_solver_is_refused():
    with pytest.raises(ConfigError, match="solver is one of auto, lbfgs, adamw, not 'lbgfs'"):
        LinearProbe("lbgfs")


def test_a_run_from_before_it_had_a_solver_was_made_by_steps(solved, tmp_path):
    text = (solved.path / "config.yaml").read_text().replace("solver: lbfgs\n", "")
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "metrics.jsonl").touch()
    assert Run.open(tmp_path).settings["solver"] == "adamw"
