"""Evaluation, solved heads and what is split over processes, in parts and with stand-ins."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy
import pytest
import torch
from torch import nn

from ftrun.errors import ConfigError, OutOfMemory
from ftrun.tasks.dataset import Dataset, Example
from ftrun.tasks.losses import Loss, binary_cross_entropy, cross_entropy, squared_error, summed_over_places
from ftrun.tasks.metrics.metric import Metric
from ftrun.tasks.objective import Coupled, Objective
from ftrun.training import evaluate, linear, preflight, sharding, solve
from ftrun.training.gradients.recompute import again, recomputing
from ftrun.training.linear import GRID, Scaling, best_of, fit, following
from ftrun.training.loop import Loop
from ftrun.training.refit import Refit, loop_of
from ftrun.training.solve import Head, Solve, number, weights_of
from ftrun.training.state import State

CPU = torch.device("cpu")
ALONE: Any = SimpleNamespace(device=CPU, num_processes=1, process_index=0, autocast=nullcontext)


class Rows(Dataset):
    """Examples of one number each, of these lengths."""

    def __init__(self, *lengths: int) -> None:
        super().__init__([Example([float(row)] * n, row, row) for row, n in enumerate(lengths)], "")

    def collate(self, examples: Any, draw: Any = None) -> Any:
        values = torch.tensor([[example.inputs[0]] for example in examples])
        return {"inputs": {"x": values}, "labels": torch.tensor([example.target for example in examples])}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return x * self.weight


OBJECTIVE = Objective(lambda outputs, batch: Loss(outputs.sum()))


class Scorer:
    def answers(self, outputs: Any, batch: Any) -> list[Any]:
        return [{"answer": value} for value in outputs[:, 0].tolist()]

    def rows(self, answers: Any, examples: Any, known: Any = ()) -> Any:
        return answers

    def score(self, rows: Any) -> dict[str, float]:
        return {"sum": sum(row["answer"] for row in rows)}


DATA: Any = SimpleNamespace(objective=OBJECTIVE, scorer=Scorer())


@pytest.mark.parametrize(("size", "first"), [(2, 32), (32, 32), (40, 40)])
def test_evaluation_takes_at_least_32_rows_at_once_the_longest_first(size: int, first: int) -> None:
    rows = Rows(*range(1, 51))
    batches = evaluate.batches_of(rows, size, ALONE)
    assert [len(batch) for batch in batches] == [first, 50 - first] and batches[0][0] == 49
    two: Any = SimpleNamespace(device=CPU, num_processes=2, process_index=1)
    assert evaluate.batches_of(rows, size, two) == batches[1:]


def test_a_batch_is_cut_where_its_windows_are_more_than_said() -> None:
    rows: Any = [SimpleNamespace(windows=[0] * count) for count in (1, 2, 3, 1, 9, 1)]
    assert evaluate.up_to(3, [0, 1, 2, 3, 4, 5], rows) == [[0, 1], [2], [3], [4], [5]]
    assert evaluate.up_to(4, [0, 1, 2, 3], rows) == [[0, 1], [2, 3]] and evaluate.up_to(3, [], rows) == []


def test_a_split_is_scored_once_whatever_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "SMALLEST", 4)
    rows, net = Rows(*[1] * 10), Net().train()
    scores, answers = evaluate.evaluate(net, DATA, rows, 3, ALONE)
    assert scores == {"loss": pytest.approx(2 * 45 / 10), "sum": 90.0}
    assert [answer["answer"] for answer in answers] == [2.0 * n for n in range(10)] and net.training
    assert evaluate.predict(net, DATA, rows, 3, ALONE) == answers
    every = [places for _, _, places in evaluate.batches_through(net, DATA, rows, 3, ALONE)]
    assert sorted(place for places in every for place in places) == [*range(10)]


@pytest.mark.parametrize(("most", "places"), [(100, 10), (10, 10), (9, 5), (4, 4), (3, 3), (1, 1)])
def test_losses_of_single_rows_are_at_equal_distances(most: int, places: int) -> None:
    """Each alone in its batch, over what it counts; none where examples have no loss of their own."""
    net, rows = Net(), Rows(*[1] * 10)
    found = evaluate.row_losses(net, DATA, rows, most)
    step = -(-10 // most)
    assert found == [2.0 * n for n in range(0, 10, step)] and len(found) == places
    doubled: Any = SimpleNamespace(objective=Objective(lambda o, b: Loss(o.sum()), lambda batch: 4))
    assert evaluate.row_losses(net, doubled, rows, 100)[3] == 1.5
    uncounted: Any = SimpleNamespace(objective=Objective(lambda o, b: Loss(o.sum()), lambda batch: 0))
    assert evaluate.row_losses(net, uncounted, rows, 100)[3] == 6.0
    assert evaluate.row_losses(net, SimpleNamespace(objective=Coupled(None)), rows, 4) == []  # type: ignore[arg-type]


def test_a_batch_that_does_not_fit_is_halved_until_it_is_a_row() -> None:
    error = RuntimeError("CUDA out of memory")
    assert evaluate.halves([1, 2, 3], error, Net()) == [[1], [2, 3]]
    with pytest.raises(OutOfMemory, match="a single row is evaluated .*: a smaller task.max_length"):
        evaluate.halves([1], error, Net())
    with pytest.raises(ValueError, match="a bug"):
        evaluate.halves([1, 2], ValueError("a bug"), Net())


def test_where_weights_are_split_no_batch_is_halved_and_all_pass_as_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert evaluate.spare_passes(Net(), 3, ALONE) == 0
    monkeypatch.setattr(evaluate, "is_split", lambda _: True)
    with pytest.raises(OutOfMemory, match="when 2 rows are evaluated .* a smaller train.micro_batch, task"):
        evaluate.halves([1, 2], RuntimeError("out of memory"), Net())
    monkeypatch.setattr(evaluate, "largest", lambda accelerator, mine: [5.0])
    assert evaluate.spare_passes(Net(), 3, ALONE) == 2


def solving(metric: str | None, direction: Any = "max") -> Any:
    made: Any = Solve.__new__(Solve)
    known = {"f1": Metric("f1", direction)}
    vars(made).update(
        settings=SimpleNamespace(train=SimpleNamespace(metric=metric)), metric="f1",
        data=SimpleNamespace(scorer=SimpleNamespace(metrics=known)),
    )  # fmt: skip
    return made


def test_strengths_are_ranked_by_the_loss_or_by_the_metric_that_is_set_and_then_by_it() -> None:
    scores = {"f1": 0.25, "loss": 2.0}
    assert solving(None).rank(scores) == (2.0,)
    assert solving("eval_f1").rank(scores) == (-0.25, 2.0) and solving("f1", "min").rank(scores) == (
        0.25,
        2.0,
    )
    nan = {"f1": math.nan, "loss": math.nan}
    assert solving("f1").rank(nan) == (math.inf, math.inf) and solving(None).rank(nan) == (math.inf,)
    assert number(1.5) == 1.5 and number(-math.inf) == -math.inf


def test_a_strength_that_was_tried_is_logged_and_the_best_is_kept(capsys: Any) -> None:
    made = solving(None)
    state, lines, kept = State(), list[Any](), list[int]()
    scored = iter([2.0, 1.0, 1.0, math.nan, 0.5])
    vars(made).update(
        step=SimpleNamespace(state=state), save_best=lambda: kept.append(state.step),
        log=lambda values, *costs: lines.append(values), source_metrics=lambda split: {"source_loss": 7.0},
        loss=lambda train: 0.25, scores=lambda rows: ({"loss": next(scored), "f1": 0.5}, []),
    )  # fmt: skip
    made.data.dataset = lambda split: split
    for power, converged in ((6.0, True), (4.0, False), (2.0, True), (0.0, True), (-2.0, True)):
        made.tried(power, None, converged)
    assert kept == [1, 2, 5] and state.step == 5 and state.best == {"step": 5, "loss": 0.5, "f1": 0.5}
    assert state.tried == [[6.0, 2.0], [4.0, 1.0], [2.0, 1.0], [0.0, math.inf], [-2.0, 0.5]]
    assert lines[1] == {"l2": 1e4, "train_loss": 0.25, "eval_loss": 1.0, "eval_f1": 0.5, "source_loss": 7.0}
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "L2 strength 1e+06     eval_loss 2.0000  eval_f1 0.5000  best so far"
    assert out[1].endswith("best so far  L-BFGS did not converge") and "best" not in out[2] + out[3]
    assert made.choices() == {"l2": 10.0**-2.0} and made.place() == {"step": 5}


def test_what_a_strength_takes_is_added_to_the_cost_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    made, state = solving(None), State()
    state.cost |= {"train_seconds": 1.0, "train_cpu_seconds": 2.0}
    made.step = SimpleNamespace(state=state)
    clocks = SimpleNamespace(perf_counter=lambda: 13.0, process_time=lambda: 27.0)
    monkeypatch.setattr("ftrun.training.solve.time", clocks)
    made.spent(10.0, 20.0)
    assert (state.cost["train_seconds"], state.cost["train_cpu_seconds"]) == (4.0, 9.0)


def test_vectors_of_examples_are_computed_once_and_proved_by_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, asked, proved = solving(None), list[int](), list[int]()
    state = State()

    def features(model: Any, dataset: Any, accelerator: Any) -> torch.Tensor:
        asked.append(len(dataset.examples))
        return torch.tensor([[example.inputs[0]] for example in dataset.examples])

    monkeypatch.setattr(solve, "features", features)
    vars(made).update(
        _known={}, step=SimpleNamespace(model=None, state=state), accelerator=ALONE, spent=lambda *_: None,
        prove=lambda dataset, found: proved.append(len(found)),
    )  # fmt: skip
    rows = Rows(2, 3, 4)
    first, other = made.vectors(rows), Rows(1, 1)
    assert made.vectors(rows).vectors.tolist() == first.vectors.tolist() == [[0.0], [1.0], [2.0]]
    assert first.labels == [0, 1, 2] and first[1].target == 1 and first[2].row == 2
    made.vectors(other)
    assert asked == [3, 2] and proved == [3] and state.cost["tokens"] == 2 + 3 + 4 + 2
    batch = first.collate([first[0], first[2]])
    assert batch["inputs"]["vectors"].tolist() == [[0.0], [2.0]] and batch["labels"].tolist() == [0, 2]


@pytest.mark.parametrize(("off", "fits"), [(0.0, True), (0.05, True), (-0.05, False), (0.06, False)])
def test_a_head_on_features_must_have_the_network_s_logits(
    monkeypatch: pytest.MonkeyPatch, off: float, fits: bool
) -> None:
    made = solving(None)
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    network = Net()
    network.net = nn.Identity()
    vars(made).update(step=SimpleNamespace(model=network), head=Head(layer))
    made.data.objective = OBJECTIVE
    rows, seen = Rows(*[1] * 12), list[int]()
    whole = torch.arange(8.0)[:, None]

    def outputs_of(model: Any, objective: Any, batch: Any) -> torch.Tensor:
        seen.append(len(batch["labels"]))
        return whole * (1 + off)

    monkeypatch.setattr(solve, "outputs_of", outputs_of)
    found = torch.arange(12.0)[:, None]
    if fits:
        made.prove(rows, found)
        assert seen == [8]
    else:
        with pytest.raises(ConfigError, match="solver=lbfgs: the logits of"):
            made.prove(rows, found)


def test_a_weight_of_a_row_is_its_objective_s_times_how_often_it_is_drawn() -> None:
    drawn = {0: [0, 1, 1], 1: [0, 2, 2]}

    class Drawn(Rows):
        def epoch(self, seed: int, epoch: int) -> Any:
            assert seed == 5
            return drawn[epoch % 2]

    weighted = Objective(None, lambda batch: float(batch["labels"][0] + 1))  # type: ignore[arg-type]
    found = weights_of(Drawn(1, 1, 1), weighted, [0, 1, 2], 5)
    expected = numpy.array([1.0 * 10, 2.0 * 10, 3.0 * 10])  # in ten epochs each ten times
    assert found == pytest.approx(expected / expected.mean()) and found.mean() == pytest.approx(1.0)
    plain = weights_of(Rows(1, 1, 1), weighted, [0, 1, 2], 5)
    assert plain == pytest.approx(numpy.array([1, 2, 3]) / 2)


def test_how_a_run_goes_through_its_steps_is_said_by_its_strategy() -> None:
    for solved, refits, kind in ((True, False, Solve), (False, True, Refit), (False, False, Loop)):
        assert loop_of(SimpleNamespace(solved=solved, refits=refits)) is kind  # type: ignore[arg-type]


def test_of_two_classes_each_has_half_of_the_difference_and_one_that_is_missing_is_never_answered() -> None:
    chance = numpy.random.default_rng(0)
    x = chance.normal(size=(40, 3))
    y = (x[:, 0] + chance.normal(size=40) > 0).astype(int)
    from sklearn.linear_model import LogisticRegression

    theirs = LogisticRegression(C=1 / 0.5, tol=1e-8, max_iter=2000).fit(x, y)
    found = fit(x, numpy.where(y, 2, 0), 0.5, 3)
    margin = found.logits(x)[:, 2] - found.logits(x)[:, 0]
    assert margin == pytest.approx(theirs.decision_function(x), abs=1e-3)
    assert found.weights[0] == pytest.approx(-found.weights[2]) and (found.logits(x)[:, 1] < -9000).all()
    one = fit(x, numpy.full(40, 1), 0.5, 3)
    assert one.logits(x).argmax(1).tolist() == [1] * 40 and one.converged
    several = fit(x, numpy.stack([y, y * 0, y * 0 + 1], 1).astype(float), 0.5, 3)
    assert (several.logits(x)[:, 1] < -9000).all() and (several.logits(x)[:, 2] > 9000).all()
    without = fit(x, numpy.stack([y, y * 0], 1).astype(float), 0.5, 2, bias=False)
    assert not without.biases.any()
    scaling = Scaling.of(numpy.array([[1.0, 5.0], [3.0, 5.0]]))
    assert scaling.scale.tolist() == [1.0, 1.0] and scaling.mean.tolist() == [2.0, 5.0]
    assert Scaling.of(numpy.array([[3.0], [4.0]]), centre=False).scale == pytest.approx([math.sqrt(12.5)])


def test_the_walk_down_the_grid_ends_after_two_that_are_worse() -> None:
    def walked(best: float) -> list[float]:
        tried: list[list[float]] = []
        while (power := following(tried)) is not None and power in GRID:
            tried.append([power, abs(power - best)])
        return [power for power, _ in tried]

    assert walked(6.0) == [6.0, 4.0, 2.0] and walked(2.0) == [6.0, 4.0, 2.0, 0.0, -2.0]
    assert walked(-6.0) == [*GRID] and walked(-4.0) == [*GRID]
    assert best_of([1.0, 3.0, 2.0], {1.0: (5,), 2.0: (4,), 3.0: (4,)}) == 3.0
    searched = linear.searched(lambda strength: strength, lambda found: abs(math.log10(found) - 0.5))
    assert searched == pytest.approx(10**0.5, rel=0.35)


@pytest.mark.parametrize(
    ("precision", "kinds", "found"),
    [
        ("no", [torch.float32], None),
        ("no", [torch.float32, torch.bfloat16], torch.float32),
        ("bf16", [torch.float32], torch.bfloat16),
        ("bf16", [torch.float32, torch.bfloat16], torch.bfloat16),
        ("no", [torch.float64], None),
    ],
)
def test_weights_are_gathered_in_what_is_computed_in(precision: str, kinds: list[Any], found: Any) -> None:
    root = nn.ParameterList([nn.Parameter(torch.ones(1, dtype=kind)) for kind in kinds])
    assert sharding.computing_dtype(root, precision) is found
    policy = sharding.policy(found, torch.float32)
    assert (policy.param_dtype, policy.output_dtype) == (found, None if found is None else torch.float32)
    assert policy.reduce_dtype is (None if found is None else torch.float32)
    assert sharding.policy(torch.bfloat16).output_dtype is None


@pytest.mark.parametrize(
    ("shard", "processes", "splits"), [(True, 2, True), (True, 1, False), (False, 2, False)]
)
def test_only_several_processes_split_a_network(
    shard: bool, processes: int, splits: bool, capsys: Any
) -> None:
    settings: Any = SimpleNamespace(train=SimpleNamespace(shard=shard))
    accelerator: Any = SimpleNamespace(num_processes=processes, device=torch.device("meta"))
    assert sharding.splits(settings, accelerator) is splits
    assert sharding.home(settings, accelerator).type == ("cpu" if splits else "meta")
    if not splits:
        assert sharding.split(settings, None, [], accelerator) is None  # type: ignore[arg-type]
        assert ("one process holds all" in capsys.readouterr().out) is shard


def test_layers_to_split_are_those_that_are_called_and_have_weights() -> None:
    net = nn.Module()
    net.first = nn.ModuleList([nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1), nn.Dropout()])])
    net.second, net.empty = nn.Linear(1, 1), nn.Dropout()
    net.depth, net.layer_names = 2, [[], ["first"], ["second", "empty"], []]
    assert sharding.layers_of(net) == [net.first[0], net.first[1][0], net.second]  # type: ignore[arg-type]


class Both(NamedTuple):
    one: Any
    other: Any


def test_outputs_of_a_split_network_are_in_memory_of_their_own() -> None:
    base = torch.arange(4.0)
    view, own = base[1:], torch.ones(1)
    found = sharding.solid(Both(view, Both(own, own)))
    assert found.one.data_ptr() != view.data_ptr() and torch.equal(found.one, view) and found.other.one is own
    net = nn.Linear(2, 2)
    net.tokenizer = object()  # type: ignore[assignment]
    outline = sharding.outline_of(net)  # type: ignore[arg-type]
    assert outline.weight.is_meta and outline.tokenizer is net.tokenizer and not net.weight.is_meta  # type: ignore[union-attr]
    net.weight.requires_grad_(False)
    assert not sharding.outline_of(net).weight.requires_grad  # type: ignore[arg-type,union-attr]
    assert outline.weight.requires_grad  # type: ignore[union-attr]


def test_the_kind_of_an_export_is_told_by_each_thing_that_its_saving_depends_on() -> None:
    def kind(**changes: Any) -> str:
        net: Any = changes.pop("net", nn.Linear(1, 1))
        net.config = changes.pop("config", object())
        model: Any = SimpleNamespace(
            net=net, adapter=None, tokenizer=None, source="a", named_parameters=net.named_parameters
        )
        data: Any = SimpleNamespace(spec=SimpleNamespace(auto_class="A"), task=SimpleNamespace(name="t"))
        strategy = changes.pop("strategy", object())
        for name, value in changes.items():
            for owner in (model, data.spec, data.task):
                if hasattr(owner, name):
                    setattr(owner, name, value)
        step: Any = SimpleNamespace(model=model, settings=SimpleNamespace(strategy=strategy))
        return str(preflight.kind_of(step, data))

    frozen = nn.Linear(1, 1)
    frozen.weight.requires_grad_(False)
    changed = [
        kind(net=nn.Bilinear(1, 1, 1)), kind(net=frozen), kind(net=nn.Linear(1, 1, bias=False)),
        kind(config={}), kind(adapter={}), kind(tokenizer={}), kind(source=None), kind(auto_class="B"),
        kind(name="u"), kind(strategy={}),
    ]  # fmt: skip
    assert kind() == kind(source="b") == kind(net=nn.Linear(3, 3)) and len({*changed, kind()}) == 11


def test_a_weight_without_a_gradient_is_named_three_at_most() -> None:
    weights = {f"net.w{n}": nn.Parameter(torch.ones(1)) for n in range(5)}
    step: Any = SimpleNamespace(
        parameters=weights, model=SimpleNamespace(named_parameters=lambda: weights.items()),
        settings=SimpleNamespace(strategy_name="this"),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="^5 trained weights without a gradient: w0, w1, w2; strategy=this"):
        preflight.check_gradients(step)
    for weight in weights.values():
        weight.grad = torch.ones(1)
    preflight.check_gradients(step)
    weights["net.w0"].requires_grad_(False)
    with pytest.raises(AssertionError, match="frozen weights received a gradient"):
        preflight.check_gradients(step)


@pytest.mark.parametrize(
    ("replayed", "said"),
    [(0.0, "train.micro_batch$"), (0.1, "train.micro_batch, a larger share= of replayed rows$")],
)
def test_batch_norms_of_one_row_are_said_with_what_is_possible(replayed: float, said: str) -> None:
    settings: Any = SimpleNamespace(
        guard=SimpleNamespace(replayed_share=lambda: replayed), train=SimpleNamespace(batch_size=7),
        model=SimpleNamespace(name="this"),
    )  # fmt: skip
    with (
        pytest.raises(ConfigError, match=f"^train.batch_size=7: .* of this, .*{said}"),
        preflight.rows_enough(settings),
    ):
        raise ValueError("Expected more than 1 value per channel when training")
    with pytest.raises(ValueError, match="a bug"), preflight.rows_enough(settings):
        raise ValueError("a bug")


def test_layers_are_computed_again_only_where_gradients_are_wanted() -> None:
    calls: list[bool] = []

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(torch.is_grad_enabled())
            return x * self.weight

    layer = Layer()
    model: Any = SimpleNamespace(layers=lambda: [layer])
    x = torch.ones(1, requires_grad=True)
    with recomputing(model):
        layer(x).backward()
        assert len(calls) == 2
        with torch.no_grad():
            layer(x)
        assert len(calls) == 3
    layer(x).backward()
    assert len(calls) == 4 and "forward" not in vars(layer)
    layer._compiled_call_impl = lambda x: calls.append(True) or x * layer.weight  # type: ignore[assignment]
    before = layer._compiled_call_impl
    with recomputing(model):
        assert layer._compiled_call_impl is not before
    assert layer._compiled_call_impl is before
    assert again(lambda value: value + 1, torch.zeros(1)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_torch_s_on_random_outputs(seed: int) -> None:
    """Summed, and in fp32 whatever comes in; a label that is ignored costs nothing."""
    chance = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 4, generator=chance)
    classes = torch.randint(0, 4, (6,), generator=chance)
    functional = nn.functional
    expected = functional.cross_entropy(logits, classes) * 6
    assert float(cross_entropy(logits, {"labels": classes}).sum) == pytest.approx(float(expected), rel=1e-5)
    half = cross_entropy(logits.bfloat16(), {"labels": classes}).sum
    assert half.dtype == torch.float32
    several = torch.randint(0, 2, (6, 4), generator=chance)
    found = binary_cross_entropy(logits.bfloat16().float(), {"labels": several}).sum
    by_hand = functional.binary_cross_entropy_with_logits(logits.bfloat16().float(), several.float()) * 24
    assert float(found) == pytest.approx(float(by_hand), rel=1e-5) and found.dtype == torch.float32
    numbers = torch.randn(6, generator=chance, dtype=torch.float64)
    off = squared_error(logits[:, :1], {"labels": numbers}).sum
    assert float(off) == pytest.approx(float(((logits[:, 0] - numbers) ** 2).sum()), rel=1e-5)
    places = torch.where(torch.rand(2, 3, generator=chance) < 0.5, -100, classes.view(2, 3))
    there = places.flatten() != -100
    whole = functional.cross_entropy(logits[there], places.flatten()[there], reduction="sum")
    assert float(summed_over_places(logits.view(2, 3, 4), places)) == pytest.approx(float(whole), rel=1e-5)
