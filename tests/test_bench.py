"""The benchmark for a GPU does its work on a CPU too, in small; the simulation of the statistics runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


class InTurn:
    """A pool of threads that has none: each call in its turn."""

    def __init__(self, workers):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """There is nothing to wait for."""


@pytest.mark.ci
def test_the_benchmark_for_a_gpu_runs(tmp_path, monkeypatch, ftrun_inprocess):
    """Its runs in this process, the Trainer's and the counting of kernels in others."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts/bench"))
    import gpu
    import gpu_graphs
    import gpu_parts
    import gpu_shapes

    for part in (gpu, gpu_graphs, gpu_parts, gpu_shapes):
        monkeypatch.setattr(part, "ftrun", lambda words: ftrun_inprocess(*words, check=False))
        monkeypatch.setattr(part, "ThreadPoolExecutor", InTurn, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    monkeypatch.setattr(gpu_shapes, "environment", lambda: {**os.environ})  # of the run that is killed
    sections = [name for name in gpu.SECTIONS if name != "parity"]  # of a CPU with itself
    words = ["--device", "cpu", "--tiny", "--workers", "1", "--sections", *sections]
    words += ["--cases", "fp32", "tiny 16", "hidden words"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), *words])
    gpu.main()
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert not [line for line in lines if "says" in line]
    smoke = [line for line in lines if line["section"] == "smoke"]
    assert [line["case"] for line in smoke] == ["fp32"] and smoke[0]["exit_code"] == 0
    for section, strategy in {"ratio": "full", "more_ratios": "linear_probe"}.items():
        sides = {line["side"]: line for line in lines if line["section"] == section}
        assert list(sides) == ["Trainer, defaults", "Trainer, best", "ftrun", "ftrun not deterministic"]
        assert {(line["strategy"], line["steps"]) for line in sides.values()} == {(strategy, 6)}
        assert all(line["ms_per_step"] > 0 for line in sides.values())
    waits = {line["strategy"]: line for line in lines if line["section"] == "syncs"}
    assert list(waits) == ["full"]
    assert all(line["kernels_per_step"] > 100 and not line["waits_per_step"] for line in waits.values())
    (again,) = (line for line in lines if line["section"] == "resume")
    assert again["killed"] and again["metrics_equal"] and again["weights_equal"]
    (full,) = (line for line in lines if line["section"] == "full_batches")
    assert full["operations_a_second"] > 0 and full["tokens"] == 2 * 32 * 16
    kinds = {line["shape"]: line for line in lines if line["section"] == "shapes"}
    assert list(kinds) == ["modernbert", "gpt2", "vit", "resnet", "simclr"]
    assert all(line["steps"] == 3 for line in kinds.values()) and kinds["simclr"]["images_a_second"] > 0
    alike = {line["case"]: line for line in lines if line["section"] == "graphs"}
    assert list(alike) == ["tiny, fp32", "hidden words", "tiny full, timed"]
    assert all(line["metrics_equal"] and line["weights_equal"] for line in alike.values())


@pytest.mark.ci
def test_the_cost_of_studies_is_measured(tmp_path):
    script = str(ROOT / "scripts/bench/study_cost.py")
    words = ["--cases", "digits", "--digits", "4", "--repeats", "1", "--against", str(ROOT)]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sides = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["side"] for line in sides] == ["now", "before"]
    assert all({"seconds", "each"} <= {*line} and line["seconds"] > 0 and line["MB"] > 0 for line in sides)


@pytest.mark.parametrize(
    "table",
    ["alike", "unlike", "gaps", "sizes", "smallest", pytest.param("folds", marks=pytest.mark.ci), "smooth"],
)
def test_the_simulation_of_the_statistics_goes_through_those_of_reports(table, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts/bench"))
    import trust

    titles, *rows = trust.TABLES[table](2)
    assert rows and all(len(row) == len(titles) for row in rows)
