"""Strengths of `auto`: a number found before the first step, said, kept, and as if it had been set."""

import math
from dataclasses import dataclass

import pytest
import resuming
import torch
from lab import SMALL_SOURCE, kept, one_of, ran, settings, toy
from torch import nn

from ftrun.errors import ConfigError
from ftrun.experiments import overrides, sequence, start
from ftrun.models.model import Model
from ftrun.runs.run import Run
from ftrun.settings.read import read
from ftrun.strategies.anchored import Left
from ftrun.strategies.base import Memory
from ftrun.strategies.ewc import Ewc
from ftrun.strategies.l2sp import L2sp
from ftrun.strategies.penalty import Anchor, Update
from ftrun.strategies.replay import Replay
from ftrun.strategies.strength import left_of_harm, that_leaves
from ftrun.training.checkpoint import newest, read_tensors

SOURCE = [*SMALL_SOURCE, "train.max_steps=4"]
WAYS = {
    "l2sp": (["strategy=l2sp", "train.max_steps=4"], "alpha"),
    "l2sp in the loss": (["strategy=l2sp", "apply=loss", "train.max_steps=4"], "alpha"),
    "ewc": (["strategy=ewc", "samples=8", *SOURCE], "pull"),
    "replay": (["strategy=replay", "buffer=16", *SOURCE], "share"),
    "lora and l2sp": (["strategy=lora", "protect=l2sp", "train.max_steps=4"], "protect.alpha"),
    "lora and ewc": (["strategy=lora", "protect=ewc", "protect.samples=8", *SOURCE], "protect.pull"),
    "full and replay": (["strategy=full", "protect=replay", "protect.buffer=16", *SOURCE], "protect.share"),
}
DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "schedule=constant", "train.optimizer=sgd", "train.lr=0.05",
    "train.batch_size=32", "train.warmup=0", "train.epochs=20", "train.eval_every=1000", "task.modulo=5",
    "scenario=domain",
]  # fmt: skip


def found_in(config, setting):
    for name in setting.split("."):
        config = config[name]
    return config


def weights(run):
    return read_tensors(newest(run.checkpoints / "last")[0], "weights")


def test_the_harm_left_is_that_of_an_even_drift_that_is_pulled_back():
    """A thousand equal moves, each followed by the proximal step, from the anchor on."""
    strengths = torch.tensor([30.0, 1.0, 0.01], dtype=torch.float64)
    weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    anchor = Anchor({"w": weight}, {"w": torch.zeros(3, dtype=torch.float64)}, {"w": strengths})
    rates = [1e-3 * (1 - step / 1000) for step in range(1000)]
    for rate in rates:
        weight.data += rate
        anchor.pull({"w": rate})
    left = float((strengths * weight.detach() ** 2).sum() / (strengths.sum() * sum(rates) ** 2))
    assert left < 0.2 and left_of_harm(strengths, sum(rates)) == pytest.approx(left, rel=0.1)
    constant = nn.Parameter(torch.zeros(3, dtype=torch.float64))  # for an even rate the estimate is exact
    anchor.parameters = {"w": constant}
    for _ in range(10000):
        constant.data += 5e-5
        anchor.pull({"w": 5e-5})
    left = float((strengths * constant.detach() ** 2).sum() / (strengths.sum() * 0.25))
    assert left_of_harm(strengths, 0.5) == pytest.approx(left, rel=2e-3)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
def test_the_strength_leaves_the_share_of_harm_that_is_asked_for(share):
    strengths = torch.logspace(-12, 2, 1000, dtype=torch.float64)
    factor = that_leaves(share, strengths, 0.3)
    assert left_of_harm(strengths, 0.3, factor) == pytest.approx(share)


def test_the_strength_is_in_the_units_of_what_it_is_found_from():
    """Twice the learning rates need half the pull, and ten times the Fisher information a tenth of it."""
    strengths = torch.rand(100, dtype=torch.float64) ** 4
    once = that_leaves(0.2, strengths, 0.1)
    assert that_leaves(0.2, strengths, 0.2) == pytest.approx(once / 2)
    assert that_leaves(0.2, 10 * strengths, 0.1) == pytest.approx(once / 10)
    assert that_leaves(0.2, torch.zeros(100), 0.1) == 0
    equal = that_leaves(0.25, torch.ones(7, dtype=torch.float64), 2.0)  # 1 − exp(−x) = x/2 at x = 1.5936
    assert equal == pytest.approx(1.5936 / 2, rel=1e-4)


@dataclass
class Earlier:
    name: str = "earlier"
    rows: int = 30


def memory(place, lr_sum=1.0, **words):
    net = nn.Linear(4, 1, bias=False)
    model = Model.__new__(Model)
    nn.Module.__init__(model)
    model.net, model.adapter, model.trained = net, None, lambda: {"net.weight": net.weight}
    place.mkdir(exist_ok=True)
    return Memory(model, [Earlier()], 60, True, 0, lr_sum, place, None, **words)


def l2sp(**words):
    return L2sp(**{"apply": "proximal", "alpha": "auto", "beta": 0.0, **words})


def ewc(monkeypatch, information, **words):
    monkeypatch.setattr(Ewc, "of", lambda *_: {"net.weight": information})
    return Ewc(**{
        "pull_": "auto", "floor": 0.0, "samples": 10, "fisher": "exact", "apply": "proximal", "online": True,
        "gamma": 1.0, "source_fisher": None, **words,
    })  # fmt: skip


def test_twice_the_learning_rates_halve_alpha(tmp_path):
    found = {}
    for lr_sum in (1.0, 2.0):
        strategy = l2sp()
        strategy.remember(memory(tmp_path / "run", lr_sum))
        found[lr_sum] = strategy.settled()["alpha"]
    assert found[2.0] == pytest.approx(found[1.0] / 2, rel=0.01) and found[1.0] > 0.1


def test_ten_times_the_information_is_pulled_a_tenth_as_much(monkeypatch, tmp_path):
    found, information = {}, torch.tensor([[0.7, 0.1, 1e-9, 0.0]])
    for factor in (1, 10):
        strategy = ewc(monkeypatch, factor * information)
        strategy.remember(memory(tmp_path / str(factor)))
        found[factor] = strategy.settled()["pull"]
        once = strategy.anchors[0].strengths["net.weight"]
        wanted = strategy.factor * 30 / 60 * factor * information
        torch.testing.assert_close(once, wanted)
    assert found[10] == pytest.approx(found[1] / 10, rel=0.01) and found[1] > 0


def test_under_gradient_descent_it_holds_more_than_under_adam(tmp_path):
    found = {}
    for adaptive in (True, False):
        strategy = l2sp()
        strategy.remember(memory(tmp_path / "run", adaptive=adaptive))
        found[adaptive] = strategy.factor
    assert found[False] > 2 * found[True]


def test_a_pull_that_adam_divides_is_measured_by_the_gradients_it_is_divided_by(tmp_path):
    found = {}
    for size in (1.0, 0.01):
        strategy = l2sp(apply="loss")
        strategy.remember(
            memory(tmp_path / "run", adaptive=True, sizes=lambda size=size: {"net.weight": size})
        )
        found[size] = strategy.factor
    plain = l2sp()
    plain.remember(memory(tmp_path / "run", adaptive=True))
    assert found[1.0] == plain.factor and found[0.01] == pytest.approx(plain.factor / 100, rel=0.01)


def test_the_pace_of_an_update_is_that_of_its_gradient():
    torch.manual_seed(0)
    down, up = nn.Parameter(torch.eye(2, 5) * 3), nn.Parameter(torch.zeros(4, 2))
    update = Update(down, up, 0.5, False)
    up.data = torch.randn(4, 2)
    [gradient] = torch.autograd.grad(0.5 * (update.delta() ** 2).sum(), [up])
    torch.testing.assert_close(gradient, update.pace() * up.detach())


@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_every_earlier_task_has_a_ninth_of_the_weight_of_this_one(monkeypatch, tasks):
    strategy = Replay("auto", 50, "reservoir")
    strategy.settle(tasks)
    share = strategy.settled()["share"]
    assert share / (1 - share) == pytest.approx(tasks / 9, rel=0.01) and strategy.replayed_share() == share


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=l2sp", "alpha=atuo"], "alpha is auto or a number, not 'atuo'"),
        (["strategy=replay", "share=some"], "share is auto or a number, not 'some'"),
        (["protect=ewc", "protect.pull=much"], "protect=ewc: pull is auto or a number, not 'much'"),
    ],
)
def test_another_word_than_auto_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        settings(*words)


@pytest.mark.parametrize("way", kept(WAYS, {"l2sp in the loss", "ewc", "full and replay"}))
def test_it_is_said_and_kept_and_the_same_as_the_number(toy_files, tiny_dir, tmp_path, capsys, way):
    words, setting = WAYS[way]
    experiment = toy(toy_files, tiny_dir("bert"), *words)
    run = ran(tmp_path / "auto", experiment)
    number = found_in(run.config, setting)
    assert isinstance(number, float) and 0 < number < math.inf
    assert f"hold: {setting.split('.')[-1]}=auto is {number:g}" in capsys.readouterr().out
    assert found_in(run.asked, setting) == found_in(experiment.raw, setting) == "auto"
    again = ran(tmp_path / "number", toy(toy_files, tiny_dir("bert"), *words, f"{setting}={number!r}"))
    assert "auto is" not in capsys.readouterr().out and again.config == run.config
    for name in ("metrics.jsonl", "predictions.jsonl"):
        assert (again.path / name).read_bytes() == (run.path / name).read_bytes()
    ours, theirs = weights(run), weights(again)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_that_is_resumed_keeps_its_number(toy_files, tiny_dir, tmp_path, monkeypatch):
    """Also when today's rule would find another."""
    words = ["strategy=l2sp", "train.max_steps=6", "train.checkpoint_every=1"]
    whole = ran(tmp_path / "whole", toy(toy_files, tiny_dir("bert"), *words))
    resuming.stopped(tmp_path / "stopped", toy(toy_files, tiny_dir("bert"), *words), 3)
    stopped = Run.open(tmp_path / "stopped")
    assert stopped.config["alpha"] == whole.config["alpha"] and not stopped.finished
    monkeypatch.setattr(L2sp, "left", Left(0.001, 0.001))
    start.resume(tmp_path / "stopped")
    resuming.same(tmp_path / "stopped", tmp_path / "whole")


def test_a_run_that_found_its_number_is_still_held(tmp_path):
    run = Run.create(tmp_path / "run", {"seed": 0, "alpha": "auto", "protect": {"pull": "auto", "floor": 0}})
    assert run.config["alpha"] == "auto"
    run.settle({"alpha": 0.25, "protect": {"pull": 3.0}})
    assert run.state == "running"
    with pytest.raises(ConfigError, match="is being made by process"):
        Run.open(run.path).hold()
    assert run.config == {"seed": 0, "alpha": 0.25, "protect": {"pull": 3.0, "floor": 0}}
    assert run.asked == {"seed": 0, "alpha": "auto", "protect": {"pull": "auto", "floor": 0}}
    run.release()
    assert Run.open(run.path).state == "interrupted" and run.remove_unless_begun()


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory):
    """The words of a run on 5-9 modulo 5 after 0-4, and the result of one that nothing holds."""
    place = tmp_path_factory.mktemp("forgotten")
    words = [*DIGITS, "task.classes=[5,6,7,8,9]", "source=run", f"source.run={place / 'low'}"]
    ran(place / "low", settings(*DIGITS, "task.classes=[0,1,2,3,4]"))
    return words, ran(place / "full", settings(*words)).read_json("result.json")


@pytest.mark.parametrize("hold", one_of("ewc", "l2sp", "replay"))
def test_it_halves_what_is_forgotten_of_digits_for_about_a_point(forgotten, tmp_path, hold):
    """Three points of leave on 243 images."""
    words, plain = forgotten
    held = ran(tmp_path / "held", settings(*words, f"strategy={hold}")).read_json("result.json")
    assert plain["forgetting"] > 0.6
    assert held["forgetting"] < 0.6 * plain["forgetting"]
    assert held["test_accuracy"] > plain["test_accuracy"] - 0.03


def test_each_run_of_a_sequence_finds_its_own(tmp_path):
    low, high = "{name: a, modulo: 5, classes: [0,1,2,3,4]}", "{name: b, modulo: 5, classes: [5,6,7,8,9]}"
    tasks = f"sequence=[{low},{high},{{name: c, modulo: 5}}]"
    words = [word for word in DIGITS if "modulo" not in word]
    raw = overrides.compose([*words, "train.epochs=1", "strategy=replay", tasks])
    sequence.run(read(overrides.with_tasks(raw, [])), tmp_path / "run")
    shares = [Run.open(tmp_path / "run" / name).config["share"] for name in ("2-b", "3-c")]
    assert shares == [0.1, 0.182] and Run.open(tmp_path / "run").config["share"] == "auto"
