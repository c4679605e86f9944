"""Checkpoints, from which a run continues as if it had never stopped; each is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ftrun.errors import UserError
from ftrun.models.split import own
from ftrun.runs.aside import clear, discard
from ftrun.runs.files import sync, umask_mode
from ftrun.runs.manifest import entries, fault
from ftrun.runs.typed import command
from ftrun.training.tensor_files import hand_over, read_tensors, shapes_of, write

MANIFEST, STATE = "manifest.json", "state.json"
Tensors = dict[str, dict[str, Tensor]]  # file stem → tensors
Stored = tuple[list[tuple[int, Path]], list[str], list[Path]]  # see `stored`


def save(directory: Path, tensors: Tensors, state: dict[str, Any]) -> None:
    """Replace the checkpoint at `directory`.

    The new one is written to `.new`, its manifest of sizes and hashes last, and then renamed; the former
    one is kept as `.old` until then. At every moment at least one of the three is complete, even if the
    process is killed.
    """
    new, old = directory.with_suffix(".new"), directory.with_suffix(".old")
    clear(directory.parent)
    if new.exists():
        if not damage(new) and not directory.exists():
            new.rename(directory)
        else:
            discard(new)
    new.mkdir(parents=True)
    for stem, values in tensors.items():
        write(new, stem, values)
    (new / STATE).write_text(json.dumps(state, indent=1))
    files = sorted(new.iterdir())
    for file in files:
        umask_mode(file)
        sync(file)
    (new / MANIFEST).write_text(json.dumps(entries(files), indent=1))
    sync(new / MANIFEST)
    sync(new)
    if directory.exists():
        if old.exists():
            discard(old)
        directory.rename(old)
    new.rename(directory)
    sync(directory.parent)
    if old.exists():
        discard(old)


def give(tensors: Tensors) -> None:
    """The part in `save` of a process that does not write, where the weights are split over processes."""
    for values in tensors.values():
        hand_over(values)


def newest(directory: Path, key: str | None = None) -> tuple[Path | None, list[str]]:
    """The newest complete checkpoint among `directory`, `.new` and `.old`, and why others were skipped.

    With `key` it is one of the run with that key; UserError where there are complete ones, but of other runs.
    """
    found, skipped, foreign = stored(directory, key)
    if not found and foreign:
        raise UserError(f"{foreign[0]} is a checkpoint of another run; {anew(directory)}")
    best = max(found, key=lambda pair: pair[0], default=(0, None))
    return best[1], skipped


def best_weights(directory: Path, key: str, step: int) -> Path:
    """The complete checkpoint of this run at its best step; UserError, which says what is there instead."""
    return chosen(directory, stored(directory, key), step)


def chosen(directory: Path, known: Stored, step: int) -> Path:
    """The same among those that are known."""
    found, skipped, foreign = known
    for at, place in found:
        if at == step:
            return place
    if found:
        what = f"{found[0][1]} has the weights of step {found[0][0]}, not of step {step}, the best one"
    elif foreign:
        what = f"{foreign[0]} is a checkpoint of another run"
    else:
        why = f"damaged ({'; '.join(skipped)})" if skipped else "missing"
        what = f"{directory}, the weights of step {step}, the best one, is {why}"
    raise UserError(f"{what}; {anew(directory)}")


def refuse_lost_best(directory: Path, key: str, step: int, now: int) -> None:
    """UserError, before a run goes on from step `now`, where its best weights are gone.

    Later ones may be there, which a killed process saved and the run will come to again.
    """
    known = stored(directory, key)
    if not any(at > now for at, _ in known[0]):
        chosen(directory, known, step)


def anew(directory: Path) -> str:
    """What is possible where a checkpoint is lost."""
    place = directory.parent
    again = command("resume", place.parent)
    return f"put the run's own back, or delete {place} and train from the start: {again}"


def stored(directory: Path, key: str | None) -> Stored:
    """The complete checkpoints by their step, what is wrong with others, and those of other runs.

    A checkpoint of an earlier version of ftrun does not say whose it is.
    """
    found, skipped, foreign = [], [], []
    for candidate in (directory, directory.with_suffix(".new"), directory.with_suffix(".old")):
        if candidate.is_dir():
            fault = damage(candidate)
            if fault:
                skipped.append(f"{candidate.name} is incomplete ({fault})")
                continue
            state = read_state(candidate)
            if key is not None and state.get("run", key) != key:
                foreign.append(candidate)
            else:
                found.append((state["step"], candidate))
    return found, skipped, foreign


def tidy(checkpoints: Path) -> None:
    """Leave of each checkpoint the newest complete one, under its own name; where none is, nothing.

    At every moment it is there and complete.
    """
    clear(checkpoints)
    for directory in (checkpoints / "last", checkpoints / "best"):
        kept, _ = newest(directory)
        for other in (directory, directory.with_suffix(".new"), directory.with_suffix(".old")):
            if other != kept and other.exists():
                discard(other)
        if kept is not None and kept != directory:
            kept.rename(directory)


def damage(directory: Path) -> str:
    """A description of a checkpoint's damage; empty when every file agrees with the manifest."""
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "it has no manifest: writing it was interrupted"
    except (ValueError, RecursionError):
        return f"{MANIFEST} is no JSON"
    if not isinstance(manifest, dict) or not all(map(is_entry, manifest.values())) or STATE not in manifest:
        return f"{MANIFEST} is no list of files with their sizes and hashes"
    return fault(directory, manifest)


def is_entry(value: Any) -> bool:
    return isinstance(value, dict) and {"size", "sha256"} <= {*value}


def read_state(directory: Path) -> dict[str, Any]:
    return json.loads((directory / STATE).read_bytes())


def read_weights(place: Path, model: nn.Module, trained: Collection[str]) -> None:
    """Give a model the weights of a checkpoint; UserError as by `refuse_other_network`."""
    refuse_other_network(place, shapes_of(place, "weights"), model, trained)
    load_weights(read_tensors(place, "weights", model.state_dict(keep_vars=True).get), model)


def refuse_other_network(
    place: Path, shapes: dict[str, list[int]], model: nn.Module, trained: Collection[str]
) -> None:
    """UserError where saved tensors are not those that a model trains: another name, or another shape."""
    known = {name: list(value.shape) for name, value in weights_of(model, trained).items()}
    for name in [*shapes, *known]:
        ours, theirs = known.get(name), shapes.get(name)
        if ours != theirs:
            has, needs = (f"of shape {shape}" if shape is not None else "absent" for shape in (theirs, ours))
            raise UserError(
                f"{place} is of another network: {name} is {has} there and {needs} in this one; {anew(place)}"
            )


def load_weights(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Copy saved tensors into the parameters and buffers of the same names, which must exist.

    Of a parameter that is split over processes they are the rows of this one.
    """
    places = model.state_dict(keep_vars=True)
    for name, value in weights.items():
        own(places[name]).data.copy_(value)


def weights_of(model: nn.Module, trained: Collection[str]) -> dict[str, Tensor]:
    """The tensors that training can change: trained parameters and persistent buffers."""
    wanted = {*trained, *(name for name, _ in model.named_buffers())}
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if name in wanted}
