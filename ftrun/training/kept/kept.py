"""Kept features: what lies below the lowest stage that trains is computed once per example.

Recycling the activations of a frozen bottom is exact as long as nothing random happens below it (Saad-Falcon
et al. 2023, "Embedding Recycling for Language Models", who measured about twice the speed of training).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ftrun.errors import ConfigError, counted
from ftrun.models.features.prefix import Prefix, lowest
from ftrun.models.features.store import LARGEST, Store, directory
from ftrun.runs.files import existing, size_in_words
from ftrun.runs.terminal import say
from ftrun.settings.schedules import Course
from ftrun.strategies.base import Strategy
from ftrun.tasks.dataset import SPLITS, Draw, in_windows, sizes_of
from ftrun.tasks.objective import Objective
from ftrun.training.kept.check import difference
from ftrun.training.kept.features import evaluating, key_of, on_device
from ftrun.training.kept.rows import KeptRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate import Accelerator

    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.dataset import Batch, Dataset, Example
    from ftrun.training.state import State

LEAST = 2  # stages below the lowest that trains: embeddings alone cost next to nothing
PAYS = 1.5  # computed examples without kept features per one with them; below, nothing is kept
TOLERANCE = {"no": 1e-6, "bf16": 1e-2, "fp16": 1e-2}  # on a GPU, relative to the largest; on a CPU 0


class Kept:
    """The kept features of a run, and whether there are any at the moment."""

    def __init__(
        self, model: Model, data: TaskData, settings: Settings, accelerator: Accelerator, course: Course
    ) -> None:
        self.model, self.data, self.settings, self.accelerator = model, data, settings, accelerator
        self.course = course
        self.cut: int | None = None  # None before the first step
        self.rows: KeptRows | None = None

    def cover(self, dataset: Dataset) -> None:
        """Be ready for the examples of a dataset, in all processes at the same time."""
        if self.rows is not None:
            self.rows.cover(in_windows(dataset))

    def into(self, batch: Batch, examples: Sequence[Example]) -> Batch:
        """The batch, with what gives the network the kept features of its examples, where there are any."""
        return batch if self.rows is None else self.rows.into(batch, examples)

    def flush(self) -> None:
        """Have what was computed on the disk, for other runs and for a resumed one."""
        if self.rows is not None:
            self.rows.flush()

    def follow(self, state: State) -> None:
        """See which stages train now. Raises ConfigError where train.keep=true and nothing can be kept."""
        if (cut := lowest(self.model)) == self.cut:
            return
        first, self.cut = not state.kept, cut
        self.rows = None
        if self.settings.train.keep is False or self.settings.strategy.solved:  # which keeps its own
            return
        known = state.kept.get(str(cut))  # else a resumed run could decide otherwise than the one that it was
        insists = self.settings.train.keep is True
        reason = self.hindrance()
        wanted = self.pays(state) or insists and first if known is None else known
        if reason is None and wanted:
            reason = self.begun(compared=known is None)
        if reason is not None:
            self.rows = None
            if insists and first:
                raise ConfigError(f"train.keep=true: {reason}; possible: train.keep=auto")
            if wanted and cut >= LEAST:
                say(f"features are not kept: {reason}")
        state.kept[str(cut)] = self.rows is not None

    def hindrance(self) -> str | None:
        """What in the settings forbids it."""
        assert self.cut is not None
        train, objective = self.data.dataset("train"), self.data.objective
        if self.settings.train.shard:
            return "train.shard=true splits the network, frozen parts too, over the processes"
        if self.cut < LEAST:
            return f"strategy={self.settings.strategy_name} trains the network from its lowest layer on"
        if not isinstance(train.examples, list):
            return "the examples are made when they are read"
        if "draw" in train.collate([train[0]], Draw(0, 0, 0)):
            return "the inputs are drawn anew in every step"
        if type(objective).inputs is not Objective.inputs:
            return "the inputs depend on the objective"
        if type(self.settings.guard).replay is not Strategy.replay:
            return "earlier examples are replayed"
        return None

    def pays(self, state: State) -> bool:
        """Whether examples are computed often enough until a lower stage opens or the run ends."""
        length, opens = self.course.length, self.settings.strategy.opens
        later = [opens(stage, self.course) for stage in range(self.cut or 0)]
        end = min([step for step in later if step > state.updates] or [length.total])
        steps = end - state.updates
        rows = {split: len(self.data.dataset(split)) for split in SPLITS}
        visits = steps * self.settings.train.batch_size + steps // length.eval_every * rows["validation"]
        return visits >= PAYS * (rows["train"] + rows["validation"])

    def begun(self, compared: bool) -> str | None:
        """Begin to keep features; why not, where that cannot be or where they differ from the plain way."""
        data, accelerator, prefix = self.data, self.accelerator, Prefix(self.model)
        train = in_windows(data.dataset("train"))
        with evaluating(self.model, accelerator):
            some = sorted(train.examples, key=lambda example: example.size)
            probe = on_device(train.collate([some[-1], some[0]])["inputs"], accelerator)
            if (reason := prefix.learn(probe)) is not None:
                return reason
        store = Store(key_of(prefix, self.model, accelerator), prefix.parts)
        self.rows, before = KeptRows(prefix, store, accelerator), len(store.places)
        if (reason := self.too_large(self.rows)) is not None:
            return reason
        for split in ("train", "validation"):
            self.cover(data.dataset(split))
        if self.rows.failed:
            return "they cannot be computed"
        longest = {name: value[:1] for name, value in probe.items()}
        self.rows.measure(longest, [example.size for example in some])
        if compared:
            size = self.settings.train.micro_batch or self.settings.train.batch_size
            differ = self.rows.agreed(difference(self.rows, self.model, data, size))
            if differ > (0.0 if self.rows.cpu else TOLERANCE[accelerator.mixed_precision]):
                return f"they differ by {differ:.1e} from those of a plain batch"
        self.tell(self.rows, before > 0)
        return None

    def too_large(self, rows: KeptRows) -> str | None:
        """Why the features of all splits have no room."""
        sizes = self.sizes(*SPLITS)
        needed, free = rows.store.size(sizes), shutil.disk_usage(existing(directory())).free
        if rows.agreed(float(needed > min(LARGEST, free / 2))):
            return (
                f"they take {size_in_words(needed)}, of at most {size_in_words(LARGEST)} and half of the"
                f" {size_in_words(free)} free in {directory()}"
            )
        return None

    def sizes(self, *splits: str) -> list[int]:
        """The tokens of all that the network reads of these splits, one by one."""
        return [size for split in splits for size in sizes_of(in_windows(self.data.dataset(split)))]

    def tell(self, rows: KeptRows, before: bool) -> None:
        sizes = self.sizes("train", "validation")
        layers = (self.cut or 0) - 1
        some = f"layers 0–{layers - 1}" if layers > 1 else "layer 0"
        what = "every layer" if layers >= self.model.depth else some
        when = "computed before" if rows.agreed(float(before)) else "computed once"
        say(
            f"features of {counted(len(sizes), 'row')} kept: {size_in_words(rows.store.size(sizes))},"
            f" {what} {when}"
        )
