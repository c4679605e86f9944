"""Schemes and entities, on cases worked by hand."""

import random

import pytest
from seqeval.metrics import accuracy_score, classification_report
from seqeval.scheme import IOB1, IOB2, IOBES, Entities

from ftrun.data.conll import Sentence
from ftrun.data.entity_tags import entities, parse, parsed, scheme_of, to_iob2
from ftrun.errors import DataError
from ftrun.tasks.metrics.entities import entity_scores, tag_scores


def pairs(text):
    return [parse(tag) for tag in text.split()]


@pytest.mark.parametrize(
    "sentences, scheme",
    [
        (["O B-a I-a O B-b"], "IOB2"),
        (["B-a I-a B-a"], "IOB2"),
        (["O I-a I-a O I-b"], "IOB1"),
        (["I-a B-a I-a O"], "IOB1"),
        (["I-a O O", "O B-a O"], "IOB2"),  # B where IOB1 has no use for it: I is a mistake
        (["O S-a O"], "BIOES"),
        (["B-a E-a"], "BIOES"),
        (["B-a L-a U-b"], "BIOES"),
        (["O O"], "IOB2"),
    ],
)
def test_the_scheme_is_recognised(sentences, scheme):
    assert scheme_of(map(pairs, sentences)) == scheme


@pytest.mark.parametrize(
    "scheme, given, expected, illegal",
    [
        ("IOB2", "O B-a I-a B-a", "O B-a I-a B-a", 0),
        ("IOB2", "O I-a I-a B-a I-b", "O I-a I-a B-a I-b", 2),
        ("IOB1", "I-a I-a B-a I-a O I-b I-a", "B-a I-a B-a I-a O B-b B-a", 0),
        ("BIOES", "S-a B-a I-a E-a O", "B-a B-a I-a I-a O", 0),
        ("BIOES", "B-a O E-a", "B-a O O", 2),  # not ended, and an end of nothing
        ("BIOES", "B-a E-a I-a", "B-a I-a O", 1),
        ("BIOES", "B-a I-b", "B-a O", 1),
        ("BIOES", "O B-a", "O B-a", 1),
        ("BIOES", "U-a B-b L-b", "B-a B-b I-b", 0),
        ("BIOES", "S E", "B O", 1),
    ],
)
def test_every_scheme_becomes_iob2_and_mistakes_are_counted(scheme, given, expected, illegal):
    assert to_iob2(pairs(given), scheme) == (expected.split(), illegal)


@pytest.mark.parametrize(
    "tags, found",
    [
        ("B-a I-a O B-b", [("a", 0, 2), ("b", 3, 4)]),
        ("B-a B-a I-a", [("a", 0, 1), ("a", 1, 3)]),
        ("I-a I-a O", []),  # strict: nothing begins with I
        ("B-a I-b I-a", [("a", 0, 1)]),
        ("O B-a O I-a", [("a", 1, 2)]),
        ("B-creative-work I-creative-work", [("creative-work", 0, 2)]),
        ("B I O B", [("", 0, 2), ("", 3, 4)]),
    ],
)
def test_an_entity_is_strict(tags, found):
    assert entities(tags.split()) == found


def test_scores_are_those_worked_by_hand():
    given = ["B-PER I-PER O B-LOC", "B-ORG O", "O O B-LOC"]
    answered = ["B-PER I-PER O B-PER", "B-ORG I-ORG", "O I-LOC B-LOC"]
    found = entity_scores([g.split() for g in given], [a.split() for a in answered])
    # right: PER 0-2, LOC 2-3; given: PER, LOC, ORG, LOC; answered: PER, PER, ORG, LOC
    assert found[""] == {"precision": 2 / 4, "recall": 2 / 4, "f1": 0.5, "entities": 4}
    assert found["PER"] == {"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "entities": 1}
    assert found["LOC"] == {"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "entities": 2}
    assert found["ORG"] == {"precision": 0, "recall": 0, "f1": 0, "entities": 1}
    assert entity_scores([["O"]], [["O"]]) == {
        "": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "entities": 0}
    }


def drawn(seed, alphabet):
    """60 sentences of up to 12 tags, of which some are against every scheme."""
    chance = random.Random(seed)
    return [chance.choices(alphabet, k=chance.randint(1, 12)) for _ in range(60)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # where a type has nothing to divide by
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_seqeval(seed):
    alphabet = ["O", "B-a", "I-a", "B-b", "I-b", "B-c-d", "I-c-d"]
    given, chance = drawn(seed, alphabet), random.Random(seed)
    answered = [[chance.choice([tag, tag, *alphabet]) for tag in tags] for tags in given]
    theirs = classification_report(
        given, answered, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    ours = entity_scores(given, answered)
    for kind, name in {"": "micro avg", "a": "a", "b": "b", "c-d": "c-d"}.items():
        expected = {key: theirs[name][key] for key in ("precision", "recall")}
        expected |= {"f1": theirs[name]["f1-score"], "entities": theirs[name]["support"]}
        assert ours[kind] == pytest.approx(expected)
    assert 0 < ours[""]["f1"] < 1
    assert tag_scores(given, answered)["accuracy"] == pytest.approx(accuracy_score(given, answered))


def legal(scheme, chance):
    """Up to 12 tags as the scheme writes entities of two types, some of them next to each other."""
    tags, before = [], "O"
    while len(tags) < 12:
        kind, length = chance.choice("Oab"), chance.randint(1, 3)
        first = "I" if scheme == "IOB1" and kind != before else "B"
        own = [first, *"I" * (length - 1)]
        if scheme == "BIOES":
            own = ["S"] if length == 1 else [*own[:-1], "E"]
        tags += ["O"] if kind == "O" else [f"{prefix}-{kind}" for prefix in own]
        before = kind
    return tags


@pytest.mark.parametrize("scheme, theirs", [("IOB1", IOB1), ("IOB2", IOB2), ("BIOES", IOBES)])
def test_entities_of_each_scheme_are_those_of_seqeval(scheme, theirs):
    chance = random.Random(0)
    for tags in (legal(scheme, chance) for _ in range(50)):
        ours, illegal = to_iob2([parse(tag) for tag in tags], scheme)
        (found,) = Entities([tags], theirs).entities
        assert entities(ours) == [(each.tag, each.start, each.end) for each in found] and illegal == 0, tags


def test_what_is_no_tag_is_named_with_its_place():
    sentence = Sentence(["in", "Rome"], ["O", "LOC"], {}, "a.conll", 3, 10)
    with pytest.raises(
        DataError, match=r"^a.conll, line 11 \(sentence 3\): the token 'Rome' has the tag 'LOC'"
    ):
        parsed(sentence)
