"""The processes of a run: where they are, what they say to each other, and which of them are gone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store

LOOK = 0.05  # seconds between two looks, at first
LONGEST = 0.5  # and later
SILENCE = 60.0  # seconds without a sign of life from another machine, after which a process there is gone
BEGINNING = timedelta(minutes=10)  # in which all have to be there


class Peers:
    """All processes, this one among them. On this machine one is gone when the system says so."""

    def __init__(self) -> None:
        from torch.distributed import PrefixStore, TCPStore

        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun, outside of them
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), self.size
        whole = TCPStore(
            *address, is_master=not kept and self.rank == 0, timeout=BEGINNING, wait_for_workers=False
        )
        prefix = f"ftrun/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        self.store: Store = PrefixStore(prefix, whole)
        self.second: Store = PrefixStore(prefix, whole.clone())  # for another thread
        self.host = f"{socket.gethostname()} {boot()}"
        self.beats = 0
        self.store.set(f"place/{self.rank}", f"{os.getpid()} {self.host}")
        self.store.wait([f"place/{peer}" for peer in range(self.size)], BEGINNING)
        said = [self.store.get(f"place/{peer}").decode().partition(" ") for peer in range(self.size)]
        self.pids = {peer: int(pid) for peer, (pid, _, host) in enumerate(said) if host == self.host}
        self.signs = {peer: (-1, time.monotonic()) for peer in range(self.size) if peer not in self.pids}

    def beat(self) -> None:
        """A sign of life for other machines, and a look at theirs."""
        if not self.signs:
            return
        store = self.second
        self.beats += 1
        store.set(f"beat/{self.rank}", str(self.beats))
        for peer, (before, _) in list(self.signs.items()):
            if store.check([f"beat/{peer}"]) and (now := int(store.get(f"beat/{peer}"))) != before:
                self.signs[peer] = now, time.monotonic()

    def gone(self) -> set[int]:
        """The ranks of those that have ended."""
        ended = {peer for peer, pid in self.pids.items() if not runs(pid)}
        silent = {peer for peer, (_, at) in self.signs.items() if time.monotonic() - at > SILENCE}
        return ended | silent

    def until(self, ready: Callable[[int], bool], ended: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """Each process as soon as it is ready, waited for as long as it lives and nothing has ended all."""
        waiting, pause = set(range(self.size)), LOOK / 10
        while waiting and not ended():
            gone = self.gone()  # before it is asked whether it is ready
            for peer in sorted(waiting):
                if ready(peer):
                    yield peer
                    waiting.discard(peer)
            waiting -= gone
            if waiting:
                time.sleep(pause)
                pause = min(2 * pause, LONGEST)


def boot() -> str:
    """What tells machines of the same name apart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def runs(pid: int) -> bool:
    """Whether a process of this machine is there and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        if Path("/proc/self/stat").exists():
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True
    return state not in "ZX"
