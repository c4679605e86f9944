"""A few of the values that `scripts/fuzz overrides` tries, the same ones each time."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from fuzzing import overrides
from fuzzing._values import composed, places, settings
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ftrun import CONF
from ftrun.runs.written import to_yaml


def few(number: int) -> examples:
    return examples(
        max_examples=number, derandomize=True, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow], phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip


@few(30)
@given(overrides.some_text)
def test_any_text_of_a_command_line(example):
    overrides.answer_text(*example)


@few(300)
@given(overrides.some_value)
def test_any_value_of_a_setting(example):
    overrides.answer_value(*example)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, 2**63, -(2**63) - 1, "\ud800"])
def test_what_no_setting_can_be_is_refused_for_every_setting(value):
    for place in settings():
        overrides.answer_value(place, value)
        for within in ([value], {"a": [value]}):
            message = overrides.refusal(overrides.with_value(place, within))
            assert message is not None, place


def test_every_setting_of_every_option_is_tried():
    names = {name for _, name in places()}
    for words in (
        {"seed", "train.lr", "rank", "task.mask_split", "model.pooling"},
        {"schedule.cut"},
        {"pretrain.train.lr"},
    ):
        assert words <= names
    assert len(places()) > 500 and len(settings()) > 500
    for chosen in {chosen for chosen, _ in settings()}:
        assert overrides.refusal(composed(chosen)) is None, chosen


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.integers() | st.floats(allow_nan=False)))
@few(100)
def test_settings_come_back_from_their_text(config):
    assert yaml.load(to_yaml(config).encode("utf-8", "replace"), yaml.CSafeLoader) == config


def test_the_text_of_settings_is_that_of_omegaconf():
    words: list[Any] = [
        "y",
        "yes",
        "On",
        "null",
        "~",
        "012",
        "1e5",
        "1e-5",
        ".5",
        "1_0",
        " a",
        "a: b",
        "- a",
        "ä",
        "",
        "a\nb",
    ]
    for config in ({"strings": words}, *(composed(chosen) for chosen, _ in settings()[::20])):
        assert to_yaml(config) == OmegaConf.to_yaml(OmegaConf.create(config))


def test_every_reader_of_yaml_reads_the_same_defaults():
    """Of 1e-3 PyYAML, which completes the settings of old runs, makes a string and Hydra a number."""
    for path in sorted(CONF.rglob("*.yaml")):
        whole = OmegaConf.to_container(OmegaConf.load(path))
        assert yaml.safe_load(path.read_bytes()) == whole, path
