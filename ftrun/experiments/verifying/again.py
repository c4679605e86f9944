"""A run resumed in a copy of its directory: it ends in the same bytes."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from ftrun.errors import Paused, UserError
from ftrun.experiments import start
from ftrun.experiments.verifying.proofs import Open
from ftrun.models.saved.below import linked_or_copied
from ftrun.runs import manifest
from ftrun.runs.files import existing, free_space_check, unique
from ftrun.runs.publish import CHECKPOINTS, METRICS
from ftrun.runs.run import PAUSE, PREDICTIONS, RESULT, Run
from ftrun.runs.terminal import logged
from ftrun.training import checkpoint
from ftrun.training.pausing import HALFWAY, asked

COMPARED = (METRICS, RESULT, PREDICTIONS)  # byte for byte; of model/ what its seal says
LATER = (
    RESULT,
    PREDICTIONS,
    "model",
    "timing.jsonl",
    "cost.json",
    PAUSE,
    "merged",
    "onnx",
)  # what the end writes
LOCAL = ("none", "tensorboard")  # trackers that no second run would trouble


def resumed(run: Run, anew: bool) -> str:
    """What a copy of the run comes to, from its last checkpoint or, `anew`, from its first step on.

    One that begins anew is stopped at the evaluation nearest to half of its steps, and goes on from there.
    Raises UserError where a byte differs, Open where there is no checkpoint to go on from.
    """
    tracker = run.config.get("tracker")
    if tracker not in LOCAL:
        raise Open(f"tracker={tracker} would get a second run")
    last = run.checkpoints / "last"
    if not anew and checkpoint.newest(last, run.key)[0] is None:
        raise Open(f"{last} is not there; possible: --again, from the first step")
    path = run.path.resolve()
    place = path.with_name(f".{path.name}.{unique()}")
    free_space_check(existing(place), sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))
    try:
        copied(path, place, anew)
        begun = checkpoint.read_state(place / CHECKPOINTS / "last")["step"] if not anew else 0
        with logged(place / "verify.txt"):
            with suppress(Paused), asked(rungs=HALFWAY if anew else ()):
                start.resume(place)
            stopped = (Run(place).read_json(PAUSE) or {}).get("step") if anew else None
            if stopped is not None:
                start.resume(place)
        if wrong := different(path, place):
            raise UserError(f"from step {begun} on it comes to another {' and '.join(wrong)}")
        steps = Run(place).result("steps")["steps"]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    way = (
        f"from step {begun:,}{f', stopped and resumed at step {stopped:,},' if stopped else ''} to {steps:,}"
    )
    return f"a copy {way} ends in the same bytes: {', '.join(COMPARED)}, model/"


def copied(path: Path, place: Path, anew: bool) -> None:
    """The directory as it was before its end, large files as links; `anew`, before its first step."""
    left = shutil.ignore_patterns(*LATER, ".*", *([CHECKPOINTS] if anew else []))

    def ignored(folder: str, names: list[str]) -> set[str]:
        return left(folder, names) if Path(folder) == path else set()

    shutil.copytree(path, place, ignore=ignored, copy_function=linked_or_copied)
    if anew:
        (place / METRICS).write_bytes(b"")


def different(path: Path, place: Path) -> list[str]:
    """The files that two finished runs have not in common, byte for byte; of model/ those of its seal."""
    pairs = ((path / name, place / name) for name in COMPARED)
    found = [one.name for one, other in pairs if content(one) != content(other)]
    models = [manifest.content_of(each / "model")["files"] for each in (path, place)]
    names = sorted(name for name in {*models[0], *models[1]} if models[0].get(name) != models[1].get(name))
    return [*found, *(f"model/{name}" for name in names)]


def content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
