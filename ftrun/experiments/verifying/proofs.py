"""What is proved of a finished run, each in a line: nothing of it is believed that can be computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftrun.errors import UserError, counted
from ftrun.experiments.exporting.export import compared
from ftrun.experiments.exporting.network import exportable
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.lora.equivalence import in_fp32, rows_to_compare
from ftrun.experiments.lora.merge import opened
from ftrun.experiments.surroundings import surroundings
from ftrun.experiments.verifying.plainly import Features, plainly
from ftrun.models.files.reading import CONFIG, stored
from ftrun.models.saved.usage import library_of
from ftrun.runs import manifest
from ftrun.runs.artifacts import BOTTLENECKS, PROJECTION
from ftrun.runs.content import answers_of, brief
from ftrun.runs.environment import resumed
from ftrun.runs.run import PREDICTIONS, RESULT
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData
from ftrun.tasks.scorer import prediction_lines
from ftrun.training import checkpoint
from ftrun.training.devices import describe, open_accelerator

if TYPE_CHECKING:
    from ftrun.runs.run import Run
    from ftrun.tasks.scorer import Row


class Open(Exception):
    """Nothing can be proved here, and nothing speaks against it; the message says why."""


@dataclass(frozen=True)
class Proof:
    """What was looked at, whether it holds (None: it is open), and what was found."""

    what: str
    holds: bool | None
    told: str

    def line(self) -> str:
        word = {True: "ok", False: "FAILED", None: "open"}[self.holds]
        return f"{self.what:<12} {word:<7} {self.told}"


def proved(what: str, look: Callable[[], str]) -> Proof:
    """What a look comes to, which raises UserError for what does not hold and Open for what is open."""
    try:
        return Proof(what, True, look())
    except Open as error:
        return Proof(what, None, str(error))
    except UserError as error:
        return Proof(what, False, str(error))


class Verified:
    """A finished run and what is computed of it again, each once."""

    def __init__(self, run: Run, tolerance: float) -> None:
        self.run, self.tolerance = run, tolerance
        self.settings = read(run.settings)
        self.failed: set[str] = set()

    def proofs(self) -> Iterator[Proof]:
        """All that takes no training, one after the other."""
        looks = (self.weights, self.data, self.scores, self.predictions, self.export, self.checkpoints)
        for look in looks:
            found = proved(look.__name__, look)
            if found.holds is False:
                self.failed.add(found.what)
            yield found

    def weights(self) -> str:
        """Every file of model/ is what it was when it was saved, by size and SHA-256."""
        place = self.run.model_dir
        if not place.is_dir():
            raise UserError(f"{place} is missing")
        if not (place / manifest.SEAL).is_file():
            raise Open(f"{place} has no {manifest.SEAL}: an earlier version of ftrun saved it")
        manifest.verify(place)
        return f"{counted(len(manifest.content_of(place)['files']), 'file')} of model/ as they were saved"

    def data(self) -> str:
        """The rows have the fingerprint of those that the run was trained and tested on."""
        before = (self.run.read_json("data.json") or {}).get("fingerprint")
        rows = TaskData.read(self.settings.task, self.settings.seed).rows
        if not before or not rows.fingerprint:
            raise Open(f"{self.run.path / 'data.json'} has no fingerprint of the rows")
        if before != rows.fingerprint:
            raise UserError(
                f"the rows have changed: their fingerprint is {rows.fingerprint[:12]}…, not {before[:12]}…"
            )
        counts = (self.run.read_json(RESULT) or {}).get("rows") or {}
        sizes = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        return f"{sizes or 'all'} rows as they were, fingerprint {before[:12]}…"

    def scores(self) -> str:
        """The model has the test scores of result.json, computed again."""
        before = self.run.read_json(RESULT) or {}
        now, _ = self.evaluated
        pairs = {name: (before.get(f"test_{name}"), value) for name, value in now.items()}
        known = {name: (then, value) for name, (then, value) in pairs.items() if then is not None}
        if not known:
            raise Open("result.json has no test scores")
        for name, (then, value) in known.items():
            if not abs(value - then) <= self.tolerance * max(1.0, abs(then)):
                raise UserError(f"test_{name} is {value:.6g} now, and was {then:.6g} in the run")
        largest = max(abs(value - then) for then, value in known.values())
        main = next(iter(known))
        return (
            f"test_{main} {known[main][1]:.6g} and {len(known) - 1} more, computed again;"
            f" {none('score', largest)}"
        )

    def predictions(self) -> str:
        """The model gives every test row the answer of predictions.jsonl."""
        path = self.run.path / PREDICTIONS
        if not path.is_file():
            raise Open(f"there is no {PREDICTIONS}")
        _, rows = self.evaluated
        before, now = answers_of(path), json.loads(json.dumps(prediction_lines(rows)))
        if len(before) != len(now):
            raise UserError(f"{PREDICTIONS} has {counted(len(before), 'row')}, the test split {len(now):,}")
        largest = 0.0
        for then, line in zip(before, now, strict=True):
            for name, value in line.items():
                found = apart(then.get(name), value)
                if not found <= self.tolerance:
                    raise UserError(
                        f"row {line['row']}: {name} is {brief(value)}, and was {brief(then.get(name))}"
                    )
                largest = max(largest, found)
        return f"{counted(len(now), 'row')} answered as in the run; {none('probability', largest)}"

    def export(self) -> str:
        """Plain libraries make the same logits of what lies in model/."""
        self.refuse_failed("weights")
        place, settings = self.run.model_dir, in_fp32(self.settings)
        if (place / BOTTLENECKS).is_file():
            raise Open(f"what strategy={settings.strategy_name} adds is read by ftrun alone")
        if settings.model.rounded or settings.half:
            raise Open("frozen weights are rounded when they are loaded, which ftrun alone does")
        net, processor, config = opened(place, settings)
        auto_class, trust = settings.task.spec(None).auto_class, settings.model.trust
        try:
            data, words = rows_to_compare(settings, processor, config)
            what = exportable(net, config, data, auto_class)
        except UserError as error:
            raise Open(str(error)) from None
        other = type(what.module)(plainly(place, config, auto_class, **trust)).eval()
        if (place / PROJECTION).is_file():
            what.module = Features(what.module, net.classifier.inner.in_features)
        found = compared("", what, lambda batch: other(**batch))
        if not found.largest_difference <= self.tolerance:
            raise UserError(f"a logit of plain transformers differs by {found.largest_difference:.2g}")
        return (
            f"as {library_of(place, stored(place / CONFIG))} reads it: {what.rows:,} {words};"
            f" {none('logit', found.largest_difference)}"
        )

    def checkpoints(self) -> str:
        """What is kept for resuming is whole and of this run."""
        told = []
        for name in ("last", "best"):
            place = self.run.checkpoints / name
            if not place.is_dir():
                continue
            if wrong := checkpoint.damage(place):
                raise UserError(f"{place} is damaged: {wrong}")
            state = checkpoint.read_state(place)
            if state.get("run", self.run.key) != self.run.key:
                raise UserError(f"{place} is of another run")
            told.append(f"{name} (step {state['step']})")
        if not told:
            raise Open("none are there any more")
        return f"{' and '.join(told)} whole, by SHA-256"

    @cached_property
    def evaluated(self) -> tuple[dict[str, float], list[Row]]:
        """Scores and answers of the test split, as they were before any calibration."""
        self.refuse_failed("weights", "data")
        finished = FinishedRun(self.run, calibrated=False)
        return finished.evaluate(finished.data())

    def refuse_failed(self, *names: str) -> None:
        """Open where one of these does not hold, on which it rests."""
        if name := next((name for name in names if name in self.failed), None):
            raise Open(f"rests on {name}")

    def elsewhere(self) -> list[str]:
        """What the numbers may depend on and is not as it was when the run ended."""
        train = self.settings.train
        here = open_accelerator(self.settings.device, train.precision, train.deterministic)
        return resumed(self.run.environment, surroundings(self.run.path, describe(here)), 0)[1]


def none(what: str, largest: float) -> str:
    """How far apart the furthest two are."""
    return f"no {what} differs{f' by more than {largest:.1g}' if largest else ''}"


def apart(then: Any, now: Any) -> float:
    """How far two answers differ: numbers by their size, all else not at all or without end."""
    if isinstance(then, bool) or isinstance(now, bool) or type(then) is not type(now):
        return 0.0 if then == now else float("inf")
    if isinstance(now, dict):
        if then.keys() != now.keys():
            return float("inf")
        return max((apart(then[name], now[name]) for name in now), default=0.0)
    if isinstance(now, list):
        if len(then) != len(now):
            return float("inf")
        return max((apart(one, other) for one, other in zip(then, now, strict=True)), default=0.0)
    if isinstance(now, float):
        return abs(then - now) / max(1.0, abs(then))
    return 0.0 if then == now else float("inf")
