"""The table of advice, and measurements that are right where the answer is known."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))
from advice import WAYS, way_of
from advice_tables import Judged, article_lines, hindsight, mean_lines, regrets

from ftrun.cli import start
from ftrun.commands import advise as command
from ftrun.commands.advise import CUT, HARDER, auto, evidence, reasons
from ftrun.errors import ConfigError, DataError
from ftrun.experiments.advice import FEW, HELD, Evidence, advise, of_neighbours, of_probe, of_words
from ftrun.experiments.overrides import settings_of
from ftrun.tasks.dataset import Example

NEAR = Evidence(FEW - 1, 12, 600, neighbours=0.8, probe=0.9, plain=0.85)
FAR = replace(NEAR, neighbours=0.6, probe=0.7)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (NEAR, "strategy=freeze"),
        (replace(NEAR, neighbours=0.9, probe=0.8), "strategy=freeze"),
        (replace(NEAR, labels_per_class=FEW), "strategy=full"),
        (FAR, "strategy=freeze"),
        (replace(FAR, labels_per_class=FEW), "strategy=full"),
        (replace(NEAR, of_images=True), "strategy=freeze"),
        (replace(FAR, of_images=True), "strategy=full"),
        (replace(NEAR, depth=HELD), "strategy=linear_probe"),
        (replace(NEAR, depth=HELD, gap=HARDER), "strategy=linear_probe"),
        (replace(NEAR, depth=HELD, gap=HARDER + 0.1), "strategy=full"),
        (replace(FAR, depth=HELD), "strategy=full"),
        (None, "strategy=full"),
    ],
)
def test_what_is_advised(known: Evidence | None, words: str) -> None:
    found = advise(known, CUT, HARDER)
    assert " ".join(found.settings) == words and way_of(found.settings) in WAYS
    assert all(way_of(other) != way_of(found.settings) for other in found.others)
    shallow = known is not None and known.depth <= HELD
    assert ["strategy=freeze"] not in [found.settings, *found.others] or not shallow  # it would be refused


def test_unequal_classes_are_told() -> None:
    """With 97 of 100 rows in one class the mean is no figure of the other, and accuracies tell nothing."""

    def said(known: Evidence) -> str:
        return " ".join(reasons(advise(known, CUT, HARDER), known, CUT, HARDER))

    rare = Evidence(401, 2, 401, neighbours=0.968, probe=0.968, plain=0.9681, trivial=0.968, rarest=24)
    assert "lead over TF-IDF" not in said(rare) and "how close to the pre-training is not told" in said(rare)
    assert "enough labels (401 per class on average, 24 of the rarest, threshold 20)" in said(rare)
    assert "as none is better than the most frequent label" in said(rare)
    assert "as none is" not in said(replace(rare, probe=0.98))
    equal = said(replace(rare, rarest=380, trivial=0.5))
    assert "(401 per class, threshold 20)" in equal and "as none is" not in equal
    assert any("96.8%  always the most frequent label" in line for line in evidence(rare, None, "net"))


def test_what_freeze_holds_is_its_default() -> None:
    assert settings_of(["strategy=freeze"])["bottom"] == HELD


def test_the_cut_decides() -> None:
    assert advise(NEAR, 0.04, 1.0).close and not advise(NEAR, 0.06, 1.0).close


def test_features_that_tell_and_features_that_do_not() -> None:
    generator = numpy.random.default_rng(0)
    targets = [row % 2 for row in range(80)]
    noise = generator.normal(size=(80, 6))
    telling = noise + 6 * numpy.array(targets)[:, None] * numpy.array([1, -1, 1, 0, 0, 0])
    assert of_neighbours(telling, targets) > 0.95 and of_probe(telling, targets) > 0.95
    assert of_neighbours(noise, targets) < 0.7 and of_probe(noise, targets) < 0.7
    rows = [Example([5, 7 + target, 9, 20 + row % 3], target, row) for row, target in enumerate(targets)]
    assert of_words(rows, targets) == 1.0


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
    assert "TF-IDF, on the words alone" in out and "enough labels (24 per class, threshold 20)" in out
    assert "\n  ftrun task=classify task.train=a.csv task.max_length=16 strategy=" in out


@pytest.mark.parametrize("known", [NEAR, FAR, None])
def test_auto_becomes_what_the_command_recommends(
    known: Evidence | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ftrun.experiments.advice.examined", lambda asked, settings, like: (known, None))
    words = ["task.max_length=16", "train.lr=0.5"]
    assert start(["advise", *words]) == 0
    recommended = capsys.readouterr().out.split("\n  ftrun ")[-1].splitlines()[0].split()
    assert auto(["-c", "job", *words, "strategy=auto"]) == ["-c", "job", *recommended]
    assert auto([*words, *(advise(known, CUT, HARDER).settings)])[:3] == recommended


def test_auto_is_one_strategy() -> None:
    with pytest.raises(ConfigError, match="strategy=auto chooses one strategy"):
        start(["-m", "strategy=auto", "seed=0,1"])


def test_images_are_measured_beside_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = ["task=digits", "task.subset=60", "task.classes=[0,1]"]
    words = [*task, "model=mlp", "train.max_steps=20", "baselines=false", f"hydra.run.dir={tmp_path / 'run'}"]
    assert start(words) == 0
    assert start(["advise", *task, f"model.name={tmp_path / 'run'}"]) == 0
    out = capsys.readouterr().out
    assert "logistic regression on the pixels" in out and "lead over pixels" in out
    assert "language-modelling" not in out


def test_random_weights_have_to_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert start(["advise", "task=digits", "model=mlp"]) == 0
    out = capsys.readouterr().out
    assert "the weights of embedded:mlp are random (model.init=random)" in out
    assert "\n  ftrun task=digits model=mlp strategy=full\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=wnut17"], "task=wnut17 does not give each text or image one label"),
        (["pretrain=mlm", "pretrain.task.train=a.txt"], "with pretrain= the network is changed before"),
        (["source=docstrings"], "with source= the network is changed before"),
        (["sequence=[docstrings,docstrings]"], "with sequence= the network is changed before"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftrun.experiments.making.looked", lambda raw: None)
    with pytest.raises(ConfigError, match=f"^advise: {message}"):
        command.main(words)
    with pytest.raises(ConfigError, match=f"^strategy=auto: {message}"):
        auto([*words, "strategy=auto"])


def test_a_text_that_is_not_there_is_a_line() -> None:
    with pytest.raises(DataError, match=r"advise: --text gone\.txt: gone\.txt does not exist"):
        start(["advise", "--text", "gone.txt"])


LUCKY, STEADY = "10" * 5, "1101100110"  # right on every second row, and on three of five in either half


def test_regret_is_counted_on_rows_that_did_not_choose() -> None:
    ways = {"lucky": [LUCKY], "steady": [STEADY]}
    # chosen on the first half lucky, with 100 and then 0 %; on the second steady, with 60 %
    assert regrets(ways, ways) == pytest.approx({"lucky": (-40 + 0) / 2, "steady": (0 - 60) / 2})
    assert hindsight(ways, [LUCKY]) == pytest.approx(10) and hindsight(ways, [STEADY]) == 0


def test_a_way_that_is_always_best_costs_what_the_others_lack() -> None:
    ways = {"good": ["1111111111", "1111111100"], "bad": ["1111110000", "1111111100"]}
    assert regrets(ways, ways) == pytest.approx({"good": 0, "bad": 20})
    assert hindsight(ways, ways["bad"]) == pytest.approx(20)


def planted(data: str, rows: int, full: str, lora: str, advised: list[str], close: bool) -> Judged:
    ways = {"full": [full] * 2, "lora": [lora] * 2, "freeze": [full] * 2, "linear_probe": [lora] * 2}
    return Judged(data, "net", rows, rows / 2, ways, advised, [close, close])


def test_the_tables_of_planted_scores() -> None:
    whole, half = "1" * 8, "1100" * 2
    cases = [
        planted("sst2", 50, whole, half, ["full", "full"], True),
        planted("yelp", 50, whole, half, ["full", "lora"], True),  # by another seed's rows another way
        planted("yelp", 9000, half, whole, ["lora", "lora"], True),
        planted("cipher", 50, half, whole, ["lora", "lora"], False),
        Judged("digits", "mlp", 50, None, {"full": [whole], "lora": [half]}, ["full"], [False]),
    ]
    assert cases[1].followed == [whole, half]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in mean_lines(cases)[2:]]
    means = {(sets, who): (count, regret, beside) for sets, who, count, regret, _, beside, _ in lines}
    assert means["fitted", "advised"] == ("1", "0.00", "0.00")
    assert means["fitted", "always lora"] == ("1", "50.00", "0.00")
    assert means["judged", "advised"] == ("4", "6.25", "6.25")  # 25 of one case in four
    assert means["judged", "always full"] == ("4", "25.00", "6.25")
    assert means["judged", "always linear_probe"][:2] == ("3", "16.67")  # not of random weights
    article = {tuple(line.split(" | ")[:3]): line.split(" | ")[3] for line in article_lines(cases)[2:]}
    assert article["| high", "few", "freeze"] == "2 of 2"
    assert article["| high", "many", "full"] == "0 of 1"
    assert article["| low", "few", "lora"] == "1 of 1"
    assert article["| low", "few", "freeze middle"] == "not measured"
