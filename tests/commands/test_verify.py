"""`ftrun verify`: a whole run is proved in every line, and what was changed fails the line about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from lab import ran, settings
from safetensors.torch import load_file, save_file

from ftrun.errors import Interrupted
from ftrun.experiments.verifying import proofs
from ftrun.experiments.verifying.proofs import apart
from ftrun.runs.manifest import seal
from ftrun.runs.run import Run

NAMES = ["weights", "data", "scores", "predictions", "export", "checkpoints"]
QUICK = [
    "baselines=false",
    "train.epochs=1",
    "train.max_steps=4",
    "train.eval_every=1",
    "train.checkpoint_every=2",
    "device=cpu",
]


ROWS = "text,label\n" + "".join(f"a man eats {'well' if n % 2 else 'badly'} {n},{n % 2}\n" for n in range(60))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model_dir) -> Path:
    place = tmp_path_factory.mktemp("verify")
    (place / "rows.csv").write_text(ROWS)
    task = ["task=classify", f"task.train={place}/rows.csv", "task.max_length=16"]
    model = [f"model.name={tiny_model_dir}", "model.pooling=mean"]
    return ran(place / "run", settings(*task, *model, *QUICK)).path


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy, to be changed."""
    (whole.parent / "rows.csv").write_text(ROWS)
    return Path(shutil.copytree(whole, tmp_path / "run"))


def lines(ftrun, *words: str, fails: bool = False) -> dict[str, tuple[str, str]]:
    """What is said of each proof: the word and the rest."""
    result = ftrun("verify", *words, check=False)
    assert result.returncode == int(fails), result.stdout + result.stderr
    found = (line.split(None, 2) for line in result.stdout.splitlines())
    return {each[0]: (each[1], each[2]) for each in found if len(each) == 3}


def test_a_whole_run_is_proved_and_nothing_is_left_beside_it(ftrun_inprocess, whole):
    before = {file: file.read_bytes() for file in whole.parent.rglob("*") if file.is_file()}
    found = lines(ftrun_inprocess, str(whole), "--resume", "--again")
    assert [*found] == [*NAMES, "resume", "again"] and {word for word, _ in found.values()} == {"ok"}
    assert (
        "ends in the same bytes" in found["resume"][1]
        and "from step 0, stopped and resumed at step 2, to 4" in found["again"][1]
    )
    assert {file: file.read_bytes() for file in whole.parent.rglob("*") if file.is_file()} == before


def test_a_run_is_proved_where_its_files_are(ftrun_inprocess, tiny_model_dir, tmp_path):
    """Its settings and predictions name them as they are seen from where it began."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "rows.csv").write_text(ROWS)
    words = ["task=classify", "task.train=rows.csv", "task.max_length=16", f"model.name={tiny_model_dir}"]
    ftrun_inprocess(*words, *QUICK, "hydra.run.dir=run", cwd=tmp_path / "here")
    found = lines(ftrun_inprocess, "here/run", "--resume")
    assert {word for word, _ in found.values()} == {"ok"} and found["resume"][1].startswith("a copy")


def a_weight(run: Path) -> None:
    path = next((run / "model").rglob("*.safetensors"))
    tensors = load_file(path)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    save_file(tensors | {name: tensors[name] + 0.5}, path, metadata={"format": "pt"})


def a_weight_and_its_seal(run: Path) -> None:
    place = run / "model" / "2_Dense" / "model.safetensors"
    tensors = load_file(place)
    save_file(tensors | {"linear.bias": tensors["linear.bias"] + torch.tensor([3.0, 0.0])}, place)
    seal(run / "model")


def an_answer(run: Path) -> None:
    path = run / "predictions.jsonl"
    first, _, rest = path.read_text().partition("\n")
    row = json.loads(first)
    row["answer"] = "1" if row["answer"] == "0" else "0"
    path.write_text(json.dumps(row) + "\n" + rest)


def a_score(run: Path) -> None:
    path = run / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"test_loss": result["test_loss"] + 0.001}))


def a_row(run: Path) -> None:
    path = Path(Run(run).config["task"]["train"])
    path.write_text(path.read_text().replace("eats badly 8", "eats badly 88"))


def a_checkpoint(run: Path) -> None:
    path = next((run / "checkpoints" / "last").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    "change, failed, still",
    [
        (a_weight, {"weights"}, {"data", "checkpoints"}),
        (a_weight_and_its_seal, {"scores", "predictions"}, {"weights", "data", "export", "checkpoints"}),
        (an_answer, {"predictions"}, {*NAMES} - {"predictions"}),
        (a_score, {"scores"}, {*NAMES} - {"scores"}),
        (a_row, {"data"}, {"weights", "export", "checkpoints"}),
        (a_checkpoint, {"checkpoints"}, {*NAMES} - {"checkpoints"}),
    ],
)
def test_what_was_changed_fails_the_proof_of_it(ftrun_inprocess, run, change, failed, still):
    change(run)
    found = lines(ftrun_inprocess, str(run), fails=True)
    assert {name for name, (word, _) in found.items() if word == "FAILED"} == failed
    assert {name for name in NAMES if found[name][0] == "ok"} == still


def test_a_network_that_plain_libraries_read_otherwise_fails(ftrun_inprocess, run, monkeypatch):
    plainly = proofs.plainly

    def other(*given, **more):
        net = plainly(*given, **more)
        net.bias = net.bias + 0.01
        return net

    monkeypatch.setattr(proofs, "plainly", other)
    found = lines(ftrun_inprocess, str(run), fails=True)
    assert found["export"] == ("FAILED", "a logit of plain transformers differs by 0.01")
    assert lines(ftrun_inprocess, str(run), "--tolerance", "0.02")["export"][0] == "ok"


def test_other_bytes_at_the_end_are_named(ftrun_inprocess, run):
    path = run / "metrics.jsonl"
    path.write_text(path.read_text().replace('"step": 4', '"step": 5', 1))
    found = lines(ftrun_inprocess, str(run), "--again", fails=True)
    assert found["again"] == ("FAILED", "from step 0 on it comes to another metrics.jsonl")


def test_what_cannot_be_proved_is_open_and_no_failure(ftrun_inprocess, run):
    shutil.rmtree(run / "checkpoints")
    (run / "model" / "sha256.json").unlink()
    found = lines(ftrun_inprocess, str(run), "--resume")
    assert {name for name, (word, _) in found.items() if word == "open"} == {
        "weights",
        "checkpoints",
        "resume",
    }
    (run / "result.json").unlink()
    said = ftrun_inprocess("verify", str(run), check=False)
    assert said.returncode == 2 and "is not finished" in said.stderr and not Run(run).finished


@pytest.mark.parametrize(
    "then, now, far",
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.5]}, 0.25), ("x", "x", 0.0), ("x", "y", float("inf")),
        ({"a": 1.0}, {"b": 1.0}, float("inf")), ([1.0], [1.0, 1.0], float("inf")), (True, 1.0, 0.0),
        (None, 1.0, float("inf")), (200.0, 100.0, 0.5),
    ],
)  # fmt: skip
def test_answers_are_apart_by_their_numbers_alone(then, now, far):
    assert apart(then, now) == far


def test_a_signal_is_no_proof_that_failed():
    def stopped() -> str:
        raise Interrupted("SIGTERM: saved at step 2 of 4", 15)

    with pytest.raises(Interrupted):
        proofs.proved("again", stopped)
