"""train.average: what is scored and saved is the average, and training goes on as without one."""

import pytest
import torch
from lab import ran, settings
from resuming import same, stopped

from ftrun.errors import ConfigError, Paused
from ftrun.experiments import start
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.preparing import without_effect
from ftrun.runs.run import PAUSE, Run
from ftrun.tasks.metrics.classification import SINGLE_LABEL
from ftrun.training.checkpoint import newest, read_tensors
from ftrun.training.pausing import HALFWAY, asked
from ftrun.training.state import State
from ftrun.training.updates import average as averages
from ftrun.training.updates.average import Ema, Plain, Soup, average_of

WORDS = [
    "task=digits", "task.subset=100", "model=mlp", "device=cpu", "baselines=false", "train.lr=0.03",
    "train.max_steps=12", "train.eval_every=3", "train.checkpoint_every=3", "train.patience=null",
    "schedule=constant", "train.warmup=0", "train.batch_size=16",
]  # fmt: skip
KINDS = "none", "ema", "soup"


def kept(run, which, stem):
    return read_tensors(newest(run.checkpoints / which)[0], stem)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with each average, and without one."""
    place = tmp_path_factory.mktemp("averages")
    return {kind: ran(place / kind, settings(*WORDS, f"train.average={kind}")) for kind in KINDS}


@pytest.mark.parametrize("kind", ["ema", "soup"])
def test_training_is_what_it_is_without_an_average(runs, kind):
    ours, theirs = (newest(runs[name].checkpoints / "last")[0] for name in (kind, "none"))
    for stem in ("weights", "optimizer"):
        file = f"{stem}.safetensors"
        assert (ours / file).read_bytes() == (theirs / file).read_bytes()
    assert not (theirs / "average.safetensors").exists()


@pytest.mark.parametrize("kind", ["ema", "soup"])
def test_what_is_saved_and_scored_is_the_average_of_what_was_trained(runs, kind):
    """The scores in result.json are those of the saved network, which is the average at its best step."""
    run, found = runs[kind], runs[kind].read_json("result.json")
    raw, average, best = (
        kept(run, *place) for place in (("last", "weights"), ("last", "average"), ("best", "weights"))
    )
    assert average.keys() <= raw.keys() and any(not torch.equal(raw[name], average[name]) for name in average)
    if found["best_step"] == found["steps"] or kind == "soup":
        assert all(torch.equal(best[name], average[name]) for name in average)
    finished = FinishedRun(run)
    scores, _ = finished.evaluate(finished.data())
    assert scores["loss"] == pytest.approx(found["test_loss"], rel=1e-6)
    assert scores["accuracy"] == found["test_accuracy"]


@pytest.mark.parametrize("kind", ["ema", "soup"])
def test_a_run_with_an_average_goes_on_exactly(runs, kind, tmp_path):
    stopped(tmp_path / "run", settings(*WORDS, f"train.average={kind}"), 6)
    start.resume(tmp_path / "run")
    same(tmp_path / "run", runs[kind].path)
    ours, theirs = (newest(place / "checkpoints/last")[0] for place in (tmp_path / "run", runs[kind].path))
    assert (ours / "average.safetensors").read_bytes() == (theirs / "average.safetensors").read_bytes()


def test_the_moving_average_is_the_formula_s(monkeypatch, tmp_path):
    """Σ wᵢ·θᵢ in fp64, of convolutions with their statistics; the weight of a step is (1 − dᵢ)·Π dⱼ."""
    seen, honest = [], Ema.follow

    def follow(self, updates):
        seen.append({name: value.detach().double().clone() for name, value in self.places.items()})
        assert updates == len(seen)
        honest(self, updates)

    monkeypatch.setattr(Ema, "follow", follow)
    words = [*WORDS, "train.average=ema", "train.ema_decay=0.7", "model=cnn_small", "train.max_steps=9"]
    run = ran(tmp_path / "run", settings(*words))
    found = kept(run, "last", "average")
    assert found.keys() == seen[0].keys() and len(seen) == 9
    assert (9 ** (-2 / 3) < 1 - 0.7) and (4 ** (-2 / 3) > 1 - 0.7)  # both parts of the decay act
    decays = [min(0.7, 1 - t ** (-2 / 3)) for t in range(1, 10)]
    for name, value in found.items():
        expected = torch.zeros_like(seen[0][name])
        for decay, each in zip(decays, seen, strict=True):
            expected = decay * expected + (1 - decay) * each[name]
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)


def test_a_run_that_waits_is_compared_by_its_average(tmp_path):
    """The losses of the validation rows that it leaves have the mean that is logged."""
    with asked(rungs=HALFWAY), pytest.raises(Paused):
        start.run(settings(*WORDS, "train.average=ema"), tmp_path / "run")
    run = Run.open(tmp_path / "run")
    left = run.read_json(PAUSE)
    (logged,) = (
        line["eval_loss"] for line in run.metrics() if line["step"] == left["step"] and "eval_loss" in line
    )
    assert sum(left["losses"]) / len(left["losses"]) == pytest.approx(logged, rel=1e-5)


def test_only_what_trains_is_averaged_and_frozen_weights_are_held_once(tmp_path):
    run = ran(tmp_path / "run", settings(*WORDS, "strategy=bitfit", "train.average=ema"))
    average, weights = kept(run, "last", "average"), kept(run, "last", "weights")
    assert average.keys() == weights.keys() and all("weight" not in n or "classifier" in n for n in average)


def mixed(weights, target=0.0):
    """What a greedy soup of single numbers comes to; its score falls with the distance from the target."""
    place = torch.nn.Parameter(torch.zeros(1))
    soup, state, metric = Soup({"w": place}), State(), SINGLE_LABEL["accuracy"]
    told = []
    for step, weight in enumerate(weights, 1):
        place.data.fill_(weight)
        state.step = step

        def score():
            far = abs(float(place.detach()) - target)
            return {"accuracy": 1 - far, "loss": far}

        with soup.scored(score, state, metric) as scores:
            told.append(scores["accuracy"])
            if averages.better(scores, state.best, metric):
                state.best = {"step": step, **scores}
        assert float(place.detach()) == weight  # training goes on from what was trained
    return float(soup.values["w"]), state, told


@pytest.mark.parametrize(
    ("weights", "value", "count"),
    [
        ([0.5], 0.5, 1),
        ([0.5, -0.5], 0.0, 2),  # two that err to different sides
        ([0.5, 0.75], 0.5, 1),  # one that makes it worse is left out
        ([0.5, 0.125], 0.125, 1),  # one that is better alone takes the place of all
        ([0.5, -0.25, -0.375, 0.75], (0.5 - 0.25 - 0.375) / 3, 3),
    ],
)
def test_a_soup_takes_what_makes_it_better(weights, value, count):
    found, state, told = mixed(weights)
    assert found == pytest.approx(value, abs=1e-7) and state.soup == count
    assert state.best["accuracy"] == max(told) == pytest.approx(1 - abs(value))


def test_a_soup_is_never_worse_on_validation_than_the_best_single_weights(runs):
    soup, single = (runs[kind].read_json("result.json") for kind in ("soup", "none"))
    assert (soup["eval_accuracy"], -soup["eval_loss"]) >= (single["eval_accuracy"], -single["eval_loss"])
    assert soup["soup"] > 1 and "soup" not in single


def test_a_head_that_is_solved_for_has_no_average():
    solved = settings("strategy=linear_probe", "solver=lbfgs", "train.average=ema")
    assert without_effect(solved) == ["train.average=ema"]
    assert type(average_of(None, {}, solved, None)) is Plain


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.average=emaa"], r"train.average is one of none, ema, soup, not 'emaa'; did you mean 'ema'"),
        (["train.ema_decay=1"], r"train.ema_decay is at least 0 and below 1, not 1"),
    ],
)
def test_what_is_no_average_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        settings(*words)
