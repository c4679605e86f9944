"""A run goes on only as the run that it was: its settings, its checkpoints, and what is around it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from lab import settings, toy
from resuming import FILES, stopped
from safetensors.torch import load_file, save_file

from ftrun.errors import ConfigError, Interrupted, UserError
from ftrun.experiments import single, start
from ftrun.runs import environment
from ftrun.runs.run import Run
from ftrun.training import checkpoint

WORDS = [
    "task=digits", "task.subset=100", "model=mlp", "device=cpu", "baselines=false", "train.lr=0.01",
    "train.max_steps=12", "train.eval_every=3", "train.checkpoint_every=3", "train.patience=null",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without a break."""
    path = tmp_path_factory.mktemp("whole") / "run"
    start.run(settings(*WORDS), path)
    return path


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that ended at step 6, and one with another seed that did."""
    place = tmp_path_factory.mktemp("halves")
    stopped(place / "run", settings(*WORDS), 6)
    stopped(place / "other", settings(*WORDS, "seed=1"), 6)
    return place


@pytest.fixture
def half(halves: Path, tmp_path: Path) -> Path:
    """A copy of the run that ended at step 6."""
    shutil.copytree(halves / "run", tmp_path / "run")
    return tmp_path / "run"


def edit(run: Path, before: str, after: str) -> None:
    text = (run / "config.yaml").read_text()
    assert before in text
    (run / "config.yaml").write_text(text.replace(before, after))


def test_with_its_own_settings_it_ends_as_without_a_break(half: Path, whole: Path) -> None:
    """config.yaml was rewritten since it began, where `auto` became numbers."""
    assert Run(half).read_json("settled.json")["train"]["batch_size"] == "auto"
    edit(half, "\ntrain:", "\n# a comment is no setting\ntrain:")
    single.resume(half)
    for name in FILES:
        assert (half / name).read_bytes() == (whole / name).read_bytes(), name
    assert "changes" not in Run(half).environment


def test_with_other_settings_it_does_not_go_on(
    half: Path, monkeypatch: pytest.MonkeyPatch, ftrun_inprocess
) -> None:
    edit(half, "lr: 0.01", "lr: 0.02")
    done = ftrun_inprocess("resume", str(half), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (
        f"{half}/config.yaml has changed since the run began: train.lr 0.01 → 0.02; a run goes" in done.stderr
    )
    with pytest.raises(ConfigError, match="has changed since"):
        start.resume(half)
    shutil.rmtree(half / "checkpoints")  # where nothing says what it was, it is said that it was another
    with pytest.raises(ConfigError, match="config.yaml has changed since the run began; a run goes on with"):
        start.resume(half)
    edit(half, "lr: 0.02", "lr: 0.01")
    start.resume(half)


def test_a_run_of_before_there_was_a_hash_goes_on(half: Path, whole: Path) -> None:
    lines = (half / "config.yaml").read_text().splitlines(keepends=True)
    assert "sha256" in lines[-1]
    (half / "config.yaml").write_text("".join(lines[:-1]))
    for which in ("last", "best"):
        place = half / "checkpoints" / which
        tensors = {
            file.stem: checkpoint.read_tensors(place, file.stem) for file in place.glob("*.safetensors")
        }
        state = checkpoint.read_state(place)
        checkpoint.save(
            place, tensors, {name: state[name] for name in state if name not in ("run", "settings")}
        )
    (half / "environment.json").unlink()
    single.resume(half)
    assert (half / "result.json").read_bytes() == (whole / "result.json").read_bytes()


def test_another_environment_is_said_once_and_kept_with_its_step(
    half: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began = Run(half).environment
    honest = environment._version
    monkeypatch.setattr(environment, "_version", lambda name: "99.0" if name == "torch" else honest(name))
    monkeypatch.setattr("ftrun.experiments.surroundings.describe", lambda accelerator: "CPU, 7 threads, fp32")

    def ends(loop: object) -> None:
        raise Interrupted("stopped", 15)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("ftrun.training.loop.Loop.run", ends)
        single.resume(half)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:")]
    device, torch = began["device"], began["versions"]["torch"]
    assert said == [
        "warning: from step 6 on in another environment, so the numbers may differ from those of a run"
        f" without a break: device '{device}' → 'CPU, 7 threads, fp32', versions.torch '{torch}' → '99.0'"
    ]
    single.resume(half)
    assert "warning: from" not in capsys.readouterr().out
    kept = Run(half).environment
    (change,) = kept.pop("changes")
    assert kept == began
    assert (change["step"], change["versions"]["torch"]) == (6, "99.0")
    assert change["device"] == "CPU, 7 threads, fp32" and "python" not in change


def swap(half: Path, which: str, other: Path) -> None:
    shutil.rmtree(half / "checkpoints" / which)
    shutil.copytree(other / "checkpoints" / which, half / "checkpoints" / which)


@pytest.mark.parametrize("which", ["last", "best"])
def test_another_runs_checkpoint_is_not_taken_for_its_own(half: Path, halves: Path, which: str) -> None:
    swap(half, which, halves / "other")
    with pytest.raises(
        UserError, match=f"checkpoints/{which} is a checkpoint of another run; put the run's own"
    ):
        single.resume(half)
    assert not Run(half).finished
    shutil.rmtree(half / "checkpoints")  # as it says
    single.resume(half)


def test_best_weights_of_another_step_are_not_scored(half: Path, whole: Path) -> None:
    """Both are the run's own; those of `last` are complete, but not the best."""
    state, best = checkpoint.read_state(half / "checkpoints" / "last"), half / "checkpoints" / "best"
    weights = checkpoint.read_tensors(half / "checkpoints" / "last", "weights")
    checkpoint.save(best, {"weights": weights}, {"step": 1, "run": state["run"]})
    with pytest.raises(
        UserError, match=f"has the weights of step 1, not of step {state['best']['step']}, the best"
    ):
        single.resume(half)


@pytest.mark.parametrize(
    ("torn", "said"), [(True, r"is damaged \(best is incomplete"), (False, "is missing")]
)
def test_best_weights_that_are_gone_are_said_before_it_trains_on(
    half: Path, monkeypatch: pytest.MonkeyPatch, torn: bool, said: str
) -> None:
    best = half / "checkpoints" / "best"
    if torn:
        (best / "weights.safetensors").write_bytes(b"torn")
    else:
        shutil.rmtree(best)
    monkeypatch.setattr("ftrun.training.loop.Loop.run", lambda loop: pytest.fail("it trains"))
    with pytest.raises(UserError, match=said):
        single.resume(half)
    assert "NaN" not in json.dumps(Run(half).read_json("failure.json"))


def test_best_weights_that_go_while_it_trains_are_said_at_its_end(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftrun.training.loop import Loop

    honest = Loop.run

    def run(loop: Loop) -> None:
        honest(loop)
        shutil.rmtree(half / "checkpoints" / "best")

    monkeypatch.setattr(Loop, "run", run)
    with pytest.raises(UserError, match="the weights of step [0-9]+, the best one, is missing"):
        single.resume(half)


def test_a_checkpoint_of_another_network_is_said_to_be_one(half: Path) -> None:
    last = half / "checkpoints" / "last"
    tensors = {file.stem: checkpoint.read_tensors(last, file.stem) for file in last.glob("*.safetensors")}
    name = next(iter(tensors["weights"]))
    tensors["weights"][name] = tensors["weights"][name][:1].clone()
    checkpoint.save(last, tensors, checkpoint.read_state(last))
    with pytest.raises(UserError, match=f"checkpoints/last is of another network: {name} is of shape"):
        single.resume(half)


def test_a_checkpoint_of_another_version_says_what_is_strange(half: Path) -> None:
    last = half / "checkpoints" / "last"
    tensors = {file.stem: checkpoint.read_tensors(last, file.stem) for file in last.glob("*.safetensors")}
    checkpoint.save(last, tensors, checkpoint.read_state(last) | {"momenta": 1})
    with pytest.raises(UserError, match="was written by another version of ftrun, which keeps momenta"):
        single.resume(half)


def test_from_another_directory_it_reads_what_it_began_with(
    toy_files: Path, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ftrun_inprocess
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    shutil.copytree(toy_files, project)
    elsewhere.mkdir()
    (elsewhere / "train.csv").write_text("text,label\nanother,positive\n")
    monkeypatch.chdir(project)
    words = [
        "task=classify", *(f"task.{split}={split}.csv" for split in ("train", "validation", "test")),
        f"model.name={tiny_model_dir}", "task.max_length=16", "train.max_steps=4", "train.eval_every=2",
        "train.checkpoint_every=2", "train.batch_size=8", "baselines=false", "device=cpu",
    ]  # fmt: skip
    start.run(settings(*words), Path("whole"))
    stopped(Path("run"), settings(*words), 2)
    done = ftrun_inprocess("resume", "../project/run", cwd=elsewhere)
    assert f"../project/run: its files are those in {project}, where it began" in done.stdout
    for name in FILES:
        assert (project / "run" / name).read_bytes() == (project / "whole" / name).read_bytes(), name
    done = ftrun_inprocess("evaluate", "../project/run", cwd=elsewhere)
    assert f"its files are those in {project}" in done.stdout and "in the run" in done.stdout
    (project / "test.csv").unlink()
    monkeypatch.chdir(project)
    stopped_again = shutil.copytree("run", "again")
    (project / stopped_again / "result.json").unlink()
    done = ftrun_inprocess("resume", str(project / "again"), cwd=elsewhere, check=False)
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert f"test.csv is neither in {project}, where the run began, nor in {elsewhere}; put it" in done.stderr


def test_other_weights_under_the_same_name_are_refused(
    toy_files: Path, tiny_dir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays frozen is read again, and would not be what the rest was trained beside."""
    network = shutil.copytree(tiny_dir("bert"), tmp_path / "network")
    words = ["train.max_steps=4", "train.checkpoint_every=2", "train.eval_every=2", "baselines=false"]
    stopped(tmp_path / "run", toy(toy_files, network, "strategy=freeze", "bottom=1", *words), 2)
    kept = Run(tmp_path / "run").environment["network"]
    file = network / "model.safetensors"
    before = file.read_bytes()
    weights = load_file(file)
    name = max(weights, key=lambda each: weights[each].numel())
    save_file(weights | {name: weights[name] + 1}, file, metadata={"format": "pt"})
    assert file.stat().st_size == len(before)
    with pytest.raises(
        ConfigError, match=f"the weights in {network} have changed since this run started; put"
    ):
        single.resume(tmp_path / "run")
    file.write_bytes(before)
    (network / "README.md").write_text("what is no weight may change")
    single.resume(tmp_path / "run")
    assert Run(tmp_path / "run").environment["network"] == kept


@pytest.mark.parametrize(
    "words",
    [
        ["task=digits", "model=mlp", "sequence=[{classes: [0,1]},{classes: [2,3]}]"],
        ["strategy=lora", "compose=domain", "compose.text.train=t.txt", "compose.rows=r.csv"],
    ],
)
def test_a_directory_of_several_runs_does_not_go_on_with_other_settings_either(
    tmp_path: Path, words: list[str]
) -> None:
    Run.create(tmp_path / "run", settings(*words).raw).release()
    edit(tmp_path / "run", "clip: 1.0", "clip: 0.5")
    with pytest.raises(ConfigError, match="config.yaml has changed since the run began"):
        start.resume(tmp_path / "run")
