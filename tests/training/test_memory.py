"""The memory of a run is a property of the run: planted sizes are found, whatever the process did before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch
from torch import nn

from ftrun.training import memory
from ftrun.training.memory import MemoryMeter, anonymous

MB = 1024**2
CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(anonymous() is None, reason="only Linux tells the pages of a process")


def held(megabytes: int, pieces: int = 1) -> list[torch.Tensor]:
    """So much memory, used, in so many pieces, for long enough to be seen."""
    found = [torch.ones(megabytes * MB // 4 // pieces) for _ in range(pieces)]
    time.sleep(10 * memory.EVERY)
    return found


@pytest.fixture
def network() -> Iterator[nn.Linear]:
    yield nn.Linear(1024, 1024, bias=False)  # 4 MB


@pytest.mark.parametrize(("pieces", "near"), [(1, 0.1), (2000, 0.25)])
def test_a_planted_peak_is_found_whatever_was_larger_before(
    network: nn.Linear, pieces: int, near: float
) -> None:
    """Small pieces come from a heap that keeps what is freed, in pages of up to 2 MB; large ones do not."""
    held(300, pieces)  # an earlier and larger run
    with closing(MemoryMeter(CPU, network)) as meter:
        held(96, pieces)
        held(48, pieces)  # not the peak
        found = meter.bytes
    assert found == pytest.approx(100 * MB, rel=near)


def test_what_libraries_keep_on_their_first_use_does_not_count(network: nn.Linear) -> None:
    with closing(MemoryMeter(CPU, network)) as meter:
        early = held(16)
        with meter.aside():
            kept = held(64)
            held(200)
        late = held(48)
        found = meter.bytes
    assert len(early) == len(kept) == len(late) == 1
    assert found == pytest.approx((4 + 16 + 48) * MB, rel=0.1)


def test_where_the_system_tells_nothing_it_is_not_known(
    network: nn.Linear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "anonymous", lambda: None)
    with closing(MemoryMeter(CPU, network)) as meter, meter.aside():
        pass
    assert meter.bytes is None
