"""Several tasks of one kind learned together by one network: what no order of them makes it forget."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, listed
from ftrun.models.spec import label_config
from ftrun.settings.checks import natural_order, one_of
from ftrun.settings.resolve import build, load_class
from ftrun.tasks.base import Task
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Rows

if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.models.spec import Spec
    from ftrun.settings.schema import Settings
    from ftrun.tasks.objective import Objective
    from ftrun.tasks.parts.heads import SharedDataset, SharedScorer

HEADS = "ftrun_heads"  # in a saved network's configuration: what each task's own head would have there
HELD = "sequence.joint=true trains all tasks at once, so that there is no earlier one to hold on to"


@dataclass
class JointRows(Rows):
    """The rows of each task, with the task that has read them."""

    parts: list[tuple[Any, Rows]] = field(default_factory=list)

    def card(self, data: Any) -> dict[str, Any]:
        """The rows of all tasks together, and the card of each, with duplicates and leaks within it."""
        datasets = {split: data.dataset(split) for split in data.encoded}
        cards = {}
        for name, part in zip(data.task.names, parts_of(data), strict=True):
            part.baselines = data.baselines
            cards[name] = part.rows.card(part)
        counts = {split: len(dataset) for split, dataset in datasets.items()}
        return {"rows": counts, "tasks": cards, "notes": list(self.notes)}

    def write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        self.parts[0][1].write(path, rows)


@dataclass
class Joint(Task):
    """Tasks that share a network: a head for each (scenario task), or one for all (domain, class).

    All rows of training are shuffled together, so that a task has as large a part in each epoch as it has
    rows. Where the number of steps is `auto` it is the sum of what the tasks would take one by one.
    """

    name: str
    scenario: str
    tasks: list[Any]  # the settings of each

    def __post_init__(self) -> None:
        one_of("task.scenario", self.scenario, ["task", "domain", "class"])
        kinds = [str(node.get("kind")) for node in self.tasks]
        if len({*kinds}) > 1:
            raise ConfigError(
                f"sequence.joint=true needs tasks of one kind, not {listed(kinds)}: they share a network"
            )
        if any(node.get("stream") for node in self.tasks):
            raise ConfigError(
                "sequence.joint=true shuffles all rows together, which task.stream=true does not hold"
            )
        if any(node.get("long") == "windows" for node in self.tasks):
            raise ConfigError(
                "sequence.joint=true takes one example of each row, of which task.long=windows makes several;"
                " possible: task.long=truncate"
            )
        self.names = [str(node["name"]) for node in self.tasks]
        self.each = [task_of(node) for node in self.tasks]
        first = self.each[0]
        spec = first.spec(None)
        if not spec.new_head or spec.projection is not None:
            raise ConfigError(
                f"sequence.joint=true gives tasks a head, and {self.names[0]} keeps the checkpoint's own; to"
                " train on all texts together: task.train=[first.txt,second.txt]"
            )
        steps = sum(task.habits.steps for task in self.each), sum(t.habits.random_steps for t in self.each)
        vars(self)["habits"] = replace(first.habits, steps=steps[0], random_steps=steps[1])

    @property
    def apart(self) -> bool:
        """Whether each task has a head of its own."""
        return self.scenario == "task"

    def check(self, settings: Settings) -> None:
        if settings.guard.needs_source:
            name = settings.raw["protect"]["name"] if settings.protect else settings.strategy_name
            raise ConfigError(f"{HELD} with {name}; possible: strategy=full, lora and others, protect=none")
        metrics = {name: TaskData(task).metric for name, task in zip(self.names, self.each, strict=True)}
        if settings.train.metric is None and len({*metrics.values()}) > 1:
            scored = ", ".join(f"{metric} of {name}" for name, metric in metrics.items())
            raise ConfigError(f"sequence= needs one metric for all tasks, but the metrics are {scored}")
        super().check(settings)

    def load(self, seed: int) -> JointRows:
        tasks = self.each
        rows = [task.load(seed) for task in tasks]
        if not self.apart:
            labels = [labels_in(task.spec(own)) for task, own in zip(tasks, rows, strict=True)]
            if (union := shared_labels(self.names, labels, self.scenario)) is not None:
                tasks = [task_of(node | {"labels": union}) for node in self.tasks]
                rows = [task.load(seed) for task in tasks]
        notes = [f"{name}: {note}" for name, own in zip(self.names, rows, strict=True) for note in own.notes]
        whole = hashlib.sha256("\n".join(own.fingerprint for own in rows).encode()).hexdigest()
        return JointRows({}, notes, whole, parts=[*zip(tasks, rows, strict=True)])

    def load_file(self, file: str, answered: bool, spec: Spec) -> JointRows:
        if self.apart:
            raise ConfigError(
                f"{file}: a network of {self.name} has a head for each of {listed(self.names)}, and a file"
                " does not say whose rows it has; possible: a run of one task, or scenario=domain or class"
            )
        task = task_of(
            self.tasks[0] | ({"labels": list(spec.labels or ())} if "labels" in self.tasks[0] else {})
        )
        rows = task.load_file(file, answered, spec)
        return JointRows({}, rows.notes, rows.fingerprint, rows.inputs, [(task, rows)])

    def spec(self, source: Any) -> Spec:
        if isinstance(source, JointRows):
            specs = [task.spec(rows) for task, rows in source.parts]
        elif source is None or not self.apart:
            return replace(self.each[0].spec(source), task=self.name, regression=False)
        else:
            specs = [
                task.spec(config_of(head)) for task, head in zip(self.each, vars(source)[HEADS], strict=True)
            ]
        if not self.apart:
            return replace(specs[0], task=self.name, regression=False)
        names = [
            f"{name}: {label}"
            for name, spec in zip(self.names, specs, strict=True)
            for label in spec.config["id2label"].values()
        ]
        kind = specs[0].config.get("problem_type")
        heads = [dict(spec.config) for spec in specs]
        config = label_config(names, **({"problem_type": kind} if kind else {}), **{HEADS: heads})
        return replace(specs[0], task=self.name, config=config, labels=None, regression=False)

    def encode(self, data: TaskData, split: str) -> SharedDataset:
        from ftrun.tasks.parts.heads import SharedDataset

        datasets = []
        for name, part in zip(self.names, parts_of(data), strict=False):  # a file has one
            said = len(part.rows.notes)
            datasets.append(part.task.encode(part, split))
            data.rows.notes += [f"{name}: {note}" for note in part.rows.notes[said:]]
        return SharedDataset(datasets, self.apart)

    def objective(self, data: TaskData) -> Objective:
        from ftrun.tasks.parts.heads import SharedObjective

        parts = parts_of(data)
        if not self.apart:
            whole = TaskData(parts[0].task, parts[0].rows, parts[0].spec)
            whole.processor, whole.encoded = data.processor, data.encoded
            return parts[0].task.objective(whole)
        return SharedObjective([part.objective for part in parts], columns_of(parts))

    def scorer(self, data: TaskData) -> SharedScorer:
        from ftrun.tasks.parts.heads import SharedScorer

        parts = parts_of(data)
        columns = columns_of(parts) if self.apart else None
        return SharedScorer(self.names[: len(parts)], [part.scorer for part in parts], columns)


def task_of(node: dict[str, Any]) -> Any:
    """A task from its settings; an invalid one is a ConfigError."""
    kind = str(node.get("kind"))
    found = load_class("tasks", kind, "task.kind")
    own = {name: value for name, value in node.items() if name not in ("kind", *found.ignored_settings)}
    return build(found, own, "task.", f"task={node.get('name')}")


def parts_of(data: TaskData) -> list[TaskData]:
    """The data of each task by itself, with what is encoded of it."""
    task: Any = data.task
    if not isinstance(data.rows, JointRows):
        return [TaskData(each) for each in task.each]
    heads = data.spec.config.get(HEADS) if task.apart else None
    found = []
    for number, (each, rows) in enumerate(data.rows.parts):
        spec = data.spec if heads is None else each.spec(config_of(heads[number]))
        part = TaskData(each, rows, spec)
        part.processor = data.processor
        whole: Any = data.encoded
        part.encoded = {split: dataset.datasets[number] for split, dataset in whole.items()}
        found.append(part)
    return found


def columns_of(parts: Sequence[TaskData]) -> list[slice]:
    """The outputs of each task among those of all."""
    ends = list(accumulate(int(part.spec.config.get("num_labels", 0)) for part in parts))
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def config_of(head: dict[str, Any]) -> Any:
    """What a head's configuration says, as a saved network has it: JSON has no whole numbers as names."""
    from transformers import PretrainedConfig

    return PretrainedConfig(**head)


def labels_in(spec: Spec) -> list[str]:
    return [*spec.config.get("id2label", {}).values()]


def shared_labels(names: Sequence[str], labels: list[list[str]], scenario: str) -> list[str] | None:
    """The labels of one head for all tasks, in natural order; None where each task has them already.

    Raises ConfigError where scenario=domain and they are not the same.
    """
    for name, found in zip(names[1:], labels[1:], strict=True):
        if scenario == "domain" and found != labels[0]:
            raise ConfigError(
                f"scenario=domain: {names[0]} has the labels {listed(labels[0])},"
                f" {name} has {listed(found)}; one head needs the same labels,"
                " possible: scenario=class or scenario=task"
            )
    return (
        None if scenario == "domain" else sorted({each for own in labels for each in own}, key=natural_order)
    )
