"""Look at a file, and write an experiment of your own for it: conf/experiment/NAME.yaml.

Kind and columns are guessed from the rows; what is not clear is asked on a terminal, and elsewhere said. Rows
that such a run could not read are refused.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun import CONF
from ftrun.commands._parser import Parser
from ftrun.errors import ConfigError, counted, near
from ftrun.runs.typed import command, typed
from ftrun.runs.typed import word as quoted

if TYPE_CHECKING:
    from ftrun.tasks.guessing.kinds import Guess

SHOWN = 12  # columns that are named


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    options = parse(arguments)
    name = name_of(options.name, options.file)
    file = Path(options.config_dir) / "experiment" / f"{name}.yaml"
    refuse(name, file)
    words, given = asked(options.settings)

    from ftrun.commands._beginning.asking import settled
    from ftrun.commands._beginning.writing import FITTED, SCHEMA, write_schema
    from ftrun.experiments.making import looked
    from ftrun.experiments.overrides import settings_of
    from ftrun.runs.files import write_atomically
    from ftrun.settings.read import checked
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.guessing.sources import guess

    found = guess(options.file, given)
    say_columns(found)
    found = settled(found, options.file, given)
    chosen = options_of(found, words)
    if not any(word.startswith("model") for word in words):
        found.settings |= FITTED.get(found.kind, {})
    place = options.config_dir if Path(options.config_dir).is_dir() else None
    raw = settings_of([*chosen_words(chosen, found), *words], place)
    settings = checked(raw)
    looked(raw)
    say_what(found, network_of(chosen, words), options.file)
    TaskData.read(settings.task, settings.seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text_of(found, chosen, raw, words, name, options))
    write_schema(options.config_dir)
    print(f"saved: {file}; editors of YAML check it by {file.parents[1] / SCHEMA}")
    for line in commands(name, options.config_dir):
        print(line)
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Raises ConfigError for a usage error."""
    parser = Parser(prog="ftrun init", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("file", metavar="FILE", help="training rows, as in task.train=: a file, directory or data set")
    add(
        "settings",
        nargs="*",
        default=[],
        metavar="key=value",
        help="what is known: task=KIND, task.text=COLUMN, task.label=COLUMN; others are written down too",
    )
    add("--name", help="of the experiment; default: that of the file")
    add(
        "--config-dir", "-cd", metavar="DIR", default="conf",
        help="directory of your own options; default: conf, which ftrun finds by itself",
    )  # fmt: skip
    return parser.parse_intermixed_args(arguments)


def name_of(given: str | None, file: str) -> str:
    """The name of the experiment; that of the file, of a file called train that of its directory."""
    if given is None:
        path = Path(file.rpartition(":")[2] if file.startswith(("hub:", "embedded:")) else file)
        stem = path.name.partition(".")[0]
        place = path.expanduser().resolve().parent.name
        stem = place if re.fullmatch("train(ing)?|data|validation|dev|test", stem) and place else stem
        given = re.sub(r"\W+", "_", stem, flags=re.ASCII).strip("_") or "mine"
    if not re.fullmatch(r"[\w-]+", given, re.ASCII):
        raise ConfigError(f"init: --name {given}: a name has letters, digits, _ and - alone")
    return given


def refuse(name: str, file: Path) -> None:
    """ConfigError for a name that is ftrun's own, or whose file is there."""
    if (CONF / "experiment" / f"{name}.yaml").is_file():
        raise ConfigError(f"init: ftrun has an experiment {name} of its own; possible: --name OTHER")
    if file.exists():
        raise ConfigError(f"{file} exists, and nothing is overwritten; possible: --name OTHER, or remove it")


def asked(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The words but the kind, and what they say of the task: its kind, and its columns by setting."""
    from ftrun.experiments.overrides import value_of
    from ftrun.tasks.guessing.kinds import KINDS

    given: dict[str, Any] = {}
    kept = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"init: '{word}' is not key=value")
        if key == "task":
            if value not in KINDS:
                raise ConfigError(f"task={value}: possible: {', '.join(KINDS)}{near(value, KINDS)}")
            given["kind"] = value
        elif key == "task.train":
            raise ConfigError(f"init: {word} is the FILE, which stands first")
        elif key == "task.folds":
            later = command("experiment=NAME", word)
            raise ConfigError(f"init: {word} asks for several runs; it stands behind the experiment: {later}")
        else:
            kept.append(word)
            if key.startswith("task."):
                found = value_of(word)
                given[key[5:]] = found if isinstance(found, list | str) else value
    return kept, given


def options_of(found: Guess, words: list[str]) -> dict[str, str]:
    """The options of the experiment, by group: what the words choose, and what comes along and fits."""
    from ftrun.commands._beginning.writing import MODELS

    chosen = {"task": found.kind, "model": MODELS.get(found.kind, "tiny_bert"), "strategy": "full"}
    return chosen | {group: value for group, _, value in map(parted, words) if (CONF / group).is_dir()}


def parted(word: str) -> tuple[str, str, str]:
    return word.partition("=")


def chosen_words(chosen: dict[str, str], found: Guess) -> list[str]:
    """The words of a run with these options and the settings that were found."""
    from ftrun.commands._python.asking import written

    own = [f"task.{name}={written(f'task.{name}', value)}" for name, value in found.settings.items()]
    return [*(f"{group}={value}" for group, value in chosen.items()), *own]


def say_columns(found: Guess) -> None:
    """What the file holds."""
    from ftrun.runs.terminal import say

    for column in found.columns[:SHOWN]:
        say(f"  {column.line()}")
    if len(found.columns) > SHOWN:
        say(f"  and {counted(len(found.columns) - SHOWN, 'column')} more")


def network_of(chosen: dict[str, str], words: list[str]) -> str:
    """The word that says which network: a checkpoint of one's own stands in the place of the option."""
    own = [word for word in words if word.startswith("model.name=")]
    return own[-1] if own else f"model={chosen['model']}"


def say_what(found: Guess, network: str, source: str) -> None:
    """What the file is for, and what of that is a guess."""
    from ftrun.runs.terminal import say

    say(f"{source}: {' '.join(told(found))} {quoted(network)}")
    for doubt in found.doubts:
        say(doubt.line())


def told(found: Guess) -> list[str]:
    """Kind and columns as words of a command line."""
    words = chosen_words({"task": found.kind}, found)
    return [quoted(each) for each in words if not each.endswith("=null")]


def text_of(
    found: Guess,
    chosen: dict[str, str],
    raw: dict[str, Any],
    words: list[str],
    name: str,
    options: argparse.Namespace,
) -> str:
    """The file: values as Hydra has read them, and what a person changes next at their defaults."""
    from ftrun.commands._beginning.writing import LATER, written

    keys = [key for key, _, _ in map(parted, words) if not (CONF / key).is_dir()]
    own = [*found.settings, *(key[5:] for key in keys if key.startswith("task.")), *LATER]
    task = {"name": name} | {key: raw["task"][key] for key in own if key in raw["task"]}
    others = {key: value_at(raw, key) for key in keys if not key.startswith("task.")}
    about = f"Written by ftrun init for {options.file}; change what you like."
    return written(about, commands(name, options.config_dir), chosen, task, others)


def value_at(raw: dict[str, Any], key: str) -> Any:
    """The value of a setting by its dotted name."""
    found: Any = raw
    for part in key.lstrip("+").split("."):
        found = found[part]
    return found


def commands(name: str, directory: str) -> list[str]:
    """The lines that use it; ftrun compare finds conf/ alone."""
    if directory != "conf":
        return [f"{command('--config-dir', directory)} {typed('experiment', name)}"]
    own = f"experiment={name}"
    return [
        f"{command(own):<40}  # one run; more is set behind it: strategy=lora rank=4",
        f"{command('compare', own):<40}  # which way of fine-tuning is best",
    ]
