"""What tests share: tiny random models, a small task that can be learned, ftrun itself, and no network."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from losses import Losses
from quick import deselect
from toys import SPLITS, tiny_network, tiny_tokenizer, write_toys

CACHE = tempfile.TemporaryDirectory(prefix="ftrun-tests-")  # Hub and data set caches: not the user's own
TESTS = Path(__file__).parent
os.fsync = lambda handle: None  # in this process: no test asks what a power cut leaves, and each would wait
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell's background job; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)
FIXTURES, OFFLINE = str(TESTS / "fixtures"), str(TESTS / "fixtures" / "offline")
os.environ.update(
    HF_HOME=CACHE.name, XDG_CACHE_HOME=CACHE.name, HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false",
    NO_COLOR="1", COLUMNS="160",
    PYTHONPATH=os.pathsep.join([OFFLINE, FIXTURES, str(TESTS.parent)]),  # for processes that tests start
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="contracts and units: nothing that trains for long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    if config.option.quick:
        deselect(config, items)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported for the tests stays: to look through it for garbage meanwhile takes five seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.set_threshold(20_000, 20, 20)  # not 700 objects: tests make many, and few circles of them
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """A worker that dies between two tests, or a test that no worker came to, fails the whole."""
    if not hasattr(config, "workerinput"):  # it is no worker itself
        config.pluginmanager.register(Losses())


modules = 0  # when the collector was last told to leave alone what is there


@pytest.fixture(autouse=True)
def imported_for_good() -> None:
    """The garbage collector, which every run calls, does not search what was imported again and again."""
    global modules
    if len(sys.modules) != modules:
        gc.collect()
        gc.freeze()
        modules = len(sys.modules)


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train, validation and test as .csv and as .tsv; columns text and label."""
    place = tmp_path_factory.mktemp("toy")
    write_toys(place)
    return place


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_dir("bert")`: a checkpoint directory; there are bert, roberta, distilbert and modernbert."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            import torch

            made[name] = tmp_path_factory.mktemp(name)
            tokenizer = tiny_tokenizer(name)
            tokenizer.save_pretrained(made[name])
            with torch.random.fork_rng():
                torch.manual_seed(0)
                tiny_network(name, len(tokenizer)).save_pretrained(made[name])
        return made[name]

    return make


@pytest.fixture(scope="session")
def taught(toy_files: Path, tiny_dir: Callable[[str], Path]) -> None:
    """The teacher of strategy=distil is there, for tests in which no run finishes."""
    from lab import EXTRA, toy

    toy(toy_files, tiny_dir("bert"), "strategy=distil", *EXTRA["distil"])


@pytest.fixture(scope="session")
def tiny_model_dir(tiny_dir: Callable[[str], Path]) -> Path:
    return tiny_dir("bert")


@pytest.fixture(scope="session")
def toy_words(toy_files: Path, tiny_model_dir: Path) -> list[str]:
    """The settings that make an experiment one of the toy task and the tiny BERT on a CPU; no baselines."""
    files = [f"task.{split}={toy_files / split}.csv" for split in SPLITS]
    return [
        "task=classify", *files, f"model.name={tiny_model_dir}", "task.max_length=32", "train.batch_size=16",
        "device=cpu", "baselines=false",
    ]  # fmt: skip


@pytest.fixture
def ftrun(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`ftrun("strategy=lora", "rank=4")`: a process of its own, by default in the test's empty directory."""

    def call(*words: str, cwd: Path = tmp_path, check: bool = True) -> subprocess.CompletedProcess:
        command = [sys.executable, "-P", "-m", "ftrun", *words]  # as the installed script: not from here
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
        assert not check or result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
        return result

    return call


@pytest.fixture
def ftrun_inprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The same in this process, where torch is imported already."""

    def call(*words: str, cwd: Path = tmp_path, check: bool = True) -> subprocess.CompletedProcess:
        from ftrun.cli import main

        monkeypatch.setattr(sys, "argv", ["ftrun", *words])
        monkeypatch.chdir(cwd)
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            try:
                code = main()
            except SystemExit as stop:  # Hydra's argument parser
                code = int(stop.code or 0)
        assert not check or code == 0, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    before, path = dict(os.environ), list(sys.path)
    yield call
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def still_dir(tiny_dir, tmp_path):
    """The tiny BERT without dropout."""
    import json
    import shutil

    place = tmp_path / "still"
    shutil.copytree(tiny_dir("bert"), place)
    config = json.loads((place / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (place / "config.json").write_text(json.dumps(config))
    return place
