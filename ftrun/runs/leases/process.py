"""A process of some machine, as others that see its files know it, and whether it lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Process:
    """Which process it is, on whatever machine, before or after it has ended."""

    host: str  # the name of its machine
    machine: str  # what stays when the machine starts anew; empty where nothing does
    boot: str  # of this start of the machine
    space: str  # of the numbers of processes: a container may have its own
    number: int
    started: str  # as its machine counts; a number is given again

    @classmethod
    def of(cls, values: dict[str, Any]) -> Process:
        """Of a file. Raises TypeError, ValueError or KeyError where they are no process."""
        texts = {name: str(values[name]) for name in ("host", "machine", "boot", "space", "started")}
        return cls(**texts, number=int(values["number"]))

    def lives(self) -> bool | None:
        """Whether it lives; None where that cannot be known from here."""
        here = own()
        if (self.boot or self.host, self.space) == (here.boot or here.host, here.space):
            found = began(self.number)
            return None if found == "" else found == self.started
        if self.machine and (self.host, self.machine) == (here.host, here.machine) and self.boot != here.boot:
            return False  # its machine has started anew
        return None

    def __str__(self) -> str:
        return f"process {self.number} on {self.host}"


def own() -> Process:
    """This one."""
    number = os.getpid()
    return Process(*surroundings(), number, began(number) or "")


@cache
def surroundings() -> tuple[str, str, str, str]:
    """Host, machine, boot and space of this process."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return socket.gethostname(), read("/etc/machine-id"), read("/proc/sys/kernel/random/boot_id"), space


def read(file: str) -> str:
    """A line of a file; empty where it cannot be read."""
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def began(number: int) -> str | None:
    """When a process of this machine began; empty where that is hidden, None where none lives."""
    if os.path.exists("/proc/self/stat"):
        fields = read(f"/proc/{number}/stat").rpartition(")")[2].split()  # proc(5), from its state on
        if fields:
            return None if fields[0] in "ZX" else fields[19]  # one that has ended and is still listed
        try:
            os.kill(number, 0)
        except PermissionError:  # another user's, where /proc shows a user's own alone
            return ""
        except OSError:
            pass
        return None
    import psutil

    try:
        found = psutil.Process(number)
        return None if found.status() == psutil.STATUS_ZOMBIE else str(found.create_time())
    except psutil.Error:
        return None
