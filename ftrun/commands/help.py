"""List the commands, and every option and setting of an experiment."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from ftrun import CONF
from ftrun.names import keys

GROUPS = (
    "strategy", "compose", "protect", "source", "task", "model", "pretrain", "schedule", "experiment",
    "hparams_search",
)  # fmt: skip
# of settings that are not listed
PLACES = ("task", "model", "pretrain", "schedule", "compose", "protect", "source")
USAGE = """ftrun: fine-tune a pretrained network, compare the ways to do it

  ftrun key=value …          one experiment, e.g. ftrun strategy=lora rank=4
  ftrun -m key=1,2,4 …       a sweep: one run for every combination
  ftrun COMMAND …            a command; ftrun COMMAND --help says more
  ftrun --config-dir DIR …   with options of your own in DIR/strategy/*.yaml, DIR/task/*.yaml …
"""


def main(arguments: list[str]) -> int | None:
    """Prints the page; everything in it is read from the files it describes."""
    del arguments
    print(USAGE)
    print("commands")
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        print(f"  {path.stem:<18} {first_docstring_line(path)}")
    for group in GROUPS:
        print(f"\n{group}=")
        for path in sorted((CONF / group).glob("*.yaml")):
            print(
                f"  {path.stem:<18} {first_comment(path)}{own_settings(path) if group == 'strategy' else ''}"
            )
    print("\nsettings")
    for name, value in keys(CONF / "config.yaml").items():
        if not name.startswith(("defaults", "hydra")) and value:
            value, _, comment = value.partition("#")
            print(f"  {f'{name}={value.strip()}':<32} {comment.strip()}".rstrip())
    print(f"\n  {'.… '.join(PLACES)}.…   ftrun config key=value … prints them all")
    sys.stdout.flush()
    return 0


def first_docstring_line(path: Path) -> str:
    """What a command says about itself, without importing it."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def first_comment(path: Path) -> str:
    """What an option says about itself: the first comment of its YAML that is not Hydra's."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line[1:].strip()
    return ""


def own_settings(path: Path) -> str:
    """The settings that a strategy adds, in brackets."""
    names = [name for name in keys(path) if name not in ("strategy", "train", "model") and "." not in name]
    return f" [{', '.join(names)}]" if names else ""
