"""The JSON schema takes what ftrun takes, file by file and value by value, and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftrun import CONF
from ftrun.errors import ConfigError
from ftrun.settings.checks import convert
from ftrun.settings.json_schema import files, of_hint, schema, value_in
from ftrun.settings.resolve import hints_of, load_class
from ftrun.settings.schema import Domain, ModelSettings, Pretrain, Train
from ftrun.settings.suggest import keys

fastjsonschema = pytest.importorskip("fastjsonschema", reason="the extra test")
GLOBAL = [
    CONF / "config.yaml",
    *sorted(CONF.glob("experiment/*.yaml")),
    *sorted(CONF.glob("strategy/*.yaml")),
]
GROUPS = ("task", "model", "schedule", "protect", "source", "compose", "pretrain")


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return schema()


@pytest.fixture(scope="module")
def valid(whole) -> Any:
    return fastjsonschema.compile(whole)


def test_every_file_of_conf_is_valid(whole, valid):
    assert len(GLOBAL) > 20
    for path in GLOBAL:
        valid(yaml.safe_load(path.read_text()))
    for group in GROUPS:
        one = fastjsonschema.compile(whole["definitions"][group])
        for path in files([CONF], group):
            one(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "train: {learning_rate: 1.0}", "train: {lr: fast}", "train: {batch_size: 1.5}", "rank: large",
        "strategy: lroa", "task: {max_length: [1]}", "task: {kind: clasify}", "model: {layers: two}",
        "seed: true", "schedule: {name: wavy}", "protect: {polar: 1}", "epochs: 3", "train: 5",
    ],
)  # fmt: skip
def test_what_ftrun_refuses_is_marked(valid, text):
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "train: {lr: auto}", "train: {batch_size: '${seed}'}", "rank: '${seed}'", "strategy: lab.queries",
        "task: {text: [a, b], subset: 50 per class}", "task: {kind: lab.tagging}", "sequence: [a.csv, b.csv]",
        "defaults: [override /task: qa]", "train: {patience: null}",
    ],
)  # fmt: skip
def test_what_ftrun_takes_is_not(valid, text):
    valid(yaml.safe_load(text))


def every_hint() -> dict[str, Any]:
    """The types of all settings, each once."""
    kinds = [value_in(path, "kind") for path in files([CONF], "task") if "kind" in keys(path)]
    names = [value_in(path, "strategy") for path in files([CONF], "strategy")]
    classes = [
        Train,
        ModelSettings,
        Domain,
        Pretrain,
        *(load_class("tasks", kind, "task.kind") for kind in kinds),
    ]
    classes += [load_class("strategies", name) for name in names]
    found = {
        str(hints_of(cls)[each.name]): hints_of(cls)[each.name] for cls in classes for each in fields(cls)
    }
    assert len(found) > 10
    return found


@pytest.mark.parametrize("hint", every_hint().values(), ids=list(every_hint()))
def test_a_type_takes_the_values_that_convert_takes(hint):
    takes = fastjsonschema.compile(of_hint(hint))
    for value in (1, -2.5, "a", True, None, [], ["a"], [1], [2.5], [None], {}, {"a": 1}):
        try:
            convert("name", value, hint)
            right = True
        except ConfigError:
            right = False
        try:
            takes(value)
            found = True
        except fastjsonschema.JsonSchemaValueException:
            found = False
        assert found == right, (hint, value)


OWN = """
from dataclasses import dataclass

from ftrun.strategies.full import Full


@dataclass
class Queries(Full):
    biases: bool
"""


def test_one_s_own_options_are_in_it_and_comments_are_told(ftrun_inprocess, tmp_path, whole):
    (tmp_path / "lab_schema").mkdir()
    (tmp_path / "lab_schema" / "queries.py").write_text(OWN)
    place = tmp_path / "conf" / "strategy"
    place.mkdir(parents=True)
    (place / "queries.yaml").write_text(
        "# @package _global_\nstrategy: lab_schema.queries\nbiases: false  # too\n"
    )
    found = json.loads(ftrun_inprocess("config", "--schema").stdout)
    assert found["properties"]["biases"]["description"] == "too"
    assert "queries" in found["properties"]["strategy"]["anyOf"][0]["enum"]
    assert "biases" not in whole["properties"]
    (tmp_path / "a.csv").write_text("text,label\na,yes\nb,no\na man,yes\nhe,no\neats it,yes\ngoes,no\n")
    ftrun_inprocess("init", "a.csv", "strategy=queries", "train.lr=1e-3")
    beside = json.loads((tmp_path / "conf" / "ftrun.schema.json").read_text())
    assert beside == found
    fastjsonschema.validate(beside, yaml.safe_load((tmp_path / "conf" / "experiment" / "a.yaml").read_text()))
    rate = whole["definitions"]["train"]["properties"]["momentum"]
    assert (rate["default"], rate["description"]) == (0.9, "for sgd and lars")


@pytest.mark.parametrize(
    "words, said",
    [
        (["task=classify", "task.train=gone.csv"], "gone.csv does not exist"),
        (["model.name=./gone"], "model.name=./gone: no such directory"),
        (["model.name=empty"], "model.name=empty is not a checkpoint: it has no config.json"),
        (["strategy=distil", "teacher=empty"], "teacher=empty is no run directory"),
        (["source=empty", "strategy=l2sp"], "empty is not a run directory"),
        (["pretrain=mlm", "pretrain.task.train=gone.txt", "model.init=random"], "gone.txt does not exist"),
    ],
)
def test_check_looks_at_what_the_settings_name(ftrun_inprocess, tmp_path, words, said):
    (tmp_path / "empty").mkdir()
    result = ftrun_inprocess("config", "--check", *words, check=False)
    assert said in result.stderr and result.returncode in (2, 3) and result.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_check_reads_what_is_there_as_a_run_does(ftrun_inprocess, tmp_path):
    rows = "".join(f"row {number},{'ab'[number % 2]}\n" for number in range(40))
    (Path(tmp_path) / "a.csv").write_text(f"text,label\n{rows}")
    check = ["config", "--check", "task=classify", "task.train=a.csv"]
    *notes, last = ftrun_inprocess(*check).stdout.splitlines()
    assert (
        last
        == "the settings are right, and what they name is there and can be read: a.csv, embedded:tiny_bert"
    )
    assert any("validation" in note for note in notes)  # how the rows are split
    for words, said in (
        (["task.text=body"], "task.text=body: a.csv has no such column"),
        (["task.labels=[a,c]"], "label 'b' of the train row"),
        (["train.metric=eval_f1_of_c"], "train.metric=eval_f1_of_c"),
    ):
        refused = ftrun_inprocess(*check, *words, check=False)
        assert refused.returncode in (2, 3) and said in refused.stderr, refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
