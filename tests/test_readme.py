"""The commands of README.md and conf/README.md compose, and README.md stays a page with its image."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from ftrun import CONF, cli
from ftrun.experiments.overrides import compose, fold_words, sourced, with_tasks
from ftrun.experiments.study.ranges import range_of
from ftrun.settings.read import read

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "conf/README.md"]
SHARED = re.compile(r"from ftrun\.commands\.(_\w+(?:\.\w+)?) import")


def source(path: Path) -> str:
    """A command, and what it shares with others."""
    text = path.read_text()
    shared = (name.replace(".", "/") for name in SHARED.findall(text))
    return text + "".join((path.parent / f"{name}.py").read_text() for name in shared)


SOURCES = {path.stem: source(path) for path in cli.COMMANDS.glob("[a-z]*.py")}


def printed(page: Path) -> list[str]:
    """Every command that begins with ftrun: lines of blocks, and what stands in backticks."""
    pieces = page.read_text().replace("\\\n", " ").split("```")
    lines = [line for block in pieces[1::2] for line in block.splitlines() if line.startswith("ftrun ")]
    inline = re.findall(r"`(ftrun [^`]+)`", "".join(pieces[::2]))
    return [shlex.join(shlex.split(line, comments=True)) for line in lines + inline if "…" not in line]


COMMANDS = list(dict.fromkeys(line for page in PAGES for line in printed(page)))


def first_values(words: list[str]) -> list[str]:
    """Settings with the first value of each sweep; RUN is a directory."""
    found = []
    for word in words:
        override = OverridesParser.create().parse_override(word.replace("=RUN", "=./RUN"))
        if override.is_sweep_override():
            found.append(f"{override.key_or_group}={next(iter(override.sweep_string_iterator()))}")
        else:
            found += sourced(str(override.input_line))
    return found


def is_help(line: str) -> bool:
    return line.startswith("ftrun --help")


def is_command(line: str) -> bool:
    return line.split()[1] in SOURCES or not re.search("[=-]", line.split()[1])


def is_experiment(line: str) -> bool:
    """Commands that take settings are experiments too; one's own strategy is not there."""
    return "=" in line and "--config-dir" not in line and not is_help(line)


@pytest.mark.parametrize("line", list(filter(is_experiment, COMMANDS)))
def test_settings_compose(line):
    words = [word for word in shlex.split(line)[1:] if re.match(r"[a-z][\w./]*=", word)]
    if "--search" in line:
        words = [word for word in words if range_of(word) is None]
    words = first_values([word for word in words if not word.startswith(("steps=", "minutes="))])
    words += fold_words(words)[:1]
    read(with_tasks(compose(words), words))


@pytest.mark.parametrize("line", list(filter(is_command, COMMANDS)))
def test_commands_and_their_options_exist(line):
    command, *words = shlex.split(line)[1:]
    options = [word for word in words if word.startswith("--") and word != "--help"]
    assert all(f'"{option}"' in SOURCES[command] for option in options)


@pytest.mark.parametrize("line", list(filter(is_help, COMMANDS)))
def test_help_has_these_parts(line):
    for word in shlex.split(line)[2:]:
        group, _, option = word.partition("=")
        place = CONF / group / f"{option}.yaml" if option else CONF / group
        assert group == "train" or place.exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert links and all((page.parent / link).is_file() for link in links)


def test_the_page_is_a_page():
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 200
    [image] = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", text)
    assert (ROOT / image).stat().st_size < 100_000
    assert re.findall(r"^scripts/\w+", text, re.MULTILINE) == ["scripts/demo", "scripts/test"]
    for line in ("ftrun strategy=lora rank=4", "ftrun -m strategy=lora rank=1,2,4,8,16"):
        assert re.search(f"^{line}( +#.*)?$", text, re.MULTILINE)
