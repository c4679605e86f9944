"""The words of a command line: options, overrides and sources, and the configuration that they compose."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ftrun import CONF
from ftrun.data.folds import MOST_FOLDS
from ftrun.errors import ConfigError
from ftrun.experiments.hydra_errors import COMPOSITION, explain, refuse_taken, refuse_unnamed
from ftrun.runs.typed import literal
from ftrun.runs.warm import once
from ftrun.settings.checks import convert
from ftrun.settings.own import beside, importable
from ftrun.settings.read import named_apart, sequence_of
from ftrun.settings.suggest import RANGES

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Hydra's options that are followed by a value
VALUED = "--config-dir -cd --config-path -cp --config-name -cn --cfg -c --package -p --info -i".split()
SEQUENCE = {"joint", "tasks"}  # of a sequence that says how it is trained


def options_first(arguments: list[str]) -> list[str]:
    """Options before settings, because Hydra's parser refuses `ftrun strategy=lora -m rank=1,2`."""
    options: list[str] = []
    settings: list[str] = []
    for word in arguments:
        takes = bool(options) and options[-1] in VALUED and not word.startswith("-")
        (options if word.startswith("-") or takes else settings).append(word)
    return options + settings


def value_of(word: str) -> Any:
    """What Hydra reads of key=value; ConfigError where it cannot."""
    try:
        return unquoted(OverridesParser.create().parse_overrides([word])[0].value())
    except COMPOSITION as error:
        raise explain(error, [word]) from None


def unquoted(found: Any) -> Any:
    """A value, or a list of values, without Hydra's quotes."""
    if isinstance(found, list):
        return [unquoted(each) for each in found]
    return getattr(found, "text", found)  # of a QuotedString


def sourced(word: str) -> list[str]:
    """source=DIR is source=run with this directory, source=TASK puts the task's settings there."""
    key, _, value = word.partition("=")
    if key.lstrip("+~").partition(".")[0] == RANGES:
        raise ConfigError(
            f"{word}: {RANGES} is no setting of a run; ranges are given as values, in"
            " ftrun compare --search N 'rank=choice(2,4)'"
        )
    if key != "source" or not value:
        return [word]
    names = value.split(",")
    if value == "run":
        raise ConfigError("source=run: set the directory of the run, source=DIR")
    if all((CONF / f"source/{name}.yaml").is_file() for name in names):
        return [word]
    if any((CONF / f"source/{name}.yaml").is_file() for name in names):
        raise ConfigError(f"source={value} mixes options with tasks or runs; sweep over one kind")
    if any("/" in name or Path(name).is_dir() for name in names):
        quoted = ",".join(literal(str(Path(name).resolve())) for name in names)
        return ["source=run", f"source.run={quoted}"]
    return [f"task@source={value}"]


def spelt(words: list[str]) -> list[str]:
    """The words as Hydra takes them: sources, and sequence.joint= beside a list of tasks."""
    found = [part for word in words for part in sourced(word)]
    for word in found:
        refuse_taken(word)
        refuse_unnamed(word)
    tasks = next((word for word in found if word.startswith("sequence=")), None)
    joint = [word for word in found if word.partition("=")[0] == "sequence.joint"]
    if not joint:
        return found
    if tasks is None:
        raise ConfigError(f"{joint[-1]}: there is no sequence=[a,b] of tasks to be trained together")
    values = joint[-1].partition("=")[2].split(",")
    given = tasks.partition("=")[2]
    both = ",".join(f"{{joint: {value}, tasks: {given}}}" for value in values)
    return [f"sequence={both}" if word is tasks else word for word in found if word not in joint]


def fold_words(words: list[str]) -> list[str]:
    """task.fold=0 and so on for every fold that task.folds asks for, where none is named."""
    values = dict(word.lstrip("+").partition("=")[::2] for word in words)
    folds = values.get("task.folds", "")
    if "task.fold" in values or not re.fullmatch(r"\d{1,9}", folds) or not 2 <= int(folds) <= MOST_FOLDS:
        return []
    return [f"task.fold={number}" for number in range(int(folds))]


def every_test(words: list[str]) -> tuple[list[str], list[list[str]]]:
    """The words of all runs, and what each split seed of task.split_seed=0,1,2 and each fold adds to them."""
    name = "task.split_seed="
    several = next((word for word in words if word.startswith(name) and "," in word), None)
    if several is None:
        return words, [[fold] for fold in fold_words(words)] or [[]]
    seeds = dict.fromkeys(several.removeprefix(name).split(","))
    folds = [[fold] for fold in fold_words(words)] or [[]]
    return [word for word in words if word is not several], [
        [f"{name}{seed}", *fold] for seed in seeds for fold in folds
    ]


Compose = Callable[[list[str]], dict[str, Any]]  # overrides to the configuration


def here(overrides: list[str]) -> dict[str, Any]:
    """The configuration of other words in the run that Hydra has begun, with its directories of options."""
    try:
        return plain(hydra.compose("config", overrides=overrides))
    except COMPOSITION as error:
        raise explain(error, overrides) from None


def with_tasks(raw: dict[str, Any], words: list[str], composing: Compose = here) -> dict[str, Any]:
    """The settings with every task of a sequence spelt out: an option, a file, or settings over task.

    Of one that is trained jointly they are those of one task that has all of them.
    """
    given, joint = raw["sequence"], False
    if isinstance(given, dict) and given.keys() <= SEQUENCE:
        joint, given = convert("sequence.joint", given.get("joint", False), bool), given.get("tasks")
    if not isinstance(given, list):
        return raw
    nodes = [task_of(each, raw["task"], words, composing) for each in given]
    return (
        together(raw, nodes)
        if joint
        else raw | {"sequence": nodes, "task": nodes[0] if nodes else raw["task"]}
    )


def together(raw: dict[str, Any], nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """The settings of joint training, in as many steps as the sequence has in all."""
    sequence_of(nodes)
    nodes, train = named_apart(nodes), raw["train"]
    if train["max_steps"] is not None:
        train = train | {"max_steps": len(nodes) * train["max_steps"]}
    name = " + ".join(str(node["name"]) for node in nodes)
    task = {"kind": "joint", "name": name, "scenario": raw["scenario"], "tasks": nodes}
    return raw | {"sequence": None, "task": task, "train": train}


def task_of(given: Any, task: dict[str, Any], words: list[str], composing: Compose) -> dict[str, Any]:
    """One task's settings; what the command line says of `task.` holds for every task."""
    if not isinstance(given, dict) and Path(str(given)).suffix:
        given = {"train": given}
    if isinstance(given, dict):
        if "train" not in given:
            return task | given
        first = given["train"][0] if isinstance(given["train"], list) else given["train"]
        own = {"name": Path(str(first)).stem, "validation": None, "test": None}  # not another file's
        return task | own | given
    node: dict[str, Any] = composing(
        [f"task={given}", *(word for word in words if word.startswith("task."))]
    )["task"]
    return node


def with_model_of_source(raw: dict[str, Any], words: list[str]) -> dict[str, Any]:
    """The settings with the network of source=RUN, unless another one is asked for."""
    from ftrun.runs.run import Run

    if raw["source"].get("kind") != "run" or any(word.lstrip("+~").startswith("model") for word in words):
        return raw
    return raw | {"model": Run.open(raw["source"]["run"]).settings["model"] | {"pooling": "auto"}}


def settings_of(words: list[str], config_dir: str | None = None) -> dict[str, Any]:
    """The settings that `ftrun WORDS…` has, composed and spelt out but not yet checked."""
    own = spelt(words)
    raw = with_tasks(compose(own, config_dir), own, lambda words: compose(words, config_dir))
    return with_model_of_source(raw, own)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The composed configuration as a plain dict, nothing left to interpolate, without ranges of a search."""
    return {name: value for name, value in whole(cfg).items() if name != RANGES}


def whole(cfg: DictConfig) -> dict[str, Any]:
    """The same with them."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise explain(error, []) from None


def compose(overrides: list[str], config_dir: str | None = None) -> dict[str, Any]:
    """The configuration of a command line, as a run would see it; of one that was composed before, a copy."""
    found = composed_once(overrides, config_dir)
    return copy.deepcopy({name: value for name, value in found.items() if name != RANGES})


def composed_once(overrides: list[str], config_dir: str | None) -> dict[str, Any]:
    return once("composed", [overrides, config_dir, os.getcwd()], lambda: composition(overrides, config_dir))


def composition(overrides: list[str], config_dir: str | None) -> dict[str, Any]:
    """The same with the ranges of a search, composed now."""
    importable(["--config-dir", config_dir] if config_dir else [])
    if config_dir and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir} is not a directory")
    place = Path(config_dir) if config_dir else beside()
    extra = [] if place is None else [f"hydra.searchpath=['file://{place.resolve()}']"]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="ftrun"):
            cfg = hydra.compose("config", overrides=overrides + extra)
    except COMPOSITION as error:
        raise explain(error, overrides) from None
    return whole(cfg)
