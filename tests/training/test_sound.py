"""Only what the plain network cannot compute is put down to its files; a full disk or a bug is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest
import torch
from kill_cases import IMAGES, SHORT, SMALL
from lab import settings

from ftrun.errors import ConfigError
from ftrun.experiments import single
from ftrun.models.files.reading import computing
from ftrun.models.load import load
from ftrun.tasks.data import TaskData
from ftrun.training import preflight
from ftrun.training.preflight import sound


@pytest.fixture(params=["digits", "moco_28", "simclr_28"])
def prepared(request: pytest.FixtureRequest) -> Iterator[tuple[object, TaskData]]:
    """Settings and encoded data, with an objective that trains, as it does within a step."""
    kind = request.param
    own = ["model=mlp"] if kind == "digits" else [*IMAGES, *SMALL, "model=cnn_small", "train.lr=0.1"]
    experiment = settings(f"task={kind}", *own, *SHORT, *(["task.queue=64"] if kind == "moco_28" else []))
    data = TaskData.read(experiment.task, experiment.seed)
    data.encode(load(experiment.model, data.spec, 0).tokenizer, "train")
    data.objective.train()
    yield experiment, data


def test_a_bug_and_a_full_disk_within_a_step_are_what_they_are(prepared: tuple) -> None:
    experiment, data = prepared
    for error in (ZeroDivisionError("a bug"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        with pytest.raises(type(error)) as caught, sound(experiment, data):
            raise error
        assert caught.value is error


def test_a_network_that_cannot_compute_a_row_is_put_down_to_its_files(
    prepared: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, data = prepared

    class Broken(torch.nn.Linear):
        def forward(self, **inputs: object) -> torch.Tensor:
            raise IndexError("index out of range in self")

    monkeypatch.setattr(preflight, "load", lambda *_: Broken(1, 1))
    with pytest.raises(ConfigError, match="^model.name=.* cannot compute: .*index out of range"):
        with sound(experiment, data):
            raise IndexError("index out of range in self")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_no_question_to_a_network(number: int) -> None:
    error = OSError(number, os.strerror(number))
    with pytest.raises(OSError) as caught, computing("model.name=this", "this", lambda: 1 / 0):
        raise error
    assert caught.value is error
    assert single.sound is sound
