"""Hydra's errors about a command line, explained in one line in terms of ftrun's settings."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ftrun import CONF
from ftrun.errors import ConfigError, near, shortened
from ftrun.runs.typed import typed
from ftrun.runs.typed import word as shell
from ftrun.settings.checks import LONGEST, in_yaml
from ftrun.settings.suggest import LAUNCHER, keys, meant, owner

if TYPE_CHECKING:
    from collections.abc import Sequence

OWN_FILES = {
    "model": "; for a checkpoint directory or a name on the Hub, set model.name=",
    "task": "; for files of your own, set task=classify task.train=FILE",
}
NO_GROUP = (
    r"^Could not override '([^']+)'\.\s+No match in the defaults list"
    r"|config group '?([^\s']+)'? does not\s+exist"
)
# what Hydra raises about settings and files; what a run raises comes out as Stop
COMPOSITION = (HydraException, OmegaConfBaseException, YAMLError, ValueError, RecursionError)
QUOTED_NAME = re.compile(r"""(["'])(.*?)\1\s*:""")  # of a value in braces
AUTO = (
    "strategy=auto is for one run, on the command line: ftrun strategy=auto key=value …; elsewhere name the"
    " strategy that it comes to, which ftrun advise key=value … says"
)
SPECIAL = r"[()\[\]{}:=, ]"  # what a name has behind a backslash there
SEARCHES = ("hparams_search", "hydra/sweeper")  # groups that had a search once


def explain(error: Exception, words: Sequence[str]) -> ConfigError:
    """The ConfigError that says what is wrong with the settings in `words`."""
    text = str(error)
    if (old := next((word for word in words if searches(word)), None)) is not None:
        return ConfigError(
            f"{old}: a search is a comparison, ftrun compare --search 20 --strategies lora; its ranges stand"
            " in conf/strategy/lora.yaml"
        )
    if isinstance(error, RecursionError) or "int_max_str_digits" in text:
        return ConfigError(beyond(max(words, key=len, default="")))
    if isinstance(error, MissingConfigException):
        return ConfigError(missing(error, words))
    if isinstance(error, OverrideParseException):
        return ConfigError(unreadable(error.override))
    if match := re.search(NO_GROUP, text):
        group = match[1] or match[2]
        return ConfigError(f"there is no group of options '{group}'{meant(group)}")
    if match := re.match(r"Could not override '([^']+)'", text):
        return ConfigError(absent(match[1], words))
    if match := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return ConfigError(f"{match[1]} exists; write {match[1]}=… without the +")
    if match := re.match(r"Could not delete from config. '([^']+)' does not exist", text):
        return ConfigError(absent(match[1], words))
    if match := re.search(r"Sweep parameters '(.+)' requires --multirun|argument '(.+)'\s+1. To use", text):
        return ConfigError(several(match[1] or match[2]))
    if match := re.search(r"Error merging override (\S+)", text):
        return ConfigError(misplaced(match[1]))
    if match := re.match(r"(?:Multiple values for )?(\w+)(?:\.| appears more than once)", text):
        added = [word[1:] for word in words if word.startswith(f"+{match[1]}=")]
        if added:
            return ConfigError(f"{match[1]} is already selected; write {shell(added[0])} without the +")
        return ConfigError(f"{match[1]}= is set more than once")
    if match := re.match(r"Sweeping over Hydra's configuration is not supported : '(.*)'", text):
        return ConfigError(f"{match[1]} has several values; all runs of a sweep have one in common")
    if "Config group override must be a string" in text:
        return ConfigError(
            f"an option is missing: {' '.join(word for word in words if word.endswith('=null'))}"
        )
    if match := re.match(r"(Interpolation key .*)\n\s+full_key: (\S+)", text):
        return ConfigError(f"{match[2]}: {match[1]}")
    return ConfigError(text)


def searches(word: str) -> bool:
    """Whether a word asks for a search as Hydra's sweeper of Optuna made it."""
    group, _, name = word.lstrip("+").partition("=")
    return group == SEARCHES[0] or (group == SEARCHES[1] and "optuna" in name)


def missing(error: MissingConfigException, words: Sequence[str]) -> str:
    """An option that its group does not have."""
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    options = sorted(option for option in error.options or [])
    if not group:
        return f"there is no configuration '{name}'"
    if (group, name) == ("strategy", "auto"):
        return AUTO
    if group == "task" and any(word.startswith("task@source=") for word in words):
        return (
            f"there is no source '{name}'; possible: none, pretraining, a finished run's directory or a task"
            f" ({', '.join(options)}){near(name, options)}"
        )
    if group.split("/")[0] in OWN_FILES:  # a path or Hub name in the place of an option
        group, _, name = str(error.missing_cfg_file).partition("/")
        options = options_of(group)
    choice = f"; possible: {', '.join(options)}" if options else ""
    return f"there is no {group} '{name}'{choice}{near(name, options) or OWN_FILES.get(group, '')}"


def options_of(group: str) -> list[str]:
    """The names of ftrun's own options of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def beyond(word: str) -> str:
    """The value of the longest word is nested a thousand times or a number of thousands of digits."""
    key, _, value = word.partition("=")
    return f"{key} is too long a number, or nested too deeply, to be read: {value[:40]}…"


def several(word: str) -> str:
    """A comma where one value is expected: a sweep, or a part of the value."""
    key, _, value = word.partition("=")
    own = f"; a comma of the value itself is quoted: {typed(key, value)}" if not (CONF / key).is_dir() else ""
    return f"{word} has several values; start a sweep with ftrun -m …{own}"


def unreadable(word: str) -> str:
    """A word that is no key=value at all, or whose value the grammar cannot read."""
    if "=" not in word:
        return f"'{word}' is not key=value (a command such as ftrun report is the first word)"
    key, _, value = word.partition("=")
    if value.startswith("{") and QUOTED_NAME.search(value):
        return f"cannot read the value of {key}; {without_quotes(key, value)}"
    return f"cannot read the value of {key}; quote it to use it literally: {typed(key, value)}"


def without_quotes(key: str, value: str) -> str:
    """How a value in braces is written whose names are quoted, which the grammar has not."""
    bare = QUOTED_NAME.sub(lambda match: re.sub(SPECIAL, r"\\\g<0>", match[2]) + ":", value)
    try:
        OverridesParser.create().parse_override(f"{key}={bare}")
    except HydraException:
        return "such names in braces can only stand in a file, such as conf/experiment/NAME.yaml"
    return f"names in braces are not quoted: {shell(f'{key}={bare}')}"


def refuse_unnamed(word: str) -> None:
    """ConfigError for a list in the place of options that holds anything but names, at which Hydra breaks."""
    key, _, value = word.partition("=")
    group = key.lstrip("+~").partition("@")[0]
    if not value.lstrip().startswith("[") or not (CONF / group).is_dir():
        return
    with suppress(*COMPOSITION):  # what cannot be read at all is said by whoever reads it
        found = OverridesParser.create().parse_override(word).value()
        lists = [each for each in getattr(found, "list", [found]) if isinstance(each, list)]  # of a sweep
        if odd := [name for names in lists for name in names if not isinstance(name, (str, QuotedString))]:
            raise ConfigError(
                f"{group}={shortened(value, LONGEST)}: {in_yaml(odd[0])} is no name of an option;"
                f" possible: {', '.join(options_of(group))}"
            )


def refuse_taken(word: str) -> None:
    """ConfigError for a group that is taken away as ~task: every run has an option of each."""
    group = word[1:].partition("=")[0]
    if word.startswith("~") and group.isidentifier() and (CONF / group).is_dir():
        options = options_of(group)
        one = f"{group}=none" if "none" in options else f"{group}=OPTION, one of {', '.join(options)}"
        raise ConfigError(f"{word}: every run has a {group}=, so it cannot be taken away; possible: {one}")


def absent(name: str, words: Sequence[str]) -> str:
    """A setting that this run does not have."""
    if name.startswith(LAUNCHER):
        chosen = option("hydra/launcher", words, "here")
        file = CONF / "hydra" / "launcher" / f"{chosen}.yaml"
        own = {LAUNCHER + key for key in keys(file)} if file.is_file() else set()
        return f"hydra/launcher={chosen} has no setting '{name}'{meant(name, own)}"
    strategy = option("strategy", words, "full")
    yaml = CONF / "strategy" / f"{strategy}.yaml"
    known = set(keys(yaml)) - {"strategy", "train"} if yaml.is_file() else set()
    if "," in strategy and owner(name):
        files = [CONF / "strategy" / f"{each}.yaml" for each in strategy.split(",")]
        if all(file.is_file() and name in keys(file) for file in files):
            one = shell(f"{name}=choice({option(name, words, '…')})")
            return f"in a sweep over strategies their settings are choices, one value too: {one}"
        return (
            f"not every run of this sweep has '{name}', which belongs to strategy={owner(name)}; "
            f"sweep over strategies that have it, with {name}='choice(…)'"
        )
    tail = meant(name, known) or "; ftrun --help lists them"
    return f"no setting '{name}' in this run (strategy={strategy}){tail}"


def option(group: str, words: Sequence[str], default: str) -> str:
    """The option of a group that the words choose last."""
    chosen = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    return chosen[-1] if chosen else default


def misplaced(word: str) -> str:
    """A value where settings stand, or a setting below a value."""
    name = word.lstrip("+~").partition("=")[0]
    tail = meant(name) if "." in name else ""
    return f"{word} does not fit the configuration{tail}"
