"""A run that a torchrun group of processes on one machine makes; `main` is what each of them runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ftrun.experiments.queue.attempt import alone, died
from ftrun.experiments.queue.inheriting import follow
from ftrun.experiments.queue.job import FINISHED, PAUSED, Event, Job
from ftrun.runs.signals import ending_softly

ENDING = 60.0  # seconds that a group has to save and end
JOB, EVENT = "job", "event"


def in_group(job: Job) -> Event:
    """Have job.processes processes make the run together, and wait for them; what they print comes here."""
    with tempfile.TemporaryDirectory(prefix="ftrun-") as place:
        Path(place, JOB).write_bytes(pickle.dumps(replace(job, processes=1)))
        words = [
            "--standalone",
            f"--nproc-per-node={job.processes}",
            f"--log-dir={place}",  # else it leaves an empty directory behind
            "--module",
            __name__,
            place,
            str(os.getpid()),
        ]
        group = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *words],
            stdout=sys.stdout.fileno(),
            stderr=sys.stdout.fileno(),
            cwd=job.place.directory,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(job.place.modules)},
            start_new_session=True,  # Ctrl-C is for the driver, which asks it to end
        )
        try:
            with ending_softly():
                group.wait(threading.TIMEOUT_MAX)  # which an interruption without a signal ends too
        except KeyboardInterrupt:
            end(group)
        finally:
            group.kill()
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            found: Event = pickle.loads(Path(place, EVENT).read_bytes())
            return found
    return died(job, group.returncode)


def end(group: subprocess.Popen[bytes]) -> None:
    """Have it save and end; torchrun passes the signal on."""
    group.terminate()
    with suppress(subprocess.TimeoutExpired):
        group.wait(ENDING)


def main(place: str, worker: str) -> int:
    """One process of the group: the first makes the run and leaves word of the end, the others take part."""
    from ftrun.training.processes import ranks

    follow(os.getppid(), int(worker))
    job: Job = pickle.loads(Path(place, JOB).read_bytes())
    job.place.enter()
    if os.environ["RANK"] != "0":
        return ranks.follow()
    with ranks.leading() as codes:
        event = alone(job)
        Path(place, EVENT).write_bytes(pickle.dumps(event))
        codes.append(0 if event.state in (FINISHED, PAUSED) else 1)
    return codes[0]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
