"""What a GPU is asked for and in which order, with a stand-in that writes it down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ftrun.tasks import placing
from ftrun.training import devices, memory
from ftrun.training.devices import agreed, describe, open_accelerator, unstarted
from ftrun.training.gradients.prepared import MULTIPLES
from ftrun.training.late import Numbers, beside, event, one_late, second_stream

GPU = torch.device("cuda")


class Moment:
    """As a torch.cuda.Event."""

    def __init__(self, notes: list[str], name: str = "moment") -> None:
        self.notes, self.name = notes, name

    def record(self, stream: Any) -> None:
        self.notes.append(f"{self.name} in {stream}")

    def synchronize(self) -> None:
        self.notes.append(f"wait for {self.name}")


class Stream:
    """As a torch.cuda.Stream."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def wait_event(self, moment: Any) -> None:
        self.notes.append(f"after {moment.name}")

    def synchronize(self) -> None:
        self.notes.append("all is done")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the GPU was asked for."""
    found: list[str] = []

    @contextmanager
    def inside(stream: Any) -> Iterator[None]:
        found.append("enter")
        yield
        found.append("leave")

    monkeypatch.setattr(torch.cuda, "Event", lambda: Moment(found))
    monkeypatch.setattr(
        torch.cuda, "Stream", lambda device: found.append(f"stream on {device}") or Stream(found)
    )
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch.cuda, "stream", inside)
    second_stream.cache_clear()
    yield found
    second_stream.cache_clear()


def test_a_moment_is_recorded_in_the_stream_of_its_device(notes: list[str]) -> None:
    assert event(torch.device("cpu")) is None and notes == []
    assert isinstance(event(GPU), Moment) and notes == ["moment in the stream of cuda"]


def test_work_beside_waits_for_its_moment_alone_and_is_done_before_its_memory_is_given_back(
    notes: list[str],
) -> None:
    for turn in range(2):
        with beside(Moment(notes, f"step {turn}"), GPU):  # type: ignore[arg-type]
            notes.append("work")
    own = ["enter", "work", "leave", "all is done"]
    assert notes == ["stream on cuda", "after step 0", *own, "after step 1", *own]  # one stream for all
    del notes[:]
    with beside(None, GPU):
        notes.append("work")
    assert notes == ["work"]


def test_numbers_of_a_gpu_are_read_once_they_have_arrived(
    notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[bool] = []
    honest = torch.Tensor.to

    def to(self: Any, *where: Any, **how: Any) -> Any:
        if "non_blocking" in how:
            copies.append(how["non_blocking"])
        return honest(self, *where, **how)

    monkeypatch.setattr(torch.Tensor, "to", to)
    found = Numbers([torch.tensor(1.5), 2.0], GPU)
    assert copies == [True] and notes == ["moment in the stream of cuda"]
    assert found.read() == [1.5, 2.0] and notes[-1] == "wait for moment"
    Numbers([torch.tensor(1.5)], torch.device("cpu"))
    assert copies == [True, False]


def test_each_launch_has_the_moment_at_which_it_is_done(notes: list[str]) -> None:
    launches = (notes.append(f"launch {n}") or n for n in range(2))
    found = [(number, type(moment)) for number, moment in one_late(launches, GPU)]
    moment = "moment in the stream of cuda"
    assert found == [(0, Moment), (1, Moment)] and notes == ["launch 0", moment, "launch 1", moment]


def test_batches_go_to_a_gpu_from_pinned_memory_and_are_padded_for_its_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MULTIPLES == {"cuda": 8} and "cpu" not in MULTIPLES
    moved: list[tuple[str, str, bool]] = []

    class Value(torch.Tensor):
        kind = "plain"

        def pin_memory(self, *_: Any) -> Any:
            pinned = torch.zeros(1).as_subclass(Value)
            pinned.kind = "pinned"
            return pinned

        def to(self, device: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
            moved.append((self.kind, str(device), non_blocking))
            return self

    batch = {"inputs": {"ids": torch.zeros(1).as_subclass(Value)}, "draw": 3}
    for device in ("cuda", "meta"):
        placing.placed(batch, torch.device(device))
    assert moved == [("pinned", "cuda", True), ("plain", "meta", False)]
    names = [name for name, _ in placing.tensors_of(batch | {"labels": torch.zeros(1)})]
    assert names == ["ids", "labels"]


@pytest.mark.parametrize(
    ("asked", "bf16", "kept"),
    [("auto", True, "bf16"), ("auto", False, "no"), ("fp32", True, "no"), ("fp16", True, "fp16")],
)
def test_a_gpu_computes_in_half_precision_where_it_can(
    monkeypatch: pytest.MonkeyPatch, asked: str, bf16: bool, kept: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: told.append(f"device {number}"))
    monkeypatch.setattr("accelerate.Accelerator", lambda **words: words)
    monkeypatch.setattr(devices, "always_given", lambda: told.append("masks"))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.are_deterministic_algorithms_enabled()
    try:
        assert open_accelerator("cuda:1", asked, True) == {"cpu": False, "mixed_precision": kept}
        assert told == ["device 1", "masks"] and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert not torch.backends.cuda.matmul.allow_tf32 and torch.are_deterministic_algorithms_enabled()
        told.clear()
        assert open_accelerator("cpu", "auto", False) == {"cpu": True, "mixed_precision": "no"} and not told
        assert open_accelerator("auto", "auto", False)["cpu"] is False and told == ["masks"]  # type: ignore[index]
    finally:
        torch.use_deterministic_algorithms(before)


def test_a_process_that_is_alone_for_a_while_hides_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(KeyError), unstarted():
        assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "PMI_SIZE"} & {*os.environ}
        raise KeyError
    assert os.environ["RANK"] == os.environ["PMI_SIZE"] == "1"


def test_what_the_first_process_has_is_what_all_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "accelerate.utils.broadcast_object_list", lambda values: [f"{v} of the first" for v in values]
    )
    one, two = (SimpleNamespace(num_processes=count) for count in (1, 2))
    assert agreed(one, "a", 1) == ["a", 1] and agreed(two, "a") == ["a of the first"]  # type: ignore[arg-type]


def test_a_gpu_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    named: Any = SimpleNamespace(num_processes=1, device=GPU, mixed_precision="bf16")
    assert describe(named) == "NVIDIA H200, bf16"


def test_the_memory_of_a_gpu_is_what_its_allocator_gave_beyond_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, and the most above the level; what is aside moves the level and is not seen."""
    now = {"level": 100, "most": 100, "resets": 0}
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: now["level"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: now["most"])

    def reset(device: Any) -> None:
        now["resets"] += 1

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    network = torch.nn.Linear(4, 4)  # 80 bytes
    network.register_buffer("seen", torch.zeros(5, dtype=torch.float64))
    meter = memory.MemoryMeter(GPU, network)  # type: ignore[arg-type]
    assert memory.nbytes_of(network) == 80 + 40 and meter._thread is None and now["resets"] == 1  # type: ignore[arg-type]
    now["most"] = 170
    assert meter.bytes == 120 + 70
    with meter.aside():
        now.update(level=150, most=5000)
    now["most"] = 210
    assert meter.bytes == 120 + 70 and now["resets"] == 3  # the level is 150 now
    now["most"] = 260
    assert meter.bytes == 120 + 110
    meter.close()
    meter.close()
