"""hydra/launcher=slurm, on a stand-in cluster that behaves as SLURM's documentation says."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from slurm.jobs import drive, engine, hear, toys
from slurm.standin import Standin
from submitit.slurm.slurm import SlurmJobEnvironment

from ftrun.errors import ConfigError
from ftrun.experiments.launch import launch
from ftrun.experiments.queue import slurm, slurm_job, slurm_states
from ftrun.experiments.queue.job import FAILED, FINISHED, IN_USE, KILLED, STOPPED, Event
from ftrun.experiments.queue.slurm_job import MOST, STOP, Ticket, make
from ftrun.runs.run import RESULT

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


def await_(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_refused_run_is_told_with_its_reason(cluster, capsys):
    words = [word.replace("=slurm", "=submitit_slurm") for word in QUICK]  # its former name
    assert launch(["-m", *words, "strategy=freeze", "hydra.sweep.dir=many"]) == 1
    said = capsys.readouterr()
    assert "freeze: bottom=2, but this network has 1 layer" in said.out and "0 of 1 runs finished" in said.out
    script = Path(cluster.jobs[0].script).read_text()
    for line in ("#SBATCH --requeue", "#SBATCH --signal=USR2@120", "#SBATCH --time=60", "--cpus-per-task=4"):
        assert line in script


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"tasks_per_node": 2}, "tasks_per_node=2: possible: 1; .* hydra.launcher.processes=N"),
        ({"cluster": "pbs"}, "cluster=pbs: possible: slurm, local"),
        ({"runs_per_job": 0}, "runs_per_job=0: possible: a whole number from 1"),
        ({"timeout_min": 2}, "signal_delay_s=120: possible: fewer seconds than the 120 of"),
        ({"timeout_min": "1:00:00"}, "timeout_min is a whole number, not '1:00:00'"),
        ({"gpus_per_node": -1}, "gpus_per_node is at least 0, not -1"),
        ({"mem_gb": "abc"}, "mem_gb is a number or null, not 'abc'"),
        ({"setup": "module load cuda"}, "setup is a list, not 'module load cuda'"),
        ({"additional_parameters": "abc"}, "additional_parameters is a group of settings, not 'abc'"),
        ({"name": None}, "name is a string, not null"),
        ({"jobs": 1}, "hydra/launcher=slurm has no setting 'hydra.launcher.jobs'; did you mean"),
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
        engine().open(tmp_path, toys(tmp_path, 1, 1), 1)


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A function that makes two toy runs as SLURM's job 7 would, the first of which may get signals."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    requeued = []
    monkeypatch.setattr(SlurmJobEnvironment, "_requeue", lambda self, countdown: requeued.append(self.job_id))
    tickets = [Ticket(str(job.number), job) for job in toys(tmp_path, 2, 1)]
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    monkeypatch.setattr(sys, "path", [*sys.path])

    def start(*signals, saves=True, states=()):
        left = list(states)
        for file in tmp_path.glob("*.event") if left else ():
            file.unlink()

        def work(job):
            for number in signals:
                os.kill(os.getpid(), number)
            if not signals:
                return Event(job.number, left.pop(0) if left else FINISHED)
            if saves:
                (job.path / "checkpoints" / str(len(list(job.path.glob("*/*"))))).mkdir(parents=True)
            return Event(job.number, STOPPED)

        monkeypatch.setattr(slurm_job, "work", work)
        code = 0
        try:
            make(tmp_path, tickets, 60)
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


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_run_hears_of_slurms_signals_as_one_sigterm(inside, number):
    heard, before = [], signal.getsignal(signal.SIGTERM)
    asked = slurm_job.Asked()
    signal.signal(signal.SIGTERM, lambda *each: heard.append(each[0]))  # as a run does
    for _ in range(2):
        os.kill(os.getpid(), number)
    signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM] and asked.before_the_limit


@pytest.mark.parametrize(("state", "again"), [("RUNNING", ["7"]), ("COMPLETING", []), ("CANCELLED", [])])
def test_terminated_a_job_is_requeued_unless_slurm_is_ending_it(inside, monkeypatch, state, again):
    said = subprocess.CompletedProcess([], 0, stdout=f"JobId=7\n   JobState={state} Reason=None\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: said)
    assert inside(signal.SIGTERM) == ([None, None], again, -1)


def test_a_job_that_is_to_stop_tells_so_and_is_not_requeued(inside, tmp_path):
    (tmp_path / f"7{STOP}").touch()
    assert inside(signal.SIGTERM) == ([STOPPED, STOPPED], [], 0)


def test_a_run_that_saves_nothing_until_its_limit_fails_at_last(inside, tmp_path):
    for start in range(1, MOST):
        assert inside(signal.SIGUSR2, saves=False) == ([None, None], ["7"] * start, -1)
    assert inside(signal.SIGUSR2, saves=False) == ([FAILED, None], ["7"] * MOST, -1)
    event = Ticket("0", None).event(tmp_path)
    assert event.message.endswith("nothing new saved; possible: more than hydra.launcher.timeout_min=60")


def test_a_job_that_cannot_be_requeued_gives_its_runs_back(inside, monkeypatch):
    def refuse(self, countdown):
        raise subprocess.CalledProcessError(1, ["scontrol", "requeue", "7"])

    monkeypatch.setattr(SlurmJobEnvironment, "_requeue", refuse)
    assert inside(signal.SIGUSR2) == ([STOPPED, STOPPED], [], -1)


def test_a_job_begun_anew_waits_for_the_lease_of_the_node_that_failed(inside, monkeypatch):
    monkeypatch.setattr(slurm_job, "PAUSE", 0.0)
    assert inside(states=[IN_USE, FINISHED]) == ([IN_USE, FINISHED], [], 0)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert inside(states=[IN_USE, IN_USE, FINISHED, FINISHED]) == ([FINISHED, FINISHED], [], 0)


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
    """All come to their limit, run 1 is preempted, and run 2 loses its node; they go on by themselves."""
    cluster.minute = 1.0  # so that 6 minutes are 6 seconds
    cluster.when(running(cluster, 1, 50), lambda: cluster.preempt(cluster.jobs[1], 1.0))
    cluster.when(running(cluster, 2, 50), lambda: cluster.fail(cluster.jobs[2], "NODE_FAIL"))
    found = drive(engine(timeout_min=6, signal_delay_s=120), tmp_path, toys(tmp_path, 3, 900), 120)
    assert {number: (event.state, event.score) for number, event in found.items()} == dict.fromkeys(
        range(3), (FINISHED, 900)
    )
    assert [job.restarts >= least for job, least in zip(cluster.jobs, (2, 2, 2), strict=True)] == [True] * 3
    assert not any("TIMEOUT" in job.shown for job in cluster.jobs)


@pytest.mark.ci
@pytest.mark.parametrize("accounting", [True, False])
@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("NODE_FAIL", (KILLED, "its job 101 ended as NODE_FAIL on node1")),
        ("OUT_OF_MEMORY", (KILLED, "OUT_OF_MEMORY on node1; possible: hydra.launcher.mem_gb=null higher")),
        ("CANCELLED", (FAILED, r"its job 101 was cancelled \(CANCELLED( by \d+)? on node1\)")),
    ],
)
def test_what_slurm_ends_is_told_with_its_reason(cluster, tmp_path, accounting, end, told):
    cluster.accounting, cluster.requeues = accounting, False
    scancel = lambda: cluster.do_scancel(["101"], "", {})  # noqa: E731
    act = scancel if end == "CANCELLED" else lambda: cluster.fail(cluster.jobs[0], end)
    cluster.when(running(cluster, 0, 30), act)
    event = drive(engine(), tmp_path, toys(tmp_path, 1, 900))[0]
    assert event.state == told[0] and re.search(told[1], event.message), event
    assert len(cluster.jobs) == 1 and cluster.jobs[0].restarts == 0
    if end == "CANCELLED":  # it saved
        assert (
            int((tmp_path / "run0" / "checkpoints" / "last").read_text()) % 10
            or counted(tmp_path / "run0") >= 30
        )


@pytest.mark.ci
def test_many_runs_are_few_jobs_of_one_array_and_no_more_than_asked_at_once(cluster, tmp_path):
    most = []
    cluster.when(lambda: most.append(sum(job.state == "RUNNING" for job in cluster.jobs)), lambda: None)
    wanted = engine(runs_per_job=4, array_parallelism=1)
    found = drive(wanted, tmp_path, toys(tmp_path, 10, 5))
    assert {event.state for event in found.values()} == {FINISHED} and len(found) == 10
    assert [job.name for job in cluster.jobs] == ["101_0", "101_1", "101_2"] and max(most) == 1
    assert len([call for call in cluster.calls if call[0] == "sbatch"]) == 1


@pytest.mark.ci
def test_of_a_job_that_dies_the_runs_that_had_not_begun_are_made_by_another(cluster, tmp_path):
    cluster.requeues = False
    cluster.when(running(cluster, 1, 20), lambda: cluster.fail(cluster.jobs[0], "NODE_FAIL"))
    found = drive(engine(runs_per_job=3), tmp_path, toys(tmp_path, 3, 100))
    assert [found[number].state for number in range(3)] == [FINISHED, KILLED, FINISHED]
    assert len(cluster.jobs) == 2


@pytest.mark.ci
def test_runs_of_one_job_share_its_time_and_go_on_in_it(cluster, tmp_path):
    cluster.minute = 1.0
    found = drive(
        engine(timeout_min=6, signal_delay_s=120, runs_per_job=8), tmp_path, toys(tmp_path, 8, 100), 120
    )
    assert {event.state for event in found.values()} == {FINISHED}
    assert len(cluster.jobs) == 1 and cluster.jobs[0].restarts >= 1


@pytest.mark.ci
def test_stopped_runs_save_and_no_job_is_left(cluster, tmp_path):
    wanted, jobs = engine(), toys(tmp_path, 4, 3000)
    wanted.open(tmp_path, jobs, len(jobs))
    for job in jobs:
        wanted.start(job)
    wanted.wait(0.0)
    await_(running(cluster, 1, 20))
    await_(running(cluster, 0, 20))
    wanted.stop()
    assert {event.state for event in hear(wanted, 4).values()} == {STOPPED}
    for number in range(2):  # two nodes: two had begun
        assert int((tmp_path / f"run{number}" / "checkpoints" / "last").read_text()) == counted(
            tmp_path / f"run{number}"
        )
    await_(lambda: not any(job.state in ("PENDING", "RUNNING") for job in cluster.jobs))
    assert not any(job.restarts for job in cluster.jobs)
    wanted.close()


@pytest.mark.ci
def test_a_driver_that_comes_back_finds_its_jobs(cluster, tmp_path):
    """One run has finished meanwhile, two go on, one waits in the queue: SLURM gets nothing twice."""
    gone, jobs = engine(), toys(tmp_path, 4, 300)
    jobs[0] = toys(tmp_path, 1, 5)[0]
    gone.open(tmp_path, jobs, len(jobs))
    for job in jobs:
        gone.start(job)
    gone.wait(0.0)
    await_(running(cluster, 2, 20))
    (tmp_path / "run0" / RESULT).write_text("{}")
    found = drive(engine(), tmp_path, [replace(job, number=job.number + 7) for job in jobs])
    assert {number: event.state for number, event in found.items()} == dict.fromkeys(range(7, 11), FINISHED)
    assert len(cluster.jobs) == 4
    drive(engine(), tmp_path, toys(tmp_path, 1, 6))  # of a closed driver nothing is taken up
    assert len(cluster.jobs) == 5


@pytest.mark.ci
def test_to_try_it_submitit_starts_processes_here(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "LOOK", 0.1)
    monkeypatch.setattr(slurm, "GRACE", 0.5)
    wanted, jobs = (
        engine(cluster="local", array_parallelism=2),
        toys(tmp_path, 2, 5) + toys(tmp_path, 4, 3000)[2:],
    )
    wanted.open(tmp_path, jobs, len(jobs))
    for job in jobs[:2]:
        wanted.start(job)
    assert {event.state for event in hear(wanted, 2).values()} == {FINISHED}
    for job in jobs[2:]:
        wanted.start(job)
    wanted.wait(0.0)
    for number in (2, 3):
        await_(lambda number=number: counted(tmp_path / f"run{number}") >= 20)
    wanted.link.kill(list(wanted.chunks)[:1])
    (lost,) = hear(wanted, 1).values()
    assert lost.state == KILLED and lost.message.endswith("ended as FAILED")
    wanted.stop()
    (saved,) = hear(wanted, 1).values()
    assert saved.state == STOPPED and not wanted.chunks
    path = tmp_path / f"run{saved.number}"
    assert int((path / "checkpoints" / "last").read_text()) == counted(path)
    wanted.close()
    await_(lambda: all([wanted.link.ended(number, wanted.folder) for number in wanted.link.own]))


@pytest.mark.ci
def test_what_sbatch_says_of_settings_is_told(cluster, tmp_path):
    with pytest.raises(ConfigError, match="sbatch does not take .* Invalid partition name specified"):
        drive(engine(partition="gpus"), tmp_path, toys(tmp_path, 1, 1))


@pytest.mark.ci
@pytest.mark.parametrize("processes", [1, 2])
def test_a_real_run_that_comes_to_its_limit_is_one_that_does_not(cluster, tmp_path, capsys, processes):
    """It comes to it twice, each time after 5 of 60 lines of metrics.jsonl, however busy the machine is."""
    words = "task=digits", "model=mlp", "train.max_steps=1500"
    lines = {}

    def age(job):
        file = tmp_path / "slurm" / "0-full" / "metrics.jsonl"
        now = file.read_bytes().count(b"\n") if file.exists() else 0
        since = now - lines.setdefault((job.raw, job.restarts), now)
        return 60.0 if job.restarts < 2 and since >= 5 else 0.0

    cluster.age = age
    limits = "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=60"  # told at 60 s, never killed
    group = f"hydra.launcher.processes={processes}"
    assert launch(["-m", *words, *QUICK, *limits, group, "hydra.sweep.dir=slurm"]) == 0
    assert cluster.jobs[0].restarts == 2 and cluster.jobs[0].state in ("RUNNING", "COMPLETED")
    assert "1 of 1 runs finished" in capsys.readouterr().out
    if processes > 1:
        return
    assert launch(["-m", *words, "hydra.sweep.dir=here"]) == 0
    for name in ("metrics.jsonl", "result.json", "predictions.jsonl"):
        assert (tmp_path / "slurm" / "0-full" / name).read_bytes() == (
            tmp_path / "here" / "0-full" / name
        ).read_bytes()
