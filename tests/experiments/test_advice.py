"""The table of advice, and measurements that are right where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from ftrun.cli import start
from ftrun.commands.advise import auto
from ftrun.errors import ConfigError, DataError
from ftrun.experiments.advice import Closeness, advise, of_neighbours, of_probe, of_words
from ftrun.tasks.dataset import Example

NEAR, FAR = Closeness(0.8, 0.9, 0.85, 600), Closeness(0.6, 0.7, 0.85, 600)


@pytest.mark.parametrize(
    ("found", "labels", "words"),
    [
        (NEAR, 100, "strategy=freeze"),
        (NEAR, 5000, "strategy=full"),
        (FAR, 100, "strategy=lora"),
        (FAR, 5000, "strategy=full train.layer_decay=0.9"),
    ],
)
def test_the_table(found: Closeness, labels: int, words: str) -> None:
    assert " ".join(advise(found, None, labels, 0.0, 1.0).settings) == words


def test_the_cut_decides() -> None:
    assert advise(NEAR, None, 100, 0.04, 1.0).close and not advise(NEAR, None, 100, 0.06, 1.0).close
    assert advise(NEAR, 0.9, 100, 0.0, 1.0).close and not advise(NEAR, 1.1, 100, 0.0, 1.0).close


def test_features_that_tell_and_features_that_do_not() -> None:
    generator = numpy.random.default_rng(0)
    targets = [row % 2 for row in range(80)]
    noise = generator.normal(size=(80, 6))
    telling = noise + 6 * numpy.array(targets)[:, None] * numpy.array([1, -1, 1, 0, 0, 0])
    assert of_neighbours(telling, targets) > 0.95 and of_probe(telling, targets, 5) > 0.95
    assert of_neighbours(noise, targets) < 0.7 and of_probe(noise, targets, 5) < 0.7
    rows = [Example([5, 7 + target, 9, 20 + row % 3], target, row) for row, target in enumerate(targets)]
    assert of_words(rows, targets, 5) == 1.0


def test_the_command_prints_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{'a good and fine' if row % 2 else 'a bad and poor'} book {row},{row % 2}" for row in range(60)
    ]
    Path("a.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    Path("own.txt").write_text("".join(f"A book about number {row} and its music.\n" for row in range(60)))
    words = ["task=classify", "task.train=a.csv", "task.max_length=16"]
    assert start(["advise", *words, "--text", "own.txt", "--harder=-9"]) == 0
    out = capsys.readouterr().out
    assert "nats per predicted token of these texts; " in out and "pre-training corpus (own.txt)" in out
    assert "far from the pre-training (lead over TF-IDF " in out  # however close, no text is 9 nats easier
    assert "TF-IDF, on the words alone" in out and "few labels (24 per class" in out
    assert "\n  ftrun task=classify task.train=a.csv task.max_length=16 strategy=" in out


def test_auto_becomes_what_is_recommended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["task.subset=5 per class", "task.max_length=16", "train.lr=0.5"]
    found = auto(["-c", "job", *words, "strategy=auto"])
    assert found[:5] == ["-c", "job", *words]
    assert found[5].startswith("strategy=") and found[5] != "strategy=auto"
    with pytest.raises(ConfigError, match="strategy=auto chooses one strategy"):
        start(["-m", "strategy=auto", "seed=0,1"])


def test_other_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="task=digits is not text classification"):
        start(["advise", "task=digits", "model=mlp"])


def test_a_text_that_is_not_there_is_a_line() -> None:
    with pytest.raises(DataError, match=r"advise: --text gone\.txt: gone\.txt does not exist"):
        start(["advise", "--text", "gone.txt"])
