"""Joint training: a head for each task or one for all, the ceiling of a sequence, and what makes no sense."""

import os
import signal
from types import SimpleNamespace

import pytest
import torch
import toys_ner
import toys_text

from ftrun.errors import ConfigError, Interrupted
from ftrun.experiments import single
from ftrun.experiments.inference import evaluation
from ftrun.experiments.overrides import settings_of, spelt
from ftrun.reports.sequence import ceilings
from ftrun.runs.run import DETAILS, Run
from ftrun.settings.read import read
from ftrun.tasks.losses import cross_entropy
from ftrun.tasks.metrics import continual
from ftrun.tasks.objective import Objective
from ftrun.tasks.parts.heads import TASKS, SharedObjective
from ftrun.training.step import Step

DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "train.optimizer=sgd", "train.lr=0.05", "train.momentum=0.9",
    "train.batch_size=32", "train.epochs=3", "train.eval_every=20", "baselines=false",
]  # fmt: skip
HALVES = "sequence=[{name: low, classes: [0,1,2,3,4]%s}, {name: high, classes: [5,6,7,8,9]%s}]"
JOINT = "sequence.joint=true"


def halves(more=""):
    return HALVES % (more, more)


def joint(path, *words):
    single.run(read(settings_of([*DIGITS, *words, JOINT])), path)
    return Run.open(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Digits 0-4 and 5-9 under the same labels."""
    return joint(tmp_path_factory.mktemp("joint") / "run", halves(", modulo: 5"), "scenario=domain")


def test_each_task_is_learned_by_its_own_outputs_alone():
    """By hand: two heads of 2 and 3 outputs, rows in turns."""
    outputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = [torch.tensor([1, 0]), torch.tensor([2, 1])]
    parts = [(0, [0, 2], {"labels": labels[0]}), (1, [1, 3], {"labels": labels[1]})]
    objective = SharedObjective([Objective(cross_entropy)] * 2, [slice(0, 2), slice(2, 5)])
    found = objective.loss(outputs, {TASKS: parts}).sum
    by_hand = torch.nn.functional.cross_entropy(outputs[[0, 2], :2], labels[0], reduction="sum")
    by_hand = by_hand + torch.nn.functional.cross_entropy(outputs[[1, 3], 2:], labels[1], reduction="sum")
    assert torch.equal(found, by_hand) and objective.count([{TASKS: parts}]) == 4
    found.backward()
    assert not outputs.grad[[0, 2], 2:].any() and not outputs.grad[[1, 3], :2].any()


def test_no_task_is_forgotten_and_the_score_is_the_mean(made):
    result, each = made.read_json("result.json"), made.read_json(DETAILS)["tasks"]
    scores = [each["low"]["accuracy"], each["high"]["accuracy"]]
    assert min(scores) > 0.85 and result["test_accuracy"] == sum(scores) / 2
    cards = made.read_json("data.json")["tasks"]
    assert result["rows"]["train"] == sum(card["rows"]["train"] for card in cards.values())


def test_it_is_the_ceiling_of_a_sequence_beside_it(made):
    tasks = [node | {"name": node["name"]} for node in made.config["task"]["tasks"]]
    matrix = [[0.99, 0.1], [0.2, 0.95]]
    result = {"metric": "eval_accuracy", "sequence": ["low", "high"], "scenario": "domain", "matrix": matrix}
    beside = SimpleNamespace(path=made.path.parent / "other", config=made.config | {"sequence": tasks})
    (found,) = ceilings(beside, result)
    each = made.read_json(DETAILS)["tasks"]
    joint_scores = [each["low"]["accuracy"], each["high"]["accuracy"]]
    assert found.scores == joint_scores
    behind = continual.intransigence(matrix, joint_scores)
    assert behind == pytest.approx((joint_scores[0] - 0.99 + joint_scores[1] - 0.95) / 2)
    assert f"{100 * behind:.1f} %" in found.lines(beside, result, "accuracy")[0]
    others = {"seed": 1}, {"sequence": tasks[::-1]}, {"model": made.config["model"] | {"init": "other"}}
    for other in others:
        elsewhere = SimpleNamespace(path=beside.path, config=beside.config | other)
        assert not ceilings(
            elsewhere, result | ({"sequence": ["high", "low"]} if "sequence" in other else {})
        )
    assert not ceilings(beside, result | {"scenario": "class"})


def test_it_takes_the_steps_of_the_sequence(made):
    auto = settings_of(["task=digits", "model=mlp", halves(), JOINT, "train.max_steps=30"])
    assert auto["train"]["max_steps"] == 60 and auto["sequence"] is None
    task = read(auto).task
    assert task.habits.steps == 2 * task.each[0].habits.steps
    rows = made.read_json("data.json")["rows"]["train"]
    assert made.read_json("result.json")["steps"] == 3 * -(-rows // 32)


def test_interrupted_it_ends_the_same(made, tmp_path, monkeypatch):
    honest, seen = Step.take, []

    def take(self, rows):
        seen.append(self.state.step)
        if len(seen) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, rows)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Step, "take", take)
        joint(tmp_path / "torn", halves(", modulo: 5"), "scenario=domain")
    single.resume(tmp_path / "torn")
    for name in ("metrics.jsonl", "result.json", "predictions.jsonl"):
        assert (tmp_path / "torn" / name).read_bytes() == (made.path / name).read_bytes()


@pytest.mark.parametrize("kind", ["pairs", "multilabel", "regress", "ner"])
def test_texts_with_a_head_each_are_read_back(kind, tiny_dir, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    make = {"pairs": toys_text.pairs, "multilabel": toys_text.multilabel, "regress": toys_text.regress}
    words = [*(make.get(kind) or toys_ner.words)(place), f"model.name={tiny_dir('bert')}", "device=cpu"]
    train = next(word for word in words if word.startswith("task.train=")).partition("=")[2]
    tasks = f"sequence=[{{name: one}}, {{name: two, train: '{train}', subset: 20}}]"
    few = ["train.max_steps=2", "train.batch_size=8", "baselines=false", "train.epochs=1"]
    raw = settings_of([word for word in words if not word.startswith("train.")] + [*few, tasks, JOINT])
    single.run(read(raw), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    result = run.read_json("result.json")
    assert result["reload_difference"] < 1e-4 and result["steps"] == 4
    found = evaluation(run)
    assert found.scores[found.metric] == pytest.approx(result[f"test_{found.metric}"], abs=1e-6)
    assert [*found.details["tasks"]] == ["one", "two"]
    with pytest.raises(ConfigError, match="has a head for each of 'one', 'two', and a file does not say"):
        evaluation(run, train)


def test_the_words_of_a_sweep():
    words = spelt(["sequence=[a.csv,b.csv]", "sequence.joint=true,false", "seed=1"])
    assert words == [
        "sequence={joint: true, tasks: [a.csv,b.csv]},{joint: false, tasks: [a.csv,b.csv]}", "seed=1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([JOINT], "sequence.joint=true: there is no sequence=.a,b. of tasks"),
        (["sequence=[{name: one}]", JOINT], "sequence has 1 task; it needs at least two"),
        ([halves(), "sequence.joint=maybe"], "sequence.joint"),
        ([halves(), "strategy=replay", JOINT], "no earlier one to hold on to with replay; possible: str"),
        ([halves(), "protect=ewc", JOINT], "no earlier one to hold on to with ewc; possible: strategy=full"),
        (["sequence=[digits,docstrings]", JOINT], "needs tasks of one kind, not 'digits', 'classify'"),
        (["sequence=[{name: a},{name: b}]", "task=lm", "task.train=a.txt", "model=gpt2_small_random", JOINT],
         "a keeps the checkpoint's own; to train on all texts together: task.train="),
        ([halves(), "scenario=domain", JOINT], "scenario=domain: low has the labels '0'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_sentence(words, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        single.run(read(settings_of([*DIGITS[:3], *words])), tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_one_head_over_all_labels(tmp_path):
    run = joint(tmp_path / "run", halves(), "scenario=class", "train.max_steps=2", "task.subset=64")
    lines = run.path.joinpath("predictions.jsonl").read_text()
    assert '"label": "0"' in lines and '"label": "9"' in lines and '"task": "high"' in lines
    assert run.read_json("result.json")["steps"] == 4
