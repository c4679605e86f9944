"""The machines of a Ray cluster: the connection to them, and how many runs they have room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, UserError, told
from ftrun.experiments.queue import capacity
from ftrun.experiments.queue.ray_task import Driving, Unfit, look
from ftrun.runs.terminal import say

if TYPE_CHECKING:
    from types import ModuleType

LOOK = 5.0  # seconds between two looks at which machines there are
ANSWER = 10.0  # seconds that the head of a cluster has to answer
WORD = 60.0  # seconds that a machine has to say whether it can make runs
STORE = 80 * 2**20  # bytes for Ray's objects on this machine, near its least; jobs and events do not go there
QUIET = {"RAY_enable_metrics_collection": "0"}  # for which it misses an agent, as the driver is told
POSSIBLE = (
    "possible: null for Ray on this machine alone; auto after ray start --address=HEAD:PORT on it;"
    " or that HEAD:PORT"
)


def installed() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise ConfigError("hydra/launcher=ray needs Ray: pip install 'ftrun[ray]'") from None
    return ray


def connect(given: str | None, runtime_env: dict[str, Any] | None) -> None:
    """Join the cluster at this address, or start Ray on this machine, without a word on the terminal.

    Raises ConfigError for an address or an environment that cannot be had.
    """
    ray = installed()
    address = given or os.environ.get("RAY_ADDRESS") or "local"
    if address not in ("local", "auto"):
        refuse_silent(address)
    here = {"num_cpus": capacity.cores(), "include_dashboard": False, "object_store_memory": STORE}
    ray._private.worker.print_to_stdstream = unsaid
    try:
        with only_here(QUIET):
            ray.init(
                address=address,
                runtime_env=runtime_env,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **(here if address == "local" else {}),
            )
    except (OSError, RuntimeError, ValueError, TypeError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise ConfigError(f"hydra.launcher.address={address}: {told(error)}; {POSSIBLE}") from None


def refuse_silent(address: str) -> None:
    """ConfigError for an address at which nothing answers; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"hydra.launcher.address={address}: {POSSIBLE}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"hydra.launcher.address={address}: {told(error)}; {POSSIBLE}") from None


def unsaid(*words: Any, **more: Any) -> None:
    """In place of the function by which Ray tells of dead processes and machines; the driver does."""


@contextmanager
def only_here(variables: dict[str, str]) -> Iterator[None]:
    """These variables count inside alone; and signals mean afterwards what they meant before."""
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if main}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        for number, handler in handlers.items():  # Ray has SIGTERM end the process at once
            signal.signal(number, handler)


@dataclass
class Machines:
    """Those with room for a run, which may come and go."""

    needs: dict[str, float]  # of a run, in Ray's names of resources
    unfit: set[str] = field(default_factory=set)  # those that cannot make runs
    slots: int = 0
    number: int = 0
    looked: float = float("-inf")

    def nodes(self) -> list[dict[str, Any]]:
        """Those that a run fits on when they are idle, as Ray describes them."""
        import ray

        return [
            node
            for node in ray.nodes()
            if node["Alive"] and node["NodeID"] not in self.unfit and self.runs(node["Resources"])
        ]

    def runs(self, resources: dict[str, float]) -> int:
        """How many runs these suffice for."""
        return int(min(resources.get(name, 0) // value for name, value in self.needs.items() if value))

    def count(self) -> int:
        """How many runs they have room for, looked up now and then."""
        if time.monotonic() >= self.looked + LOOK:
            self.looked, before, found = time.monotonic(), self.slots, self.nodes()
            self.number, self.slots = len(found), sum(self.runs(node["Resources"]) for node in found)
            if before and not self.slots:
                say("no machine of the Ray cluster has room for a run any more; the sweep waits for one")
        return self.slots

    def ask(self, driving: Driving) -> None:
        """Ask each whether it can make runs. Those that cannot are said and left out.

        Raises UserError where none is large enough, and ConfigError where none can.
        """
        asked = {self.asked(node, driving): node for node in self.nodes()}
        if not asked:
            raise UserError(self.nowhere())
        found = [unfit for unfit in answers(asked) if unfit is not None]
        reasons = [self.leave_out(unfit) for unfit in found]
        if len(reasons) == len(asked):
            raise ConfigError(f"hydra/launcher=ray: no machine can make runs: {'; '.join(reasons)}")
        for reason in reasons:
            say(f"warning: {reason}; it is not used")

    def asked(self, node: dict[str, Any], driving: Driving) -> Any:
        """The reference to its answer."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        return ray.remote(look).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(driving)

    def leave_out(self, unfit: Unfit) -> str:
        """Use it no more; why, in a line."""
        self.unfit.add(unfit.node)
        self.looked = float("-inf")
        return f"machine {unfit.address}: {unfit.reason}"

    def nowhere(self) -> str:
        import ray

        wanted = ", ".join(amount(name, value) for name, value in self.needs.items() if value)
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = {name: max(each.get(name, 0) for each in there) for name, value in self.needs.items() if value}
        return (
            f"hydra/launcher=ray: no machine has room for a run, which takes {wanted}"
            f" (at most there are {', '.join(amount(name, value) for name, value in most.items())});"
            " possible: less by hydra.launcher.num_cpus=, num_gpus= or options=, or a larger machine"
        )


def answers(asked: dict[Any, dict[str, Any]]) -> Iterator[Unfit | None]:
    """What they lack, of those that answer in time; one that is slow says so with its first run."""
    import ray

    for answer in ray.wait(list(asked), num_returns=len(asked), timeout=WORD)[0]:
        try:
            yield ray.get(answer)
        except ray.exceptions.RayError as error:
            node = asked[answer]
            yield Unfit(node["NodeID"], node["NodeManagerAddress"], told(cause_of(error)))


def cause_of(error: BaseException) -> BaseException:
    """What a task raised, without Ray's account of where."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def amount(name: str, value: float) -> str:
    """A resource as a person says it: 4 cores, 1 GPU, 1.2 GB, 2 a100."""
    match name:
        case "CPU":
            return f"{value:g} core" + "s" * (value != 1)
        case "GPU":
            return f"{value:g} GPU" + "s" * (value != 1)
        case "memory":
            return f"{value / 1e9:.1f} GB"
    return f"{value:g} {name}"
