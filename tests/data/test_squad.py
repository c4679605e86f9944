"""Answers scored as SQuAD's script scores them, on cases worked by hand, and the files they come from."""

import json

import pytest

from ftrun.data.squad import contradictions, read_questions
from ftrun.errors import DataError
from ftrun.tasks.metrics.spans import normalised, overlap, squad_scores

COLUMNS = {"question": "question", "context": "context", "answers": "answers"}


@pytest.mark.parametrize(
    "text, plain",
    [
        ("The Denver  Broncos!", "denver broncos"),
        ("a.b-c", "abc"),  # punctuation goes before articles are looked for
        ("A-the", "athe"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),
        ("Zürich’s  Straße\u00a0", "zürich’s straße"),  # only ASCII punctuation goes
        ("£1.5 (million)", "£15 million"),
        ("the", ""),
    ],
)
def test_normalising(text, plain):
    assert normalised(text) == plain


@pytest.mark.parametrize(
    "answer, gold, exact, f1",
    [
        ("the Broncos", ["Denver Broncos", "Broncos"], 1, 1),
        ("in Denver Colorado", ["Denver"], 0, 2 * 1 / (3 + 1)),
        ("Denver Denver", ["Denver Broncos"], 0, 2 * 1 / (2 + 2)),  # bags: one Denver is shared
        ("", ["Denver"], 0, 0),
        ("", [], 1, 1),
        ("Denver", [], 0, 0),
        ("", ["the"], 1, 1),  # nothing is left of the only gold answer
        ("", ["the", "Rome"], 0, 0),  # of which the first is no answer then
        ("a cat", ["a dog", "the cat sat"], 0, 2 * 1 / (1 + 2)),
        ("naïve café", ["Naïve Café."], 1, 1),
    ],
)
def test_exact_match_and_f1(answer, gold, exact, f1):
    assert squad_scores([answer], [gold]) == [(exact, pytest.approx(f1))]


def test_overlap_of_two_empty_answers():
    assert overlap("the", "") == 1.0


def test_another_ending(tmp_path):
    with pytest.raises(DataError, match="cannot tell the format from '.conll'; possible: .json, .csv"):
        read_questions(str(tmp_path / "a.conll"), COLUMNS, answered=True)


def test_squad_json_v2(tmp_path):
    paragraph = {
        "context": "Rome is old.",
        "qas": [
            {"id": "x", "question": "What is old?", "answers": [{"text": "Rome", "answer_start": 0}]},
            {"id": "y", "question": "What is new?", "answers": [], "is_impossible": True},
        ],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]}))
    one, other = read_questions(str(file), COLUMNS, answered=True)
    assert (one.id, one.answers, other.answers) == ("x", [("Rome", 0)], [])
    assert one.placed() == [("Rome", 0)]


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["Rome"], "answer_start": [0]},
        [{"text": "Rome", "answer_start": 0}],
        {"text": "Rome", "answer_start": 0},
    ],
)
def test_answers_of_a_row(tmp_path, answers):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"question": "q", "context": "Rome", "answers": answers}))
    assert read_questions(str(file), COLUMNS, answered=True)[0].answers == [("Rome", 0)]


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', None),
        ('{"data": 3}', "it has no list `data` of articles"),
        (
            '{"data": [{"paragraphs": []}, {"paragraphs": [{"context": "a", "qas": [{"id": "x"}]}]}]}',
            "a.json is not SQuAD JSON: question 1 of paragraph 1 of article 2 lacks 'question'",
        ),
        (
            '{"data": [{"paragraphs": [{"qas": []}, {"qas": [{"question": "q"}]}]}]}',
            "paragraph 2 of article 1 lacks 'context'",
        ),
        ('{"data": [{"paragraphs": null}]}', "'paragraphs' of article 1 is nothing, not a list"),
        ('{"data": [{"paragraphs": [3]}]}', "paragraph 1 of article 1 is an integer, not an object"),
        ('{"data": [}', "line 1: not JSON"),
        ('{"data": []}', "has no questions"),
    ],
)
def test_bad_json(tmp_path, content, message):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message or "has no questions"):
        read_questions(str(file), COLUMNS, answered=True)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"question": "q", "answers": []}, "task.context=context: .* has no such column"),
        (
            {"question": 3, "context": "c", "answers": []},
            "task.question=question: row 1 .* holds an integer, not text",
        ),
        (
            {"question": "q", "context": "c", "answers": ["Rome"]},
            "row 1 .*: answers are {text, answer_start}",
        ),
        (
            {"question": "q", "context": "c", "answers": [{"text": "c", "answer_start": "0"}]},
            'a text with a whole number as its offset, not "c" at "0"',
        ),
    ],
)
def test_bad_rows(tmp_path, row, message):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(row))
    with pytest.raises(DataError, match=message):
        read_questions(str(file), COLUMNS, answered=True)


def test_what_is_marked_impossible_has_no_answer(tmp_path):
    """SQuAD 2's mark stands above its answers, in its own JSON and in rows; what disagrees is found."""
    answer = [{"text": "film", "answer_start": 2}]
    marks = [(True, answer), (True, []), (False, answer), (False, []), (None, answer)]
    asked = [
        {"question": "what?", "answers": own, **({} if mark is None else {"is_impossible": mark})}
        for mark, own in marks
    ]
    nested = {"data": [{"paragraphs": [{"context": "a film", "qas": asked}]}]}
    (tmp_path / "a.json").write_text(json.dumps(nested))
    rows = (json.dumps({"context": "a film"} | row) + "\n" for row in asked)
    (tmp_path / "a.jsonl").write_text("".join(rows))
    for name in ("a.json", "a.jsonl"):
        found = read_questions(str(tmp_path / name), COLUMNS, answered=True)
        assert [row.texts() for row in found] == [[], [], ["film"], [], ["film"]]
        assert [row.number for row in contradictions(found, "answers")] == [1, 4]
    wrong = {"context": "a film", "question": "?", "answers": answer, "is_impossible": "no"}
    (tmp_path / "b.jsonl").write_text(json.dumps(wrong))
    with pytest.raises(DataError, match='row 1 of .*: is_impossible is true or false, not "no"'):
        read_questions(str(tmp_path / "b.jsonl"), COLUMNS, answered=True)
