"""A small experiment for tests: composed as the command line would, run in this process."""

from pathlib import Path

import peft.tuners.lora  # noqa: F401  what a run imports late, so that forked processes have it
import sklearn.metrics  # noqa: F401
from accelerate import Accelerator  # noqa: F401
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoTokenizer, BertForSequenceClassification  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from ftrun import CONF
from ftrun.config import Settings, read
from ftrun.experiment import run
from ftrun.rundir import Run

get_checkpoint_conversion_mapping("bert")  # half a second, once

STRATEGIES = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))
SMALL_SOURCE = [
    "source=pretraining", "source.text={files}/train.csv", "source.rows=8", "source.max_length=16"
]  # fmt: skip
EXTRA = {  # what a strategy needs to be told on a network of two layers and a run of a few steps
    "freeze": ["bottom=1"],
    "gradual_unfreeze": ["every=0.2"],
    "ewc": [*SMALL_SOURCE, "samples=8", "pull=1"],
    "replay": [*SMALL_SOURCE, "buffer=16"],
}


def settings(*words: str) -> Settings:
    """The settings of `ftrun WORDS…`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", list(words)), resolve=True)
    return read(composed)


def toy(files: Path, model: Path, *words: str) -> Settings:
    """Two classes that can be learned, on a random tiny network, in a second or two."""
    return settings(
        "task=classify", f"task.train={files}/train.csv", f"task.validation={files}/validation.csv",
        f"task.test={files}/test.csv", f"model.name={model}", "task.max_length=32", "train.batch_size=16",
        "train.epochs=2", "device=cpu", *(word.replace("{files}", str(files)) for word in words),
    )  # fmt: skip


def ran(path: Path, experiment: Settings) -> Run:
    """The run directory of an experiment that went through to its end."""
    run(experiment, path)
    return Run.open(path)
