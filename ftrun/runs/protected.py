"""Where a command may write: never onto what is read, or onto what a run, a model or a study consists of."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from ftrun.errors import ConfigError
from ftrun.runs.files import why_unwritable
from ftrun.runs.find import ORIGIN
from ftrun.runs.ledger import FORMER, LEDGER, is_study
from ftrun.runs.run import is_run

# of a run directory; every other .json, .yaml and .safetensors in it is the run's as well
OWN = {
    "metrics.jsonl", "timing.jsonl", "predictions.jsonl", "baselines.jsonl", "log.txt", "sample.txt",
    "matrix.png", "comparison.md", "README.md", "checkpoints", "model", "source", "start", "rows",
    "preflight", "tensorboard", "pretraining",
}  # fmt: skip
OWN_ENDINGS = {".json", ".yaml", ".safetensors"}


def refuse_output(option: str, output: Path, inputs: Iterable[str] = ()) -> None:
    """ConfigError for a directory, for a file that is read too, and for one that `refuse_owned` refuses.

    `option` is what stands before the name, "--output " or "hydra.run.dir="; `inputs` are files, directories,
    DIR:SPLIT and patterns, as settings name them.
    """
    if output.is_dir():
        raise ConfigError(f"{option}{output} is a directory; name a file")
    for name in inputs:
        if reads(name, output):
            raise ConfigError(f"{option}{output} would replace what is read, {name}; name another file")
    refuse_owned(option, output)


def refuse_directory(option: str, output: Path) -> None:
    """ConfigError for a directory that is a file, or that belongs to a run or a model."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{option}{output} is a file; name a directory")
    refuse_owned(option, output)


def refuse_existing(output: Path) -> None:
    """ConfigError when a directory cannot be made there; raised before the work is done."""
    if output.exists() or output.is_symlink():
        raise ConfigError(f"--output {output} exists; nothing is overwritten, name another")
    parent = output.absolute().parent
    if not parent.is_dir():
        raise ConfigError(f"--output {output}: there is no directory {parent}")
    if reason := why_unwritable(parent):
        raise ConfigError(f"--output {output}: nothing can be written there ({reason})")
    refuse_owned("--output ", output)


def refuse_owned(option: str, output: Path) -> None:
    """ConfigError for a part of a run, a model or a study, whether it is there yet or not."""
    place = output.resolve()
    kept = next((each for each in (place, place.parent) if each.name == LEDGER), None)
    if place.name == FORMER or (kept is not None and is_study(kept.parent)):
        raise ConfigError(f"{option}{output} is the ledger of a study; name another file")
    for folder in place.parents:
        first = place.relative_to(folder).parts[0]
        if is_run(folder) or (folder / ORIGIN).is_file():
            if first in OWN or first.startswith(".") or Path(first).suffix.lower() in OWN_ENDINGS:
                raise ConfigError(
                    f"{option}{output} is a part of the run {folder}; possible: another place, such as"
                    f" {folder / 'outputs' / place.name}"
                )
            return
    model = (place.parent / "config.json").is_file() and any(place.parent.glob("*.safetensors"))
    if model and place.exists():
        raise ConfigError(f"{option}{output} is a part of the model {place.parent}; name another file")


def reads(name: str, output: Path) -> bool:
    """Whether a file that is there is what a name means, or is in it, or fits its pattern."""
    if not output.exists():
        return False
    place = output.resolve()
    for path in {name, name.rpartition(":")[0]} - {""}:
        try:
            found = Path(path).expanduser()
            inside = found.is_dir() and found.resolve() in place.parents
            if inside or (found.exists() and found.samefile(output)):
                return True
            if glob.has_magic(path) and any(
                Path(each).samefile(output) for each in glob.iglob(str(found), recursive=True)
            ):
                return True
        except (OSError, ValueError):  # no name of a file
            continue
    return False
