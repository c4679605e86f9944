"""Memory that ends on a CPU: known whoever says it, halved where that helps, one line and exit code 4."""

import mmap
import sys

import numpy
import pytest
import torch
from accelerate import Accelerator
from lab import ran, settings

from ftrun import cli
from ftrun.errors import ConfigError, OutOfMemory, memory_told, out_of_memory
from ftrun.experiments import single
from ftrun.models.load import load
from ftrun.tasks.data import TaskData
from ftrun.tasks.objective import Objective
from ftrun.tasks.parts.labelled import ClassScorer
from ftrun.training.evaluate import SMALLEST, evaluate

FAR = 2**50  # bytes, more than any machine has
WORDS = [
    "task=digits", "model=mlp", "task.subset=96", "train.batch_size=32", "train.max_steps=4",
    "train.eval_every=2", "train.lr=1e-2", "baselines=false", "device=cpu",
]  # fmt: skip


def says(text):
    def fail():
        raise RuntimeError(text)

    return fail


REAL = {
    "torch": lambda: torch.empty(FAR),
    "numpy": lambda: numpy.empty(FAR),
    "python": lambda: bytearray(2**60),
    "system": lambda: mmap.mmap(-1, 2**60),
    "oneDNN": says("could not create a primitive"),
    "C++": says("std::bad_alloc"),
    "CUDA": says("CUDA error: out of memory"),
}


@pytest.mark.parametrize("fail", REAL.values(), ids=REAL.keys())
def test_it_is_recognised_whoever_says_it(fail):
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever each of them raises
        fail()
    assert out_of_memory(caught.value)
    with (
        pytest.raises(OutOfMemory, match=r"^out of memory here( \(.+\))?; possible: less$"),
        memory_told("here", "less"),
    ):
        fail()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive descriptor for a matmul primitive"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory is a band"),
        FileNotFoundError(2, "No such file"),
        ConfigError("out of memory"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not(error):
    assert not out_of_memory(error)
    with pytest.raises(type(error)), memory_told("here"):
        raise error


@pytest.fixture(scope="module")
def at_four(tmp_path_factory):
    """The run whose micro-batches have four rows from the beginning."""
    return ran(tmp_path_factory.mktemp("four") / "run", settings(*WORDS, "train.micro_batch=4"))


@pytest.mark.parametrize(
    "fail", [REAL["torch"], REAL["numpy"], REAL["oneDNN"]], ids=["torch", "numpy", "oneDNN"]
)
def test_a_step_halves_the_micro_batch_and_is_then_the_run_that_began_with_it(
    at_four, tmp_path, monkeypatch, fail
):
    honest = Objective.loss

    def loss(self, outputs, batch):
        if len(batch["labels"]) > 4 and outputs.requires_grad:
            fail()
        return honest(self, outputs, batch)

    monkeypatch.setattr(Objective, "loss", loss)
    run = ran(tmp_path / "run", settings(*WORDS))
    assert run.read_json("cost.json")["micro_batch"] == 4
    for name in ("metrics.jsonl", "result.json"):
        assert (run.path / name).read_bytes() == (at_four.path / name).read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone counts address space so")
def test_a_limit_of_the_system_is_kept(at_four, tmp_path, monkeypatch):
    """With less address space than eight rows of a layer take."""
    import resource

    honest, row = Objective.loss, 2**28  # bytes that a row takes for a moment

    def loss(self, outputs, batch):
        if outputs.requires_grad:
            torch.empty(len(batch["labels"]) * row, dtype=torch.uint8)
        return honest(self, outputs, batch)

    monkeypatch.setattr(Objective, "loss", loss)
    experiment = settings(*WORDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (used + 6 * row, hard))
    try:
        run = ran(tmp_path / "run", experiment)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert (run.path / "metrics.jsonl").read_bytes() == (at_four.path / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def scored():
    """A network, its data, and its scores and rows where memory suffices."""
    experiment = settings(*WORDS)
    data = TaskData.read(experiment.task, 0)
    model = load(experiment.model, data.spec, 0)
    data.encode(model.tokenizer, "test")
    return model, data, evaluate(model, data, data.dataset("test"), SMALLEST, Accelerator(cpu=True))


@pytest.mark.parametrize("place", [Objective, ClassScorer], ids=["loss", "answers"])
def test_an_evaluation_halves_its_batch_and_scores_every_row_once(scored, monkeypatch, place):
    model, data, (scores, rows) = scored
    name = "loss" if place is Objective else "answers"
    honest, sizes = getattr(place, name), []

    def tight(self, outputs, batch):
        if len(outputs) > 5:
            numpy.empty(FAR)
        sizes.append(len(outputs))
        return honest(self, outputs, batch)

    monkeypatch.setattr(place, name, tight)
    found, answered = evaluate(model, data, data.dataset("test"), SMALLEST, Accelerator(cpu=True))
    assert max(sizes) <= 5 and sum(sizes) == len(data.dataset("test"))
    assert found == pytest.approx(scores)
    assert [row.row for row in answered] == [row.row for row in rows]
    assert [row.answer["answer"] for row in answered] == [row.answer["answer"] for row in rows]


def test_a_network_that_fits_no_row_is_one_line(scored, monkeypatch):
    model, data, _ = scored
    monkeypatch.setattr(model, "forward", lambda **inputs: torch.empty(FAR))
    with pytest.raises(OutOfMemory, match="out of memory when a single row is evaluated") as caught:
        evaluate(model, data, data.dataset("test"), SMALLEST, Accelerator(cpu=True))
    assert caught.value.exit_code == 4


def test_a_run_keeps_the_reason_and_a_command_ends_with_4(ftrun_inprocess, tmp_path, monkeypatch):
    monkeypatch.setattr(single, "load_network", lambda *given: bytearray(2**60))
    done = ftrun_inprocess(*WORDS, "hydra.run.dir=run", check=False)
    assert done.returncode == 4 and done.stderr.startswith("ftrun: out of memory in this run; possible: ")
    assert done.stderr.count("\n") == 1
    assert '"exit_code": 4' in (tmp_path / "run" / "failure.json").read_text()
    monkeypatch.setattr(TaskData, "read", lambda *given: numpy.empty(FAR))
    done = ftrun_inprocess(*WORDS, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("ftrun: out of memory when the rows are read (Unable to allocate")
    monkeypatch.setattr(cli, "start", lambda words: torch.empty(FAR))
    assert ftrun_inprocess("report", check=False).returncode == 4
