"""Metrics as values: the families state every one that a task has, and reports read them from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy
import pytest
from lab import settings

import ftrun
from ftrun.errors import ConfigError
from ftrun.settings.resolve import camel
from ftrun.settings.schema import Settings
from ftrun.tasks.base import Task
from ftrun.tasks.data import TaskData
from ftrun.tasks.metrics import classification, contrastive, entities, metric, regression, spans
from ftrun.tasks.metrics.metric import LOSS, Metric, known, lookup, named
from ftrun.tasks.metrics.rescoring import scored
from ftrun.tasks.pretraining import TokenScorer
from ftrun.tasks.scorer import main_metric

OPTIONS = sorted(path.stem for path in (ftrun.CONF / "task").glob("*.yaml"))
MAIN = {  # of each kind of task, the metric that chooses the best weights
    "classify": "accuracy", "digits": "accuracy", "image": "accuracy", "multilabel": "micro_f1",
    "ner": "f1", "qa": "f1", "regress": "pearson", "lm": "bits_per_byte", "mlm": "loss",
    "simclr": "knn_accuracy", "moco": "knn_accuracy",
}  # fmt: skip
NO_CACHE = shutil.ignore_patterns("__pycache__")


def composed(option: str, *words: str) -> Settings:
    """The settings of a task, with a file to train on where it names none."""
    try:
        return settings(f"task={option}", *words)
    except ConfigError as error:
        assert "task.train is not set" in str(error)
        return settings(f"task={option}", *words, "task.train=a")


@pytest.mark.parametrize(
    ("option", "words"), [*((option, []) for option in OPTIONS), ("mlm", ["task.next=nsp"])]
)
def test_every_metric_of_a_task_is_stated_by_a_family(option: str, words: list[str]) -> None:
    experiment = composed(option, *words)
    data = TaskData(experiment.task)
    assert data.metric == MAIN[experiment.raw["task"]["kind"]]
    stated_by_families(data.scorer.metrics)


def test_every_metric_of_what_a_checkpoint_was_pretrained_for_is_stated_by_a_family() -> None:
    assert main_metric(TokenScorer()) == "loss"
    stated_by_families(TokenScorer().metrics)


def stated_by_families(metrics: dict[str, Metric]) -> None:
    assert metrics["loss"] is LOSS
    for name, found in metrics.items():
        assert found.name == name and lookup(name) == found == known()[name]


@pytest.mark.slow
def test_every_kind_of_task_is_among_these() -> None:
    modules = [path.stem for path in (Path(ftrun.__file__).parent / "tasks").glob("[a-z]*.py")]
    found = {name: vars(import_module(f"ftrun.tasks.{name}")).get(camel(name)) for name in modules}
    kinds = {name for name, cls in found.items() if isinstance(cls, type) and issubclass(cls, Task)}
    assert (
        {composed(option).raw["task"]["kind"] for option in OPTIONS}
        == kinds - {"pretraining", "joint"}
        == {*MAIN}
    )


def test_a_name_means_the_same_in_every_family() -> None:
    families = (classification, regression, spans, entities, contrastive)
    stated = [found for family in families for found in family.METRICS.values()]
    assert {found.name: found for found in stated}.items() <= known().items()
    assert len(set(stated)) == len({found.name for found in stated})


@pytest.mark.parametrize(
    ("column", "name", "direction", "unit"),
    [
        ("test_alignment", "alignment", "min", ""),
        ("eval_uniformity", "uniformity", "min", ""),
        ("negative_similarity", "negative_similarity", "min", ""),
        ("source2_accuracy", "accuracy", "max", "%"),
        ("source_loss", "loss", "min", ""),
        ("train_f1_weighted", "f1_weighted", "max", "%"),
        ("f1_person", "f1", "max", "%"),
        ("f1_work_of_art", "f1", "max", "%"),
        ("exact_match_answerable", "exact_match", "max", "%"),
        ("eval_bits_per_byte", "bits_per_byte", "min", "bits"),
        ("forgetting", "forgetting", "min", ""),
        ("test_knn_accuracy", "knn_accuracy", "max", "%"),
        ("test_word_error", "word_error", "min", ""),  # of no family: guessed
        ("test_agreement", "agreement", "max", ""),
        (None, "", "max", ""),
    ],
)
def test_a_column_is_of_a_metric(column: str | None, name: str, direction: str, unit: str) -> None:
    found = lookup(column)
    assert (found.name, found.direction, found.unit) == (name, direction, unit)
    assert found.sign == {"max": 1, "min": -1}[direction]


def test_a_metric_of_a_family_is_ranked_and_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    from ftrun.reports.numbers import score

    added = Metric("hamming_loss_share", "min", "%")
    monkeypatch.setattr(classification, "METRICS", classification.METRICS | named(added))
    metric.known.cache_clear()
    try:
        assert lookup("eval_hamming_loss_share") is added
        assert score(0.125, "hamming_loss_share") == "12.5 %"
    finally:
        metric.known.cache_clear()


@pytest.mark.ci
def test_to_add_a_metric_is_one_entry_in_one_file(
    tmp_path: Path, toy_files: Path, tiny_model_dir: Path
) -> None:
    """Stated and computed there, it chooses the best weights, is in the result and is printed by a report."""
    shutil.copytree(Path(ftrun.__file__).parent, tmp_path / "ftrun", ignore=NO_CACHE)
    shutil.copytree(ftrun.CONF, tmp_path / "ftrun" / "conf", dirs_exist_ok=True)
    file = tmp_path / "ftrun" / "tasks" / "metrics" / "classification.py"
    whole = file.read_text()
    for before, added in (
        ('    Metric("accuracy", "max", "%"),\n', '    Metric("wrong_rows", "min", "%"),\n'),
        (
            '        "accuracy": float((true == answered).mean()),\n',
            '        "wrong_rows": float((true != answered).mean()),\n',
        ),
    ):
        assert whole.count(before) == 1
        whole = whole.replace(before, before + added)
    file.write_text(whole)

    def call(*words: str) -> str:
        own = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-m", "ftrun", *words]
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    splits = [f"task.{split}={toy_files}/{split}.csv" for split in ("train", "validation", "test")]
    small = ["task.max_length=32", "train.batch_size=16", "train.max_steps=16", "train.eval_every=8"]
    said = call(
        "task=classify", *splits, *small, f"model.name={tiny_model_dir}", "train.lr=3e-3", "device=cpu",
        "train.metric=eval_wrong_rows", "hydra.run.dir=run", "baselines=false",
    )  # fmt: skip
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    seen = [line["eval_wrong_rows"] for line in lines if "eval_wrong_rows" in line]
    assert result["metric"] == "eval_wrong_rows" and result["eval_wrong_rows"] == min(seen)
    assert result["test_wrong_rows"] == pytest.approx(1 - result["test_accuracy"])
    assert "eval_wrong_rows" in said
    assert f"{100 * result['test_wrong_rows']:.1f} %" in call("report", "run")


@pytest.mark.parametrize("labels", ["abcabbccab", "aabbaabbab", "aaaaaaaaaa"])
@pytest.mark.parametrize("answers", ["abcabcaacb", "aadadadaab", "aaaaaaaaaa"])
def test_scores_are_those_of_scikit_learn_to_the_last_bit(labels: str, answers: str) -> None:
    from sklearn import metrics

    given, macro = (list(labels), list(answers)), {"average": "macro", "zero_division": 0}
    assert classification.single_label_scores(*given) == {
        "accuracy": metrics.accuracy_score(*given),
        "f1": metrics.f1_score(*given, **macro),
        "f1_weighted": metrics.f1_score(*given, average="weighted", zero_division=0),
        "precision": metrics.precision_score(*given, **macro),
        "recall": metrics.recall_score(*given, **macro),
        "matthews_correlation": 0.0 if labels == answers == 10 * "a" else metrics.matthews_corrcoef(*given),
    }


@pytest.mark.parametrize("name", sorted({*classification.SINGLE_LABEL} - {"loss"}))
def test_sums_give_the_scores_of_one_label_per_row(name: str) -> None:
    generator = numpy.random.default_rng(4)
    labels, answers = (generator.choice(list("abc"), 60).tolist() for _ in range(2))
    expected = classification.single_label_scores(labels, answers)[name]
    found = scored(name, labels, answers)
    assert found is not None and found.score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted({*classification.MULTILABEL} - {"loss"}))
def test_sums_give_the_scores_of_several_labels_per_row(name: str) -> None:
    tables = numpy.random.default_rng(5).integers(0, 2, (2, 60, 3))
    labels, answers = ([["abc"[n] for n in numpy.flatnonzero(row)] for row in table] for table in tables)
    expected = classification.multilabel_scores(*tables)[name]
    found = scored(name, labels, answers)
    assert found is not None and found.score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted({*regression.METRICS} - {"loss"}))
def test_sums_give_the_scores_of_numbers(name: str) -> None:
    labels = numpy.random.default_rng(6).integers(0, 9, 60).astype(float)
    answers = labels + numpy.random.default_rng(7).normal(0, 2, 60).round()
    expected = regression.scores(labels, answers, constant=False)[name]
    found = scored(name, labels.tolist(), answers.tolist())
    assert found is not None and found.score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_sums_give_the_scores_of_entities(name: str) -> None:
    generator = numpy.random.default_rng(8)
    tags = ["O", "O", "B-PER", "I-PER", "B-LOC"]
    labels, answers = ([generator.choice(tags, 6).tolist() for _ in range(60)] for _ in range(2))
    found, expected = scored(name, labels, answers), entities.tag_scores(labels, answers)
    assert found is not None and found.score == pytest.approx(expected[name], abs=1e-12)
    assert found.left_out[0] == pytest.approx(entities.tag_scores(labels[1:], answers[1:])[name], abs=1e-12)


@pytest.mark.parametrize("name", ["f1", "exact_match"])
def test_sums_give_the_scores_of_spans(name: str) -> None:
    gold = [["the red house", "a house"], ["Rome"], [], ["in 1990"]]
    answers = ["Red house!", "Paris", "", "1990"]
    found = scored(name, gold, answers)
    assert found is not None and found.score == pytest.approx(spans.scores(answers, gold, False)[name])
    assert 0 < found.score < 1


def test_metrics_are_known_without_heavy_packages() -> None:
    code = (
        "import sys; from ftrun.tasks.metrics.metric import lookup; lookup('eval_f1');"
        "sys.exit(bool({'torch', 'sklearn', 'numpy', 'scipy', 'transformers'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


LOWER = {
    "alignment", "bits_per_byte", "forgetting", "intransigence", "loss", "mae", "mlm_loss",
    "negative_similarity", "next_loss", "perplexity", "rmse", "uniformity",
}  # fmt: skip
HIGHER = {
    "accuracy", "accuracy_kept", "accuracy_masked", "accuracy_random", "average", "backward_transfer",
    "contrastive_accuracy", "effective_rank", "exact_match", "f1", "f1_weighted", "forward_transfer",
    "knn_accuracy", "macro_f1", "matthews_correlation", "micro_f1", "next_accuracy", "pearson",
    "positive_similarity", "precision", "recall", "spearmanr", "subset_accuracy", "top5_accuracy",
}  # fmt: skip


def test_every_metric_has_its_direction():
    stated = known()
    assert LOWER | HIGHER == {*stated}
    assert {name for name, each in stated.items() if each.sign < 0} == LOWER


def test_answerable_and_impossible_questions_are_averaged_apart():
    found = spans.scores(["a", "b", "", "c"], [["a"], ["b"], [], []], no_answer=True)
    assert found["exact_match"] == found["f1"] == 0.75
    assert (found["exact_match_answerable"], found["exact_match_impossible"]) == (1, 0.5)
    assert (found["f1_answerable"], found["f1_impossible"]) == (1, 0.5)
