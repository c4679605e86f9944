"""A run that a torchrun group of processes on one machine makes; `main` is what each of them runs."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ftrun.errors import Interrupted
from ftrun.experiments.queue.attempt import alone, died, ending_softly
from ftrun.experiments.queue.job import Event, Job

ENDING = 60.0  # seconds that a group has to save and end
JOB, EVENT = "job", "event"


def in_group(job: Job) -> Event:
    """Have job.processes processes make the run together, and wait for them; what they print comes here."""
    with tempfile.TemporaryDirectory(prefix="ftrun-") as place:
        Path(place, JOB).write_bytes(pickle.dumps(replace(job, processes=1)))
        words = ["--standalone", f"--nproc-per-node={job.processes}", "--module", __name__, place]
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
                group.wait()
        except (Interrupted, KeyboardInterrupt):
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


def main(place: str) -> None:
    """One process of the group; the first one leaves word of the end."""
    job: Job = pickle.loads(Path(place, JOB).read_bytes())
    job.place.enter()
    event = alone(job)
    if os.environ["RANK"] == "0":
        Path(place, EVENT).write_bytes(pickle.dumps(event))


if __name__ == "__main__":
    main(sys.argv[1])
