"""`ftrun init`: what a file is for is found, and what is written is the experiment that was printed."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from ftrun.errors import DataError
from ftrun.experiments.overrides import settings_of
from ftrun.runs.run import Run
from ftrun.settings.read import checked
from ftrun.tasks.guessing.columns import column_of
from ftrun.tasks.guessing.sources import guess

WORDS = "the film was long and its story dull but lovely music in a bad plot".split()


def sentence(chance: random.Random, length: int = 9) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(length))


def planted(kind: str, place: Path) -> tuple[str, dict]:
    """A file of this kind, whose columns have names that say nothing; and the settings to be found."""
    chance = random.Random(kind)
    rows, found = [], {}
    for number in range(60):
        row: dict = {"key": f"row{number}", "one": sentence(chance), "count": number}
        if kind == "classify":
            row["two"], found = chance.choice(["no", "yes"]), {"text": "one", "label": "two"}
        elif kind == "regress":
            row["two"], found = round(chance.random(), 4), {"text": "one", "label": "two"}
        elif kind == "multilabel":
            row["two"] = sorted(chance.sample(["crime", "comedy", "drama"], chance.randint(0, 3)))
            found = {"text": "one", "label": "two"}
        elif kind == "ner":
            words = sentence(chance).split()
            row = {"b": ["B-X" if word == "film" else "O" for word in words], "a": words}
            found = {"tokens": "a", "tags": "b"}
        elif kind == "qa":
            long = sentence(chance, 30)
            start = long.index(" ") + 1
            row |= {"two": long, "z": {"text": [long[start:].split()[0]], "answer_start": [start]}}
            found = {"question": "one", "context": "two", "answers": "z"}
        elif kind == "lm":
            row = {"prompt": sentence(chance), "completion": sentence(chance)}
            found = {"prompt": "prompt", "completion": "completion", "loss_on": "completion"}
        rows.append(row)
    if kind == "multilabel":
        rows[0]["two"], rows[1]["two"] = ["crime", "drama"], ["comedy"]
    file = place / "rows of mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file), found


@pytest.mark.parametrize("kind", ["classify", "regress", "multilabel", "ner", "qa", "lm"])
def test_a_planted_kind_is_found_by_what_its_columns_hold(kind, tmp_path):
    file, settings = planted(kind, tmp_path)
    found = guess(file, {})
    assert found.kind == kind
    assert found.settings == {"train": file, "validation": None, "test": None} | settings
    assert not [doubt for doubt in found.doubts if doubt.setting == "task.text"]


@pytest.mark.parametrize(
    "name, text, kind, settings",
    [
        ("a.conll", "EU B-ORG\nrejects O\n\nPeter B-PER\n", "ner", {}),
        ("a.conll", "EU B-ORG\nrejects\n\nPeter B-PER\n", "ner", {}),  # a mistake in it, for the run to name
        ("a.txt", "word POS tag\nEU NN O\nPeter NN B-PER\n", "ner", {}),
        ("a.txt", "It was the best of times,\nit was the worst of times.\n", "mlm", {}),
        ("a.csv", "text\n" + "it was the best of times\n" * 3, "mlm", {"text": "text"}),
        (
            "a.csv",
            "premise,hypothesis,label,genre\n" + "a man eats,he goes,no,x\nshe goes,away,yes,y\n" * 4,
            "classify",
            {"text": ["premise", "hypothesis"], "label": "label"},
        ),
        (
            "a.csv",
            "plot,genres\n" + "a man eats,crime|drama\na man goes,drama\nhe is gone,comedy|crime|drama\n" * 3,
            "multilabel",
            {"text": "plot", "label": "genres", "separator": "|"},
        ),
        (
            "a.jsonl",
            '{"text": "a man eats it", "label": [0, 1, 1]}\n{"text": "he goes", "label": [0, 0, 1]}\n' * 3,
            "multilabel",
            {"text": "text", "label": "label", "positions": ["label_1", "label_2", "label_3"]},
        ),
    ],
)  # fmt: skip
def test_forms_and_names_of_columns_say_what_a_file_is(tmp_path, name, text, kind, settings):
    (tmp_path / name).write_text(text)
    found = guess(str(tmp_path / name), {})
    own = {key: value for key, value in found.settings.items() if key not in ("train", "validation", "test")}
    assert (found.kind, own) == (kind, settings)


def test_splits_that_lie_beside_are_taken_where_they_can_be_read(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "a man eats it,yes\nhe goes away,no\n" * 3)
    (tmp_path / "dev.csv").write_text("text,label\nshe eats,yes\n")
    (tmp_path / "test.csv").write_text("text,label\nshe eats,-1\n")  # of a benchmark that hides them
    found = guess(str(tmp_path / "train.csv"), {}).settings
    assert (found["validation"], found["test"]) == (str(tmp_path / "dev.csv"), None)
    for split, label in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")):
        (tmp_path / "pets" / split / label).mkdir(parents=True)
        picture = Image.fromarray(numpy.zeros((4, 4, 3), "uint8"))
        picture.save(tmp_path / "pets" / split / label / "a.png")
    found = guess(str(tmp_path / "pets"), {})
    assert (found.kind, found.settings) == (
        "image",
        {"train": f"{tmp_path}/pets/train", "validation": None, "test": f"{tmp_path}/pets/test"},
    )


@pytest.mark.parametrize("kind", ["classify", "multilabel", "qa", "ner", "lm"])
def test_the_file_has_the_settings_that_were_printed(ftrun_inprocess, tmp_path, kind):
    file, settings = planted(kind, tmp_path)
    odd = tmp_path / "it's a ${name}, [x].jsonl"
    Path(file).rename(odd)
    more = ["train.epochs=2", "strategy=lora", "rank=2", "seed=3"]
    out = ftrun_inprocess("init", odd.name, *more, "--name", "mine").stdout
    assert "ftrun experiment=mine " in out and f"task={kind}" in out
    raw = settings_of(["experiment=mine"])
    checked(raw)
    assert raw["task"]["train"] == odd.name and (raw["train"]["epochs"], raw["rank"], raw["seed"]) == (
        2,
        2,
        3,
    )
    assert {name: raw["task"][name] for name in settings} == settings
    again = ftrun_inprocess("init", odd.name, "--name", "mine", check=False)
    assert again.returncode == 2 and "conf/experiment/mine.yaml exists" in again.stderr


def test_what_was_written_runs_as_it_stands(ftrun_inprocess, toy_files, tiny_model_dir, tmp_path):
    words = [f"model.name={tiny_model_dir}", "task.max_length=32", "device=cpu", "baselines=false"]
    ftrun_inprocess("init", str(toy_files / "train.csv"), *words, "train.max_steps=1", "--name", "toys")
    ftrun_inprocess("experiment=toys", "strategy=linear_probe", "solver=adamw", "hydra.run.dir=made")
    run = Run.open(tmp_path / "made")
    assert run.finished and run.config["strategy"] == "linear_probe"
    assert run.config["task"]["test"] == str(toy_files / "test.csv") and run.config["train"]["max_steps"] == 1


@pytest.mark.parametrize(
    "cells, said",
    [
        (["Amazon"] * 9, "other (always 'Amazon')"),
        ([2024] * 9, "other (always '2024')"),
        (
            ["1,5", "-12,25", "1.000,00"] * 3,
            "numbers (to be cleaned: '1,5' is not a number; a decimal point is needed, not a comma: 1.5)",
        ),
        (
            [*(f"{n},785" for n in range(100, 130)), "1,234,567", "12"],
            "numbers (to be cleaned: '1,234,567' is not a number; without separators of thousands it is"
            " 1234567)",
        ),
        (
            [f"{n / 8}" for n in range(30)] + ["NA"],
            "numbers (to be cleaned: 'NA' is not a number; an empty cell leaves the row out)",
        ),
        (
            [*[f"{n / 8}" for n in range(30)] * 4, "NA"],
            "numbers (to be cleaned: 'NA' is not a number; an empty cell leaves the row out)",
        ),
        (
            [f"{n} %" for n in range(30)] * 4,
            "numbers (to be cleaned: '0 %' is not a number; without '%' it is 0)",
        ),
        (["0", "1", "NA"] * 5, "classes (3: '0', '1', 'NA')"),
        (["NA", "NA", "1.5"] * 2, "classes (2: '1.5', 'NA')"),
        (["10 %", "20 %"] * 5, "classes (2: '10 %', '20 %')"),
        (["1,200", "2,000"] * 5, "classes (2: '1,200', '2,000')"),
        (["a", "one"] * 3, "classes (2: 'a', 'one'; its name is one of them: is the first line a header?)"),
        ([{"a": 1}] * 9, "other (an object in a row)"),
        ([f"word{n}" for n in range(8)], "text (1 word a row)"),
        (["1,3", "2,3", "1,2", "1"] * 3, "labels (3 with ',' between them)"),
    ],
)
def test_what_a_column_holds_is_said_in_a_line(cells, said):
    assert column_of("one", cells).line() == f"one: {said}"


def test_numbers_that_need_cleaning_are_the_last_choice_for_a_label(tmp_path):
    rows = "".join(f'a man eats {n},"{n},500",{n / 8}\n' for n in range(10, 50))
    (tmp_path / "a.csv").write_text("text,price,weight\n" + rows)
    found = guess(str(tmp_path / "a.csv"), {})
    assert (found.kind, found.settings["label"]) == ("regress", "weight")
    assert "task.label=weight is a guess; also possible: price" in [doubt.line() for doubt in found.doubts]
    with pytest.raises(DataError, match=r"price holds numbers that need cleaning: '10,500' is not a number"):
        guess(str(tmp_path / "a.csv"), {"label": "price"})
    assert guess(str(tmp_path / "a.csv"), {"kind": "mlm"}).settings["text"] == "text"


def flags(names, count=40):
    """A file with a column of 0 and 1 for each of these names."""
    lines = [
        f"a man eats {n}," + ",".join(str(n // (2 + at) % 2) for at, _ in enumerate(names))
        for n in range(count)
    ]
    return "\n".join([f"text,{','.join(names)}", *lines])


@pytest.mark.parametrize(
    "names, given, kind, label, said",
    [
        (["p", "q", "r"], {}, "multilabel", ["p", "q", "r"], "[p,q,r] is a guess; also possible: p, q, r"),
        (["p", "q"], {}, "classify", "q", "q is a guess; also possible: p, [p,q]"),
        (["p", "q"], {"kind": "multilabel"}, "multilabel", ["p", "q"], ""),
        (["p", "q", "r"], {"label": ["p", "r"]}, "multilabel", ["p", "r"], ""),
        (
            ["p", "q", "r"],
            {"kind": "classify"},
            "classify",
            "r",
            "r is a guess; also possible: p, q",
        ),
        (["p", "q", "label"], {}, "classify", "label", ""),
    ],
)
def test_several_columns_of_0_and_1_are_those_of_several_labels(tmp_path, names, given, kind, label, said):
    (tmp_path / "a.csv").write_text(flags(names))
    found = guess(str(tmp_path / "a.csv"), given)
    assert (found.kind, found.settings["label"]) == (kind, label)
    assert [doubt.line() for doubt in found.doubts] == [f"task.label={said}"] * bool(said)


def test_several_columns_are_asked_for_and_written_as_they_are_answered(
    ftrun_inprocess, tmp_path, monkeypatch
):
    (tmp_path / "a.csv").write_text(flags(["p", "q"]))
    monkeypatch.setattr("ftrun.commands._beginning.asking.is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda text: "[p,q]")
    out = ftrun_inprocess("init", "a.csv", "--name", "mine").stdout
    assert "task=multilabel task.train=a.csv task.text=text 'task.label=[p,q]'" in out
    raw = settings_of(["experiment=mine"])
    assert (raw["task"]["kind"], raw["task"]["label"]) == ("multilabel", ["p", "q"])


def test_classes_of_which_some_are_joined_may_be_several_labels(tmp_path):
    rows = "".join(f'a man eats {n},"{("crime", "drama", "crime, drama")[n % 3]}"\n' for n in range(30))
    (tmp_path / "a.csv").write_text("text,genre\n" + rows.replace("crime, drama", "crime; drama, x"))
    assert guess(str(tmp_path / "a.csv"), {}).doubts == []
    (tmp_path / "a.csv").write_text(
        "text,genre\n" + rows.replace('drama"', 'drama"').replace('"drama"', '"war"')
    )
    found = guess(str(tmp_path / "a.csv"), {})
    assert [doubt.line() for doubt in found.doubts] == ["task=classify is a guess; also possible: multilabel"]
    found = guess(str(tmp_path / "a.csv"), {"kind": "multilabel"})
    assert found.settings["separator"] == ","


def test_of_several_columns_whose_names_say_label_one_is_a_guess(tmp_path):
    rows = "".join(f"a man eats {n},{n % 4 + 1},{'ab'[n % 2]},{'xy'[n % 2]}\n" for n in range(40))
    (tmp_path / "a.csv").write_text("text,stars,verdict,shop\n" + rows)
    found = guess(str(tmp_path / "a.csv"), {})
    assert found.settings["label"] == "stars"
    assert "task.label=stars is a guess; also possible: verdict" in [doubt.line() for doubt in found.doubts]


def test_a_directory_with_a_train_and_other_splits_is_that_file(tmp_path):
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text("text\tlabel\n" + "a man eats\tyes\nhe goes\tno\n" * 4)
    found = guess(str(tmp_path), {})
    assert found.kind == "classify"
    splits = (found.settings["train"], found.settings["validation"])
    assert splits == (str(tmp_path / "train.tsv"), str(tmp_path / "dev.tsv"))


def test_doubts_are_asked_on_a_terminal_and_said_elsewhere(ftrun_inprocess, tmp_path, monkeypatch):
    rows = "text,stars,author\n" + "".join(f"a man eats {n},{n % 4},{'ab'[n % 2]}\n" for n in range(40))
    (tmp_path / "films.csv").write_text(rows.replace("stars", "grade"))
    out = ftrun_inprocess("init", "films.csv", "--name", "said").stdout
    assert "task.label=author is a guess; also possible: grade" in out
    asked: list[str] = []
    answers = ["nothing", "grade", ""]
    monkeypatch.setattr("ftrun.commands._beginning.asking.is_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or answers[len(asked) - 1])
    ftrun_inprocess("init", "films.csv", "--name", "asked")
    raw = settings_of(["experiment=asked"])
    assert (raw["task"]["kind"], raw["task"]["label"]) == ("classify", "grade")
    assert [text.partition(":")[0] for text in asked] == ["task.label", "task.label", "task"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["gone.csv"], "gone.csv does not exist"),
        (["a.csv", "task.label=stras"], "task.label=stras: a.csv has no such column; it has"),
        (["a.csv", "task=clasify"], "task=clasify: possible: classify,"),
        (["a.csv", "--name", "smoke"], "ftrun has an experiment smoke of its own"),
        (["a.csv", "--name", "a/b"], "--name a/b: a name has letters"),
        (["a.csv", "train.lr=fast"], "train.lr is auto or a number, not 'fast'"),
        (["a.csv", "task.train=b.csv"], "is the FILE, which stands first"),
        (["a.csv", "task.folds=3"], "behind the experiment: ftrun experiment=NAME task.folds=3"),
        (["n.csv"], "n.csv: no column holds texts; it has 'a: numbers"),
        (["a.csv", "task=ner"], "task.tokens=tokens: a.csv has no such column"),
        (["a.csv", "task=regress", "task.label=label"], "'yes' is not a number"),
        (["a.csv", "task=multilabel"], "'yes' is not a list; task.separator sets what separates labels"),
        ([], "init: the following arguments are required: FILE\n"),
        (["a.csv", "task.separator=,"], "quote it to use it literally: 'task.separator=\",\"'"),
        (
            ["a.csv", "task=classify", "task.label=[text,label]"],
            "task.label is one column, not 'text', 'label'",
        ),
        (
            ["a.csv", "task.label=[text,label]"],
            "row 1 of a.csv: of several label columns each holds 0 or 1, not 'a",
        ),
        (["c.csv"], "c.csv: no column holds texts; it has \"kind: classes (2: 'no', 'yes')\", \"shop: other"),
        (["d.csv", "task=regress", "task.label=price"], "'1,5' is not a number; a decimal point is needed"),
        (
            ["d.csv"],
            "d.csv: price holds numbers that need cleaning: '1,5' is not a number; a decimal point is",
        ),
        (["flat"], "not in class folders; possible without labels: task=simclr, task=moco"),
    ],
)
def test_what_cannot_be_begun_is_said_in_a_line_and_leaves_nothing(ftrun_inprocess, tmp_path, words, said):
    (tmp_path / "a.csv").write_text("text,label\n" + "a man eats it,yes\nhe goes away,no\n" * 3)
    (tmp_path / "n.csv").write_text("a,b\n1.5,2.5\n2.5,3.5\n")
    (tmp_path / "c.csv").write_text("kind,shop\n" + "yes,Here\nno,Here\n" * 9)
    (tmp_path / "d.csv").write_text("text;price\n" + "a man eats it;1,5\nhe goes away;22,35\n" * 9)
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "flat" / "1.png")
    result = ftrun_inprocess("init", *words, check=False)
    assert said in result.stderr and result.stderr.count("\n") == 1 and result.returncode in (2, 3)
    assert not (tmp_path / "conf").exists()


def test_options_in_conf_need_no_word_and_never_hide_the_house_s_own(ftrun_inprocess, tmp_path, monkeypatch):
    (tmp_path / "conf" / "strategy").mkdir(parents=True)
    (tmp_path / "conf" / "strategy" / "mine.yaml").write_text("# @package _global_\nstrategy: full\n")
    monkeypatch.chdir(tmp_path)
    assert settings_of(["strategy=mine"])["strategy"] == "full"
    (tmp_path / "conf" / "strategy" / "norms.yaml").write_text("# @package _global_\nstrategy: full\n")
    refused = ftrun_inprocess("strategy=norms", check=False)
    assert (
        refused.returncode == 2
        and "conf/strategy/norms.yaml has the name of one of ftrun's" in refused.stderr
    )
    with pytest.raises(DataError, match="does not exist"):
        guess("nowhere.csv", {})
    assert str(tmp_path) not in sys.path[:1]


def test_a_mark_of_a_missing_cell_hides_no_columns_of_0_and_1():
    assert (
        column_of("toxic", ["0", "1", "NA"] * 5).binary
        and not column_of("toxic", ["0", "2", "NA"] * 5).binary
    )
