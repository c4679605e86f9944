"""The machines of a Ray cluster: the connection to them, and how many runs they have room for."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, UserError, counted, told
from ftrun.experiments.queue import capacity
from ftrun.experiments.queue.ray_task import Driving, Unfit, look
from ftrun.runs.terminal import say

if TYPE_CHECKING:
    from types import ModuleType

LOOK = 5.0  # seconds between two looks at which machines there are
ANSWER = 60.0  # seconds that a machine has to say what it is
STORE = 80 * 2**20  # bytes for Ray's objects on this machine, near its least; jobs and events do not go there
# for what Ray starts here: no reports to its makers, no search for an agent that is not installed
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}


def installed() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise ConfigError("hydra/launcher=ray needs Ray: pip install 'ftrun[ray]'") from None
    return ray  # type: ignore[no-any-return]


def connect(address: str | None, runtime_env: dict[str, Any] | None) -> None:
    """Join the cluster at this address, or start Ray on this machine, without a word on the terminal.

    Raises ConfigError for an address or an environment that cannot be had.
    """
    ray = installed()
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {"num_cpus": capacity.cores(), "include_dashboard": False, "object_store_memory": STORE}
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with own_handlers():
            ray.init(
                address=address,
                runtime_env=runtime_env,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **(own if address == "local" else {}),
            )
    except (ConnectionError, RuntimeError, ValueError, TypeError, TimeoutError) as error:
        ray.shutdown()
        where = f"hydra.launcher.address={address}: {told(error)}"
        raise ConfigError(
            f"{where}; possible: null to use this machine alone, or auto after ray start --address=HEAD:PORT on it"
        ) from None


@contextmanager
def own_handlers() -> Iterator[None]:
    """Signals mean afterwards what they meant before; Ray has SIGTERM end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
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
            " possible: less by hydra.launcher.num_cpus=, num_gpus= or options=, or a larger machine that joins"
        )


def answers(asked: dict[Any, dict[str, Any]]) -> Iterator[Unfit | None]:
    """What they lack, of those that answer in time; one that is slow says so with its first run."""
    import ray

    for answer in ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER)[0]:
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
