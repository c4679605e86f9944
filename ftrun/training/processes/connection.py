"""The process group of torch: opened for a job, cut where a collective would wait for ever, and made anew."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from ftrun.training.processes.peers import Peers


class Connection:
    """The process group of this process; the next one gets another number, the same in all."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.number = 0
        self.sockets: set[tuple[int, str]] = set()  # of the group: descriptor and what it is
        self.is_open = self.is_cut = self.was_cut = False  # this one, this one, any

    @property
    def group(self) -> int | None:
        """The number of the group, None where it has been cut."""
        return None if self.is_cut else self.number

    def open(self, gpu: bool) -> None:
        """Connect to the others, which do so too, unless that was done for an earlier job."""
        if self.is_open:
            return
        self.meet()
        before = sockets()
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group(
            "nccl" if gpu else "gloo",
            store=dist.PrefixStore(f"group/{self.number}", self.peers.store),
            rank=self.peers.rank,
            world_size=self.peers.size,
        )
        self.sockets, self.is_open = sockets() - before, True

    def meet(self) -> None:
        """Wait until all are here; RuntimeError where one will not come, as torch would wait for it."""
        store, number = self.peers.store, self.number
        store.set(f"meet/{number}/{self.peers.rank}", "")
        here = set()
        for peer in self.peers.until(lambda peer: bool(store.check([f"meet/{number}/{peer}"])), self.ended):
            here.add(peer)
        if len(here) < self.peers.size:
            raise RuntimeError("another process has failed")

    def ended(self) -> bool:
        """Whether a process has failed since the group got its number."""
        return self.is_cut or self.peers.store.check([f"failed/{self.number}"])

    def cut(self) -> None:
        """End what waits for the others, in them and here: their collectives raise.

        A gloo group has no call for it, so its sockets are shut down; NCCL's is aborted.
        """
        if self.is_cut:
            return
        self.is_cut = self.was_cut = True
        for descriptor, _ in self.sockets & sockets():
            with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as each:
                each.getpeername()  # one that listens has none, and stays
                each.shutdown(socket.SHUT_RDWR)
        if self.is_open and dist.is_initialized() and dist.get_backend() == "nccl":
            assert dist.group.WORLD is not None
            dist.group.WORLD.abort()

    def close(self) -> None:
        """Let go of the group; the next one is new."""
        if self.is_open and dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()
        self.number += 1
        self.sockets, self.is_open, self.is_cut = set(), False, False


def sockets() -> set[tuple[int, str]]:
    """The open sockets of this process: descriptor and inode; none where the system does not list them."""
    found = set()
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if (what := os.readlink(f"/proc/self/fd/{name}")).startswith("socket:"):
                    found.add((int(name), what))
    return found
