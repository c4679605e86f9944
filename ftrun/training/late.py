"""What the host reads of a device when the next piece of work is launched, so that neither waits long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Numbers:
    """Numbers of the host and of the device in their order; the latter come in one copy, as fp64."""

    def __init__(self, values: Sequence[float | Tensor], device: torch.device) -> None:
        self._values = values
        self.packed = torch.stack([value.double() for value in values if isinstance(value, Tensor)])
        gpu = device.type == "cuda"  # elsewhere a copy that does not block could be read too early
        self._copied = self.packed.to("cpu", non_blocking=gpu)  # if so, to pinned memory
        self._arrived = event(device)

    def read(self) -> list[float]:
        """All of them; waits for what was launched before them, and for nothing after."""
        if self._arrived is not None:
            self._arrived.synchronize()
        found = iter(self._copied.tolist())
        return [next(found) if isinstance(value, Tensor) else value for value in self._values]


def event(device: torch.device) -> torch.cuda.Event | None:
    """The moment at which a GPU will have done what it has been given until now."""
    if device.type != "cuda":
        return None
    now = torch.cuda.Event()
    now.record(torch.cuda.current_stream(device))
    return now


def one_late(launches: Iterator[T], device: torch.device) -> Iterator[tuple[T, torch.cuda.Event | None]]:
    """What was launched, with the moment at which it is done, each as soon as the next is launched too."""
    waiting: list[tuple[T, torch.cuda.Event | None]] = []
    for latest in launches:
        waiting.append((latest, event(device)))
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


@cache
def second_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all, since each stream keeps memory of its own."""
    return torch.cuda.Stream(device)


@contextmanager
def beside(done: torch.cuda.Event | None, device: torch.device) -> Iterator[None]:
    """What is computed here starts when `done` is past, without waiting for what was launched since."""
    if done is None:
        yield
        return
    stream = second_stream(device)
    stream.wait_event(done)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()  # before anyone gives back the memory that it reads
