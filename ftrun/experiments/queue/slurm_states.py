"""How jobs stand for SLURM: asked seldom, for all of them at once."""

from __future__ import annotations

import subprocess
import time

from submitit.slurm.slurm import SlurmInfoWatcher

# of https://slurm.schedmd.com/sacct.html, "JOB STATE CODES": those in which a job does not go on
FINAL = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT",
}  # fmt: skip
RETURNING = {"NODE_FAIL", "PREEMPTED"}  # SLURM may have such a job queued anew, as soon as it has tidied up
PATIENCE = 120.0  # seconds after which it has not
HURRIED = 5  # seconds between two questions while the sweep is ending
GONE = "GONE"  # no longer among squeue's, which forgets jobs some minutes after their end (MinJobAge)


class States(SlurmInfoWatcher):
    """submitit's watcher: after 2, 4, 8 seconds, then every `delay_s`; by squeue without accounting."""

    def __init__(self, delay_s: int) -> None:
        super().__init__(delay_s)
        words = ["sacct", "--noheader", "--jobs=1", "--format=JobID"]
        self._delay_s = delay_s
        self.returning: dict[str, float] = {}  # since when
        self.accounted = subprocess.run(words, capture_output=True).returncode == 0

    def _make_command(self) -> list[str] | None:
        command: list[str] | None = super()._make_command()
        if command is None or self.accounted:
            return command
        return ["squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T|%N"]

    def read_info(self, string: str | bytes) -> dict[str, dict[str, str]]:
        if self.accounted:
            said: dict[str, dict[str, str]] = super().read_info(string)
            return said
        text = string if isinstance(string, str) else string.decode()
        found: dict[str, dict[str, str]] = super().read_info(f"JobID|State|NodeList\n{text}")
        missing = self._registered - self._finished - set(found)
        return found | {each: {"State": GONE} for each in missing if each in self._info_dict}

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        state = self.get_state(job_id, mode).split()[0]
        if state in RETURNING and self.accounted:
            return time.monotonic() > self.returning.setdefault(job_id, time.monotonic()) + PATIENCE
        self.returning.pop(job_id, None)
        return state in {*FINAL, GONE}

    def is_known(self, job_id: str) -> bool:
        return self.get_state(job_id, mode="cache") != "UNKNOWN"

    def told(self, job_id: str) -> str:
        """Its state, as SLURM writes it, and where: "NODE_FAIL on node7"."""
        info = self.get_info(job_id, mode="cache")
        node = info.get("NodeList", "")
        return info.get("State", "UNKNOWN") + (f" on {node}" if node and "assigned" not in node else "")

    def hurry(self) -> None:
        """Ask every few seconds from now on."""
        self._delay_s = min(self._delay_s, HURRIED)
