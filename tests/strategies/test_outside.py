"""A strategy in the user's own module that holds weights is treated as one of the package's that does."""

import sys

import pytest
import torch

from ftrun.errors import ConfigError
from ftrun.experiments import start
from ftrun.experiments.overrides import compose, sourced, with_tasks
from ftrun.models.reload import reload
from ftrun.runs.run import Run
from ftrun.settings.own import importable
from ftrun.settings.read import read
from ftrun.strategies.l2sp import L2sp

MODULE = """
from dataclasses import dataclass

import torch

from ftrun.strategies.base import Strategy


@dataclass
class Tether(Strategy):
    '''Train every weight, and pull it a share of the way back after each step.'''

    share: float

    def remember(self, memory):
        self.weights = memory.model.trained()
        self.start = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def pull(self, rates):
        for name, weight in self.weights.items():
            weight.lerp_(self.start[name], self.share)


@dataclass
class Spring(Tether):
    '''The same in the loss.'''

    def pull(self, rates):
        pass

    @torch.no_grad()
    def add_gradient(self):
        for name, weight in self.weights.items():
            weight.grad += self.share * (weight - self.start[name])


@dataclass
class Loose(Strategy):
    '''Train every weight and hold none.'''

    share: float
"""
HOLDING = ["tether", "spring"]
LOW, HIGH = "classes: [0,1,2,3,4], modulo: 5, name: low", "classes: [5,6,7,8,9], modulo: 5, name: high"
DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "train.optimizer=sgd", "train.lr=0.05", "train.momentum=0.9",
    "train.batch_size=32", "train.epochs=2", "train.eval_every=20",
]  # fmt: skip
SECOND = ["task.classes=[5,6,7,8,9]", "task.modulo=5", "task.name=high"]
FIRST = ["source=digits", "source.classes=[0,1,2,3,4]", "source.modulo=5", "source.name=low"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """`own("tether", "share=1")`: the settings of an experiment with a strategy of the user's own."""
    place = tmp_path / "mine"
    (place / "options" / "strategy").mkdir(parents=True)
    for name in (*HOLDING, "loose"):  # a module is named after its class
        (place / f"outside_{name}").mkdir()
        (place / f"outside_{name}" / f"{name}.py").write_text(MODULE)
        yaml = f"# @package _global_\n# One of mine.\nstrategy: outside_{name}.{name}\nshare: 0.5\n"
        (place / "options" / "strategy" / f"{name}.yaml").write_text(yaml)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = str(place / "options")
    importable(["--config-dir", options])

    def experiment(name, *words):
        words = [part for word in (*DIGITS, f"strategy={name}", *words) for part in sourced(word)]
        return read(with_tasks(compose(words, options), words))

    yield experiment
    for name in [name for name in sys.modules if name.startswith("outside_")]:
        del sys.modules[name]


def went(path, settings):
    start.run(settings, path)
    return Run.open(path)


def weights(run):
    return reload(run.model_dir, "AutoModelForImageClassification").state_dict()


@pytest.mark.parametrize("name", HOLDING)
def test_the_task_before_is_trained_without_the_hold(own, tmp_path, name):
    run = went(tmp_path / "run", own(name, *SECOND, *FIRST, "share=1"))
    before = Run.open(run.path / "source")
    assert before.config["strategy"] == "full" and "share" not in before.config
    assert before.config["source"] == {"kind": "none"} and before.config["protect"] == {"name": "none"}
    assert before.read_json("result.json")["strategy"] == "full"
    assert before.read_json("result.json")["test_accuracy"] > 0.8  # it has moved
    result = run.read_json("result.json")
    assert result["strategy"] == f"outside_{name}.{name}" and run.config["share"] == 1
    if name == "tether":  # all the way back: nothing is forgotten and nothing learned
        [known] = result["sources"]
        assert known["after"] == known["before"] and result["forgetting"] == 0
        theirs, ours = weights(before), weights(run)
        inside = [key for key in theirs if key.startswith("backbone.")]
        assert inside and all(torch.equal(ours[key], theirs[key]) for key in inside)


@pytest.mark.parametrize("name", HOLDING)
def test_the_first_task_of_a_sequence_is_trained_without_it_and_the_next_with_it(own, tmp_path, name):
    tasks = f"sequence=[{{{LOW}}},{{{HIGH}}}]"
    run = went(tmp_path / "run", own(name, tasks, "scenario=domain", "share=1"))
    first, second = (Run.open(run.path / stage) for stage in ("1-low", "2-high"))
    assert first.config["strategy"] == "full" and "share" not in first.config
    assert first.config["source"] == {"kind": "none"}
    assert second.config["strategy"] == f"outside_{name}.{name}" and second.config["share"] == 1
    assert second.config["source"] == {"kind": "run", "run": str(first.path)}
    result = run.read_json("result.json")
    matrix = result["matrix"]
    assert result["strategy"] == f"outside_{name}.{name}" and matrix[0][0] > 0.8
    if name == "tether":
        assert matrix[1] == matrix[0] and result["forgetting"] == 0


def test_one_that_holds_nothing_trains_the_task_before_as_itself(own, tmp_path):
    settings = own("loose", *SECOND, *FIRST, "share=1", "train.max_steps=2")
    before = Run.open(went(tmp_path / "run", settings).path / "source")
    assert before.config["strategy"] == "outside_loose.loose" and before.config["share"] == 1


@pytest.mark.parametrize("name", HOLDING)
def test_nothing_can_hold_beside_it(own, name):
    message = (
        f"^strategy=outside_{name}.{name} already protects earlier knowledge; combine protect=l2sp"
        " with another strategy, such as strategy=full$"
    )
    with pytest.raises(ConfigError, match=message):
        own(name, *SECOND, "protect=l2sp")


def test_one_that_holds_nothing_goes_with_protect(own):
    settings = own("loose", *SECOND, "protect=l2sp")
    assert type(settings.strategy).__name__ == "Loose" and type(settings.guard) is L2sp
