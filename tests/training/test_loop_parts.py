"""What a loop, a step and an agreement do at which moment, without a network."""

from __future__ import annotations

import math
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ftrun.errors import Diverged, Interrupted, OutOfMemory
from ftrun.settings.schedules import Length
from ftrun.tasks.metrics.metric import Metric
from ftrun.training import loop as loops
from ftrun.training import pausing
from ftrun.training.agreement import Agreement
from ftrun.training.gradients.gradient import Gradient
from ftrun.training.loop import Loop
from ftrun.training.pausing import HALFWAY, Rung, asked, is_to_wait, rungs_of, wishes
from ftrun.training.pending import Pending, divergence
from ftrun.training.source_task import SourceTask
from ftrun.training.state import State, better, praise
from ftrun.training.step import Step

ACCURACY, LOSS = Metric("accuracy", "max", "%"), Metric("rmse", "min")


def length(**changes: int) -> Length:
    known = {"per_epoch": 3, "total": 20, "warmup": 0, "eval_every": 6, "checkpoint_every": 9, "log_every": 4}
    return Length(**known | changes)


class Noted(Loop):
    """A loop of whose moments only the names are noted."""

    def __init__(self, state: State, metric: Metric = ACCURACY, **own: Any) -> None:
        self.noted: list[str] = []
        settle, follow = lambda: self.noted.append("settle"), lambda state: None
        vars(self).update(
            step=SimpleNamespace(state=state, settle=settle, all_open=0, wrapped=torch.nn.Identity()),
            length=length(), rungs={}, metric=metric.name, baselines={}, sources=[],
            data=SimpleNamespace(scorer=SimpleNamespace(metrics={metric.name: metric})),
            settings=SimpleNamespace(train=SimpleNamespace(patience=2)),
            agreement=SimpleNamespace(due=lambda step: False, signal=lambda signals, state: 0), follow=follow,
            accelerator=SimpleNamespace(num_processes=1, is_main_process=True), _saved=math.inf,
        )  # fmt: skip
        vars(self).update(own)

    def log(self, values: dict[str, float], *costs: Any) -> None:
        self.noted.append("log")
        self.logged = values

    def log_training(self) -> None:
        self.noted.append("train")

    def evaluate(self) -> None:
        self.noted.append("evaluate")

    def save(self) -> None:
        self.noted.append("save")

    def save_best(self) -> None:
        self.noted.append("best")


PROGRESS: Any = SimpleNamespace(show=lambda *words: None)


@pytest.mark.parametrize(
    ("step", "noted"),
    [
        (5, []),
        (4, ["settle", "train"]),
        (6, ["settle", "evaluate"]),
        (9, ["settle", "save"]),
        (12, ["settle", "train", "evaluate"]),
        (18, ["settle", "evaluate", "save"]),
        (
            20,
            ["settle", "train", "evaluate", "save"],
        ),  # the last step is logged, scored and saved in any case
    ],
)
def test_after_a_step_it_is_logged_scored_and_saved_in_this_order(step: int, noted: list[str]) -> None:
    one = Noted(State(step=step))
    one.after_step(PROGRESS, [])
    assert one.noted == noted


@pytest.mark.parametrize(("state", "saves"), [({"stopped": True}, True), ({}, False)])
def test_a_run_that_stops_early_is_saved(state: dict[str, Any], saves: bool) -> None:
    one = Noted(State(step=5, **state))
    one.after_step(PROGRESS, [])
    assert ("save" in one.noted) is saves


def test_a_signal_that_all_agree_on_saves_and_ends_with_its_name() -> None:
    for step, due in ((5, True), (6, False)):  # where they ask in any case, and where validation is scored
        one = Noted(State(step=step))
        one.agreement = SimpleNamespace(due=lambda _, due=due: due, signal=lambda *_: signal.SIGTERM)  # type: ignore[assignment]
        with pytest.raises(Interrupted, match=f"SIGTERM: saved at step {step} of 20") as caught:
            one.after_step(PROGRESS, [])
        assert one.noted[-1] == "save" and caught.value.exit_code == 128 + signal.SIGTERM
    one = Noted(State(step=5))
    one.agreement = SimpleNamespace(due=lambda _: False, signal=lambda *_: signal.SIGTERM)  # type: ignore[assignment]
    one.after_step(PROGRESS, [signal.SIGTERM])  # it is asked about later
    assert one.noted == []


def test_a_run_waits_at_a_rung_once_it_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(loops, "wait", lambda step, data: waited.append(data))
    for state, rung, waits in (
        (State(step=5), Rung(0.5), True),
        (State(step=5, stopped=True), Rung(0.5), False),
        (State(step=5, best={"accuracy": 0.7}), Rung(0.5, 0.6), False),
        (State(step=5, best={"accuracy": 0.5}), Rung(0.5, 0.6), True),
    ):
        one = Noted(state, rungs={5: rung})
        waited.clear()
        one.after_step(PROGRESS, [])
        assert bool(waited) is waits and ("save" in one.noted) is (waits or state.stopped)


def test_rungs_are_evaluations_before_the_last_step() -> None:
    assert rungs_of(length()) == {}  # nobody asks
    with asked(rungs=HALFWAY):
        assert rungs_of(length()) == {12: Rung(0.5)}  # of 6, 12 and 18 the nearest to 10: 12, as 6 is farther
        assert rungs_of(length(eval_every=20)) == {} and rungs_of(length(eval_every=30)) == {}
        assert wishes() == {"validation_alone": False, "rungs": HALFWAY}
    with asked(rungs=(Rung(1), Rung(3, 0.5), Rung(4)), validation_alone=True):
        assert rungs_of(length()) == {6: Rung(1), 18: Rung(3, 0.5)}  # by their number; there is no fourth
        assert wishes()["validation_alone"] is True
    assert wishes() == {"validation_alone": False, "rungs": ()} and HALFWAY == (Rung(0.5, None),)


@pytest.mark.parametrize(
    ("bar", "best", "sign", "waits"),
    [
        (None, 0.9, 1, True), (0.5, None, 1, True), (0.5, math.nan, 1, True), (0.5, 0.5, 1, False),
        (0.5, 0.4, 1, True), (0.5, 0.6, 1, False), (0.5, 0.4, -1, False), (0.5, 0.6, -1, True),
    ],
)  # fmt: skip
def test_a_run_goes_on_where_its_best_score_reaches_the_bar(
    bar: float | None, best: float | None, sign: int, waits: bool
) -> None:
    assert is_to_wait(Rung(0.5, bar), best, sign) is waits


def test_a_run_that_waits_leaves_the_losses_of_at_most_256_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[int] = []
    monkeypatch.setattr(
        "ftrun.training.evaluate.row_losses", lambda model, data, rows, most: asked_for.append(most) or [0.5]
    )
    written: dict[str, Any] = {}
    for main in (True, False):
        written.clear()
        step: Any = SimpleNamespace(
            average=SimpleNamespace(shown=nullcontext), model=None, state=State(step=7), length=length(),
            accelerator=SimpleNamespace(is_main_process=main),
            run_directory=SimpleNamespace(write_json=written.__setitem__),
        )  # fmt: skip
        with pytest.raises(pausing.Paused, match="waiting at step 7 of 20"):
            pausing.wait(step, SimpleNamespace(dataset=lambda split: split))  # type: ignore[arg-type]
        assert written == ({"pause.json": {"step": 7, "of": 20, "losses": [0.5]}} if main else {})
    assert asked_for == [256, 256]


@pytest.mark.parametrize("metric", [ACCURACY, LOSS])
def test_validation_that_is_no_better_counts_until_patience_ends_the_run(metric: Metric) -> None:
    """It counts once every stage trains and the score has moved; the better direction is the metric's."""
    good, bad = (0.5, 0.4) if metric.sign > 0 else (0.4, 0.5)
    state = State(step=3)
    one = Noted(state, metric)

    def judged(score: float, step: int, all_open: int = 0) -> tuple[int, bool, bool]:
        state.step, one.step.all_open, one.noted = step, all_open, []
        one.judge({metric.name: score, "loss": 1.0})
        return state.stale, state.stopped, "best" in one.noted

    assert judged(bad, 3) == (0, False, True)  # the first is the best
    assert judged(bad, 6) == (0, False, False)  # nothing has moved yet
    assert judged(good, 9) == (0, False, True) and state.best["step"] == 9
    assert judged(bad, 12, all_open=12) == (0, False, False)  # the last stage opens now
    assert judged(bad, 15, all_open=12) == (1, False, False)
    assert judged(good, 18, all_open=12) == (2, True, False)  # as good is not better
    assert one.logged == {f"eval_{metric.name}": good, "eval_loss": 1.0}
    state.stopped, one.settings.train.patience = False, None
    assert judged(bad, 21) == (3, False, False)


def test_scores_of_earlier_tasks_are_numbered_where_there_are_several() -> None:
    one = Noted(State(), sources=["first"])
    one.source_scores = lambda split: [{"loss": 1.0, "f1": 0.5}]  # type: ignore[method-assign]
    assert one.source_metrics("test") == {"source_loss": 1.0, "source_f1": 0.5}
    one.sources = ["first", "second"]  # type: ignore[list-item]
    one.source_scores = lambda split: [{"loss": 1.0}, {"loss": 2.0}]  # type: ignore[method-assign]
    assert one.source_metrics("test") == {"source1_loss": 1.0, "source2_loss": 2.0}


def test_a_line_says_where_the_run_is_and_what_it_has_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Noted(State(step=4))
    assert one.place() == {"step": 4, "epoch": 1.3333}
    one.data.spec = SimpleNamespace(inputs=SimpleNamespace(unit="tokens"))  # type: ignore[misc]
    one.state.cost |= {"seconds": 1.0, "cpu_seconds": 2.0, "tokens": 1234, "train_seconds": 8.0}
    one._clock = (10.0, 20.0)
    monkeypatch.setattr(loops.clock, "now", lambda: (12.3456, 25.0))
    assert one.spend() == {"seconds": 3.346, "tokens_per_second": 154.2}  # 154.25, to a tenth
    assert one.state.cost["cpu_seconds"] == 7.0 and one._clock == (12.3456, 25.0)


def test_the_log_of_training_is_means_since_the_last_line() -> None:
    one: Any = Noted(State(step=4, loss_sum=6.0, loss_count=4.0, parts={"mlm": [3.0, 2.0], "none": [5.0, 0]}))
    one.step.rate, one.step.norm = lambda: 0.1, 2.5
    one.step.guard = SimpleNamespace(penalty=lambda: None)
    one.step.objective = SimpleNamespace(figures=lambda: {"figure": 9.0})
    Loop.log_training(one)
    assert one.logged == {
        "train_loss": 1.5, "learning_rate": 0.1, "grad_norm": 2.5, "train_mlm": 1.5, "train_none": 5.0,
        "figure": 9.0,
    }  # fmt: skip
    assert (one.state.loss_sum, one.state.loss_count, one.state.parts) == (0.0, 0.0, {})
    one.step.guard = SimpleNamespace(penalty=lambda: 0.0)
    Loop.log_training(one)
    assert one.logged["penalty"] == 0.0 and math.isnan(one.logged["train_loss"])


class Taking(Step):
    """A step of which only the account is kept."""

    def __init__(self, scaled: bool = False) -> None:
        settings: Any = SimpleNamespace(train=SimpleNamespace(lr=0.1, optimizer="sgd", momentum=0.75))
        self.run_directory: Any = SimpleNamespace(write_json=lambda name, found: self.told.update(found))
        self.followed: list[int] = []
        self.norms: list[float] = []
        self.told: dict[str, Any] = {}
        vars(self).update(
            state=State(), settings=settings, average=SimpleNamespace(follow=self.followed.append),
            accelerator=SimpleNamespace(scaler="some" if scaled else None, is_main_process=True),
            objective=SimpleNamespace(after_step=self.norms.append), dataset=[SimpleNamespace(row=7)],
        )  # fmt: skip


def latest(norm: float, loss: float, count: float, *parts: float) -> Any:
    numbers = SimpleNamespace(read=lambda: [norm, loss, count, *parts])
    return Pending(3, [0], 0.05, ["mlm"] * (len(parts) // 2), numbers)  # type: ignore[arg-type]


def test_a_step_that_is_taken_is_counted_with_its_loss_and_parts() -> None:
    step = Taking()
    step.state.bad_steps = 2
    step.record(latest(1.5, 6.0, 4.0, 3.0, 2.0), taken=True)
    step.record(latest(2.5, 1.0, 2.0, 1.0, 1.0), taken=True)
    state = step.state
    assert (state.updates, state.bad_steps, state.loss_sum, state.loss_count) == (2, 0, 7.0, 6.0)
    assert state.parts == {"mlm": [4.0, 3.0]} and step.followed == [1, 2] and step.norms == [1.5, 2.5]
    assert step.norm == 2.5


@pytest.mark.parametrize(("scaled", "most"), [(False, 3), (True, 30)])
def test_steps_in_a_row_that_are_not_finite_end_the_run(scaled: bool, most: int) -> None:
    """Of fp16 ten times as many: its scaler looks for a scale by them."""
    step = Taking(scaled)
    for _ in range(most - 1):
        step.record(latest(math.nan, 1.0, 2.0), taken=False)
    assert step.state.updates == 0 and step.state.loss_sum == 0 and step.followed == step.norms == []
    with pytest.raises(Diverged, match=f"at step 3, {most} steps in a row"):
        step.record(latest(math.nan, 1.0, 2.0), taken=False)
    told = {name: step.told[name] for name in step.told if name != "grad_norm"}
    assert math.isnan(step.told["grad_norm"]) and told == {
        "step": 3, "loss": 1.0, "learning_rate": 0.05, "non_finite_steps": most, "rows_of_the_last_batch": [7]
    }  # fmt: skip


def test_only_norm_and_loss_decide_whether_a_step_is_finite() -> None:
    assert latest(1.0, 2.0, math.nan).finite
    assert not latest(math.inf, 2.0, 1.0).finite and not latest(1.0, math.nan, 1.0).finite
    assert divergence(latest(1, 2, 3), 0.5, 9.0, 3, 0.1).exit_code == 5


def test_the_rate_that_is_told_is_the_highest_of_plain_weights() -> None:
    step: Any = Taking()
    groups = [{"lr": 0.1, "scale": 0.5}, {"lr": 0.2, "scale": 1.0}, {"lr": 1.6, "scale": 16.0}]
    step.optimizer = SimpleNamespace(param_groups=groups)
    assert step.rate() == 0.2  # B of lora_plus has a multiple of its own
    step.optimizer = SimpleNamespace(param_groups=groups[2:])
    assert step.rate() == 1.6
    step.parameters, step.group_of = {"a": None}, {"a": groups[0]}
    assert step.repeats == 4.0 and step.rates() == {"a": pytest.approx(0.4)}  # 1 / (1 - momentum)
    step.settings.train.optimizer = "adamw"
    assert step.repeats == 1.0 and step.rates() == {"a": 0.1}


@pytest.mark.parametrize(
    ("size", "wish", "recompute", "norms", "found"),
    [
        (32, "auto", False, [], (16, False)),
        (9, "auto", False, [], (4, False)),
        (8, "auto", False, [], (8, True)),  # few examples: recomputing costs less than halving
        (8, "auto", True, [], (4, True)),
        (8, "auto", False, ["norm"], (4, False)),
        (8, False, False, [], (4, False)),
        (1, "auto", False, [], (1, True)),
        (1, "auto", True, [], None),
        (1, False, False, [], None),
    ],
)
def test_less_memory_is_halving_or_recomputing_where_a_batch_is_small(
    size: int, wish: Any, recompute: bool, norms: list[str], found: tuple[int, bool] | None
) -> None:
    made = Gradient.__new__(Gradient)
    vars(made).update(
        settings=SimpleNamespace(train=SimpleNamespace(checkpoint_layers=wish)), recompute=recompute,
        accelerator=SimpleNamespace(num_processes=1), model=SimpleNamespace(batch_norms=lambda: norms),
    )  # fmt: skip
    state = State(micro_batch=size)
    if found is None:
        with pytest.raises(OutOfMemory, match="train.micro_batch=1 "):
            made.need_less(RuntimeError("out of memory"), state)
        return
    made.need_less(RuntimeError("out of memory"), state)
    assert (state.micro_batch, made.recompute) == found
    made.accelerator.num_processes = 2
    with pytest.raises(OutOfMemory, match="out of memory with train.micro_batch="):
        made.need_less(RuntimeError("out of memory"), state)


def test_passes_are_spared_so_that_all_processes_have_as_many() -> None:
    made: Any = Gradient.__new__(Gradient)
    made.sharded, made.accelerator = None, SimpleNamespace(num_processes=2)
    assert made.spare(1, 9, 2) == 0
    made.sharded = object()
    assert made.spare(2, 9, 2) == 1  # of nine rows one process has five, in three parts; this one has two
    assert made.spare(3, 9, 2) == 0 and made.spare(1, 9, 8) == 0


def test_a_lone_process_hears_its_own_signal_at_once_and_steps_are_asked_for_by_the_clock() -> None:
    alone = Agreement(SimpleNamespace(num_processes=1))  # type: ignore[arg-type]
    assert alone.due(0) and alone.signal([], State()) == 0 and alone.signal([15, 2], State()) == 15


def test_the_head_of_words_is_gauged_by_a_uniform_guess_and_forgetting_has_the_metric_s_direction() -> None:
    data: Any = SimpleNamespace(metric="rmse", scorer=SimpleNamespace(metrics={"rmse": LOSS}))
    source = SourceTask("a", data, None, uniform=4.0, fitted=True)  # type: ignore[arg-type]
    assert source.gauge({"loss": 3.0}) == {"gauge": {"fitted": True, "uniform_loss": 4.0, "share": 0.75}}
    assert SourceTask("a", data, None).gauge({"loss": 3.0}) == {}  # type: ignore[arg-type]
    assert source.forgetting({"rmse": 1.0}, {"rmse": 3.0}) == 2.0  # an error that grew
    data.metric, data.scorer.metrics = "accuracy", {"accuracy": ACCURACY}
    assert source.forgetting({"accuracy": 0.75}, {"accuracy": 0.5}) == 0.25


def test_a_score_is_better_by_its_metric_then_by_the_loss_and_praised_beyond_rounding() -> None:
    best = {"accuracy": 0.5, "loss": 1.0}
    for score, loss, found in ((0.5, 0.9, True), (0.5, 1.0, False), (0.5, 1.1, False), (0.6, 9, True)):
        assert better({"accuracy": score, "loss": loss}, best, ACCURACY) is found
    assert better({"accuracy": 0.0, "loss": 9}, {}, ACCURACY)
    assert not better({"accuracy": math.nan, "loss": 0}, {}, ACCURACY)
    nothing, some = "  no better than the most frequent label", "  best so far"
    empty = "  no better than the empty answer"
    for score, constant, first, said in (
        (0.5, 0.5, True, nothing), (0.5, 0.5, False, ""), (0.6, 0.5, False, some), (0.0, None, True, ""),
        (0.0, -1.0, True, ""), (0.5000009, 0.5, True, nothing), (0.50001, 0.5, True, some),
    ):  # fmt: skip
        assert praise(score, first, ACCURACY, constant, "most frequent label") == said, (score, constant)
    label = "most frequent label"
    assert praise(2e-12, True, LOSS, 3e-12, label) == some
    assert praise(3e-12, True, LOSS, 3e-12, label) == nothing
    assert praise(0.0, True, LOSS, None, "") == some and praise(2.0, True, LOSS, 1.0, "empty answer") == empty


def test_a_sum_is_passed_back_in_parts_with_its_weight() -> None:
    from ftrun.training.gradients.gradcache import coupled_backward

    weight = torch.nn.Parameter(torch.tensor([2.0]))
    rows = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
    statistics = torch.zeros(1)

    def forward(number: int) -> torch.Tensor:
        statistics.add_(1)
        return weight * rows[number]

    found = coupled_backward(
        forward, lambda n, gradient: (forward(n) * gradient).sum().backward(),
        lambda outputs: outputs.sum() ** 2, 2, 0.5, [statistics],
    )  # fmt: skip
    assert float(found) == 144.0 and found.dtype == torch.float64 and not found.requires_grad
    assert float(weight.grad) == pytest.approx(0.5 * 2 * 12 * 6) and float(statistics) == 2  # once a part
