"""Several processes do every kind of command as one does, and a failure of one ends the job of all."""

from __future__ import annotations

import json
from pathlib import Path

import jobs
import pytest
import several
from several import told, torchrun
from toys_mlm import files

SHORT = [
    "train.max_steps=6", "train.eval_every=3", "train.checkpoint_every=3", "train.lr=1e-2", "device=cpu",
    "train.patience=null", "baselines=false", "train.optimizer=sgd",
]  # fmt: skip
DIGITS = ["task=digits", "model=mlp", *SHORT, "task.subset=100", "train.batch_size=30", "train.micro_batch=8"]
PIXELS = ["train=embedded:digits:train", "size=8", "channels=1", "subset=64"]
FEW = ["train.max_steps=4", "train.checkpoint_every=2", "train.eval_every=2", "train.batch_size=8"]
HALVES = "{name: low, classes: [0,1,2], modulo: 3}, {name: high, classes: [3,4,5], modulo: 3}"


def lines(place: Path, toy_files: Path, still: Path) -> dict[str, list[str]]:
    """Every kind of command that is made of several runs."""
    rows = [f"task.{split}={toy_files}/{split}.csv" for split in ("train", "validation", "test")]
    text = [
        "task=classify",
        *rows,
        f"model.name={still}",
        "task.max_length=16",
        *SHORT,
        "train.batch_size=10",
    ]
    masked = [
        *text, "model.init=random", "pretrain=mlm", f"pretrain.task.train={files(place / 'data')}/text.txt",
        "pretrain.task.documents=line", "pretrain.task.block=16", *[f"pretrain.{word}" for word in FEW],
    ]  # fmt: skip
    views = [
        "task=image", *[f"task.{word}" for word in PIXELS], *SHORT, "model=cnn_small", "train.batch_size=16",
        "pretrain=simclr", *[f"pretrain.task.{word}" for word in PIXELS],
        *[f"pretrain.{word}" for word in FEW],
        "pretrain.task.jitter=[0.4,0.4,0,0]", "pretrain.task.grey=0", "pretrain.task.crop=[0.3,1.0]",
    ]  # fmt: skip
    domain = [
        "experiment=compose", *text, f"compose.text.train={toy_files}/train.csv", "compose.text.block=16",
        f"compose.rows={toy_files}/test.csv", "train.max_steps=2", "compose.train.max_steps=2",
    ]  # fmt: skip
    study = ["--strategies", "full,linear_probe", "--seeds", "1"]
    own = {
        "sequence": [*DIGITS, "strategy=l2sp", "alpha=1", "scenario=domain", f"sequence=[{HALVES}]"],
        "source": [*DIGITS, "strategy=full", "source=digits", "source.subset=100", "source.permute=3"],
        "mlm": masked,
        "nsp": [*masked, "pretrain.task.next=nsp"],
        "sop": [*masked, "pretrain.task.next=sop"],
        "simclr": views,
        "domain": domain,
    }
    known = {name: [*words, f"hydra.run.dir={place}/{name}"] for name, words in own.items()}
    compared = ["compare", *DIGITS, "train.lr=auto", *study, "--dir", f"{place}/compare"]
    return known | {"compare": compared}


def numbers(value: object) -> object:
    """The value without the names of places, which differ."""
    return value if isinstance(value, int | float | bool) else None


def same(one: Path, two: Path) -> None:
    """The same runs with the same numbers below two directories."""
    runs = [
        sorted(file.parent.relative_to(place) for file in place.rglob("metrics.jsonl"))
        for place in (one, two)
    ]
    assert runs[0] == runs[1] and runs[0]
    for run in runs[0]:
        pair = [
            [json.loads(line) for line in (place / run / "metrics.jsonl").read_text().splitlines()]
            for place in (one, two)
        ]
        assert len(pair[0]) == len(pair[1])
        for ours, theirs in zip(*pair, strict=True):
            assert theirs == {
                name: pytest.approx(value, rel=1e-6, abs=1e-6) for name, value in ours.items()
            }, run
        ended = [(place / run / "result.json").is_file() for place in (one, two)]  # else given up at half
        assert ended[0] == ended[1], run


@pytest.mark.slow
def test_a_job_ends_in_all_processes_as_in_the_one_where_it_failed_first(tmp_path):
    """No collective is waited on for ever, and the next job begins in all."""
    result = torchrun(3, jobs.__file__, str(tmp_path), cwd=tmp_path, limit=120)
    said = result.stdout + result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert max(seconds for _, seconds in found.values()) < 20, found
    lost = (
        "rank 1 of 3 processes was killed (as by signal 9, which the system sends when memory is exhausted)"
    )
    assert {name: came for name, (came, _) in found.items()} == {
        "sum": 3.0,
        "second refuses": ["DataError", "rank 1 of 3 processes: rows.csv has no rows", 3],
        "sum again": 3.0,
        "first refuses": ["DataError", "rows.csv has no rows", 3],
        "all refuse": ["DataError", "rows.csv has no rows", 3],
        "late": ["DataError", "rank 2 of 3 processes: a full disk", 3],
        "bug": ["UserError", "rank 1 of 3 processes: TypeError: a bug; see its traceback", 1],
        "stopped": ["KeyboardInterrupt", "", None],
        "saved": ["Interrupted", "SIGTERM: saved", 143],
        "nested": 6.0,
        "killed": ["Lost", lost, 137],
    }
    assert said.count("in wrong") == said.count('TypeError("a bug")') == 1  # told by the one that it is of
    assert "rows.csv" not in said and f"ftrun: {lost}" not in said  # these are for the first to tell


@pytest.mark.ci
@pytest.mark.slow
def test_two_processes_do_every_kind_of_command_as_one_does(ftrun_inprocess, toy_files, still_dir, tmp_path):
    two = tmp_path / "two"
    found = told(2, lines(two, toy_files, still_dir), two, limit=900)
    assert {name: each["output"] for name, each in found.items() if each["code"]} == {}
    for name, words in lines(tmp_path / "one", toy_files, still_dir).items():
        ftrun_inprocess(*words)
        same(tmp_path / "one" / name, two / name)
    assert found["compare"]["output"].count("Verdict") == 1  # one report


@pytest.mark.ci
@pytest.mark.slow
def test_a_study_goes_on_where_a_run_fails_in_one_process(tmp_path, monkeypatch):
    """The second process raises in a step of one strategy while the first waits for its gradients."""
    monkeypatch.setenv("FAULT", "bitfit")
    words = ["compare", *DIGITS, "--strategies", "bitfit,full", "--seeds", "1", "--lr", "default"]
    found = told(2, {"study": [*words, "--dir", f"{tmp_path}/study"]}, tmp_path)["study"]
    assert found["code"] == 1
    (failed,) = (line for line in str(found["output"]).splitlines() if line.startswith("1 of 2"))
    assert "failed: rank 1 of 2 processes: out of memory" in failed
    (finished,) = tmp_path.glob("study/runs/*/result.json")
    assert finished.parent.name.startswith("full")
    (left,) = tmp_path.glob("study/runs/*/failure.json")
    assert json.loads(left.read_text())["exit_code"] == 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nothing ended."""
    place = tmp_path_factory.mktemp("whole")
    result = torchrun(2, "-m", "ftrun", *DIGITS, f"hydra.run.dir={place}/run", cwd=place)
    assert result.returncode == 0, result.stderr
    return place / "run"


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_told_with_the_line_that_continues(tmp_path, monkeypatch, whole, rank):
    """Whichever it is; the run goes on to the numbers that it would have had."""
    monkeypatch.setenv("KILLED", f"{rank} 5")
    ended = torchrun(2, several.__file__, "-", *DIGITS, f"hydra.run.dir={tmp_path}/run", cwd=tmp_path)
    said = ended.stdout + ended.stderr
    lost = f"rank {rank} of 2 processes was killed"
    line = f"torchrun --nproc-per-node 2 -m ftrun resume {tmp_path}/run"
    assert said.count(f"to continue: {line}\n") == said.count(f"\nftrun: {lost}") == 1
    assert "gloo" not in said.partition("torch/distributed/elastic")[0]  # before torchrun's own
    failure = json.loads((tmp_path / "run/failure.json").read_text())
    assert failure["exit_code"] == 137 and failure["message"].startswith(lost)
    again = torchrun(2, "-m", *line.split()[4:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    for name in ("metrics.jsonl", "result.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()
