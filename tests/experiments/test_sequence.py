"""Sequences: the matrix is that of the runs, an interrupted one ends the same, and names are resolved."""

import os
import shutil
import signal
from dataclasses import replace

import pytest
from lab import settings

from ftrun.errors import ConfigError, Interrupted
from ftrun.experiments import sequence, start
from ftrun.experiments import single as experiment
from ftrun.experiments.overrides import with_tasks
from ftrun.experiments.sources import chain
from ftrun.reports import table
from ftrun.runs.find import find_runs
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData
from ftrun.tasks.metrics import continual as forgetting
from ftrun.training.step import Step

DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "train.optimizer=sgd", "train.lr=0.05", "train.momentum=0.9",
    "train.batch_size=32", "train.epochs=3", "train.eval_every=20",
]  # fmt: skip
HALVES = "{classes: [0,1,2,3,4]{more}, name: low}", "{classes: [5,6,7,8,9]{more}, name: high}"


def digits(tasks, *words):
    """A sequence of digits as the command line would have it."""
    composed = settings(*DIGITS, *words, f"sequence=[{','.join(tasks)}]")
    return read(with_tasks(composed.raw, []))


def halves(more=""):
    return [half.replace("{more}", more) for half in HALVES]


def went(path, experiment_):
    start.run(experiment_, path)
    return Run.open(path)


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    """Digits 0-4, then 5-9 under the same labels."""
    words = digits(halves(", modulo: 5"), "scenario=domain")
    return went(tmp_path_factory.mktemp("domain") / "run", words)


def test_with_other_digits_under_the_same_labels(domain):
    result = domain.read_json("result.json")
    assert result["sequence"] == ["low", "high"] and result["scenario"] == "domain"
    matrix = result["matrix"]
    assert all(0 <= value <= 1 for row in matrix for value in [*row, *result["untrained"]])
    assert matrix[0][0] > 0.9 and matrix[1][1] > 0.9
    assert matrix[1][0] < matrix[0][0] - 0.2 and result["forgetting"] > 0.2
    assert result["average"] == sum(matrix[1]) / 2
    assert result["forgetting"] == matrix[0][0] - matrix[1][0] == -result["backward_transfer"]
    assert result["forward_transfer"] == matrix[0][1] - result["untrained"][1]


def test_the_matrix_is_that_of_the_runs(domain):
    matrix = domain.read_json("result.json")["matrix"]
    first, second = (Run.open(domain.path / name).read_json("result.json") for name in ("1-low", "2-high"))
    assert matrix[0][0] == first["test_accuracy"]
    assert matrix[1] == [second["sources"][0]["after"]["accuracy"], second["test_accuracy"]]
    assert second["sources"][0]["before"]["accuracy"] == first["test_accuracy"]
    assert [run.path.name for run in chain(str(domain.path / "2-high"))] == ["1-low", "2-high"]


def test_the_untrained_row_and_the_tasks_to_come_are_scored_with_the_network_of_that_moment(domain):
    """By hand: the saved network of the first run, and its start, on the test split of the other task."""
    from accelerate import Accelerator

    from ftrun.experiments.inference import Saved
    from ftrun.models.load import load
    from ftrun.models.reload import reload
    from ftrun.settings.seeds import stream
    from ftrun.training.evaluate import evaluate

    result, first = domain.read_json("result.json"), Run.open(domain.path / "1-low")
    data = TaskData.read(read(Run.open(domain.path / "2-high").config | {"source": {"kind": "none"}}).task, 0)
    untrained = load(read(first.config).model, data.spec, stream(0, "init"))
    after = Saved(reload(first.model_dir, data.spec.auto_class))
    for model, wanted in ((untrained, result["untrained"][1]), (after, result["matrix"][0][1])):
        scores, _ = evaluate(model, data, data.dataset("test"), 128, Accelerator(cpu=True))
        assert scores["accuracy"] == wanted


def test_picture_table_and_report(domain, capsys):
    assert (domain.path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert start.resume(domain.path) == domain.read_json("result.json")["average"]
    shown = capsys.readouterr().out
    for word in (
        "untrained",
        "low",
        "high",
        "average",
        "backward transfer",
        "forward transfer",
        "matrix.png",
    ):
        assert word in shown
    assert find_runs([domain.path.parent]) == [domain.path]
    table.write([str(domain.path.parent)], "csv")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "low → high" in lines[1]


def test_new_labels_bit_by_bit_are_forgotten_whole(tmp_path):
    """One head over the labels of all tasks, and nothing that holds: of the first task nothing is left."""
    run = went(tmp_path / "run", digits(halves(), "scenario=class"))
    result = run.read_json("result.json")
    assert Run.open(run.path / "1-low").config["task"]["labels"] == [str(digit) for digit in range(10)]
    matrix = result["matrix"]
    assert matrix[0][0] > 0.9 and matrix[0][1] == 0
    assert matrix[1][0] <= 0.01 and matrix[1][1] > 0.9


def test_with_heads_of_their_own_nothing_is_known_of_what_comes(tmp_path, capsys):
    run = went(tmp_path / "run", digits([*halves(), "{permute: 1}"], "train.epochs=1"))
    result = run.read_json("result.json")
    assert result["sequence"] == ["low", "high", "digits"]
    assert [[value is None for value in row] for row in result["matrix"]] == [
        [False, True, True], [False, False, True], [False, False, False],
    ]  # fmt: skip
    assert result["untrained"] == [None] * 3 and result["forward_transfer"] is None
    assert result["forgetting"] == forgetting.forgetting(result["matrix"])
    shown = capsys.readouterr().out
    assert "undefined, as each task has its own head" in shown and "untrained" not in shown


def test_of_a_loss_less_is_better(tmp_path):
    words = digits(halves(", modulo: 5"), "scenario=domain", "train.metric=eval_loss", "train.epochs=1")
    result = went(tmp_path / "run", words).read_json("result.json")
    matrix = result["matrix"]
    assert matrix[1][0] > matrix[0][0]
    assert result["forgetting"] == pytest.approx(matrix[1][0] - matrix[0][0])
    assert result["backward_transfer"] == -result["forgetting"]
    assert result["forward_transfer"] == pytest.approx(result["untrained"][1] - matrix[0][1])


def test_interrupted_in_the_second_task_it_ends_the_same(tmp_path, monkeypatch, capsys):
    permuted = ["{permute: null}", "{permute: 3}"]
    words = (
        "scenario=domain",
        "strategy=ewc",
        "samples=20",
        "train.epochs=1",
        "train.lr=0.05",
        "task.subset=200",
    )
    whole = went(tmp_path / "whole", digits(permuted, *words))
    honest, seen = Step.take, []

    def take(self, rows):
        seen.append(self.state.step)
        if len(seen) == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, rows)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(Step, "take", take)
        went(tmp_path / "torn", digits(permuted, *words))
    torn = Run.open(tmp_path / "torn")
    assert f"to continue the sequence: ftrun resume {torn.path}\n" in capsys.readouterr().out
    assert caught.value.exit_code == 143 and torn.read_json("failure.json")["exit_code"] == 143
    assert torn.state == "interrupted"
    assert Run.open(torn.path / "1-digits1").finished and not Run.open(torn.path / "2-digits2").finished
    torn = Run.open(shutil.move(torn.path, tmp_path / "moved"))  # its tasks are each other's sources
    start.resume(torn.path)
    assert torn.read_json("result.json") == whole.read_json("result.json")
    assert torn.read_json("failure.json") is None
    name = "2-digits2/metrics.jsonl"
    assert (torn.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert whole.read_json("result.json")["sequence"] == ["digits1", "digits2"]


def test_the_first_task_has_nothing_to_hold_and_the_next_ones_do(tmp_path):
    stages = sequence.plan(digits(halves(), "strategy=ewc"))
    made = []

    def run(settings_, path):
        made.append((settings_, path))
        raise Interrupted("enough", signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(experiment, "run", run)
        went(tmp_path / "run", digits(halves(), "strategy=ewc", "pull=7"))
    [(first, path)] = made
    assert first.strategy_name == "full" and first.source is None and path.name == "1-low"
    assert [node["name"] for node in stages] == ["low", "high"]


@pytest.mark.parametrize(
    ("tasks", "words", "message"),
    [
        (
            halves(),
            ["scenario=domain"],
            "low has the labels '0', '1', .* high has '5', .*possible: scenario=class",
        ),
        (halves(), ["source=run", "source.run=/tmp"], "takes no source=RUN or source=TASK"),
        (["{clases: [1,2]}", "{permute: 1}"], [], "has no setting 'task.clases'"),
    ],
)
def test_a_sequence_that_cannot_be_is_refused_before_it_begins(tmp_path, tasks, words, message):
    with pytest.raises(ConfigError, match=message) as caught:
        went(tmp_path / "run", digits(tasks, *words))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_what_a_preset_brings_for_texts_is_passed_over():
    preset = replace(digits(halves()))
    preset.raw["task"] = preset.raw["task"] | {"max_length": 32}
    preset.sequence = [node | {"max_length": 32} for node in preset.sequence]
    assert [node["name"] for node in sequence.plan(preset)] == ["low", "high"]


def test_a_sequence_is_no_source(domain, tmp_path):
    with pytest.raises(ConfigError, match="is a sequence; take one of its runs, such as source=.*2-high"):
        chain(str(domain.path))


@pytest.fixture
def said(ftrun_inprocess):
    """`said("sequence=5")`: the one line and the exit code."""

    def call(*words):
        result = ftrun_inprocess("model=mlp", "device=cpu", "task=digits", *words, check=False)
        assert result.stderr.count("\n") == 1, result.stderr
        return result.returncode, result.stderr

    return call


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sequence=5", "sequence is 5; it needs at least two"),
        ("sequence=docstrings", "it needs at least two: names of tasks, [a,b], or settings of tasks"),
        ("sequence=[digits]", "sequence has 1 task; it needs at least two"),
        ("sequence=[docstrings,digts]", "there is no task 'digts'; possible: ag_news, "),
        ("scenario=shared", "scenario is one of task, domain, class, not 'shared'"),
        (
            "source=sst3",
            "there is no source 'sst3'; possible: none, pretraining, a finished run's directory or a task",
        ),
        ("source=run", "source=run: set the directory of the run, source=DIR"),
        ("source=./nowhere", "nowhere is not a directory; a run directory is expected"),
    ],
)
def test_mistakes_are_one_line(said, word, message):
    code, line = said(word)
    assert code == 2 and message in line


def test_names_files_and_settings_through_the_command_line(ftrun_inprocess, toy_files, tiny_dir, tmp_path):
    first, second = f"{toy_files}/train.csv", f"{toy_files}/train.tsv"
    words = [
        "task=classify",
        f"model.name={tiny_dir('bert')}", "task.max_length=16",
        "train.max_steps=1", "train.batch_size=8", "device=cpu", f"hydra.run.dir={tmp_path}/run",
        f"sequence=['{first}',{{train: '{second}'}},{{train: '{first}', name: own}}]",
    ]  # fmt: skip
    ftrun_inprocess(*words)
    run = Run.open(tmp_path / "run")
    assert run.read_json("result.json")["sequence"] == ["train1", "train2", "own"]
    assert {path.name for path in run.path.iterdir() if path.is_dir()} == {"1-train1", "2-train2", "3-own"}
    trained = [
        Run.open(run.path / name).config["task"]["train"] for name in ("1-train1", "2-train2", "3-own")
    ]
    assert trained == [first, second, first]


def test_the_name_of_a_task_is_its_preset(ftrun_inprocess, tmp_path):
    words = "model=mlp", "device=cpu", "train.max_steps=1", "sequence=[digits,digits]"
    ftrun_inprocess("task=digits", *words, f"hydra.run.dir={tmp_path}/run")
    assert Run.open(tmp_path / "run").read_json("result.json")["sequence"] == ["digits1", "digits2"]
