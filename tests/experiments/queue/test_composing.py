"""A run of a sweep is composed as Hydra would compose it, however its settings are given."""

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from ftrun import CONF
from ftrun.experiments.queue.composing import Composer

RUNS = [
    ["seed=3"],
    ["seed=4", "train.max_steps=5"],
    ["strategy=lora", "rank=4", "seed=1"],
    ["strategy=lora", "rank=8", "train.lr=1e-3"],
    ["strategy=lora", "+extra=1"],
    ["task=digits", "model=mlp", "task.subset=10"],
    ["protect=ewc", "protect.samples=3"],
    ["task@source=digits", "source.subset=3"],
    ["source=pretraining"],
    ["train.max_steps=7", "train.epochs=null", "train={clip: 2.0}"],
    ["~compose"],
    ["++seed=9"],
    ["hydra.sweep.subdir=other", "seed=2"],
]


@pytest.fixture
def loader():
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="ftrun"):
        yield GlobalHydra.instance().hydra.config_loader


def test_it_is_what_hydra_composes(loader):
    from hydra.types import RunMode

    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    composer = Composer(loader)
    truths = [loader.load_sweep_config(master, words) for words in RUNS]
    for words, truth in [*zip(RUNS, truths, strict=True), *zip(RUNS[::-1], truths[::-1], strict=True)]:
        found = composer.load_sweep_config(master, words)
        assert OmegaConf.to_container(found) == OmegaConf.to_container(truth), words
        assert found._get_flag("struct") == truth._get_flag("struct")


def test_a_run_changes_nothing_for_the_next(loader):
    from hydra.types import RunMode

    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    composer = Composer(loader)
    first = composer.load_sweep_config(master, ["seed=3"])
    first.train.lr = "changed"
    assert composer.load_sweep_config(master, ["seed=3"]).train.lr == "auto"


def test_a_mistake_is_told_as_hydra_tells_it(loader):
    from hydra.types import RunMode

    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    for words in (["sed=3"], ["strategy=lorra"], ["rank=4"], ["+seed=3"], ["task@nowhere=digits"]):
        with pytest.raises(Exception) as truth:
            loader.load_sweep_config(master, words)
        with pytest.raises(type(truth.value)) as found:
            Composer(loader).load_sweep_config(master, words)
        assert str(found.value) == str(truth.value)
