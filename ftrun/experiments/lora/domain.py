"""compose=domain: a task's LoRA and one of a domain's text, composed, and all that this is compared with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ftrun.data.rows import load_test
from ftrun.data.tables import columns_of, write_table
from ftrun.errors import ConfigError, DataError, counted, listed
from ftrun.experiments import single
from ftrun.experiments.ending import reason_kept
from ftrun.experiments.lora import compare
from ftrun.experiments.lora.compose import RECORD, Composition, compose
from ftrun.experiments.lora.lowrank import Update, read_update, refuse_other_bases
from ftrun.experiments.lora.merge import merge, of_run
from ftrun.experiments.lora.starting import merge_first
from ftrun.experiments.lora.weights import search
from ftrun.experiments.pooling import for_task, with_pooling
from ftrun.experiments.surroundings import surroundings
from ftrun.runs import clock
from ftrun.runs.artifacts import TOLERANCE
from ftrun.runs.content import read_object
from ftrun.runs.files import write_atomically
from ftrun.runs.run import ENVIRONMENT, PREDICTIONS, RESULT, Run
from ftrun.runs.streams import shown
from ftrun.runs.terminal import say
from ftrun.runs.typed import prediction
from ftrun.settings.auto import AUTO
from ftrun.settings.earlier import Domain
from ftrun.settings.read import FIXED, read
from ftrun.settings.schema import Settings
from ftrun.tasks.classify import Classify
from ftrun.tasks.data import TaskData

GRID = [0.0, 0.25, 0.5, 0.75, 1.0]
MERGED = Path("domain") / "merged"
MODEL = "model"  # the composition that the search found: the directory answers and merges as a run does
Node = dict[str, Any]


@clock.account()
def run(settings: Settings, path: Path) -> float:
    """Train, compose and score in a new directory; returns the score that chose the weights."""
    refuse(settings)
    merge_first(settings.model, settings.device)
    settings = with_pooling(settings)
    data = TaskData.read(settings.task, settings.seed)
    parts = parts_of(settings, data)
    text = read(plan(settings, data, path)["domain"])
    TaskData.read(text.task, settings.seed)  # a wrong file is refused before anything is trained
    beginning = {ENVIRONMENT: surroundings(path, settings.device)}
    directory = Run.create(path, settings.raw, beginning)
    return recorded(settings, data, parts, directory)


@clock.account()
def resume(directory: Run) -> float:
    """Continue; what is finished of it is not done again."""
    if directory.finished:
        return show_result(read(directory.settings), directory)
    directory.refuse_edited()
    settings = read(directory.settings)
    directory.hold()
    if directory.finished:  # by another process, meanwhile
        directory.release()
        return show_result(settings, directory)
    data = TaskData.read(settings.task, settings.seed)
    return recorded(settings, data, parts_of(settings, data), directory)


def recorded(settings: Settings, data: TaskData, parts: dict[str, list[Node]], directory: Run) -> float:
    """Everything up to the result, with the reason kept where it ends early."""
    path, metric = directory.path, data.metric
    with reason_kept(directory, "to continue the composition"):
        (path / "rows").mkdir(exist_ok=True)
        for name, rows in parts.items():
            write_table(path / "rows" / f"{name}.jsonl", rows)
        names = trained(settings, data, path)
        group = compare.group_of(settings.raw["task"]["name"], metric, placed(names, path))
        shutil.copy(path / MODEL / PREDICTIONS, path)
        write_atomically(path / "comparison.md", shown(compare.page(group)))
        seen = (read_object(path / MODEL / RECORD) or {})["search"]["score"]
        scores = {f"eval_{metric}": seen, f"test_{metric}": group.studies[0].score.value}
        own = {"metric": f"eval_{metric}", **scores, "names": names, "contest": compare.standing(group)}
        directory.write_json(RESULT, own)
    return show_result(settings, directory)


def show_result(settings: Settings, directory: Run) -> float:
    """The result on the terminal."""
    path, result = directory.path, directory.result("metric", "names")
    metric = result["metric"].removeprefix("eval_")
    compare.show(compare.group_of(settings.raw["task"]["name"], metric, placed(result["names"], path)))
    say(f"\n  run:      {path}\n  use:      {prediction(path)}\n")
    return float(result[f"eval_{metric}"])


def placed(names: dict[str, str], path: Path) -> dict[str, Path]:
    return {name: path / place for place, name in names.items()}


def refuse(settings: Settings) -> None:
    """ConfigError for settings of which no sum of two updates comes."""
    task, variant = settings.task, settings.raw.get("variant")
    if variant is None or variant == "dora":
        actual = "variant=dora" if variant else f"strategy={settings.strategy_name}"
        raise ConfigError(
            f"compose=domain sums low-rank updates, which {actual} does not have; possible: strategy=lora"
        )
    if type(task) is not Classify:
        raise ConfigError(
            f"compose=domain needs text classification, not task={task.name}; possible: task=classify"
        )
    if settings.streamed:
        raise ConfigError(
            "compose=domain holds all training rows, task.stream=true does not; possible: task.stream=false"
        )
    if settings.model.init == "random":
        raise ConfigError("compose=domain needs pretrained weights for its LoRAs, not model.init=random")
    if settings.sequence is not None or settings.source is not None:
        raise ConfigError("compose=domain starts with the model itself; it takes no source= and no sequence=")


def parts_of(settings: Settings, data: TaskData) -> dict[str, list[Node]]:
    """The labelled rows by what they are for, with the task's own columns; DataError for foreign labels."""
    domain = settings.compose
    assert domain is not None
    few = labelled(data, domain, domain.rows)
    few, test = (few[0::2], few[1::2]) if domain.test is None else (few, labelled(data, domain, domain.test))
    if not few or not test:
        raise DataError(f"compose.rows={domain.rows} has too few rows to search for weights and to score")
    known = data.rows.splits["train"], data.rows.splits["validation"]
    own, held = ([{name: row[name] for name in few[0]} for row in rows] for rows in known)
    return {"task": own, "validation": held, "few": few, "both": own + few, "test": test}


def labelled(data: TaskData, domain: Domain, source: Any) -> list[Node]:
    """Labelled rows of the domain under the names that the task has for its columns."""
    task: Any = data.task
    labels = list(data.spec.labels or ())
    own = [*columns_of(task.text), task.column]
    names = domain.columns or own
    if len(names) != len(own):
        raise ConfigError(
            f"compose.columns={domain.columns} has {counted(len(names), 'column')}; the task has {own}"
        )
    text: Any = names[0] if isinstance(task.text, str) else names[:-1]
    rows = load_test(source, text=text, label=names[-1], labels=None).test
    if foreign := sorted({str(row[names[-1]]) for row in rows} - set(labels)):
        known = listed(labels)
        raise DataError(f"compose.rows has the labels {listed(foreign)}; possible: {known}")
    return [{mine: row[theirs] for mine, theirs in zip(own, names, strict=True)} for row in rows]


def plan(settings: Settings, data: TaskData, path: Path) -> dict[str, Node]:
    """The settings of every run by its directory; ConfigError for what is wrong in one of them."""
    domain = settings.compose
    assert domain is not None
    raw = settings.raw | {"compose": {"name": "none"}}
    files = {name: str((path / "rows" / f"{name}.jsonl").absolute()) for name in ("validation", "test")}
    node = raw["task"] | files | {"subset": None, "labels": list(data.spec.labels or ())}

    def on(rows: str) -> Node:
        return {"task": node | {"train": str((path / "rows" / f"{rows}.jsonl").absolute())}}

    whole = raw["model"] | {"name": str((path / MERGED).absolute())}
    text = {"task": domain.text, "train": raw["train"] | {"rates": None} | domain.train | {"metric": None}}
    runs = {
        "task": raw | on("task"),
        "domain": for_task(settings, raw | text),
        "both": raw | on("both"),
        "none": probe(raw) | on("task"),
        "domain-probe": probe(raw) | on("task") | {"model": whole},
    }
    for each in runs.values():
        read(each)
    return runs


def probe(raw: Node) -> Node:
    """The same with a head alone on the network as it is, at that strategy's own rate."""
    own = {"strategy": "linear_probe", "solver": "auto", "train": raw["train"] | {"lr": AUTO, "rates": None}}
    return {name: raw[name] for name in FIXED} | own


def trained(settings: Settings, data: TaskData, path: Path) -> dict[str, str]:
    """Makes every run and composition that is not there yet; the name of each by its directory."""
    domain = settings.compose
    assert domain is not None
    for name, raw in plan(settings, data, path).items():
        if name == "domain-probe" and not (path / MERGED).exists():
            merge(of_run(Run.open(path / "domain")), path / MERGED, "fp32", TOLERANCE)
        single.made(raw, path / name, f"\n{name}: strategy={raw['strategy']} on {raw['task']['name']}")
    updates = [read_update(Run.open(path / name)) for name in ("task", "domain")]
    refuse_other_bases(updates)
    found = composed(updates, None, path / MODEL, str(path / "rows" / "few.jsonl"))
    fixed = composed(updates, domain.weights, path / "composed", None)
    for name in (MODEL, "composed"):
        compare.answer(path / name, str(path / "rows" / "test.jsonl"))
    return {
        MODEL: f"composed {joined(found)}, found by search",
        "composed": f"composed {joined(fixed)}",
        "task": "LoRA of the task alone",
        "domain-probe": "LoRA of the domain alone, with a linear probe",
        "none": "no LoRA, with a linear probe",
        "both": "one LoRA trained on both",
    }


def composed(updates: list[Update], weights: list[float] | None, place: Path, few: str | None) -> list[float]:
    """The weights of a composition, made if it is not there yet; where none are given, searched on `few`."""
    record = place / RECORD
    if (known := read_object(record)) is not None:
        return [each["weight"] for each in known["runs"]]
    say("")
    found = None
    if weights is None:
        assert few is not None
        weights, found = search(updates, 0, few, {}, GRID)
    compose(Composition(updates, weights, 0, "linear", None, 1.0), place, False, found)
    return weights


def joined(weights: list[float]) -> str:
    """0.7 and 0.3."""
    return " and ".join(f"{weight:g}" for weight in weights)
