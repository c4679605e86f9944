"""Thousands of runs through each launcher, with workers killed at random; a million through the driver alone.

python scripts/bench/scale.py OUT local 2000 [--kill 0.01]      the launcher, the runs, kills a second
python scripts/bench/scale.py OUT ray 200 [--kill 0.05]          two Ray nodes on this machine's loopback
python scripts/bench/scale.py OUT slurm 50 [--kill 0.05]         submitit's local executor
python scripts/bench/scale.py OUT report 10000                   ftrun report over so many directories
python scripts/bench/scale.py OUT simulation 1000000 [--workers 1000]   events only

Runs are `task=digits model=mlp train.max_steps=5`. Printed are CPU seconds a run of all processes, the
driver's memory at a tenth and at the end, and whether every run finished once, the ledger is true and a
sample of runs has the bytes of the same runs made one by one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "fixtures"))
from scale_simulated import RUN, simulation

SAMPLE = 20  # runs that are made again, one by one
LOCAL = {
    "local": ["hydra/launcher=local", "hydra.launcher.n_jobs=2", "hydra.launcher.threads=1"],
    "ray": ["hydra/launcher=ray"],
    "slurm": ["hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.runs_per_job=25"],
}
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
RETRIES = "hydra.launcher.max_retries=50"  # kills are many here


def sweep(out: Path, launcher: str, count: int, kills: float) -> None:
    """The whole sweep as a person starts it, with workers killed beside it."""
    place, words = out / launcher, [*LOCAL[launcher]]
    shutil.rmtree(place, ignore_errors=True)
    cluster = two_nodes() if launcher == "ray" else None
    if cluster is not None:
        words.append(f"hydra.launcher.address={cluster.address}")
    command = [
        sys.executable, "-m", "ftrun", "-m", *RUN, f"seed=range({count})", f"hydra.sweep.dir={place}", *words,
        RETRIES,
    ]  # fmt: skip
    draw, begin = random.Random(0), time.perf_counter()
    with open(out / f"{launcher}.log", "w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log, env=ONE_THREAD)
        memory, killed, cpu = watched(driver, place, count, kills, draw)
    if cluster is not None:
        cluster.shutdown()
    found = {
        "launcher": launcher, "runs": count, "exit code": driver.returncode, "kills": killed,
        "seconds": round(time.perf_counter() - begin), "CPU seconds a run": round(cpu / count, 3),
        "driver MB": memory, **truth(place, count), "same bytes": same_bytes(place, out / "alone", count),
    }  # fmt: skip
    print(json.dumps(found), flush=True)


def two_nodes():  # noqa: ANN201 - of an extra
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    return cluster


def watched(
    driver: subprocess.Popen[bytes], place: Path, count: int, kills: float, draw: random.Random
) -> tuple[list[int], int, float]:
    """The driver's megabytes at a tenth and at the end, the workers killed, and the CPU seconds of all.

    All are this process's descendants, Ray's nodes among them; what a process does in its last second is not
    counted.
    """
    process, early, latest, killed, seconds = psutil.Process(driver.pid), 0, 0, 0, {}
    while driver.poll() is None:
        time.sleep(1)
        done = len(list((place / "ledger").glob("*.json")))
        workers = []
        for each in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                seconds[each.pid, each.create_time()] = sum(each.cpu_times()[:2])
                workers += [each] * is_worker(each)
        with contextlib.suppress(psutil.Error):
            latest = process.memory_info().rss // 1_000_000 or latest  # nothing once it has ended
            early = early or (latest if done >= count / 10 else 0)
            if done and workers and draw.random() < kills:
                draw.choice(workers).kill()
                killed += 1
    return [early, latest], killed, sum(seconds.values())


def is_worker(process: psutil.Process) -> bool:
    first, *words = process.cmdline() or [""]
    busy = first.startswith("ray::") and not any(each in first for each in ("IDLE", "Agent"))  # Ray's own
    return busy or any("spawn_main" in word or "submitit.core._submit" in word for word in words)


def truth(place: Path, count: int) -> dict[str, bool]:
    """Whether each run finished once, in a directory of its own, and the ledger says so."""
    entries = [json.loads(file.read_text()) for file in (place / "ledger").glob("*.json")]
    finished = Counter(entry["run"] for entry in entries if entry["state"] == "finished")
    runs = {path.parent.name for path in place.glob("*/result.json")}
    seeds = Counter(
        line
        for path in place.glob("*/config.yaml")
        for line in path.read_text().splitlines()
        if line.startswith("seed:")
    )
    return {
        "each once": len(runs) == len(seeds) == count and set(seeds.values()) == {1},
        "ledger true": set(finished) == runs and set(finished.values()) == {1} and len(entries) == count,
    }


def same_bytes(place: Path, alone: Path, count: int) -> bool:
    """Whether a sample of the runs has the content of runs that were made one by one."""
    from killing import content, different

    shutil.rmtree(alone, ignore_errors=True)
    seeds = sorted(random.Random(1).sample(range(count), min(SAMPLE, count)))
    for seed in seeds:
        words = [*RUN, f"seed={seed}", f"hydra.run.dir={alone / str(seed)}"]
        subprocess.run(
            [sys.executable, "-m", "ftrun", *words], stdout=subprocess.DEVNULL, check=True, env=ONE_THREAD
        )
    found = {seed: different(content(alone / str(seed)), content(place / f"{seed}-full")) for seed in seeds}
    odd = {seed: set(names) - {"log.txt"} for seed, names in found.items()}  # which only runs of a sweep have
    return not any(odd.values())


def report(out: Path, count: int) -> None:
    """ftrun report over copies of forty runs, with seeds, rates and places of their own."""
    place = out / "many"
    if len(list(place.glob("*"))) != count:
        copies(out / "models", place, count)
    for form in ("table", "html"):
        output = ["--output", str(out / f"report.{form}")] if form == "html" else []
        command = [sys.executable, "-m", "ftrun", "report", str(place), "--format", form, *output]
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.execve(sys.executable, command, ONE_THREAD)
        begin = time.perf_counter()
        _, status, used = os.wait4(pid, 0)
        print(
            json.dumps({
                "report": form, "runs": count, "exit code": os.waitstatus_to_exitcode(status),
                "CPU seconds": round(used.ru_utime + used.ru_stime, 1),
                "seconds": round(time.perf_counter() - begin, 1), "peak MB": used.ru_maxrss // 1000,
            }),
            flush=True,
        )  # fmt: skip


def copies(models: Path, place: Path, count: int) -> None:
    """So many run directories: forty ways of ten seeds each are trained, and all others are their copies."""
    from ftrun.runs.config import from_yaml, to_yaml

    words = ["-m", *RUN, "seed=range(10)", "train.lr=1e-3,3e-3,1e-2,3e-2", f"hydra.sweep.dir={models}"]
    subprocess.run(
        [sys.executable, "-m", "ftrun", *words], stdout=subprocess.DEVNULL, check=True, env=ONE_THREAD
    )
    originals = sorted(path.parent for path in models.glob("*/result.json"))
    shutil.rmtree(place, ignore_errors=True)
    for number in range(count):
        original = originals[number % len(originals)]
        target = place / f"{number}-full"
        shutil.copytree(original, target, ignore=shutil.ignore_patterns("checkpoints", "model"))
        config = from_yaml(target / "config.yaml")
        config["train"]["lr"] *= 1 + number // len(originals) / 1000  # another way
        (target / "config.yaml").write_text(to_yaml(config))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("what", choices=[*LOCAL, "report", "simulation"])
    parser.add_argument("count", type=int)
    parser.add_argument("--kill", type=float, default=0.0, help="the chance of a kill, each second")
    parser.add_argument("--workers", type=int, default=1000)
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if options.what == "report":
        report(out, options.count)
    elif options.what == "simulation":
        simulation(out, options.count, options.workers)
    else:
        sweep(out, options.what, options.count, options.kill)


if __name__ == "__main__":
    main()
