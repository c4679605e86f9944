"""List the commands, and every option and setting of an experiment."""

from __future__ import annotations

import ast
from pathlib import Path

from ftrun import CONF
from ftrun.errors import ConfigError, near
from ftrun.settings.own import beside
from ftrun.settings.suggest import keys

GROUPS = (
    "strategy", "compose", "protect", "source", "task", "model", "pretrain", "schedule", "experiment",
    "hydra/launcher",
)  # fmt: skip
# groups whose own settings are not listed
PLACES = ("task", "model", "pretrain", "schedule", "compose", "protect", "source")
USAGE = """ftrun: fine-tune a pre-trained network and compare strategies for doing so

  ftrun key=value …          one experiment, e.g. ftrun strategy=lora rank=4
  ftrun -m key=1,2,4 …       a sweep: one run for every combination
  ftrun COMMAND …            a command; ftrun COMMAND --help explains it
  ftrun --help GROUP …       a part of this page, e.g. ftrun --help strategy, or one option: strategy=lora
  ftrun --config-dir DIR …   also use your own options in DIR/strategy/*.yaml, DIR/task/*.yaml …; those in
                             conf/ of the current directory need not be named
"""
AUTO = "What ftrun advise recommends for the rows and the network, which are measured first; for one run."

SHORT = """
  ftrun strategy=lora rank=4                             a first run on data that comes along, in a minute
  ftrun task=classify task.train=FILE.csv task.text=COLUMN task.label=COLUMN strategy=lora
                                                         on your own rows
  ftrun compare task=classify task.train=FILE.csv …      which strategy is best on them
  ftrun report outputs                                   what has been run, compared

  ftrun --help lists all commands, options and settings
"""


def short() -> str:
    """What is printed where nothing is asked for."""
    return USAGE.partition("\n")[0] + "\n" + SHORT.rstrip()


def main(arguments: list[str]) -> int | None:
    """Print the whole page, or the groups and options that are named.

    Raises ConfigError for a word that is neither.
    """
    pages = [page_of(word) for word in arguments if word not in ("--help", "-h")]
    print("\n".join(pages) if pages else whole(), flush=True)
    return 0


def page_of(word: str) -> str:
    """The options of a group, as for `strategy`, or the file of an option, as for `strategy=lora`."""
    group, _, option = word.rstrip("=").partition("=")
    if word == "train":
        return "\n".join(settings("train."))
    if group not in GROUPS:
        raise ConfigError(
            f"help: {word} is not a group; possible: {', '.join(GROUPS)}, train{near(group, GROUPS)}"
        )
    files = {path.stem: path for path in reversed(options(group))}
    names = [path.stem for path in options(group)]
    if not option:
        return of_group(group)
    if (group, option) == ("strategy", "auto"):
        return AUTO
    if option not in names:
        raise ConfigError(
            f"help: there is no {group} '{option}'; possible: {', '.join(names)}{near(option, names)}"
        )
    lines = files[option].read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("# @"))


def options(group: str) -> list[Path]:
    """ftrun's own, then those of conf/ in the current directory."""
    return [path for place in (CONF, beside()) if place for path in sorted((place / group).glob("*.yaml"))]


def of_group(group: str) -> str:
    """The options of a group, one line each."""
    about = [
        first_comment(path) + (own_settings(path) if group == "strategy" else "") for path in options(group)
    ]
    lines = [f"  {path.stem:<18} {text}" for path, text in zip(options(group), about, strict=True)]
    if group == "strategy":
        lines.append(f"  {'auto':<18} {AUTO}")
    return "\n".join([f"{group}=", *lines])


def whole() -> str:
    """Commands, groups with their options, settings."""
    commands = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    lines = [USAGE, "commands", *(f"  {path.stem:<18} {first_docstring_line(path)}" for path in commands)]
    lines += [f"\n{of_group(group)}" for group in GROUPS]
    lines += ["\nsettings", *settings()]
    lines.append(f"\n  {'.… '.join(PLACES)}.…   for all of these: ftrun config key=value …")
    return "\n".join(lines)


def settings(prefix: str = "") -> list[str]:
    """The settings of config.yaml whose names begin with `prefix`, one line each."""
    lines = []
    for name, value in keys(CONF / "config.yaml").items():
        if name.startswith(prefix) and not name.startswith(("defaults", "hydra")) and value:
            value, _, comment = value.partition("#")
            lines.append(f"  {f'{name}={value.strip()}':<32} {comment.strip()}".rstrip())
    return lines


def first_docstring_line(path: Path) -> str:
    """The first line of a command's docstring, without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def first_comment(path: Path) -> str:
    """The first comment of an option's YAML file that is not Hydra's."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line[1:].strip()
    return ""


def own_settings(path: Path) -> str:
    """The settings that a strategy adds, in brackets."""
    names = [name for name in keys(path) if name not in ("strategy", "train", "model") and "." not in name]
    return f" [{', '.join(names)}]" if names else ""
