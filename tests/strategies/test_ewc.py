"""Elastic weight consolidation: Bayes' rule where it is exact, and what is held of which task."""

import json

import pytest
import torch
from lab import ran, settings
from safetensors import safe_open
from torch import nn

from ftrun.experiments.inference import Saved
from ftrun.models.reload import reload
from ftrun.strategies.base import Memory
from ftrun.strategies.ewc import FILE, Ewc, fisher
from ftrun.strategies.penalty import Anchor
from ftrun.tasks.data import TaskData
from ftrun.tasks.objective import outputs_of

DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "train.optimizer=sgd", "train.lr=0.05", "task.modulo=5",
    "train.batch_size=32",
]  # fmt: skip
LOW, HIGH = "task.classes=[0,1,2,3,4]", "task.classes=[5,6,7,8,9]"


class Earlier:
    """Stands for an earlier task of so many training examples."""

    def __init__(self, name="earlier", rows=30):
        self.name, self.rows = name, rows


def ewc(monkeypatch, found, **words):
    """The strategy, with `found` as the mean information of the newest earlier task."""
    defaults = {
        "pull_": 1.0, "floor": 0.0, "samples": 10, "fisher": "exact", "apply": "proximal", "online": True,
        "gamma": 1.0, "source_fisher": None,
    }  # fmt: skip
    monkeypatch.setattr(Ewc, "of", lambda *_: found)
    return Ewc(**{**defaults, **words})


def memory(model, directory, pasts, rows=60, earlier=None):
    directory.mkdir(exist_ok=True)
    return Memory(model, pasts, rows, False, 0, 1.0, directory, earlier)


def linear(value):
    layer = nn.Linear(4, 1, bias=False)
    layer.weight.data = torch.as_tensor(value, dtype=torch.float32).reshape(1, 4)
    return layer


def kept_before(place, information, anchor):
    """What the run of the earlier task has left behind."""
    place.mkdir(exist_ok=True)
    fisher.save(place / FILE, {"weight": information, "anchor/weight": anchor}, {})
    return place


def test_where_the_anchors_coincide_online_is_the_sum_of_both(monkeypatch, tmp_path):
    torch.manual_seed(0)
    first, second, start = torch.rand(1, 4), torch.rand(1, 4), torch.randn(1, 4)
    earlier = kept_before(tmp_path / "before", first, start)
    found = {}
    for online in (True, False):
        strategy = ewc(monkeypatch, {"weight": second}, online=online)
        known = memory(linear(start), tmp_path / str(online), [Earlier("a"), Earlier("b")], earlier=earlier)
        found[online] = strategy.remembered(known, ["weight"])
    for summed, target in found.values():
        torch.testing.assert_close(summed["weight"], first + 30 * second)
        torch.testing.assert_close(target["weight"], start, rtol=0, atol=1e-6)


def test_online_keeps_gamma_of_what_was_and_the_newest_anchor(monkeypatch, tmp_path):
    first, second = torch.rand(1, 4), torch.rand(1, 4)
    earlier = kept_before(tmp_path / "before", first, torch.zeros(1, 4))
    known = memory(linear(torch.ones(4)), tmp_path / "run", [Earlier("a"), Earlier("b")], earlier=earlier)
    summed, target = ewc(monkeypatch, {"weight": second}, gamma=0.25).remembered(known, ["weight"])
    torch.testing.assert_close(summed["weight"], 0.25 * first + 30 * second)
    assert torch.equal(target["weight"], torch.ones(1, 4))


def test_otherwise_it_is_one_quadratic_for_each_task(monkeypatch, tmp_path):
    """Equal gradients everywhere; also where the information is next to nothing, or nothing."""
    torch.manual_seed(0)
    first = torch.tensor([[0.7, 2.0, 1e-36, 0.0]])
    second = torch.tensor([[0.3, 0.0, 1e-37, 0.0]])
    old, now = torch.randn(1, 4), torch.randn(1, 4)
    earlier = kept_before(tmp_path / "before", first, old)
    known = memory(linear(now), tmp_path / "run", [Earlier("a"), Earlier("b")], earlier=earlier)
    strategy = ewc(monkeypatch, {"weight": second}, online=False)
    strengths, targets = strategy.strengths(known, ["weight"])
    for _ in range(5):
        place = nn.Parameter(torch.randn(1, 4))
        place.grad = torch.zeros(1, 4)
        Anchor({"w": place}, {"w": targets["weight"]}, {"w": strengths["weight"]}).add_gradient()
        wanted = (first * (place - old) + 30 * second * (place - now)) / 60
        torch.testing.assert_close(place.grad, wanted.detach(), rtol=1e-5, atol=1e-6)
    between = torch.minimum(old, now) - 1e-6, torch.maximum(old, now) + 1e-6
    assert (between[0] <= targets["weight"]).all() and (targets["weight"] <= between[1]).all()
    assert targets["weight"][0, 3] == now[0, 3]


def test_pull_one_is_the_laplace_approximation(monkeypatch, tmp_path):
    """Linear regression with orthogonal inputs, where it is exact: both tasks' least squares, one by one."""
    torch.manual_seed(0)
    double = torch.float64
    x = [torch.linalg.qr(torch.randn(rows, 4, dtype=double))[0] * torch.rand(4) * 5 for rows in (30, 60)]
    y = [torch.randn(len(each), dtype=double) for each in x]
    alone = torch.linalg.lstsq(x[0], y[0]).solution
    information = {"weight": (x[0] ** 2).mean(0, keepdim=True).float()}  # under noise of variance one
    known = memory(linear(alone), tmp_path / "run", [Earlier(rows=30)], rows=60)
    strength = ewc(monkeypatch, information).strengths(known, ["weight"])[0]["weight"][0].double()
    # the minimum of the second task's mean loss and the penalty
    after = torch.linalg.solve(
        x[1].T @ x[1] / 60 + torch.diag(strength), x[1].T @ y[1] / 60 + strength * alone
    )
    joint = torch.linalg.lstsq(torch.cat(x), torch.cat(y)).solution
    torch.testing.assert_close(after, joint, rtol=1e-5, atol=1e-6)


def test_pull_and_floor_are_in_units_of_rows(monkeypatch, tmp_path):
    known = memory(linear(torch.zeros(4)), tmp_path / "run", [Earlier(rows=30)], rows=60)
    strategy = ewc(monkeypatch, {"weight": torch.full((1, 4), 0.2)}, pull_=10, floor=0.1)
    strength = strategy.strengths(known, ["weight"])[0]["weight"]
    torch.testing.assert_close(strength, torch.full((1, 4), 10 * 30 / 60 * (0.2 + 0.1)))


def test_a_source_that_remembered_nothing_is_said(monkeypatch, tmp_path, capsys):
    (tmp_path / "before").mkdir()
    known = memory(
        linear(torch.zeros(4)), tmp_path / "run", [Earlier("a"), Earlier("b")], earlier=tmp_path / "before"
    )
    ewc(monkeypatch, {"weight": torch.ones(1, 4)}).remembered(known, ["weight"])
    assert "ewc holds only b" in capsys.readouterr().out


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("low") / "run", settings(*DIGITS, LOW, "train.epochs=1"))


def held(low, path, *words):
    """The tensors and metadata that a run after `low` keeps."""
    words = HIGH, "source=run", f"source.run={low.path}", "strategy=ewc", "train.max_steps=2", *words
    run = ran(path, settings(*DIGITS, *words))
    return run, *fisher.load(run.path / FILE)


def test_a_new_head_is_not_held_and_a_shared_one_is(low, tmp_path):
    _, own, _ = held(low, tmp_path / "task", "samples=20")
    _, shared, _ = held(low, tmp_path / "domain", "scenario=domain", "samples=20")
    assert own and all(".backbone." in name for name in own)
    assert {name for name in shared if name not in own} == {
        f"{of}net.classifier.{part}" for of in ("", "anchor/") for part in ("weight", "bias")
    }


@pytest.mark.parametrize("kind", ["auto", "empirical"])
def test_what_is_kept_is_the_information_of_the_whole_source(low, tmp_path, kind):
    """Of a linear head by hand: Σ p(1 - p) h² over the examples, or Σ (1{y} - p)² h²; at the source's end."""
    run, found, about = held(low, tmp_path / "run", "scenario=domain", "samples=100000", f"fisher={kind}")
    with safe_open(run.path / FILE, "pt") as file:
        assert json.loads(file.metadata()["about"]) == about
    data = TaskData.read(settings(*DIGITS, LOW).task, 0)
    train = data.dataset("train")
    assert about == {"source": "digits", "rows": str(len(train)), "kind": kind}
    net = reload(low.model_dir, data.spec.auto_class)
    batch = train.collate(train.examples)
    with torch.no_grad():
        p = outputs_of(Saved(net).eval(), data.objective, batch).softmax(-1)
        states = net.backbone(batch["inputs"]["pixel_values"])
    each = p * (1 - p)
    if kind == "empirical":
        each = (torch.nn.functional.one_hot(batch["labels"], 5) - p) ** 2
    torch.testing.assert_close(found["net.classifier.bias"], each.sum(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["net.classifier.weight"], each.T @ states**2, rtol=1e-4, atol=1e-4)
    for name, value in net.named_parameters():
        assert torch.equal(found[f"anchor/net.{name}"], value)
