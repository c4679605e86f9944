"""What processes exchange, with a stand-in for the others; test_distributed.py has real ones."""

import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from ftrun.errors import ConfigError
from ftrun.tasks.losses import Loss
from ftrun.tasks.objective import Objective
from ftrun.tasks.parts.positions import positions_in
from ftrun.tasks.placing import copied, placed
from ftrun.training import devices
from ftrun.training.devices import describe, largest, open_accelerator
from ftrun.training.evaluate import gathered, ordered
from ftrun.training.gradients import gradient as gradients
from ftrun.training.gradients.gradient import Gradient, share_of
from ftrun.training.gradients.prepared import share

CPU = torch.device("cpu")


class Two:
    """Two processes, of which the other has twice of every number."""

    num_processes, process_index, device = 2, 1, CPU

    def __init__(self):
        self.waited = 0

    def reduce(self, numbers, how):
        assert how == "sum" and numbers.dtype == torch.float64
        return numbers + 2 * numbers

    def gather(self, numbers):
        return torch.cat([numbers, 2 * numbers])

    @contextmanager
    def no_sync(self, net):
        self.waited += 1
        yield


def gradient(accelerator, objective=None):
    made = Gradient.__new__(Gradient)
    made.accelerator, made.objective, made.wrapped, made.parts = accelerator, objective, None, {}
    made.sharded = None
    return made


ONE = SimpleNamespace(num_processes=1, process_index=0, device=CPU)


def test_a_loss_and_its_parts_are_summed_over_processes():
    made = gradient(Two())
    made.parts = {"mlm": (torch.tensor(3.0), 4), "next": (0.5, torch.tensor(6.0))}
    total = made.summed_over_processes(torch.tensor(2.0))
    assert total.item() == 6 and total.dtype == torch.float64
    found = {name: [float(each) for each in pair] for name, pair in made.parts.items()}
    assert found == {"mlm": [9.0, 12.0], "next": [1.5, 18.0]}
    alone = gradient(ONE)
    alone.parts = {"mlm": (3.0, 4)}
    assert alone.summed_over_processes(total) is total and alone.parts == {"mlm": (3.0, 4)}


def test_targets_are_counted_over_processes_where_rows_do_not_tell_them():
    rows, positions = Objective(None), Objective(None, positions_in)
    assert gradient(ONE, rows).counted(3, 5) == gradient(ONE, positions).counted(3, 5) == 3.0
    assert gradient(Two(), rows).counted(3, 5) == 5.0
    assert gradient(Two(), positions).counted(3, 5).item() == 9.0


def test_gradients_are_exchanged_after_the_last_part_only():
    for accelerator, waits in ((Two(), 1), (ONE, 0)):
        for last in (False, True):
            with gradient(accelerator).syncing(last):
                pass
        assert getattr(accelerator, "waited", 0) == waits


@pytest.mark.parametrize("idle", [False, True])
def test_only_the_last_micro_batch_of_a_step_is_exchanged(monkeypatch, idle):
    """Each loss is passed back times the weight; an idle process has the same graphs and nothing in them."""
    weight = torch.nn.Parameter(torch.ones(()))
    monkeypatch.setattr(gradients, "outputs_of", lambda net, objective, batch: weight * batch)
    two = Two()
    two.backward = torch.Tensor.backward
    made = gradient(two, Objective(lambda outputs, batch: Loss(outputs, {"part": (outputs.detach(), 1)})))
    made.graphs, made.recompute = None, False
    total = made.backward([1.0, 2.0, 4.0], idle, 0.5, True)
    assert (float(total), float(weight.grad)) == ((0, 0) if idle else (7, 3.5))
    assert two.waited == 2 and total.dtype == torch.float64
    assert [float(each) for each in made.parts["part"]] == ([0, 0] if idle else [7, 3])
    assert float(made.backward([1.0], False, torch.tensor(0.5), True)) == 1  # divided by all processes' count
    made.graphs = SimpleNamespace(run=lambda work, batch, weight, whole: work(batch, torch.tensor(weight)))
    with pytest.raises(ValueError, match="counted anew in each batch"):
        made.backward([1.0], False, 0.5, True)


def test_an_idle_process_adds_nothing_to_the_parts_of_a_loss():
    made = gradient(Two())
    made.note({"mlm": (torch.tensor(3.0), 4)}, idle=False)
    made.note({"mlm": (torch.tensor(5.0), 6), "next": (torch.tensor(1.0), 1)}, idle=True)
    made.note({"mlm": (torch.tensor(0.5), 1)}, idle=False)
    assert {name: (float(total), count) for name, (total, count) in made.parts.items()} == {
        "mlm": (3.5, 5), "next": (0.0, 0)
    }  # fmt: skip
    assert made.parts["mlm"][0].dtype == torch.float64


def test_a_sum_is_divided_by_its_count_on_either_side_and_nothing_by_zero():
    assert share_of(3.0, 4) == 0.75 and share_of(3.0, 0) == 3.0
    for count, expected in ((4.0, 0.75), (1.0, 3.0), (0.0, 3.0)):
        found = share_of(3.0, torch.tensor(count, dtype=torch.float64))
        assert found.item() == expected and found.dtype == torch.float32


def test_rows_are_shared_and_no_process_is_without_one():
    rows = list(range(5))
    assert [share(rows, number, 2) for number in (0, 1)] == [[0, 2, 4], [1, 3]]
    assert share([7], 1, 2) == [7] and share(rows, 0, 1) == rows


def test_the_largest_of_all_processes_and_what_the_device_is_called():
    assert largest(ONE, 3, -1.5) == [3, -1.5]
    assert largest(Two(), 3, -1.5) == [6.0, -1.5]
    named = SimpleNamespace(num_processes=2, device=CPU, mixed_precision="bf16")
    threads = torch.get_num_threads()
    assert describe(named) == f"CPU, {threads} thread{'s' if threads > 1 else ''}, 2 processes, bf16"
    named = SimpleNamespace(num_processes=1, device=CPU, mixed_precision="no")
    assert describe(named).endswith("fp32") and "process" not in describe(named)
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    try:
        assert describe(named).endswith(", tf32")
        named.mixed_precision = "bf16"
        assert describe(named).endswith(", bf16")
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_a_single_process_gathers_nothing(monkeypatch):
    monkeypatch.setattr("accelerate.utils.gather_object", lambda values: values + values)
    assert gathered([1, 2], ONE) == [1, 2] and gathered([1, 2], Two()) == [1, 2, 1, 2]


def test_answers_come_back_in_the_order_of_the_examples():
    """Only places are compared: answers need not be comparable."""
    assert ordered([(2, {"c": math.nan}), (0, {"a": 0}), (1, {"b": 1})], ONE)[0] == {"a": 0}
    assert [list(each)[0] for each in ordered([(1, {"b": 1}), (0, {"a": 0})], ONE)] == ["a", "b"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about a machine without a GPU")
@pytest.mark.parametrize(
    "device, precision, said",
    [
        ("cuda", "fp32", "device=cuda: torch .* finds no GPU; possible: auto, cpu"),
        ("cuda:1", "fp32", "device=cuda:1: torch .* finds no GPU"),
        ("cpu", "fp16", "train.precision=fp16 needs a GPU; possible on a CPU: auto, fp32, bf16"),
        ("auto", "tf32", "train.precision=tf32 needs a GPU"),
    ],
)
def test_what_needs_a_gpu_is_refused_without_one(device, precision, said):
    with pytest.raises(ConfigError, match=said):
        open_accelerator(device, precision, True)


@pytest.mark.parametrize("capability, enough", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_tf32_needs_a_gpu_from_ampere_on(monkeypatch, capability, enough):
    """With a stand-in for the GPU, which is asked for nothing but what it can do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr("accelerate.Accelerator", lambda **words: words)
    monkeypatch.setattr(devices, "always_given", lambda: None)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        if enough:
            assert open_accelerator("auto", "tf32", False) == {"cpu": False, "mixed_precision": "no"}
            assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
        else:
            with pytest.raises(ConfigError, match="needs a GPU from Ampere on, which a card is not"):
                open_accelerator("auto", "tf32", False)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_what_is_placed_elsewhere_is_all_of_a_batch():
    batch = {"inputs": {"ids": torch.ones(2)}, "labels": torch.ones(2), "draw": 3}
    assert placed(batch, CPU) is batch
    moved = placed(batch, torch.device("meta"))
    assert moved["inputs"]["ids"].is_meta and moved["labels"].is_meta and moved["draw"] == 3
    own = copied(batch)
    own["inputs"]["ids"] += 1
    assert batch["inputs"]["ids"].sum() == 2 and own["draw"] == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is about a machine without a GPU")
@pytest.mark.parametrize("precision, kept", [("auto", "no"), ("fp32", "no"), ("bf16", "bf16")])
def test_without_a_gpu_auto_is_full_precision(precision, kept):
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for deterministic in (True, False):
            accelerator = open_accelerator("auto", precision, deterministic)
            assert (accelerator.mixed_precision, accelerator.device.type) == (kept, "cpu")
            assert torch.are_deterministic_algorithms_enabled() == deterministic
            assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
            assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(before)
