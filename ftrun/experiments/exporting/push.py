"""`ftrun push`: a saved model on the Hub, once nothing in it names a place on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ftrun.data.hub import unreachable
from ftrun.errors import ConfigError, UserError, told
from ftrun.models.saved.below import EMBEDDED, linked_or_copied, on_hub
from ftrun.models.saved.usage import base_of, usage_of
from ftrun.models.shards import INDEX
from ftrun.reports.pages.model_card import README, card_of, text_of
from ftrun.runs.artifacts import BASE, LORA, MERGED
from ftrun.runs.files import size_in_words
from ftrun.runs.find import ORIGIN, open_trained
from ftrun.runs.manifest import SEAL, own, verify
from ftrun.runs.run import RESULT, Run, is_run
from ftrun.runs.terminal import say
from ftrun.runs.typed import command, continuing
from ftrun.settings.read import read

LEFT = {ORIGIN, SEAL}  # what is of use beside the run alone
PLACE = re.compile(r"(?<![\w:/.])(?:/[\w.-]+){2,}")  # what looks like an absolute path
TEXTS, WORDS = (".json", ".md", ".yaml", ".txt"), ("tokenizer.json", "vocab.json", "vocab.txt")
USE = re.compile(r"With DIR for this directory:\n\n```python\n(.*?)\n```", re.DOTALL)
FETCHED = "from huggingface_hub import snapshot_download"


def push(path: Path, name: str, public: bool, dry: bool) -> None:
    """Upload the saved model of a finished run, or a directory made of one, and say what is uploaded.

    Of a LoRA it is what was trained: its base is named. Raises ConfigError for what is not finished, changed
    since it was saved, named by no one else, or holds a path; UserError where the Hub refuses or is away.
    """
    from huggingface_hub.utils import validate_repo_id

    with one_line(name):
        validate_repo_id(name)
    run, place = opened(path)
    verify(place)
    refuse_homeless(run, path, place, name)
    with TemporaryDirectory() as made:
        staged = Path(made) / "model"
        staged.mkdir()
        gather(place, staged)
        write_card_of(run, staged, name)
        refuse_paths(staged, path, name)
        files = sorted(file for file in staged.rglob("*") if file.is_file())
        total = sum(file.stat().st_size for file in files)
        say(f"{path} to {name}, {'public' if public else 'private'}: {size_in_words(total)}")
        for file in files:
            say(f"  {file.relative_to(staged).as_posix():<40}{size_in_words(file.stat().st_size):>12}")
        if dry:
            say("nothing was uploaded (--dry)")
            return
        say(f"uploaded: {uploaded(staged, name, public)}")


def opened(path: Path) -> tuple[Run | None, Path]:
    """The run, if it is one or was made of one, and the directory of its model; ConfigError for others."""
    if is_run(path) or (path / ORIGIN).is_file():
        run = open_trained(path)
        if run.state == "failed":
            raise ConfigError(f"{path} has failed, so it has no model; {continuing(path)}")
        if not run.finished or not run.model_dir.is_dir():
            raise ConfigError(f"{path} is not finished, so it has no model yet; {continuing(path)}")
        return run, run.model_dir
    if (path / SEAL).is_file():
        return None, path
    raise ConfigError(
        f"{path} is no finished run, and no directory that ftrun merge, compose or export has made"
    )


def refuse_homeless(run: Run | None, path: Path, place: Path, name: str) -> None:
    """ConfigError for adapters whose base others cannot load: it is not the Hub's by the run's settings."""
    base = base_of(place)
    if base is None or run is None:
        return
    lora = (place / LORA).is_file()
    if base.startswith(EMBEDDED) and not lora:
        return  # who reads these layers has that checkpoint
    if base == run.config["model"]["name"] and on_hub(base):
        return
    possible = merged_first(path, name) if lora else "a run of another strategy"
    raise ConfigError(
        f"{path} holds adapters of {Path(base).name}, a checkpoint that is not on the Hub; possible:"
        f" {possible}"
    )


def merged_first(path: Path, name: str) -> str:
    """The commands that push a LoRA within its base; the last alone where it has been merged."""
    if not is_run(path):
        return "ftrun compose … --merge, and push what it makes"
    pushing = command("push", path / MERGED, name)
    there = (path / MERGED / ORIGIN).is_file()
    return pushing if there else f"{command('merge', path)}, then {pushing}"


def gather(place: Path, staged: Path) -> None:
    """What is uploaded, beside one another; large files are links."""
    for file in own(place):
        name = file.relative_to(place)
        if name.as_posix() in LEFT or (name.as_posix() == INDEX and (place / BASE).is_dir()):
            continue
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        linked_or_copied(str(file), str(staged / name))


def write_card_of(run: Run | None, staged: Path, name: str) -> None:
    """The card, with lines that load the model by its name on the Hub; one is made for runs without."""
    path = staged / README
    if run is not None:
        settings = read(run.settings)
        if not path.is_file():
            path.write_text(text_of(staged, settings, card_of(run, run.read_json(RESULT) or {})), "utf-8")
        code = usage_of(staged, settings.task.spec(None).auto_class, settings.raw["task"]).code
        if not ((staged / "model.onnx").is_file() or (staged / "model.pt2").is_file()):
            text = path.read_text(encoding="utf-8")
            found = USE.search(text)
            if found is not None:
                path.write_text(text.replace(found[1], code), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    path.write_text(USE.sub(lambda found: f"```python\n{by_name(found[1], name)}\n```", text), "utf-8")


def by_name(code: str, name: str) -> str:
    """The lines with the Hub's name in the place of DIR; what wants files gets them from there."""
    if 'Path("DIR")' not in code and '"DIR/' not in code:
        return code.replace('"DIR"', f'"{name}"')
    code = re.sub(r'"DIR/([^"]*)"', r'f"{place}/\1"', code).replace('"DIR"', "place")
    lines = code.split("\n")
    last = max(at for at, line in enumerate(lines) if line.startswith(("from ", "import ")))
    fetch = ["", f'place = snapshot_download("{name}")']
    return "\n".join([FETCHED, *lines[: last + 1], *fetch, *lines[last + 1 :]])


def refuse_paths(staged: Path, path: Path, name: str) -> None:
    """ConfigError for a file for people or of settings that names a place on this machine."""
    other = f", or: {merged_first(path, name)}" if (staged / LORA).is_file() else ""
    for file in sorted(staged.rglob("*")):
        if file.suffix not in TEXTS or file.name in WORDS:
            continue
        for found in PLACE.findall(file.read_text(encoding="utf-8", errors="replace")):
            if is_place(found):
                raise ConfigError(
                    f"{path}: {file.relative_to(staged)} names a place on this machine, {found}; take it"
                    f" out{other}"
                )


def is_place(text: str) -> bool:
    """Whether what looks like a path is one: it is there, or below the home or the working directory."""
    roots = {Path.home(), Path.cwd()} - {Path("/")}
    return Path(text).exists() or any(Path(text).is_relative_to(root) for root in roots)


def uploaded(staged: Path, name: str, public: bool) -> str:
    """The address of the repository, made if need be, in which one commit holds everything."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="ftrun")
    with one_line(name):
        api.create_repo(name, private=not public, exist_ok=True)
        done: Any = api.upload_folder(
            repo_id=name, folder_path=staged, commit_message="Model of an ftrun run"
        )
    return str(done.repo_url)


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """The Hub's and the network's errors as one line."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as error:
        raise ConfigError(
            f"push: {name} is no name on the Hub ({told(error).rstrip('.')}); possible: OWNER/NAME"
        ) from error
    except OfflineModeIsEnabled as error:
        raise UserError(
            "push: HF_HUB_OFFLINE is set, so the Hub is not asked; nothing was uploaded"
        ) from error
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else None
        if code in (401, 403):
            raise UserError(
                f"push: the Hub does not let you write to {name} ({code}); possible: hf auth login, or a"
                " token that may write in HF_TOKEN"
            ) from error
        raise UserError(f"push: the Hub refuses {name}: {told(error)}") from error
    except unreachable() as error:
        raise UserError(f"push: the Hub cannot be reached ({told(error)}); nothing was uploaded") from error
