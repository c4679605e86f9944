"""Evaluation and predictions of a finished run's model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ftrun.errors import ConfigError, DataError, UserError
from ftrun.models.architecture import IMAGES
from ftrun.models.files.reading import CONFIG, computing, read_config
from ftrun.models.load import quiet
from ftrun.models.logits import logits_of
from ftrun.models.recalibration import recalibration_of
from ftrun.models.reload import processor_of, reload
from ftrun.runs.artifacts import refuse_unfinished
from ftrun.runs.home import note
from ftrun.runs.terminal import say
from ftrun.settings.read import read
from ftrun.tasks.data import TaskData, learned
from ftrun.tasks.multilabel import MultilabelScorer
from ftrun.training.evaluate import evaluate, one_row, predict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ftrun.runs.run import Run
    from ftrun.settings.schema import Settings
    from ftrun.tasks.scorer import Answer, Row

COMPARED = 100_000  # training rows at most, so that reading them takes less time than the network


class Saved(nn.Module):
    """The saved network with the interface that evaluation uses: named tensors in, logits out.

    They are divided by the temperature that the network was calibrated with; 1 leaves them as they are.
    """

    def __init__(self, net: nn.Module, temperature: float = 1.0) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature

    def forward(self, **inputs: Tensor) -> Any:
        """Logits of what the network takes by name."""
        found = logits_of(self.net, inputs)
        return found if self.temperature == 1 else found / self.temperature


class FinishedRun:
    """The settings, network, processor and configuration of a finished run, on its settings' device.

    Where `ftrun calibrate` has been, it answers with its temperature and thresholds, unless `calibrated` is
    False.
    """

    def __init__(self, run: Run, calibrated: bool = True) -> None:
        from ftrun.training.devices import open_accelerator

        refuse_unfinished(run)
        if run.config.get("sequence"):
            raise ConfigError(f"{run.path} is a sequence of runs; take one of the runs in it")
        if not run.model_dir.is_dir():
            raise ConfigError(f"{run.path} has no saved model: {run.model_dir} is missing")
        self.run, self.settings = run, (settings := read(run.settings))
        self.note = note(run.path, run.home)  # where its own rows are read from
        train, spec = settings.train, settings.task.spec(None)
        self.accelerator = open_accelerator(settings.device, train.precision, train.deterministic)
        with quiet():
            net = reload(run.model_dir, spec.auto_class, trust=settings.model.trust_remote_code)
        self.config = read_config(run.model_dir, **settings.model.trust)
        if not all(isinstance(name, str) for name in self.config.id2label.values()):
            raise ConfigError(f"{run.model_dir / CONFIG} is damaged: a label in id2label is no text")
        images = spec.auto_class == IMAGES
        self.processor = processor_of(run.model_dir, self.config, images, **settings.model.trust)
        self.recalibration = recalibration_of(run.model_dir) if calibrated else None
        temperature = self.recalibration.temperature if self.recalibration else 1.0
        self.model = self.accelerator.prepare_model(Saved(net, temperature), evaluation_mode=True)

    def data(self, file: str | None = None, answered: bool = True) -> TaskData:
        """The run's own data, or a file's rows as its test split."""
        task = self.settings.task
        if file is None:
            if self.note:
                say(self.note)
            found = TaskData.read(task, self.settings.seed, self.config)
        else:
            found = TaskData.of_file(task, file, self.config, answered)
        found.processor = self.processor
        own = self.recalibration.thresholds if self.recalibration else None
        if own is not None and isinstance(found.scorer, MultilabelScorer):
            found.scorer.thresholds |= own
        return found

    def evaluate(self, data: TaskData) -> tuple[dict[str, float], list[Row]]:
        """Every metric on the test split, and each row's answer."""
        size = 4 * self.settings.train.batch_size
        with self.computing(data):
            return evaluate(self.model, data, data.dataset("test"), size, self.accelerator)

    def predict(self, data: TaskData) -> list[Row]:
        """The answers to a file's rows."""
        size = 4 * self.settings.train.batch_size
        with self.computing(data):
            return predict(self.model, data, data.dataset("test"), size, self.accelerator)

    def answers(self, data: TaskData) -> dict[int, Answer]:
        """The answer to each of a file's rows that has one, by its number; a text is also continued."""
        found = {row.row: row.answer for row in self.predict(data)}
        if (generator := data.task.generator(data)) is not None:
            found |= generator.complete(self.model.net, self.settings.seed)
        return found

    def computing(self, data: TaskData) -> AbstractContextManager[None]:
        """ConfigError inside where the saved network cannot compute a single row."""
        dataset, place = data.dataset("test"), self.run.model_dir

        def alone() -> None:
            one_row(self.model, data, dataset)

        return computing(place, place, alone)


@dataclass
class Evaluation:
    """A finished run's model on a file or on the run's own test split."""

    metric: str  # the run's main one
    scores: dict[str, float]  # every metric, without a prefix
    rows: list[Row]
    details: dict[str, Any]  # the tables behind the scores


def evaluation(run: Run, file: str | None = None) -> Evaluation:
    """Score it; notes about a file and its lengths are printed."""
    from ftrun.runs.run import DETAILS

    finished = FinishedRun(run)
    data = finished.data(file)
    if file is not None:
        for note in [*data.rows.notes, *known_rows(run, finished.settings, data, file)]:
            say(note)
    say(data.dataset("test").summary)
    if finished.recalibration is not None:
        say(finished.recalibration.line())
    scores, rows = finished.evaluate(data)
    chosen = finished.settings.train.metric or data.metric
    details = data.scorer.tables(rows).get(DETAILS, {})
    return Evaluation(chosen.removeprefix("eval_"), scores, rows, details)


def known_rows(run: Run, settings: Settings, data: TaskData, file: str) -> list[str]:
    """A warning of the rows of a file that a run was trained on, which say nothing of others.

    Its training rows are read again; where they are gone, have changed, or are too many, that is said.
    """
    kept = run.read_json("data.json") or {}
    rows = kept.get("rows", {}).get("train", 0)
    own = str(settings.raw["task"].get("train", ""))
    if rows > COMPARED or ("hub:" in own and not file.startswith("hub:")):
        where = "on the Hub" if rows <= COMPARED else "too many"
        return [f"{file} is not compared with the training rows of {run.path}, which are {where}"]
    try:
        theirs = TaskData.read(settings.task, settings.seed)
        if kept.get("fingerprint", theirs.rows.fingerprint) != theirs.rows.fingerprint:
            raise DataError("they have changed since")
        found = learned(theirs, data, ["test"], f"the rows that {run.path} was trained on")
    except UserError as error:
        return [f"{file} is not compared with the training rows of {run.path}: {error}"]
    return [f"warning: LEAK: {leak.line()}, so its score says little of other rows" for leak in found]
