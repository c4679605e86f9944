"""The command line through its entry point: words, experiments, sweeps, mistakes, exit codes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType

import pytest

from ftrun import CONF, cli
from ftrun.errors import Diverged, Interrupted
from ftrun.runs.ledger import Ledger
from ftrun.runs.run import Run
from ftrun.settings import suggest as names
from ftrun.settings.read import read
from ftrun.training.processes import ranks

ROOT = Path(cli.__file__).parent.parent
SEVEN = [
    "strategy=full rank=4",
    "strategy=full +rank=4",
    "strategy=lora rank=abc",
    "strategy=lora rank=0",
    "strategy=lroa",
    "train.learning_rate=1e-3",
    "train.metric=eval_acuracy",
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every test in an empty directory, with nothing left behind in the process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ftrun(monkeypatch):
    """`ftrun("strategy=lora rank=4")`: the exit code."""

    def call(line: str = "") -> int:
        monkeypatch.setattr(sys, "argv", ["ftrun", *line.split()])
        try:
            return cli.main()
        except SystemExit as stop:  # argparse
            return int(stop.code or 0)

    return call


@pytest.fixture
def runs(monkeypatch):
    """A stand-in for training that writes a result and remembers its runs; rank 3 fails as a test wishes."""
    module = ModuleType("ftrun.experiments.start")
    module.calls, module.error, module.resumed = [], None, []

    def run(settings, path):
        module.calls.append((settings, path))
        if getattr(settings.strategy, "rank", None) == 3:
            raise module.error
        from omegaconf import OmegaConf

        path.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(settings.raw, path / "config.yaml")
        (path / "result.json").write_text(json.dumps({"strategy": settings.strategy_name}))
        return 0.5

    module.run, module.resume = run, lambda path: module.resumed.append(path) or 0.5
    monkeypatch.setitem(sys.modules, "ftrun.experiments.start", module)
    monkeypatch.setattr("ftrun.experiments.start", module, raising=False)
    return module


def python(*arguments, **variables):
    """Another interpreter with this package, in the current directory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False, timeout=60
    )


def test_help_lists_every_command_option_and_setting(ftrun, capsys):
    assert ftrun("--help") == 0
    page = capsys.readouterr().out
    for path in sorted(cli.COMMANDS.glob("[a-z]*.py")):
        assert f"\n  {path.stem} " in page
    for path in CONF.rglob("*/*.yaml"):
        comment = next(line for line in path.read_text().splitlines() if not line.startswith("# @"))
        assert f"  {path.stem:<18} {comment[2:]}" in page
    assert "[rank, alpha, dropout, targets, variant, ratio]" in page
    for name in names.keys(CONF / "config.yaml"):
        assert name in ("defaults", "hydra", "train") or name.startswith("hydra.") or f"  {name}=" in page
    for word in ("-h", "help"):
        assert ftrun(word) == 0
        assert capsys.readouterr().out == page


def test_help_of_a_part(ftrun, capsys):
    assert ftrun("--help") == 0
    page = capsys.readouterr().out
    for words in ("strategy", "task model=", "train"):
        assert ftrun(f"--help {words}") == 0
        part = capsys.readouterr().out
        assert all(line in page.splitlines() for line in part.splitlines())
        assert len(part) < len(page) / 2
    assert ftrun("help strategy=lora") == 0
    assert capsys.readouterr().out == "".join(
        (CONF / "strategy/lora.yaml").read_text().splitlines(keepends=True)[1:]
    )
    assert ftrun("--help strategy=auto") == 0
    said = capsys.readouterr().out.strip()
    assert "ftrun advise" in said and f"auto               {said}" in page
    for word, said in (("strategie", "did you mean 'strategy'?"), ("strategy=lroa", "did you mean 'lora'?")):
        assert ftrun(f"--help {word}") == 2
        error = capsys.readouterr().err
        assert error.startswith("ftrun: help: ") and said in error and error.count("\n") == 1


def test_help_is_quick_and_imports_the_standard_library_only():
    before = os.times()
    result = python("-X", "importtime", "-m", "ftrun", "--help")
    after = os.times()
    assert result.returncode == 0
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert imported.isdisjoint({"torch", "hydra", "omegaconf", "transformers", "datasets", "rich", "yaml"})
    assert after.children_user - before.children_user < 0.3  # 0.06 where nothing else runs


def test_commands_say_what_they_are(ftrun, capsys):
    for path in cli.COMMANDS.glob("[a-z]*.py"):
        assert ftrun(f"{path.stem} --help") == 0 and capsys.readouterr().out, path.stem


def test_version(ftrun, capsys):
    assert ftrun("--version") == 0
    assert capsys.readouterr().out.startswith("ftrun 0.")


@pytest.mark.parametrize(
    "line, said",
    [
        ("resum", "'resum' is neither a command nor key=value; the commands are advise, "),
        ("resum", "did you mean 'resume'?"),
        ("strategy=lora resume", "'resume' is not key=value"),
        ("strategy=full,lora", "strategy=full,lora has several values; start a sweep with ftrun -m …"),
        (
            "-m strategy=full,lora rank=4",
            "not every run of this sweep has 'rank', which belongs to strategy=lora",
        ),
        ("-m strategy=lora,vera rank=4", "their settings are choices, one value too: 'rank=choice(4)'"),
        ("-m strategy=lora,lroa", "there is no strategy 'lroa'"),
        ("-m train.learning_rate=1,2", "ftrun calls it train.lr"),
        ("--config-dir nowhere strategy=full", "nowhere' not found"),
        ("config strategy=lroa", "there is no strategy 'lroa'"),
        ("config strategy=auto", "strategy=auto is for one run, on the command line"),
        ("compare --strategies auto,full", "name the strategy that it comes to, which ftrun advise"),
        (
            f"config model={'[' * 3000}{']' * 3000}",
            "model is too long a number, or nested too deeply, to be read: [[",
        ),
        ("config model=[0]", "model=[0]: 0 is no name of an option; possible: "),
        ("model=[tiny_bert,[a]]", "model=[tiny_bert,[a]]: ['a'] is no name of an option"),
        ("config +experiment=[null]", "experiment=[null]: null is no name of an option"),
        ("config source=[true]", "task=[true]: true is no name of an option"),
        ("~task task.train=a.csv", "~task: every run has a task=, so it cannot be taken away; possible: "),
        ("~task=digits", "so it cannot be taken away; possible: task=OPTION, one of ag_news, "),
        ("config ~protect", "possible: protect=none"),
        ("-m ~model seed=0,1", "every run has a model="),
        ("-m model=[0],[1] seed=0", "model=[0],[1]: 0 is no name of an option"),
        ("-m hydra/launcher=[0] seed=0,1", "hydra/launcher=[0]: 0 is no name of an option; possible: "),
        ("config --config-dir nowhere", "--config-dir nowhere is not a directory"),
        ("task=classify task.train=a,b.csv", """is quoted: 'task.train="a,b.csv"'"""),
        ("config task.train=a,b.csv", """is quoted: 'task.train="a,b.csv"'"""),
        ("strategy=lora variant=lora,dora", """is quoted: 'variant="lora,dora"'"""),
        ("task.name=a=[", """'task.name="a=["'"""),
        (
            "hydra.run.dir=/dev/null/x",
            "hydra.run.dir=/dev/null/x: no directory can be made there (not a directory)",
        ),
        ("-m seed=1,2 hydra.sweep.dir=/dev/null/x", "hydra.sweep.dir=/dev/null/x: no directory can be made"),
        ("compare --dir /dev/null/x", "compare: --dir /dev/null/x: nothing can be written there"),
        ("config train.lr=1e400", "train.lr is a finite number, not inf"),
        ("config train.epochs=1e300", "train.epochs is a number up to 1e+30 in size, not 1e+300"),
        ("config seed=1000000000000000000000", "seed is a whole number of 63 bits at most"),
        ("config task=digits task.folds=1000000000", "task.folds is at most 1,000, a run for each"),
        ("task=digits task.folds=1000000000", "task.folds is at most 1,000, a run for each"),
        (
            "config pretrain=mlm pretrain.task.corpus=docstrings pretrain.train.lr=x",
            "train.lr is auto or a number, not 'x' (its settings begin with pretrain.)",
        ),
        ("config pretrain=mlm pretrain.train=5", "pretrain.train is a group of settings"),
        ("config sequence=[digits,nothing]", "there is no task 'nothing'"),
        ("config task.kind=../..", "task.kind is a name"),
        ("r\x1b]0;t\x07", r"'r\x1b]0;t\x07' is neither a command nor key=value"),
        ("task.name=\udcff", r"'task.name=\udcff' is not UTF-8"),
        ("config train.metric=eval_acuracy", "did you mean 'eval_accuracy'?"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(ftrun, capsys, line, said):
    assert ftrun(line) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert output.err.startswith("ftrun: ") and output.err.count("\n") == 1
    assert not list(Path.cwd().glob("*/*/*/*.json"))


SIGNALLED = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("ftrun", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["ftrun.cli", "hydra", "ftrun.settings.schema"])
def test_ctrl_c_while_it_is_imported_is_one_line(module):
    result = python("-c", f"MODULE = {module!r}{SIGNALLED}", "task=digits", "model=mlp")
    assert (result.returncode, result.stderr) == (130, "ftrun: interrupted\n")
    assert list(Path.cwd().iterdir()) == []


def test_ctrl_c_in_source_that_is_executed_has_the_exit_code_of_any_other():
    line = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    Path("sitecustomize.py").write_text(
        f"from ftrun import cli\ncli.start = lambda words: exec({line!r})  # as dataclasses do\n"
    )
    result = python("-m", "ftrun", "--version", PYTHONPATH=f".{os.pathsep}{ROOT}")
    assert (result.returncode, result.stderr) == (130, "ftrun: interrupted\n")


def test_ctrl_c_while_the_process_ends_says_nothing():
    again = "import atexit, os, runpy, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    result = python("-c", f"{again}; runpy.run_module('ftrun', run_name='__main__')", "--version")
    assert (result.returncode, result.stderr) == (0, "")


ENDED = {signal.SIGINT: (130, "ftrun: interrupted\n"), signal.SIGTERM: (143, "ftrun: terminated\n")}


@pytest.mark.parametrize("number", ENDED)
def test_a_signal_that_python_drops_comes_once_more(ftrun, runs, capsys, number):
    class Dropped:
        def __del__(self):
            os.kill(os.getpid(), number)

    def interrupted(settings, path):
        Dropped()
        time.sleep(10)

    runs.run = interrupted
    assert (ftrun("seed=1"), capsys.readouterr().err) == ENDED[number]


@pytest.mark.parametrize("number", ENDED)
def test_a_signal_while_torch_is_imported_waits_until_that_is_done(ftrun, runs, capsys, number):
    """Its extensions call Python from C++, which aborts at an exception."""
    known = {"__name__": "torch.nn", "number": number}

    def importing(settings, path):
        exec("import os, time; os.kill(os.getpid(), number); time.sleep(0.1); done = True", known)
        time.sleep(10)

    runs.run = importing
    assert (ftrun("seed=1"), capsys.readouterr().err) == ENDED[number] and known["done"]


@pytest.mark.parametrize("number", ENDED)
def test_a_signal_is_no_failure_that_a_library_or_a_command_lives_with(ftrun, runs, capsys, number):
    def lived_with(settings, path):
        with suppress(Exception):
            os.kill(os.getpid(), number)
        return 0.5

    runs.run = lived_with
    assert (ftrun("seed=1"), capsys.readouterr().err) == ENDED[number]


def test_ctrl_c_during_composition_is_one_line(ftrun, runs, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("ftrun.experiments.launch.plain", interrupted)
    assert ftrun("seed=1") == 130
    assert capsys.readouterr().err == "ftrun: interrupted\n"
    assert not runs.calls and list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("number", ENDED)
def test_a_process_that_was_started_to_ignore_a_signal_ignores_it(ftrun, runs, number):
    handlers = []
    runs.run = lambda settings, path: handlers.append(signal.getsignal(number)) or 0.5
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert ftrun("seed=1") == 0 and handlers == [signal.SIG_IGN]
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", ENDED)
def test_a_signal_that_an_extension_module_turns_into_another_error(ftrun, runs, capsys, number):
    def broken(settings, path):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    runs.run, before = broken, signal.getsignal(number)
    assert (ftrun("seed=1"), capsys.readouterr().err) == ENDED[number]
    assert signal.getsignal(number) is before


def test_of_several_processes_each_hears_sigterm_on_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.getsignal(signal.SIGTERM)
    with cli.interruptible():
        assert signal.getsignal(signal.SIGTERM) is before


def lost(number: int):
    """A stream whose reader has gone, or whose disk is full."""
    if number == errno.ENOSPC:
        return open("/dev/full", "w", encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_run_whose_output_is_lost_goes_on_to_its_end(ftrun, capsys, monkeypatch, number):
    monkeypatch.setattr(sys, "stdout", stream := lost(number))
    words = "task=digits model=mlp train.max_steps=3 baselines=false hydra.run.dir=here device=cpu"
    code = ftrun(words)
    error = capsys.readouterr().err
    assert json.loads(Path("here/result.json").read_text())["steps"] == 3
    assert error.startswith("ftrun: nobody reads standard output any more; the run goes on\n")
    if number == errno.ENOSPC:
        assert code == 1 and error.endswith(
            "ftrun: standard output cannot be written: No space left on device\n"
        )
    else:
        assert code == 0 and error.count("\n") == 1
    stream.close()


@pytest.mark.parametrize("line", ["--help", "config", "--version"])
def test_a_short_command_whose_reader_has_gone_ends_quietly(ftrun, capsys, monkeypatch, line):
    monkeypatch.setattr(sys, "stdout", stream := lost(errno.EPIPE))
    assert ftrun(line) == 0
    assert capsys.readouterr().err == ""
    stream.close()


def test_standard_output_that_was_closed_from_the_start():
    command = f"{sys.executable} -m ftrun --version >&-; echo $? >&2"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("", "0\n")


def test_a_current_directory_that_is_gone(ftrun, capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert ftrun("seed=1") == 1
    assert (
        capsys.readouterr().err == "ftrun: the current directory is no longer there; change to one that is\n"
    )


def test_an_unknown_option_is_usage(ftrun):
    assert ftrun("strategy=lora --nonsense") == 2
    assert ftrun("config --nonsense") == 2


@pytest.mark.parametrize("line", SEVEN)
def test_mistakes_leave_no_directory(ftrun, capsys, line):
    assert ftrun(line) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


OF_SWEEPS = [
    ("hydra.launcher.dry=true", "hydra.launcher.dry=true is for a sweep, which is started with ftrun -m"),
    ("hydra.sweep.dir=here", "the directory of one run is hydra.run.dir="),
    ("hydra.run.dir=", "hydra.run.dir= names no directory"),
    ("-m hydra.run.dir=here", "hydra.run.dir=here is for one run; the directory of a sweep is hydra.sweep"),
    ("-m hydra.sweep.dir=", "hydra.sweep.dir= names no directory"),
    ("-m seed=range(0) hydra.sweep.dir=here", "no run is asked for: seed=range(0); possible: range(3) or"),
    ("-m hydra.sweep.dir=a,b", "hydra.sweep.dir=a,b has several values; all runs of a sweep have one"),
    ("-m hydra.sweep.subdir=../x", "hydra.sweep.subdir=../x is no directory of a run in "),
    ("-m hydra.sweep.subdir=same seed=0,1", "hydra.sweep.subdir= gives several runs the directory same"),
    ("-m hydra.launcher.n_jobs=2", "hydra/launcher=here has no setting 'hydra.launcher.n_jobs'; it belongs"),
    ("-m +hydra.launcher.n_jobs=2", "hydra/launcher=here has no setting 'hydra.launcher.n_jobs'"),
    ("-m hydra.launcher.dry=maybe", "hydra.launcher.dry is true or false, not 'maybe'"),
    ("-m hydra/launcher=slurm hydra.launcher.mem_gb=-1", "hydra.launcher.mem_gb is above 0, not -1"),
]


@pytest.mark.parametrize("line, said", OF_SWEEPS)
def test_mistakes_about_a_sweep_are_one_line_and_nothing_is_made(ftrun, runs, capsys, line, said):
    assert ftrun(line) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert list(Path.cwd().iterdir()) == [] and not runs.calls


def test_a_sweep_that_is_only_shown(ftrun, runs, capsys, monkeypatch):
    monkeypatch.setattr("ftrun.experiments.queue.dry.timed", lambda left: 3600.0)
    line = "-m strategy=lora rank=1,2,1,0 hydra.sweep.dir=here"
    assert ftrun("-m strategy=lora rank=2 hydra.sweep.dir=here") == 0
    capsys.readouterr()
    assert ftrun(f"{line} hydra.launcher.dry=true") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "run 0 · rank=1 · to do",
        "run 1 · rank=2 · finished: here/0-lora",
        "run 2 · rank=1 · the same as run 0",
        "run 3 · rank=0 · cannot be made",
    ]
    assert lines[4] == "1 run cannot be made: strategy=lora: rank is at least 1, not 0"
    assert lines[5] == "4 runs, 1 finished already, 1 to do; nothing was started"
    assert lines[7] == "about 60 min (60 min a run, by a few steps of each kind of run)"
    assert len(runs.calls) == 1
    assert ftrun("-m hydra.sweep.dir=there hydra.launcher.dry=true") == 0 and not Path("there").exists()


CHECK = """
import sys, time
from ftrun import cli
for line in sys.argv[1:]:
    sys.argv = ["ftrun", *line.split()]
    assert cli.main() == 2, line
loaded = {"torch", "transformers", "peft", "datasets", "sklearn"} & set(sys.modules)
assert not loaded, loaded
print(time.process_time())
"""


def test_mistakes_are_said_before_torch_is_imported():
    result = python("-c", CHECK, *SEVEN)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == len(SEVEN)


def test_a_mistake_takes_less_than_a_second():
    result = python("-c", CHECK, "train.metric=eval_acuracy")
    assert float(result.stdout) < 1.0


def test_config_prints_what_a_run_would_read(ftrun, capsys):
    from omegaconf import OmegaConf

    assert ftrun("config strategy=lora rank=4 train.lr=0.5") == 0
    raw = OmegaConf.to_container(OmegaConf.create(capsys.readouterr().out))
    assert raw["rank"] == 4 and raw["train"]["lr"] == 0.5 and "hydra" not in raw
    assert read(raw).strategy.rank == 4


def test_config_needs_no_torch():
    code = "import sys; from ftrun.cli import start; start(['config']); assert 'torch' not in sys.modules"
    assert python("-c", code).returncode == 0


def test_shell_completion_is_for_ftrun(ftrun, capsys, monkeypatch):
    assert ftrun("-sc install=bash") == 0
    assert capsys.readouterr().out.rstrip().endswith("hydra_bash_completion ftrun")
    monkeypatch.setenv("COMP_LINE", "ftrun strategy=l")
    assert ftrun("-sc query=bash") == 0
    assert set(capsys.readouterr().out.split()) == {
        "strategy=l2sp",
        "strategy=linear_probe",
        "strategy=lora",
        "strategy=lp_ft",
    }


def test_no_words_is_a_short_help(ftrun, runs, capsys):
    assert ftrun() == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ftrun strategy=lora rank=4" in lines[2] and "ftrun --help" in lines[-1] and len(lines) < 15
    assert not runs.calls


def test_the_default_experiment(ftrun, runs):
    assert ftrun("seed=0") == 0
    [(settings, path)] = runs.calls
    assert (settings.task.name, settings.model.name) == ("docstrings", "embedded:tiny_bert")
    assert settings.strategy_name == "full"
    assert path.is_absolute()
    place = path.relative_to(Path.cwd())
    assert place.match("outputs/????-??-??/??-??-??-full-??????")
    assert {child.name for child in path.iterdir()} == {"config.yaml", "result.json"}  # nothing of Hydra's


def test_two_runs_of_one_second_have_two_directories(ftrun, runs):
    assert ftrun("seed=1") == 0 and ftrun("seed=1") == 0
    assert runs.calls[0][1] != runs.calls[1][1]


def test_a_place_of_ones_own(ftrun, runs):
    assert ftrun("hydra.run.dir=here strategy=lora") == 0
    assert runs.calls[0][1] == Path.cwd() / "here"


@pytest.mark.parametrize("error, code", [(Diverged("loss is nan"), 5), (Interrupted("saved", 15), 143)])
def test_a_failed_run_is_one_line_and_its_exit_code(ftrun, runs, capsys, error, code):
    runs.error = error
    assert ftrun("strategy=lora rank=3") == code
    assert capsys.readouterr().err == f"ftrun: {error}\n"


def test_a_bug_is_a_traceback(ftrun, runs, capsys):
    runs.error = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError) as caught:
        ftrun("strategy=lora rank=3")
    assert caught.traceback[-1].name == "run"
    assert "overrides" not in capsys.readouterr().err


def test_ctrl_c_before_training(ftrun, runs, capsys):
    runs.error = KeyboardInterrupt()
    assert ftrun("strategy=lora rank=3") == 130
    assert capsys.readouterr().err == "ftrun: interrupted\n"
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_one_line(ftrun, runs, capsys, number):
    runs.error = OSError(number, os.strerror(number), "outputs/x")
    assert ftrun("strategy=lora rank=3") == 1
    assert capsys.readouterr().err == f"ftrun: {os.strerror(number).lower()}: outputs/x\n"


def test_outputs_that_is_a_file(ftrun, runs, capsys):
    Path("outputs").write_text("")
    assert ftrun("seed=1") == 1
    line = capsys.readouterr().err
    assert line.startswith("ftrun: ") and "outputs" in line and line.count("\n") == 1
    assert not runs.calls


def test_other_os_errors_are_bugs(ftrun, runs):
    runs.error = OSError(errno.EBADF, "a bug")
    with pytest.raises(OSError, match="a bug"):
        ftrun("strategy=lora rank=3")


@pytest.mark.parametrize(
    "line",
    [
        "-m strategy=lora rank=1,2,4,8",
        "strategy=lora -m rank=1,2,4,8",
        "strategy=lora rank=1,2,4,8 --multirun",
    ],
)
def test_a_sweep(ftrun, runs, capsys, line):
    assert ftrun(line) == 0
    assert [settings.strategy.rank for settings, _ in runs.calls] == [1, 2, 4, 8]
    [sweep] = {path.parent for _, path in runs.calls}
    assert sweep.relative_to(Path.cwd()).match("outputs/????-??-??/??-??-??-sweep-??????")
    assert [path.name for _, path in runs.calls] == ["0-lora", "1-lora", "2-lora", "3-lora"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("1 of 4 · rank=1 · finished")
    assert lines[-1].startswith("4 of 4 runs finished")


def test_a_sweep_over_strategies(ftrun, runs):
    assert ftrun("-m strategy=full,freeze,linear_probe,lora seed=0,1") == 0
    assert len(runs.calls) == 8
    assert {settings.strategy_name for settings, _ in runs.calls} == {
        "full",
        "freeze",
        "linear_probe",
        "lora",
    }


def test_every_strategy_of_the_house(ftrun, runs):
    assert ftrun("-m strategy=glob(*)") == 0
    assert {settings.strategy_name for settings, _ in runs.calls} == {
        path.stem for path in (CONF / "strategy").glob("*.yaml")
    }


def test_a_sweep_goes_on_after_failures_and_exits_1(ftrun, runs, capsys):
    runs.error = Diverged("loss is nan")
    assert ftrun("-m strategy=lora rank=1,3,0,4") == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "ftrun: 1 run failed: strategy=lora: rank is at least 1, not 0 (run 2: rank=0)",
        "ftrun: 1 run failed: loss is nan (run 1: rank=3)",
    ]
    assert output.out.splitlines()[-1].startswith("2 of 4 runs finished")


def test_a_bug_in_a_sweep_shows_its_traceback(ftrun, runs, capsys):
    runs.error = ZeroDivisionError("a bug")
    assert ftrun("-m strategy=lora rank=3,4") == 1
    output = capsys.readouterr()
    assert "failed: ZeroDivisionError: a bug" in output.out and "Traceback (most recent call" in output.out
    assert output.err == "ftrun: 1 run failed: ZeroDivisionError: a bug (run 0: rank=3)\n"
    assert len(runs.calls) == 2


def test_an_interrupted_sweep_stops(ftrun, runs):
    runs.error = Interrupted("saved", 2)
    assert ftrun("-m strategy=lora rank=3,4") == 130
    assert len(runs.calls) == 1


def test_a_sweep_started_again_goes_on_with_what_is_there(ftrun, runs, capsys):
    assert ftrun("-m strategy=lora rank=1,2 seed=0 hydra.sweep.dir=here") == 0
    assert ftrun("-m strategy=lora rank=1,2 seed=0,1 hydra.sweep.dir=here") == 0  # other numbers for the same
    assert [(s.strategy.rank, s.seed) for s, _ in runs.calls] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    names = [path.name for _, path in runs.calls]
    assert names[:2] == ["0-lora", "1-lora"] and names[2].startswith("1-lora-") and names[3] == "3-lora"
    assert "already finished: here/1-lora" in capsys.readouterr().out
    assert {path.name for path in Path("here").iterdir() if path.is_dir()} == {*names, "ledger"}
    assert ftrun("-m strategy=lora rank=1,2 seed=0,1 hydra.sweep.dir=here") == 0
    assert len(runs.calls) == 4 and runs.resumed == []


def test_a_run_of_a_sweep_that_another_process_begins_meanwhile_goes_on(ftrun, runs):
    """As a worker does whose driver was killed, while the same command is given again."""

    def run(settings, path):
        Run.create(path, settings.raw).release()
        return Run.create(path, settings.raw)

    runs.run = run
    assert ftrun("-m strategy=lora rank=1 hydra.sweep.dir=here") == 0
    assert runs.resumed == [Path("here/0-lora").absolute()]


def test_a_sweep_of_other_code_runs_again_and_what_failed_too(ftrun, runs, monkeypatch):
    runs.error = Diverged("loss is nan")
    assert ftrun("-m strategy=lora rank=1,3 hydra.sweep.dir=here") == 1
    noted = [(each["run"], each["state"], each["message"]) for each in Ledger(Path("here")).entries()]
    assert sorted(noted) == [
        ("0-lora", "finished", ""), ("1-lora", "failed", "loss is nan"),
    ]  # fmt: skip
    assert ftrun("-m strategy=lora rank=1,3 hydra.sweep.dir=here") == 1
    monkeypatch.setattr("ftrun.runs.ledger.code_version", lambda: "another")
    assert ftrun("-m strategy=lora rank=1,3 hydra.sweep.dir=here") == 1
    assert [settings.strategy.rank for settings, _ in runs.calls] == [1, 3, 3, 1, 3]
    assert runs.calls[3][1].name.startswith("0-lora-")


def test_what_a_directory_holds_is_no_success_of_a_later_sweep(ftrun, runs, capsys):
    """Two runs finished there before; of this command none does."""
    assert ftrun("-m strategy=lora rank=1,2 hydra.sweep.dir=here") == 0
    runs.error = Diverged("loss is nan")
    assert ftrun("-m strategy=lora rank=3 seed=1,2 hydra.sweep.dir=here") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 2 runs finished"
    Path("here/other").mkdir()  # and what else is there is no run of it that failed
    assert ftrun("-m strategy=lora rank=1,2 hydra.sweep.dir=here") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 runs finished: ftrun report here"


def test_a_damaged_entry_of_a_ledger_costs_no_run_that_has_finished(ftrun, runs, capsys):
    line = "-m strategy=lora rank=1,2 hydra.sweep.dir=here"
    assert ftrun(line) == 0
    damaged = sorted(Path("here/ledger").glob("*.json"))[0]
    damaged.write_text("{")
    assert ftrun(line) == 0 and len(runs.calls) + len(runs.resumed) == 2
    said = capsys.readouterr().out
    assert f"here/ledger/{damaged.name} is damaged" in said and "2 of 2 runs finished" in said


def test_a_place_with_an_interpolation_is_filled_in_for_each_run(ftrun, runs, capsys):
    assert ftrun("-m seed=1,2 hydra.sweep.dir=here hydra.sweep.subdir=n${hydra.job.num}") == 0
    assert [path.name for _, path in runs.calls] == ["n0", "n1"]
    assert ftrun("hydra.sweep.subdir=n${hydra.job.num}") == 2
    assert "hydra.sweep.subdir=n${hydra.job.num} is for a sweep" in capsys.readouterr().err


def test_a_score_that_is_no_number_is_no_failure(ftrun, runs):
    runs.run = lambda settings, path: float("nan")
    assert ftrun("-m strategy=lora rank=5,6 hydra.sweep.dir=here") == 0


def test_a_failure_has_its_reason_first_and_its_settings_shortened(ftrun, runs, capsys):
    runs.error = Diverged("loss is nan")
    long = f"task.name={'a-long-name/' * 20}end,short"
    assert ftrun(f"-m strategy=lora rank=3,4 {long}") == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("ftrun: 2 runs failed: loss is nan (run 0: rank=3 task.name=…")
    assert said.endswith("name/end; run 1: rank=3 task.name=short)") and len(said) < 140


def test_neither_a_run_nor_a_sweep_goes_into_a_part_of_a_run(ftrun, runs, capsys):
    assert ftrun("strategy=lora hydra.run.dir=run") == 0
    for word in ("hydra.run.dir=run/model", "-m hydra.sweep.dir=run/checkpoints", "-m hydra.sweep.dir=run"):
        assert ftrun(f"strategy=lora {word}") != 0
        (said,) = set(capsys.readouterr().err.splitlines())
        assert "is a part of the run" in said or "is a run; name another" in said
    assert len(runs.calls) == 1
    assert {path.name for path in Path("run").iterdir()} <= {"config.yaml", "result.json"}


@pytest.fixture
def second(monkeypatch):
    """This is the second of two processes, which follows with exit code 7; how often it did."""
    followed = []
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "follow", lambda: followed.append(1) or 7)
    return followed


@pytest.mark.parametrize(
    "line", ["strategy=lora", "strategy=lroa", "-m rank=1,2", "resume gone", "compare x=1"]
)
def test_further_processes_only_take_part(ftrun, runs, second, capsys, line):
    """They neither compose nor make directories, nor speak of mistakes."""
    assert ftrun(line) == 7 and second == [1]
    assert list(Path.cwd().iterdir()) == runs.calls == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["", "--help", "--version", "report gone", "predict gone", "compare --help"])
def test_what_one_process_does_alone_the_others_leave_to_it(ftrun, second, capsys, line):
    assert ftrun(line) == 0 and not second
    assert capsys.readouterr() == ("", "")


def test_several_processes_do_not_sweep(ftrun, second, monkeypatch, capsys):
    codes = []
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(ranks, "leading", lambda: nullcontext(codes))
    assert ftrun("strategy=lora -m rank=1,2") == 2 and codes == [2] and not second
    (said,) = capsys.readouterr().err.splitlines()
    assert "-m cannot be combined with several processes" in said and "hydra.launcher.processes=2" in said


def test_options_and_code_of_ones_own(ftrun, runs):
    Path("mine").mkdir()
    Path("mine/warm.py").write_text(
        "from ftrun.strategies.full import Full\n\n\nclass Warm(Full):\n    pass\n"
    )
    Path("options/strategy").mkdir(parents=True)
    Path("options/strategy/warm.yaml").write_text("# @package _global_\n# Like full.\nstrategy: mine.warm\n")
    assert ftrun("strategy=warm --config-dir options seed=3") == 0
    [(settings, path)] = runs.calls
    assert (settings.strategy_name, settings.seed) == ("mine.warm", 3)
    assert path.match("*-mine.warm-??????")


def test_a_sweep_over_sources_of_two_kinds_is_refused(ftrun, capsys):
    assert ftrun("-m source=none,docstrings") == 2
    assert "source=none,docstrings mixes options with tasks or runs" in capsys.readouterr().err
