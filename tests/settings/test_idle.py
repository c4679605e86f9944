"""Settings that were set and change nothing are said, and no others."""

from __future__ import annotations

import pytest

from ftrun.experiments.overrides import settings_of
from ftrun.settings.checks import found_in
from ftrun.settings.idle import PARTS, default, idle


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["train.ema_decay=0.9"], ["train.ema_decay=0.9: without effect beside train.average=none; "]),
        (["train.ema_decay=0.9", "train.average=ema"], []),
        (["train.momentum=0.5"], ["train.momentum=0.5: without effect beside train.optimizer=adamw; "]),
        (["train.momentum=0.5", "train.optimizer=sgd"], []),
        (["strategy=lora", "ratio=4"], ["ratio=4: without effect beside variant=lora; "]),
        (["strategy=lora", "ratio=4", "variant=lora_plus"], []),
        (["strategy=ewc", "gamma=0.5", "online=false"], ["gamma=0.5: without effect beside online=false; "]),
        (["task=classify", "task.stride=4"], ["task.stride=4: without effect beside task.long="]),
        (["task=classify", "task.stride=4", "task.long=windows"], []),
        (["task=qa", "task.stride=4"], []),  # which always reads in windows
        ([], []),
        (["strategy=lora", "train.average=ema", "train.optimizer=lars", "train.lr=1"], []),
    ],
)  # fmt: skip
def test_what_was_set_and_changes_nothing_is_said(words: list[str], lines: list[str]) -> None:
    found = idle(settings_of(words))
    assert len(found) == len(lines)
    assert all(line.startswith(begin) for line, begin in zip(found, lines, strict=True)), found


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_defaults_are_those_of_the_files(part) -> None:
    group, _, option = part.file.removesuffix(".yaml").rpartition("/")
    raw = settings_of([f"{group}={option}"] if group else [])
    assert default(part) is not None and found_in(raw, part.name) == (True, default(part))
