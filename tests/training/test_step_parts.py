"""The parts of a step and of the loop around it, with stand-ins for what they are given."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ftrun.errors import Interrupted
from ftrun.strategies import anchored, penalty
from ftrun.strategies.penalty import Update
from ftrun.training import loop as loops
from ftrun.training.gradients.gradient import Gradient
from ftrun.training.loop import Loop
from ftrun.training.processes import ranks
from ftrun.training.step import Step

CPU = torch.device("cpu")


def stopping(step: int, due: bool, asked: int) -> tuple[Loop, list[str]]:
    """A loop that is evaluated at every fifth step, in which a signal has come."""
    made, did = Loop.__new__(Loop), list[str]()
    state = SimpleNamespace(step=step, loss_sum=0.0, loss_count=0, stopped=False)
    made.step = SimpleNamespace(state=state, settle=lambda: did.append("settled"))  # type: ignore[assignment]
    made.length = SimpleNamespace(total=20, log_every=5, eval_every=5, checkpoint_every=5)  # type: ignore[assignment]
    made.agreement = SimpleNamespace(due=lambda _: due, signal=lambda *_: asked)  # type: ignore[assignment]
    made.rungs = {}
    for name in ("save", "evaluate", "log_training"):
        setattr(made, name, lambda name=name: did.append(name))
    return made, did


def test_a_signal_is_asked_for_when_it_is_due_and_ends_the_run_once_it_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "ending", lambda: None)
    bar = SimpleNamespace(show=lambda *_: None)
    for step, due, asked, did in (
        (3, True, signal.SIGTERM, ["settled", "save"]),
        (5, False, signal.SIGTERM, ["settled", "log_training", "evaluate", "save"]),
    ):
        made, seen = stopping(step, due, asked)
        with pytest.raises(Interrupted, match=f"SIGTERM: saved at step {step} of 20"):
            made.after_step(bar, [])
        assert seen == did
    made, seen = stopping(3, False, signal.SIGTERM)
    made.after_step(bar, [])
    assert seen == []


class Told(Step):
    """A step that takes its gradient from a list, on a device whose numbers are read late."""

    def __init__(self, gradients: list[tuple[float, float]]) -> None:
        self.gradients, self.opens, self.pending, self.at_once, self.begun = gradients, {}, None, False, True
        cost = {"train_seconds": 0.0, "train_cpu_seconds": 0.0}
        self.state = SimpleNamespace(updates=0, step=0, cost=cost)  # type: ignore[assignment]
        self.accelerator = SimpleNamespace(device=CPU)  # type: ignore[assignment]
        self.backward = SimpleNamespace(parts={})  # type: ignore[assignment]
        self.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}], step=lambda: None)  # type: ignore[assignment]
        self.skipped: list[bool] = []

    def gradient(self, rows: list[int]) -> Any:
        norm, loss = self.gradients.pop(0)
        return torch.tensor(norm), torch.tensor(loss), 1.0

    def plain_optimizer(self) -> Any:
        return self.optimizer

    def clear(self) -> None:
        self.skipped.append(bool(self.optimizer.found_inf))

    def set_open(self, stages: Any) -> None: ...

    def set_rates(self) -> None: ...

    def record(self, latest: Any, taken: bool) -> None: ...


def test_a_step_is_skipped_on_the_device_where_its_norm_or_its_loss_is_no_number() -> None:
    step = Told([(1.0, 1.0), (float("inf"), 1.0), (1.0, float("nan")), (1.0, 2.0)])
    for _ in range(4):
        step.take([0])
    assert step.skipped == [False, True, True, False]


def test_a_group_has_the_rate_of_its_stage_times_its_own_and_none_while_it_is_closed() -> None:
    step = Told([])
    step.open, step.course = {0, 2}, None  # type: ignore[assignment]
    step.strategy = SimpleNamespace(rate=lambda stage, step, course: 0.1 * (stage + 1))  # type: ignore[assignment]
    groups = [{"stage": stage, "scale": 2.0, "lr": 9.0} for stage in (0, 1, 2)]
    step.optimizer = SimpleNamespace(param_groups=groups)  # type: ignore[assignment]
    Step.set_rates(step)
    assert [group["lr"] for group in groups] == pytest.approx([0.2, 0.0, 0.6])


@pytest.mark.parametrize(("earlier", "share"), [([], 1.0), ([("past", [1, 2])], 0.75)])
def test_a_gradient_is_drawn_by_its_step_and_divided_by_what_it_counts(earlier: Any, share: float) -> None:
    """Two rows of five targets; rows of earlier tasks take their share of the weight."""
    seeds, weights = list[Any](), list[float]()
    made = Gradient.__new__(Gradient)
    ready = SimpleNamespace(batches=[{}], host=[{}], tokens=3, padded=1)
    objective = SimpleNamespace(train=lambda: None, count=lambda batches: 5, shared=None)
    vars(made).update(
        accelerator=SimpleNamespace(num_processes=1, process_index=0, device=CPU),
        guard=SimpleNamespace(replay=lambda step, rows: earlier, replayed_share=lambda: 0.25),
        settings=SimpleNamespace(seed=7, train=SimpleNamespace(batch_size=2)),
        batches=SimpleNamespace(of=lambda *_: ready, ahead=lambda *_: None, dataset=range(9)),
        objective=objective, parts={},
        seed=lambda step, process: seeds.append((step, process)),
        rehearse=lambda past, chosen, state, part: weights.append(part),
        counted=lambda count, rows: count, spare=lambda *_: True,
        backward=lambda batches, idle, weight, *_: weights.append(weight) or torch.tensor(2.0),
        summed_over_processes=lambda total: total,
    )  # fmt: skip
    cost = {"tokens": 0, "padded_tokens": 0}
    state: Any = SimpleNamespace(step=11, epoch=0, micro_batch=2, cost=cost)
    total, count = made.accumulate([0, 1], state)
    assert (float(total), count, seeds) == (2.0, 5, [(11, 0)])
    assert weights == pytest.approx([*([1 - share] if earlier else []), share / 5])


def test_a_job_s_processes_are_connected_by_what_its_device_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[bool]()
    ring = SimpleNamespace(connection=SimpleNamespace(open=opened.append))
    monkeypatch.setattr(ranks, "_ring", ring)
    with ranks.joined(True):
        pass
    monkeypatch.setattr(ranks, "_ring", None)
    with ranks.joined(False):
        pass
    assert opened == [True]


def test_of_strengths_each_process_has_those_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a weight of four rows was split and the second half was here."""
    strengths, weight = torch.arange(8.0).view(4, 2), torch.nn.Parameter(torch.zeros(4, 2))
    monkeypatch.setattr("ftrun.models.split.part_of", lambda value, like: value[2:])
    assert torch.equal(anchored.placed(strengths, weight), strengths[2:])  # type: ignore[arg-type]
    assert anchored.placed(0.5, weight) == 0.5 and anchored.placed(2, weight) == 2
    update = Update(torch.zeros(1, 2), torch.nn.Parameter(torch.zeros(4, 1)), 1.0, False)  # type: ignore[arg-type]
    assert update.part(strengths) is strengths
    monkeypatch.setattr(penalty, "is_split", lambda _: True)
    monkeypatch.setattr(penalty, "rows_of", lambda _: slice(2, 4))
    assert torch.equal(update.part(strengths), strengths[2:])  # type: ignore[arg-type]
    update.transposed = True
    assert torch.equal(update.part(strengths.T), strengths.T[:, 2:]) and update.part(0.5) == 0.5  # type: ignore[arg-type]
