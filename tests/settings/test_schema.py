"""The configuration: every option composes and is typed, every mistake is one line."""

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ftrun import CONF
from ftrun.errors import ConfigError
from ftrun.experiments.overrides import compose
from ftrun.settings.read import read
from ftrun.settings.resolve import load_class, schedule_class, setting
from ftrun.settings.schema import ModelSettings, Train
from ftrun.settings.suggest import ELSEWHERE, everywhere, keys, meant, owner

FILES = sorted(CONF.rglob("*.yaml"))
ROOT = {"seed", "device", "tracker", "task", "model", "schedule", "train", "strategy"}
OWN_FILES = {  # tasks
    "classify", "image", "lm", "mlm", "mlm_40", "multilabel", "ner", "qa", "regress",
    *(f"{method}{shape}" for method in ("simclr", "moco") for shape in ("", "_28", "_32")),
}  # fmt: skip


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def path_unchanged(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


def refusal(*overrides):
    with pytest.raises(ConfigError) as caught:
        read(compose(list(overrides)))
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_begins_with_its_help(path):
    comments = [line for line in path.read_text().splitlines() if not line.startswith("# @")]
    assert re.match(r"# \w.{10,}", comments[0])


@pytest.mark.parametrize("group", ["strategy", "task", "model", "schedule", "experiment"])
def test_every_option_composes_into_settings(group):
    for option in options(group):
        file = ["task.train=a.csv"] if group == "task" and option in OWN_FILES else []
        settings = read(compose([f"{group}={option}", *file]))
        assert read(settings.raw) == settings  # the stored configuration gives the same settings again


def test_the_page_is_a_page():
    assert len((CONF / "config.yaml").read_text().splitlines()) <= 60


def test_yaml_keys_are_the_fields_of_the_classes():
    page = keys(CONF / "config.yaml")
    assert {name[6:] for name in page if name.startswith("train.")} == {field.name for field in fields(Train)}
    for option in options("model"):
        assert set(keys(CONF / f"model/{option}.yaml")) == {field.name for field in fields(ModelSettings)}
    for option in options("schedule"):
        own = set(keys(CONF / f"schedule/{option}.yaml")) - {"name"}
        assert own == {field.name for field in fields(schedule_class(option))}
    for option in options("strategy"):
        own = {name for name in keys(CONF / f"strategy/{option}.yaml") if "." not in name}
        assert own - {"strategy", "train", "model"} == {
            setting(field.name) for field in fields(load_class("strategies", option))
        }
        assert not (own - {"strategy", "train", "model"}) & ROOT


def test_a_rate_on_the_command_line_wins():
    assert read(compose(["strategy=lora"])).auto >= {"lr", "epochs", "batch_size"}
    given = read(compose(["strategy=lora", "train.lr=0.5"]))
    assert given.train.lr == 0.5 and "lr" not in given.auto


def test_values_are_typed():
    settings = read(compose(["strategy=lora", "alpha=16", "train.epochs=2", "task.text=7"]))
    assert isinstance(settings.strategy.alpha, float)
    assert isinstance(settings.train.epochs, float)
    assert settings.task.text == "7"  # a column may be called so
    assert settings.strategy_name == "lora"


@pytest.mark.parametrize(
    "overrides, said",
    [
        (
            ["strategy=full", "rank=4"],
            "no setting 'rank' in this run (strategy=full); it belongs to strategy=lora",
        ),
        (["strategy=full", "+rank=4"], "strategy=full has no setting 'rank'; it belongs to strategy=lora"),
        (["strategy=lora", "rank=abc"], "strategy=lora: rank is a whole number, not 'abc'"),
        (["strategy=lora", "rank=4.5"], "rank is a whole number, not 4.5"),
        (["strategy=lora", "rank=true"], "rank is a whole number, not true"),
        (["strategy=lora", "rank=0"], "strategy=lora: rank is at least 1, not 0"),
        (["strategy=lora", "variant=rlsora"], "did you mean 'rslora'?"),
        (["strategy=lora", "rnk=4"], "did you mean 'rank'?"),
        (["strategy=lroa"], "did you mean 'lora'?"),
        (["train.learning_rate=1e-3"], "ftrun calls it train.lr"),
        (["+train.learning_rate=1e-3"], "ftrun calls it train.lr"),
        (["train.metric=eval_acuracy"], "did you mean 'eval_accuracy'?"),
        (["train.metric=acuracy"], "did you mean 'eval_accuracy'?"),
        (["lr=1e-3"], "did you mean 'train.lr'?"),
        (["+lr=1e-3"], "did you mean 'train.lr'?"),
        (["batch_size=8"], "train.batch_size"),
        (["max_length=8"], "did you mean 'task.max_length'?"),
        (["task.max_lenght=8"], "did you mean 'task.max_length'?"),
        (["train.seed=3"], "write seed=, without train."),
        (["strategy=lora", "train.rank=3"], "write rank=, without train."),
        (["strategy.rank=3"], "it belongs to strategy=lora, write rank="),
        (["nonsense=3"], "no setting 'nonsense' in this run"),
        (["~nonsense"], "no setting 'nonsense' in this run"),
        (["flor=3"], "did you mean 'protect.floor'?"),
        (["protect.floo=3"], "did you mean 'protect.floor'?"),
        (["task=digits", "task.train=a.csv"], "; these tasks have it: classify,"),
        (["+model.nonsense=3"], "model has no setting 'model.nonsense'"),
        (["+schedule.cut=3"], "schedule=linear has no setting 'schedule.cut'"),
        (["+train.lr=3"], "train.lr exists; write train.lr=… without the +"),
        (["+strategy=lora"], "strategy is already selected; write strategy=lora without the +"),
        (["train=5"], "train is a group of settings (train.…), not 5"),
        (["task=null"], "task=null"),
        (["~train.lr"], "needs the setting 'train.lr'"),
        (["train.lr=${nothing}"], "train.lr: Interpolation key 'nothing' not found"),
        (["train.lr=[1"], "cannot read the value of train.lr"),
        (
            ['train.rates={"a.(0|1)": 1e-3}'],
            r"names in braces are not quoted: 'train.rates={a.\(0|1\): 1e-3}'",
        ),
        (["train.rates={'^a': 1e-3}"], "such names in braces can only stand in a file"),
        (["model=some/where"], "there is no model 'some/where'; possible: bert_base"),
        (["model=some/where"], "set model.name="),
        (["task=mine.csv"], "task=classify task.train=FILE"),
        (["task=classify"], "task.train is not set"),
        (["rank"], "'rank' is not key=value"),
        (["seed=-1"], "seed is at least 0, not -1"),
        (["seed=abc"], "seed is a whole number, not 'abc'"),
        (["device=gpu"], "device is one of auto, cpu, cuda, not 'gpu'; did you mean 'cuda'?"),
        (["device=CPU"], "not 'CPU'; did you mean 'cpu'?"),
        (["tracker=tensorbord"], "did you mean 'tensorboard'?"),
        (["train.precision=half"], "fp16, tf32, not 'half'; did you mean 'fp16'?"),
        (["train.precision=fp16", "device=cpu"], "train.precision=fp16 needs a GPU"),
        (
            ["train.optimizer=larz"],
            "train.optimizer is one of adamw, adamw8bit, sgd, lars, muon, schedulefree, adafactor, not",
        ),
        (["train.optimizer=lars", "strategy=l2sp"], "possible: apply=loss, or train.optimizer=sgd"),
        (["model.pooling=max"], "model.pooling is one of auto, head, cls, mean, not 'max'"),
        (["model.init=scratch"], "model.init is one of pretrained, random"),
        (["model.name=''"], "model.name is empty"),
        (["model.trust_remote_code=1"], "model.trust_remote_code is true or false, not 1"),
        (["task.long=cut"], "task.long is one of truncate, drop, error, windows, not 'cut'"),
        (["task.max_length=0"], "task.max_length"),
        (["task.subset=few"], "task.subset"),
        (["task.subset=0"], "task.subset"),
        (["schedule=linaer"], "there is no schedule 'linaer'"),
        (["schedule.name=0"], "schedule.name=0: there is no schedule '0'; possible: constant, cosine"),
        (["schedule=slanted_triangular", "schedule.cut=2"], "schedule.cut is a share below 1, not 2"),
        (["train.lr=0"], "train.lr is above 0"),
        (["train.lr=nan"], "train.lr is a finite number, not nan"),
        (["train.lr=fast"], "train.lr is auto or a number, not 'fast'"),
        (["train.epochs=-1"], "train.epochs is above 0"),
        (["train.batch_size=0"], "train.batch_size is at least 1, not 0"),
        (["train.batch_size=null"], "train.batch_size is a whole number, not null"),
        (
            ["train.micro_batch=64", "train.batch_size=32"],
            "train.micro_batch=64 is larger than train.batch_size=32",
        ),
        (["train.max_steps=0"], "train.max_steps is at least 1"),
        (["train.warmup=-1"], "train.warmup is at least 0"),
        (["train.warmup=1.5"], "train.warmup is a share below 1 or whole steps"),
        (["train.weight_decay=-1"], "train.weight_decay is at least 0"),
        (["train.clip=0"], "train.clip is above 0"),
        (["train.layer_decay=2"], "train.layer_decay is at most 1"),
        (["train.eval_every=epochs"], "train.eval_every is auto, epoch, a number of steps or a share"),
        (["train.lr=atuo"], "train.lr is auto or a number, not 'atuo'; did you mean 'auto'"),
        (["train.patience=never"], "train.patience is auto or a number, not 'never'"),
        (["train.eval_every=0"], "train.eval_every is above 0"),
        (["train.checkpoint_every=2.5"], "train.checkpoint_every is a whole number of steps or a share"),
        (["train.patience=0"], "train.patience is at least 1"),
        (["train.deterministic=maybe"], "train.deterministic is true or false"),
        (["strategy=freeze", "bottom=-1"], "bottom"),
        (["strategy=nowhere.biases"], "there is no strategy 'nowhere.biases'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(overrides, said):
    assert said in refusal(*overrides)


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_names_of_other_tools(name):
    ours = re.split(r"[ =,]", ELSEWHERE[name])[0]
    known = everywhere() | {
        "rank",
        "alpha",
        "dropout",
        "targets",
        "variant",
        "ratio",
        "teacher",
        "bottom",
        "trained",
        "hydra.run.dir",
        "the",
    }
    assert ours in known and name not in known
    assert meant(f"task.{name}") == f"; ftrun calls it {ELSEWHERE[name]}"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("partition", "; it belongs to hydra/launcher=slurm"),
        ("num_cpus", "; it belongs to hydra/launcher=ray"),
        ("njobs", "; did you mean 'hydra.launcher.n_jobs'?"),
        ("dry_run", "; did you mean 'hydra.launcher.dry'?"),
        ("time", "; did you mean 'hydra.launcher.timeout_min' of hydra/launcher=slurm?"),
        ("foo", ""),
    ],
)
def test_settings_of_launchers_are_found_among_themselves(name, said):
    own = {f"hydra.launcher.{key}" for key in keys(CONF / "hydra/launcher/local.yaml")}
    assert meant(f"hydra.launcher.{name}", own) == said


def test_names_of_other_tools_are_known_wherever_they_are_put():
    for place in ("", "+", "train.", "+train.", "task.", "+task.", "model.", "+model."):
        assert "ftrun calls it alpha (with strategy=lora)" in refusal("strategy=lora", f"{place}lora_alpha=3")


def test_a_preset_leaves_nothing_behind(tmp_path):
    (tmp_path / "experiment").mkdir()
    preset = "# @package _global_\ndefaults:\n  - override /strategy: lora\nrank: 4\n"
    (tmp_path / "experiment" / "small.yaml").write_text(preset)
    assert read(compose(["experiment=small"], str(tmp_path))).strategy.rank == 4
    with pytest.raises(ConfigError, match="strategy=full has no setting 'rank'; it belongs to strategy=lora"):
        read(compose(["experiment=small", "strategy=full"], str(tmp_path)))


def test_a_broken_yaml_of_ones_own_is_one_line(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "broken.yaml").write_text("# @package _global_\ntrain: {lr: 1\n")
    with pytest.raises(ConfigError, match="broken.yaml"):
        compose(["experiment=broken"], str(tmp_path))


OWN = """
from dataclasses import dataclass

from ftrun.errors import ConfigError
from ftrun.strategies.base import Strategy


@dataclass
class Biases(Strategy):
    keep: int

    def __post_init__(self):
        if self.keep < 1:
            raise ConfigError(f"keep is at least 1, not {self.keep}")

    def prepare(self, model):
        pass
"""


def write_own(directory: Path, name: str) -> str:
    (directory / name).mkdir()
    (directory / name / "biases.py").write_text(OWN)
    (directory / "options" / "strategy").mkdir(parents=True)
    yaml = f"# @package _global_\n# Only the biases train.\nstrategy: {name}.biases\nkeep: 2\n"
    (directory / "options" / "strategy" / "biases.yaml").write_text(yaml)
    return str(directory / "options")


def test_a_strategy_of_ones_own_from_beside_its_options(tmp_path):
    own = write_own(tmp_path, "outside_a")
    settings = read(compose(["strategy=biases", "keep=3"], own))
    assert (type(settings.strategy).__name__, settings.strategy.keep) == ("Biases", 3)
    assert settings.strategy_name == "outside_a.biases"
    with pytest.raises(ConfigError, match="strategy=outside_a.biases: keep is at least 1, not 0"):
        read(compose(["strategy=biases", "keep=0"], own))
    with pytest.raises(ConfigError, match="strategy=outside_a.biases has no setting 'rank'"):
        read(compose(["strategy=biases", "+rank=0"], own))


def test_a_strategy_of_ones_own_from_the_current_directory(tmp_path, monkeypatch):
    write_own(tmp_path, "outside_b")
    monkeypatch.chdir(tmp_path)
    raw = compose([]) | {"strategy": "outside_b.biases", "keep": 1}
    assert type(read(raw).strategy).__name__ == "Biases"


def test_a_class_that_cannot_be_found_is_a_config_error(tmp_path, monkeypatch):
    (tmp_path / "outside_c.py").write_text("import not_there_at_all\n")
    (tmp_path / "outside_d").mkdir()
    (tmp_path / "outside_d" / "biases.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="no module 'nowhere' on the Python path"):
        load_class("strategies", "nowhere.biases")
    with pytest.raises(ConfigError, match="has no class Biases"):
        load_class("strategies", "outside_d.biases")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):  # the user's bug, not a wrong name
        load_class("strategies", "outside_c.biases")


def test_owner():
    assert owner("rank") == "lora"
    assert owner("bottom") == "freeze"
    assert owner("train") is None
