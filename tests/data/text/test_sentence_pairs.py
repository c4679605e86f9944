"""Pairs of segments: half are true whatever the documents are like, and nothing but the text tells which."""

import random

import numpy
import pytest
from sklearn.metrics import roc_auc_score

from ftrun.data.text.packing import SCORED, START, pack
from ftrun.data.text.sentence_pairs import SENTENCE, segmented, sentences, shortened

ROOM = 61
LENGTHS = {  # sentences of a document
    "one or two": lambda chance: chance.randint(1, 2),
    "two": lambda chance: 2,
    "few": lambda chance: chance.randint(1, 8),
    "many": lambda chance: chance.randint(20, 60),
    "one long, others short": lambda chance: 300 if chance.random() < 0.01 else 2,
}


def corpus(how, documents=400, seed=0, most=25):
    """Documents whose tokens say which of them they are of: document · 10,000 + place."""
    chance = random.Random(seed)
    made = []
    for document in range(documents):
        flags = []
        for _ in range(LENGTHS[how](chance)):
            flags += [SENTENCE, *([SCORED] * chance.randint(0, most))]
        made.append(([document * 10_000 + place for place in range(len(flags))], [START, *flags[1:]]))
    return pack(made, ROOM, False)


def documents_of(tokens):
    return {token // 10_000 for token in tokens}


def follows(one, other):
    return [*one, *other] == list(range(one[0], one[0] + len(one) + len(other)))


@pytest.mark.parametrize("how", LENGTHS)
@pytest.mark.parametrize("kind", ["nsp", "sop"])
def test_half_are_true_whatever_the_lengths_of_documents(how, kind):
    segments = segmented(corpus(how), ROOM)
    true = 0
    for row in range(len(segments)):
        one, other, false = segments.drawn(row, kind, 3, 5)
        assert len(one) + len(other) <= ROOM and one and other
        true += not false
        if not false:
            assert follows(one, other)
        elif kind == "sop":
            assert follows(other, one)
        else:
            assert len(documents_of(one)) == len(documents_of(other)) == 1
            assert not documents_of(one) & documents_of(other)
    assert true / len(segments) == pytest.approx(0.5, abs=0.01)


def test_both_orders_of_a_pair_come_up_and_are_exact_swaps():
    segments = segmented(corpus("few"), ROOM)
    for row in range(20):
        seen = {
            false: (one, other) for one, other, false in (segments.drawn(row, "sop", 0, e) for e in range(30))
        }
        assert set(seen) == {0, 1} and seen[0] == seen[1][::-1]
        assert segments.drawn(row, "sop", 0, 7) == segments.drawn(row, "sop", 0, 7)


def test_strangers_change_with_the_epoch():
    segments = segmented(corpus("few"), ROOM)
    found = [segments.drawn(4, "nsp", 0, epoch) for epoch in range(30)]
    assert len({tuple(other) for _, other, false in found if false}) > 5


@pytest.mark.parametrize("how", ["few", "many"])
@pytest.mark.parametrize("kind", ["nsp", "sop"])
def test_lengths_do_not_tell(how, kind):
    segments = segmented(corpus(how, 800 if how == "few" else 150), ROOM)
    drawn = [segments.drawn(row, kind, 0, epoch) for epoch in range(4) for row in range(len(segments))]
    false = numpy.array([each[2] for each in drawn])
    first, second = (numpy.array([len(each[side]) for each in drawn]) for side in (0, 1))
    for told in (first, second, first + second, first - second):
        assert roc_auc_score(false, told) == pytest.approx(0.5, abs=0.03)


def test_a_document_that_is_there_twice_is_no_stranger_to_itself():
    text = ([1, 2, 3, 4], [START, SCORED, SENTENCE, SCORED])
    segments = segmented(pack([text, text, ([7, 8], [START, SENTENCE])], ROOM, False), ROOM)
    assert segments.document.tolist() == [0, 0, 1]
    drawn = [segments.drawn(row, "nsp", 0, epoch) for row in (0, 1) for epoch in range(9)]
    assert {tuple(other) for _, other, false in drawn if false} == {(8,)}


@pytest.mark.parametrize(("one", "other"), [(50, 50), (10, 70), (70, 10), (31, 30), (30, 31), (40, 31)])
def test_what_is_too_long_is_cut_the_same_way_in_either_order(one, other):
    first, second = list(range(one)), list(range(100, 100 + other))
    cut = shortened(first, second, ROOM)
    assert cut == shortened(second, first, ROOM)[::-1]
    assert len(cut[0]) + len(cut[1]) in (ROOM, ROOM - 1) or one + other <= ROOM


def test_only_sentences_without_a_neighbour_are_left_out_and_long_ones_are_several():
    chain = [START, *([SCORED] * 99), SENTENCE, *([SCORED] * 9)]
    made = [([*range(110)], chain), ([*range(200, 300)], [START, *([SCORED] * 99)])]
    segments = segmented(pack(made, ROOM, False), ROOM)
    assert segments.begin.tolist() == [0, 50] and segments.end.tolist() == [50, 110]


def test_sentences_end_with_stops_and_lines_and_lose_nothing():
    text = "One e.g. this. Two? Three!\nFour 3.14 five\n\nSix"
    found = sentences(text)
    assert found == ["One e.g.", " this.", " Two?", " Three!", "Four 3.14 five\n", "Six"]
