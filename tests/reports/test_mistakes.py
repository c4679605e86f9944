"""Wrong answers and labels in doubt: what is planted is found, nothing else is, whatever the answers are."""

from __future__ import annotations

import json
import random
from io import StringIO

import numpy
import pytest
from finished import finished
from rich.console import Console

from ftrun.errors import ConfigError
from ftrun.experiments.probing import out_of_fold
from ftrun.reports.groups import groups_of
from ftrun.reports.mistakes.confident_learning import contradicted, doubts
from ftrun.reports.mistakes.labels_in_doubt import doubt_lines
from ftrun.reports.mistakes.showing import answered_in, judged, sections_of, table_of
from ftrun.reports.pages.terminal import on_terminal
from ftrun.reports.table import rows_of
from ftrun.runs.run import Run

NAMES = ["ant", "bee", "cow"]


def test_the_rows_in_doubt_are_cleanlab_s():
    """As cleanlab 2.9 has them: find_label_issues(…, "confident_learning", ranked by "self_confidence")."""
    shares = [
        [.9, .05, .05], [.2, .7, .1], [.1, .8, .1], [.05, .15, .8], [.6, .3, .1], [.1, .2, .7],
        [.34, .33, .33], [.15, .8, .05], [.05, .05, .9], [.4, .35, .25], [.85, .1, .05], [.5, .1, .4],
    ]  # fmt: skip
    given = [0, 0, 1, 2, 0, 1, 2, 1, 2, 1, 0, 2]
    found = doubts([NAMES[k] for k in given], [dict(zip(NAMES, row, strict=True)) for row in shares])
    assert [doubt.at for doubt in found] == CLEANLAB
    assert (found[0].label, found[0].instead) == ("ant", "bee")
    assert numpy.flatnonzero(contradicted(numpy.array(shares), numpy.array(given))).tolist() == sorted(
        CLEANLAB
    )


CLEANLAB = [1, 5]


def lines_of(count: int, planted: set[int], seed: int = 0) -> list[dict]:
    """Good answers, and labels that are turned over in the planted rows."""
    chance, lines = random.Random(seed), []
    for row in range(count):
        true = NAMES[row % 3]
        sure = 0.98 + 0.001 * row / count if row in planted else 0.7 + 0.29 * chance.random()
        other = NAMES[(row + 1) % 3]
        shares = {name: sure if name == true else (1 - sure) / 2 for name in NAMES}
        line = {"row": row, "label": other if row in planted else true, "answer": true, "probability": sure}
        lines.append(
            line | {"probabilities": shares, "text": f"row {row}", "file": "x/a.csv", "file_row": row + 1}
        )
    return lines


def shown(lines: list[dict], width: int = 90, most: int = 3) -> str:
    screen = Console(width=width, record=True, file=StringIO())
    on_terminal(screen, sections_of(judged(lines, "here"), "test", most, width))
    return screen.export_text()


def test_planted_labels_are_found_and_shown():
    planted = {7, 8, 30, 61, 90}
    found = judged(lines_of(120, planted), "here")
    assert {doubt.at for doubt in found.doubts} == planted == set(found.wrong)
    ranked = [found.lines[at]["probability"] for at in found.wrong]
    assert ranked == sorted(ranked, reverse=True)
    text = shown(found.lines)
    assert "5 of 120 test rows wrong (4.17 %)" in text and "Labels in doubt: 5 of 120 test rows" in text
    assert max(map(len, text.splitlines())) <= 90 and f"a.csv:{found.wrong[0] + 1}" in text
    table = table_of(found)
    assert [row["row"] for row in table] == found.wrong and all(row["in_doubt"] for row in table)
    assert all(row["rather"] == row["answer"] for row in table)


def test_long_labels_and_those_of_several_lines_fit_the_terminal():
    long = {name: name * 40 + "\nend" for name in NAMES}
    lines = lines_of(60, {7, 8})
    for line in lines:
        line |= {key: long[line[key]] for key in ("label", "answer")}
        line["probabilities"] = {long[name]: share for name, share in line["probabilities"].items()}
    assert max(map(len, shown(lines, 80).splitlines())) <= 80


def test_a_perfect_run_has_neither_mistakes_nor_doubts():
    found = judged(lines_of(60, set()), "here")
    assert found.wrong == [] and found.doubts == [] and table_of(found) == []
    assert [each.title for each in sections_of(found, "test", 3, 90)] == [
        "0 of 60 test rows wrong (0 %)", "Labels in doubt: 0 of 60 test rows (0 %)"
    ]  # fmt: skip


def test_predictions_of_an_earlier_version_are_shown_too():
    old = [
        {name: line[name] for name in ("row", "label", "answer", "probability")} for line in lines_of(30, {4})
    ]
    text = shown(old)
    assert "1 of 30 test rows wrong" in text and "row 4 of the split" in text and "doubt" not in text


def test_several_labels_are_each_judged():
    chance, lines = random.Random(1), []
    for row in range(80):
        true = [name for bit, name in enumerate(NAMES) if row >> bit & 1]
        shares = {name: (0.9 if name in true else 0.1) + 0.09 * (chance.random() - 0.5) for name in NAMES}
        label = [name for name in true if name != "bee"] if row == 7 else true
        lines.append({"row": row, "label": label, "answer": true, "probabilities": shares})
    found = judged(lines, "here")
    assert found.wrong == [7] and [(d.at, d.label, d.instead) for d in found.doubts] == [
        (7, "not bee", "bee")
    ]
    assert found.form.sure(lines[7]) == lines[7]["probabilities"]["bee"]
    assert "Labels most often missed or false" in shown(lines)


def test_entities_that_are_missed_false_or_of_another_type():
    given = ["B-person", "I-person", "O", "B-place", "O"]
    answer = ["B-person", "I-person", "O", "B-person", "B-place"]
    line = {"row": 0, "label": given, "answer": answer, "probability": [0.9, 0.8, 0.9, 0.6, 0.7],
            "text": "Ada Lovelace in London now", "file": "a.conll", "file_row": 1}  # fmt: skip
    found = judged([line, line | {"row": 1, "answer": given}], "here")
    assert found.wrong == [0] and found.form.words(line) == ("place London", "person London, place now")
    assert list(found.form.pairs(line)) == [("place", "person"), ("–", "place")]
    assert found.form.sure(line) == 0.7


def test_spans_are_wrong_where_no_gold_answer_is_theirs_and_numbers_are_off():
    spans = [
        {"row": 0, "label": ["the Nile", "Nile"], "answer": "nile.", "probability": 0.4},
        {"row": 1, "label": [], "answer": "", "probability": 0.4},
        {"row": 2, "label": [], "answer": "Rhine", "probability": 0.9},
    ]
    assert judged(spans, "here").wrong == [2]
    numbers = [{"row": row, "label": 10.0, "answer": 10.0 + off} for row, off in enumerate([1, -5, 2])]
    found = judged(numbers, "here")
    assert found.wrong == [1, 2, 0] and [row["off_by"] for row in table_of(found)] == [5, 2, 1]
    assert "3 test rows, off by 2.667 on average" in shown(numbers)
    with pytest.raises(ConfigError, match="here: its rows have no labels"):
        judged([{"row": 0, "label": None, "answer": None}], "here")


def test_out_of_fold_is_blind_to_a_row_s_own_label():
    """Noise as wide as there are rows is learned by heart, and yet predicts no label of a row left out."""
    chance = numpy.random.default_rng(0)
    noise, targets = chance.normal(size=(200, 200)), [row % 2 for row in range(200)]
    right = out_of_fold(noise, targets, 3).argmax(1) == targets
    assert 0.35 < right.mean() < 0.65
    telling = noise + 3 * numpy.array(targets)[:, None]
    found = out_of_fold(telling, targets, 3)
    assert (found.argmax(1) == targets).all() and numpy.isneginf(found[:, 2]).all()
    several = out_of_fold(telling, [(0,) * target + (1,) for target in targets], 2)
    assert ((several[:, 0] > 0) == targets).all() and numpy.isposinf(several[:, 1]).all()


def grouped(place, planted, fooled=()):
    """Two strategies, two seeds each; all but the fooled ones contradict the labels of the planted rows."""
    for strategy, accuracy in (("full", 0.95), ("lora", 0.93)):
        for seed in (0, 1):
            run = finished(place / f"{strategy}-{seed}", strategy, seed, accuracy=accuracy, sure=0.6)
            give_probabilities(run, planted, strategy in fooled)
    groups, _ = groups_of(rows_of([str(place)]))
    return groups[0]


def give_probabilities(run, planted, fooled):
    """A run's answers again: unsure where it is wrong, and sure of the other label in the planted rows."""
    path = run.path / "predictions.jsonl"
    lines = answered_in(run)
    for line in lines:
        if line["row"] in planted:
            line["answer"] = line["label"] if fooled else "ab"[line["label"] == "a"]
            line["probability"] = 0.51 if fooled else 0.99
        elif line["answer"] != line["label"]:
            line["probability"] = 0.51
        other = "ab"[line["answer"] == "a"]
        line["probabilities"] = {line["answer"]: line["probability"], other: 1 - line["probability"]}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    right = sum(line["label"] == line["answer"] for line in lines) / len(lines)
    run.write_json("result.json", run.read_json("result.json") | {"test_accuracy": right})


IN_DOUBT = "in doubt, by the mean probabilities of 4 runs"


def test_a_report_without_doubts_says_so(tmp_path):
    assert doubt_lines(grouped(tmp_path, set())) == [f"none of 400 test rows has a label {IN_DOUBT}"]


def test_a_run_that_learned_too_little_doubts_no_label(tmp_path):
    group = grouped(tmp_path, set(range(20)))
    lora = next(study for study in group.ways if study.name == "lora")
    for each in lora.tried:
        each.diagnosis.lacking.append("training loss ended high")
    said = doubt_lines(group)[0]
    assert said.startswith(
        "20 of 400 test rows have labels in doubt, by the mean probabilities of 2 runs of 4 ("
    )
    assert "(the others learned too little)" in said
    for each in group.best.tried:
        each.diagnosis.untaught = "always the same answer"
    assert doubt_lines(group) == ["not looked for: every run learned too little to doubt a label"]


@pytest.mark.parametrize(("fooled", "word"), [((), "is the same"), (("lora",), "changes")])
def test_a_report_says_whether_the_ranking_survives(tmp_path, fooled, word):
    """Whoever learned the wrong labels is ahead with these rows alone."""
    group = grouped(tmp_path, set(range(20)), fooled)
    lines = doubt_lines(group)
    assert lines[0].startswith(
        f"20 of 400 test rows have labels {IN_DOUBT}; to see those of a run: ftrun errors"
    )
    kept = {
        strategy: [
            line["label"] == line["answer"]
            for seed in (0, 1)
            for line in answered_in(Run.open(tmp_path / f"{strategy}-{seed}"))
            if line["row"] >= 20
        ]
        for strategy in ("full", "lora")
    }
    full, lora = (f"{strategy} {100 * sum(right) / len(right):.1f} %" for strategy, right in kept.items())
    assert lines[1] == f"without them the ranking {word}: {full}, {lora}"


def test_so_many_doubts_are_the_answers_fault():
    said = "so many say more of the answers"
    assert said in shown(lines_of(60, set(range(20))))
    assert said not in shown(lines_of(60, set(range(5))))
