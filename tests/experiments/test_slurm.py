"""hydra/launcher=slurm, on a stand-in cluster that behaves as SLURM's documentation says."""

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("submitit")

from slurm.jobs import drive, engine, hear, toys
from slurm.standin import Standin
from submitit.slurm.slurm import SlurmJobEnvironment

from ftrun.errors import ConfigError
from ftrun.experiments.launch import launch
from ftrun.experiments.queue import slurm, slurm_job, slurm_states
from ftrun.experiments.queue.job import FAILED, FINISHED, KILLED, STOPPED, Event
from ftrun.experiments.queue.slurm_job import MOST, STOP, Ticket, make

QUICK = "task=digits", "model=mlp", "hydra/launcher=slurm", "hydra.launcher.interval=1"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    monkeypatch.setattr(slurm, "GRACE", 0.5)
    monkeypatch.setattr(slurm_states, "PATIENCE", 0.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = Standin(kill_wait=5.0).open(tmp_path, monkeypatch)
    yield found
    found.close()


def counted(path):
    file = path / "count"
    return int(file.read_text() or 0) if file.exists() else 0


def running(cluster, number, steps):
    """A condition: this run has made so many steps."""
    return lambda: counted(cluster.place / f"run{number}") >= steps


def test_a_refused_run_is_told_with_its_reason(cluster, capsys):
    assert launch(["-m", *QUICK, "train.lr=-5", "hydra.sweep.dir=many"]) == 1
    said = capsys.readouterr()
    assert "train.lr is above 0, not -5.0" in said.out and "0 of 1 runs finished" in said.out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"tasks_per_node": 2}, "tasks_per_node=2: possible: 1; .* hydra.launcher.processes=N"),
        ({"cluster": "pbs"}, "cluster=pbs: possible: slurm, local"),
        ({"runs_per_job": 0}, "runs_per_job=0: possible: a whole number from 1"),
        ({"timeout_min": 2}, "signal_delay_s=120: possible: fewer seconds than the 120 of"),
    ],
)
def test_settings_that_cannot_be_had_are_refused(words, reason):
    with pytest.raises(ConfigError, match=reason):
        engine(**words)


def test_without_slurm_its_programs_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError, match="sbatch, srun, squeue, scontrol, scancel, not found here; possible: a login"
    ):
        engine().open(tmp_path, toys(tmp_path, 1, 1))


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A function that makes two toy runs as SLURM's job 7 would; the first is sent signals, if it is to be."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    requeued = []
    monkeypatch.setattr(SlurmJobEnvironment, "_requeue", lambda self, countdown: requeued.append(self.job_id))
    tickets = [Ticket(str(job.number), job) for job in toys(tmp_path, 2, 1)]
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    monkeypatch.setattr(sys, "path", [*sys.path])

    def start(*signals, saves=True):
        def work(job):
            for number in signals:
                os.kill(os.getpid(), number)
            if not signals:
                return Event(job.number, FINISHED)
            if saves:
                (job.path / "checkpoints" / str(len(list(job.path.glob("*/*"))))).mkdir(parents=True)
            return Event(job.number, STOPPED)

        monkeypatch.setattr(slurm_job, "work", work)
        code = 0
        try:
            make(tmp_path, tickets)
        except SystemExit as end:
            code = end.code
        return [ticket.event(tmp_path) and ticket.event(tmp_path).state for ticket in tickets], requeued, code

    yield start
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_before_its_limit_a_job_is_requeued_and_goes_on(inside, number):
    assert inside(number, signal.SIGTERM) == ([None, None], ["7"], -1)
    assert inside() == ([FINISHED, FINISHED], ["7"], 0)


@pytest.mark.parametrize(("state", "again"), [("RUNNING", ["7"]), ("COMPLETING", []), ("CANCELLED", [])])
def test_terminated_a_job_is_requeued_unless_slurm_is_ending_it(inside, monkeypatch, state, again):
    said = subprocess.CompletedProcess([], 0, stdout=f"JobId=7\n   JobState={state} Reason=None\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: said)
    assert inside(signal.SIGTERM) == ([None, None], again, -1)


def test_a_job_that_is_to_stop_tells_so_and_is_not_requeued(inside, tmp_path):
    (tmp_path / f"7{STOP}").touch()
    assert inside(signal.SIGTERM) == ([STOPPED, STOPPED], [], 0)


def test_a_run_that_saves_nothing_until_its_limit_fails_at_last(inside):
    for start in range(1, MOST):
        assert inside(signal.SIGUSR2, saves=False) == ([None, None], ["7"] * start, -1)
    assert inside(signal.SIGUSR2, saves=False) == ([FAILED, None], ["7"] * MOST, -1)


def test_a_job_that_cannot_be_requeued_gives_its_runs_back(inside, monkeypatch):
    def refuse(self, countdown):
        raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])

    monkeypatch.setattr(SlurmJobEnvironment, "_requeue", refuse)
    assert inside(signal.SIGUSR2) == ([STOPPED, STOPPED], [], -1)


def test_a_second_sigterm_breaks_off_nothing(capsys):
    from ftrun.runs.signals import interruptions

    before = signal.getsignal(signal.SIGTERM)
    with interruptions() as caught:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.ci
def test_runs_outlive_their_limits_preemption_and_nodes(cluster, tmp_path):
    """Run 0 comes to its limit several times, run 1 is preempted, twice told to terminate; all go on by themselves."""
    cluster.minute = 1.0  # so that 3 minutes are 3 seconds
    cluster.when(running(cluster, 1, 50), lambda: cluster.preempt(cluster.jobs[1], 1.0))
    cluster.when(running(cluster, 2, 50), lambda: cluster.fail(cluster.jobs[2], "NODE_FAIL"))
    found = drive(engine(timeout_min=6, signal_delay_s=120), tmp_path, toys(tmp_path, 3, 900), 120)
    assert {number: (event.state, event.score) for number, event in found.items()} == dict.fromkeys(
        range(3), (FINISHED, 900)
    )
    assert [job.restarts >= least for job, least in zip(cluster.jobs, (2, 2, 2), strict=True)] == [True] * 3
    assert not any("TIMEOUT" in job.shown for job in cluster.jobs)
