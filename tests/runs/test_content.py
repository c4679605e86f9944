"""The files of a run directory, whatever they hold: one line that names the file, and the other runs told."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished import finished

from ftrun.commands.report import main as report
from ftrun.errors import ConfigError, UserError
from ftrun.reports.pages.run_page import show_result
from ftrun.runs.config import from_yaml
from ftrun.runs.content import answers_of, read_object
from ftrun.runs.run import Run

ODD: list[Any] = [None, [], {}, "x", -1, 1.5, True, [None], {"a": None}, 1e308, [[1]], ...]  # ... is left out
DEPTH = 200_000


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in nested lists and objects, to the first of a list."""
    yield path
    pairs = (
        value.items() if isinstance(value, dict) else enumerate(value[:1] if isinstance(value, list) else ())
    )
    for key, each in pairs:
        yield from places(each, (*path, key))


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """The same with another value in one place."""
    if not path:
        return {} if odd is ... else odd
    whole = copy.deepcopy(value)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if odd is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = odd
    return whole


def read(file: Path) -> Any:
    if file.suffix == ".yaml":
        return yaml.safe_load(file.read_bytes())
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    return json.loads(file.read_bytes())


def written(file: Path, value: Any) -> str:
    if file.suffix == ".jsonl" and isinstance(value, list):
        return "".join(f"{json.dumps(line)}\n" for line in value)
    return yaml.safe_dump(value) if file.suffix == ".yaml" else json.dumps(value)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run and one with every file that reports read."""
    place = tmp_path_factory.mktemp("study")
    finished(place / "good", "full", items=30).log_time(
        {"phase": "train", "seconds": 1.0, "cpu_seconds": 1.0}
    )
    run = finished(place / "odd", "lora", items=30, rank=4, source=True, baselines={"majority": 0.5})
    run.log_time({"phase": "train", "seconds": 1.0, "cpu_seconds": 1.0})
    source = {"name": "pretraining", "metric": "loss", "before": {"loss": 2.0}, "after": {"loss": 2.1}}
    known = {
        "sources": [source],
        "drift": [{"cka": 1.0, "neighbours": 1.0, "cosine": 1.0}],
        "sequence": ["a"],
    }
    run.write_json("result.json", run.read_json("result.json") | known)
    leak = {"split": "test", "other": "train", "unit": "rows", "rows": 3, "of": 9}
    card = {"fingerprint": "x", "leaks": [leak], "labels": {"train": {"a": 3, "b": 4}}}
    run.write_json("data.json", card | {"baselines": {"tfidf": {"test_accuracy": 0.5, "eval_accuracy": 0.5}}})
    run.write_json("details.json", {"confusion": {"a": {"a": 1, "b": 2}, "b": {"a": 1, "b": 2}}})
    run.write_json("failure.json", {"message": "x", "exit_code": 3})
    run.write_json("settled.json", {"train": {"lr": "auto"}})
    run.write_json("environment.json", {"directory": "/tmp", "run": "/tmp/x", "versions": {"torch": "1"}})
    return place


def cases(run: Path) -> list[tuple[Path, tuple[Any, ...], Any]]:
    files = [file for file in sorted(run.iterdir()) if file.suffix in (".json", ".jsonl", ".yaml")]
    return [(file, path, odd) for file in files for path in places(read(file)) for odd in ODD]


@pytest.mark.parametrize("part", range(8))
def test_one_odd_value_anywhere_leaves_the_others_a_report(
    study: Path, part: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of each file in turn is replaced by one of another type, drawn at random."""
    monkeypatch.setenv("COLUMNS", "160")
    every = cases(study / "odd")
    random.Random(0).shuffle(every)
    assert len(every) > 1000
    for file, path, odd in every[part * 7 : part * 7 + 7]:
        before = file.read_bytes()
        file.write_text(written(file, changed(read(file), path, odd)))
        try:
            for words in ([], ["--costs"]):
                assert report([str(study), *words]) == 0
                out = capsys.readouterr().out
                assert words or "good" in out, (file.name, path, odd)
            try:
                show_result(Run(study / "odd"))
            except UserError as error:
                assert "\n" not in str(error), (file.name, path, odd)
        finally:
            file.write_bytes(before)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "its content is [], not an object"),
        ("null", "its content is null, not an object"),
        ('{"metric": 5}', "metric is 5, not a string"),
        ('{"eval_accuracy": "high"}', "eval_accuracy is 'high', not a number"),
        ('{"rows": {"train": -1}}', "rows.train is -1, not a whole number from 0"),
        ('{"rows": null}', "rows is null, not an object"),
        ('{"sources": [{"name": "a"}]}', "sources.0.metric is missing"),
        ("[" * DEPTH, "maximum recursion depth exceeded"),
    ],
)
def test_a_result_of_odd_types_says_what_is_odd(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError) as caught:
        read_object(tmp_path / "result.json")
    assert f"{tmp_path}/result.json is damaged: " in str(caught.value) and said in str(caught.value)


def test_what_is_not_a_number_or_not_known_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"eval_loss": null, "other": [1], "best_step": 0, "rows": {}}')
    assert read_object(tmp_path / "result.json") is not None
    (tmp_path / "result.json").write_bytes(b'{"metric": "\xff"}')
    with pytest.raises(UserError, match="result.json is damaged: 'utf-8'"):
        read_object(tmp_path / "result.json")


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{now}: &{now} [{','.join([f'*{before}'] * 9)}]\n" for before, now in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS, "it has a YAML alias"),
        ("a: &a [*a]", "it has a YAML alias"),
        ("a: " + "[" * 60 + "]" * 60, "it is nested more than 50 deep"),
        ("a: " + "[" * DEPTH + "]" * DEPTH, "it is nested more than 50 deep"),
        ("- " * DEPTH, "it is nested more than 50 deep"),
        ("task: 3", "task is 3, not a group of settings"),
        ("source: [1]", r"source is \[1\], not a group of settings"),
        ("when: 2001-99-99", "month must be in 1..12"),
    ],
)
def test_settings_that_are_none_are_said_at_once(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    begin = time.process_time()
    with pytest.raises(ConfigError, match=said) as caught:
        from_yaml(tmp_path / "config.yaml")
    assert time.process_time() - begin < 1 and "\n" not in str(caught.value)


def test_answers_of_two_kinds_are_damage(tmp_path: Path) -> None:
    file = tmp_path / "predictions.jsonl"
    lines: list[Any] = [{"label": 1, "answer": 2.5, "probability": None}, {"label": 0.5, "answer": 1}]
    file.write_text(written(file, lines))
    assert answers_of(file) == lines
    for odd in ("a", [1], {"a": 1}, True):
        file.write_text(written(file, [*lines, {"label": odd, "answer": 1}]))
        with pytest.raises(UserError, match="predictions.jsonl is damaged: label is "):
            answers_of(file)


def test_a_report_says_of_edited_settings_that_they_are_not_those_of_the_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        finished(tmp_path / str(seed), seed=seed, items=20)
    assert report([str(tmp_path)]) == 0
    assert "Edited settings" not in capsys.readouterr().out
    file = tmp_path / "1" / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.001", "lr: 0.5"))
    assert Run(tmp_path / "1").is_edited and not Run(tmp_path / "0").is_edited
    assert report([str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Edited settings" in out and "its settings are not those of its scores: '1'" in out
