"""A calibrated run: the same answers with other probabilities, a plain checkpoint, and the way back."""

import errno
import json
import os
import shutil
import tempfile
import warnings

import numpy
import pytest
import toys_text
from lab import ran, settings, toy
from saved import answered, logits, refused
from scipy import stats
from sklearn.metrics import f1_score
from transformers import AutoConfig, AutoModelForSequenceClassification

from ftrun.experiments import calibrate as calibrating
from ftrun.experiments.inference import FinishedRun
from ftrun.models.load import load
from ftrun.models.recalibration import KEY, recalibration_of
from ftrun.reports.calibrated import by_chance, sentence
from ftrun.runs.lines import read_lines
from ftrun.runs.manifest import SEAL
from ftrun.runs.run import Run
from ftrun.tasks.parts.temperature import COLDEST, HOTTEST

PLANTED = 3.0


@pytest.fixture(scope="module")
def trained(toy_files, tiny_model_dir, tmp_path_factory):
    """Runs that get some validation rows wrong: one label per row by full and by LoRA, several labels."""
    place = tmp_path_factory.mktemp("runs")
    few = "train.epochs=1", "train.max_steps=6", "train.lr=1e-2"
    made = {
        "full": lambda: toy(toy_files, tiny_model_dir, "strategy=full", "train.epochs=5", "train.lr=3e-3"),
        "lora": lambda: toy(toy_files, tiny_model_dir, "strategy=lora", "rank=2", *few),
        "several": lambda: settings(
            *toys_text.multilabel(place), f"model.name={tiny_model_dir}", "strategy=full", "train.lr=2e-3"
        ),
    }

    def make(name, to):
        if not (place / name).is_dir():
            ran(place / name, made[name]())
        return Run.open(shutil.copytree(place / name, to / name))

    return make


def answers(run):
    finished = FinishedRun(run)
    return finished.predict(finished.data())


def test_a_network_is_only_called_too_sure_or_not_sure_enough_where_the_rows_tell_it():
    """Twice the gain in log-likelihood is chi-squared with one degree of freedom (Wilks 1938)."""

    def record(rows, gain, temperature=0.8, **own):
        test = {"mean_probability": 0.7, "right": 0.8, "nll": 0.5}
        held = {"rows": rows, "before": {"nll": 0.5 + gain}, "after": {"nll": 0.5}}
        both = {"before": test, "after": test | {"mean_probability": 0.75}}
        return {"temperature": temperature, "validation": held, "test": both, **own}

    shares = "the mean probability of its answers is 75.0 % instead of 70.0 %, and 80.0 % of them are right"
    assert by_chance(record(20, 0.03)) == pytest.approx(stats.chi2.sf(2 * 20 * 0.03, df=1))
    assert sentence(record(20, 0.03)) == (
        "20 validation rows cannot tell a temperature of 0.8 from 1 (p = 0.27): the network may be as sure as"
        f" it should be; {shares}"
    )
    assert sentence(record(200, 0.03)) == f"the network was underconfident: {shares}"
    assert sentence(record(200, 0.03, 1.5)) == f"the network was overconfident: {shares}"
    assert "no better than chance" in sentence(record(200, 0.5, HOTTEST))
    assert "may be as sure as it should be" in sentence(record(20, 0.01, HOTTEST))
    labels = dict.fromkeys("abcdefghij", {})  # of several labels per row each is an answer
    assert sentence(record(20, 0.03, labels=labels)) == f"the network was underconfident: {shares}"
    assert by_chance(record(20, -1e-9)) == 1


def test_no_answer_changes_and_the_plain_network_stays_as_it_is(trained, tmp_path, ftrun_inprocess):
    run = trained("full", tmp_path)
    kept = {f.name: f.read_bytes() for f in run.path.iterdir() if f.is_file()}
    config = (run.model_dir / "config.json").read_bytes()
    before, plain = answers(run), answered(run.model_dir)
    out = ftrun_inprocess("calibrate", str(run.path)).stdout
    assert "ECE" in out and "NLL" in out and "Brier" in out and "--remove" in out
    record = run.read_json("calibration.json")
    assert f"temperature {record['temperature']:.3g}" in out
    assert record["validation"]["after"]["nll"] <= record["validation"]["before"]["nll"]
    after = answers(run)
    assert len({row.answer["answer"] for row in before}) == 2
    assert [row.answer["answer"] for row in after] == [row.answer["answer"] for row in before]
    assert [row.answer["probability"] for row in after] != [row.answer["probability"] for row in before]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = AutoModelForSequenceClassification.from_pretrained(run.model_dir)
    assert (logits(net, run.model_dir) == plain).all()
    assert net.config.ftrun_calibration["temperature"] == record["temperature"]
    calibrated = (run.model_dir / "config.json").read_bytes()
    ftrun_inprocess("calibrate", str(run.path))
    assert (run.model_dir / "config.json").read_bytes() == calibrated != config
    assert run.read_json("calibration.json") == record
    assert kept == {name: (run.path / name).read_bytes() for name in kept}
    assert "is removed" in ftrun_inprocess("calibrate", str(run.path), "--remove").stdout
    assert (run.model_dir / "config.json").read_bytes() == config
    assert not (run.path / "calibration.json").exists()
    assert "it is not calibrated" in ftrun_inprocess("calibrate", str(run.path), "--remove").stdout


def test_evaluate_and_predict_use_it_and_say_so(trained, tmp_path, ftrun_inprocess, toy_files):
    run = trained("full", tmp_path)
    ftrun_inprocess("calibrate", str(run.path))
    record = run.read_json("calibration.json")
    out = ftrun_inprocess("evaluate", str(run.path)).stdout
    assert "calibrated: the logits are divided by the temperature" in out
    _, after, *_, before = next(line for line in out.splitlines() if "test_loss" in line).split()
    assert float(after) == pytest.approx(record["test"]["after"]["nll"], abs=2e-6)
    assert float(before) == pytest.approx(record["test"]["before"]["nll"], abs=2e-6)
    out = ftrun_inprocess(
        "predict", str(run.path), "--input", f"{toy_files}/test.csv", "--output", "out.jsonl"
    ).stdout
    assert "calibrated: " in out
    sure = [row["probability"] for row in read_lines(tmp_path / "out.jsonl")]
    assert numpy.mean(sure) == pytest.approx(record["test"]["after"]["mean_probability"], abs=1e-6)
    written = [row["probability"] for row in read_lines(run.path / "predictions.jsonl")]
    assert numpy.mean(written) == pytest.approx(record["test"]["before"]["mean_probability"], abs=1e-6)


def test_several_labels_have_a_threshold_each(trained, tmp_path, ftrun_inprocess):
    run = trained("several", tmp_path)
    ftrun_inprocess("calibrate", str(run.path))
    record = run.read_json("calibration.json")
    names = AutoConfig.from_pretrained(run.model_dir).id2label.values()
    assert set(record["thresholds"]) == set(names) == set(recalibration_of(run.model_dir).thresholds)
    rows = answers(run)
    for name, own in record["thresholds"].items():
        known = [name in row.label for row in rows]
        chosen = [name in row.answer["answer"] for row in rows]
        over = [row.answer["probabilities"][name] - own for row in rows]  # rounded
        assert all(one == (gap >= 0) or abs(gap) < 1e-5 for one, gap in zip(chosen, over, strict=True))
        assert len(set(chosen)) == 2 or own == record["default_threshold"]
        assert record["labels"][name]["test"]["f1_after"] == pytest.approx(
            f1_score(known, chosen, zero_division=0)
        )
        assert record["labels"][name]["validation"]["f1_after"] >= (
            record["labels"][name]["validation"]["f1_before"] - 1e-12
        )
    scored = FinishedRun(run)
    scores = scored.evaluate(scored.data())[0]
    assert scores["macro_f1"] == pytest.approx(record["test"]["after"]["macro_f1"])
    assert scores["loss"] == pytest.approx(record["test"]["after"]["nll"], abs=1e-6)
    out = ftrun_inprocess("evaluate", str(run.path)).stdout
    assert "every label has its own threshold" in out


def test_a_planted_temperature_is_found_in_a_saved_head(trained, tmp_path, ftrun_inprocess):
    """The head's weights times 3 are its logits times 3, and so is the temperature."""
    from safetensors.torch import load_file, save_file

    run = trained("full", tmp_path)
    first = calibrating.calibrate(run)["temperature"]
    assert 10 * COLDEST < first < HOTTEST / 10
    weights = load_file(run.model_dir / "model.safetensors")
    for name in weights:
        if name.startswith("classifier."):
            weights[name] = PLANTED * weights[name]
    save_file(weights, run.model_dir / "model.safetensors", metadata={"format": "pt"})
    (run.model_dir / SEAL).unlink()
    assert calibrating.calibrate(run)["temperature"] == pytest.approx(PLANTED * first, rel=1e-4)


def test_what_is_trained_from_it_merged_or_composed(trained, tmp_path, ftrun_inprocess):
    run = trained("lora", tmp_path)
    found = calibrating.calibrate(run)["temperature"]
    assert "is not kept" not in ftrun_inprocess("merge", str(run.path), "--output", "whole").stdout
    assert recalibration_of(tmp_path / "whole").temperature == found  # the same logits
    out = ftrun_inprocess("merge", str(run.path), "--output", "half", "--dtype", "bf16").stdout
    assert "calibration is not kept; to fit one: ftrun calibrate half" in out
    assert recalibration_of(tmp_path / "half") is None
    assert recalibration_of(run.model_dir).temperature == found
    other = shutil.copytree(run.path, tmp_path / "other")
    for more in ([], ["--merge"]):
        place = f"sum{len(more)}"
        both = str(run.path), str(other), "--weights", "0.5,0.5"
        out = ftrun_inprocess("compose", *both, "--output", place, *more).stdout
        assert "calibration is not kept" in out and recalibration_of(tmp_path / place) is None
    ftrun_inprocess("calibrate", "sum0")  # also what is made from runs can be calibrated
    assert recalibration_of(tmp_path / "sum0") is not None
    start = settings(
        "task=classify",
        f"task.train={tmp_path}/none.csv",
        f"model.name={tmp_path / 'whole'}",
        "task.max_length=32",
    )
    net = load(start.model, start.task.spec(None), 0).net
    assert KEY not in net.config.to_dict()


def test_what_cannot_be_calibrated_is_refused_in_a_line(trained, tmp_path, ftrun_inprocess, monkeypatch):
    run = trained("full", tmp_path)
    monkeypatch.setattr(calibrating, "LEAST", 41)
    result = ftrun_inprocess("calibrate", str(run.path), check=False)
    assert result.returncode == 3 and "40 validation rows, too few" in result.stderr
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(calibrating, "all_right", lambda *_: True)
    result = ftrun_inprocess("calibrate", str(run.path), check=False)
    assert result.returncode == 3 and "answers to all 40 validation rows are right" in result.stderr
    assert recalibration_of(run.model_dir) is None and not (run.path / "calibration.json").exists()
    config = json.loads((run.model_dir / "config.json").read_text())
    (run.model_dir / "config.json").write_text(json.dumps(config | {KEY: {"heat": 1}}))
    assert "has temperature and thresholds" in refused(ftrun_inprocess, "evaluate", str(run.path))
    (run.model_dir / "config.json").write_text(json.dumps(config))
    kept = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(kept.replace("sequence: null", "sequence: [a, b]"))
    for command in ("calibrate", "evaluate"):
        assert "is a sequence of runs" in refused(ftrun_inprocess, command, str(run.path))
    (run.path / "result.json").unlink()
    assert "is not finished" in refused(ftrun_inprocess, "calibrate", str(run.path))


def test_without_the_right_to_write_it_is_refused_before_the_work(
    trained, tmp_path, ftrun_inprocess, monkeypatch
):
    run = trained("full", tmp_path)

    def closed(place):
        def make(*_, dir, **__):
            if dir == place:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{dir}/.a_name_for_a_moment")
            return temporary(dir=dir)

        return make

    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(calibrating, "seen_by", None)  # the work
    for place in (run.model_dir, run.path):
        monkeypatch.setattr(tempfile, "TemporaryFile", closed(place))
        for option in ([], ["--remove"]):
            said = refused(ftrun_inprocess, "calibrate", str(run.path), *option)
            assert f"calibrate: {place}: nothing can be written there (permission denied)" in said


def test_a_task_without_classes_is_refused(tmp_path, tiny_model_dir, ftrun_inprocess):
    words = toys_text.regress(tmp_path)
    ran(tmp_path / "run", settings(*words, f"model.name={tiny_model_dir}", "strategy=linear_probe"))
    assert "are not classes" in refused(ftrun_inprocess, "calibrate", str(tmp_path / "run"))
