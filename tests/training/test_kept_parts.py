"""Kept features in parts: when they pay, in which shapes they are computed, and in which widths they hold."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

from ftrun.data.batching import pad
from ftrun.models.features.store import CONTENT, VARIANT
from ftrun.settings.schedules import Constant, Course, Length
from ftrun.tasks.dataset import Dataset, Example
from ftrun.training.kept import features, width
from ftrun.training.kept.check import narrowest
from ftrun.training.kept.kept import Kept
from ftrun.training.kept.rows import KeptRows
from ftrun.training.state import State


class Texts(Dataset):
    """Texts of these lengths, of tokens 1 and on, padded with 7 and masked."""

    def __init__(self, *lengths):
        super().__init__([Example([*range(1, n + 1)], 0, row) for row, n in enumerate(lengths)], "")

    def collate(self, examples, draw=None):
        ids, mask = pad([example.inputs for example in examples], 7)
        return {"inputs": {"input_ids": ids, "attention_mask": mask, "once": torch.zeros(len(examples), 1)}}


@pytest.mark.parametrize(
    "total, opens, updates, expected",
    [
        (30, [0, 0], 0, True),  # 30 · 4 + 3 · 20 are half as many again as 100 + 20
        (29, [0, 0], 0, False),
        (60, [0, 0], 30, True),
        (60, [0, 0], 31, False),
        (90, [0, 29], 0, False),  # until a lower stage opens
        (90, [60, 30], 0, True),
        (90, [60, 30], 30, True),  # it is open; until the next one
        (90, [59, 30], 30, False),
        (120, [90, 29], 0, False),  # the nearest opening counts
        (120, [29, 90], 30, True),
    ],
)
def test_keeping_pays_where_examples_are_computed_half_as_often_again(total, opens, updates, expected):
    length = Length(per_epoch=25, total=total, warmup=0, eval_every=10, checkpoint_every=10, log_every=1)
    kept = Kept.__new__(Kept)
    kept.cut, kept.course = 2, Course(1e-3, Constant(), length, 4)
    kept.settings = SimpleNamespace(
        train=SimpleNamespace(batch_size=4),
        strategy=SimpleNamespace(opens=lambda stage, course: opens[stage]),
    )
    rows = {"train": [0] * 100, "validation": [0] * 20, "test": [0] * 999}
    kept.data = SimpleNamespace(dataset=rows.__getitem__)
    assert kept.pays(State(updates=updates)) is expected


def test_shapes_depend_on_the_length_of_an_example_alone():
    dataset = Texts(3, 8, 9, 20, 17, 8)
    model = SimpleNamespace(net=SimpleNamespace(config=BertConfig(max_position_embeddings=20)))
    found = [*features.canonical(dataset, dataset.examples, model, cpu=True)]
    assert [numbers for numbers, _ in found] == [[3, 4], [2], [0, 1, 5]]  # the longest first
    assert [tuple(inputs["input_ids"].shape) for _, inputs in found] == [(8, 20), (8, 16), (8, 8)]
    for numbers, inputs in found:
        assert inputs["once"].shape == (8, 1)
        rows = [*numbers, *[numbers[0]] * (8 - len(numbers))]  # filled up
        assert inputs["attention_mask"].sum(1).tolist() == [dataset[row].size for row in rows]
        assert ((inputs["input_ids"] == 7) | (inputs["attention_mask"] == 1)).all()
    many = Texts(*[8] * 65)
    sizes = [len(numbers) for numbers, _ in features.canonical(many, many.examples, model, cpu=False)]
    assert sizes == [64, 1]
    wide = SimpleNamespace(net=SimpleNamespace(config=BertConfig(max_position_embeddings=16_384)))
    long = Texts(features.TOKENS // 3, 1)
    shapes = [tuple(x["input_ids"].shape) for _, x in features.canonical(long, long.examples, wide, cpu=True)]
    assert shapes == [(2, 5464), (8, 8)]  # 16,384 tokens at most; never less than a row


@pytest.mark.parametrize("name, vector", [("AVX512", 16), ("AVX2", 8), ("DEFAULT", 16)])
def test_a_width_is_that_of_whole_vectors(monkeypatch, name, vector):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: name)
    for size in (1, vector, vector + 1):
        whole = vector * (1 if size <= vector else 2)
        assert {width.by_vectors(size, columns) for columns in range(whole, whole + 40)} == {whole}
    assert [width.by_vectors(vector + 2, columns) for columns in (vector + 2, vector + 5)] == [vector + 2] * 2
    assert [width.by_vectors(3, columns) for columns in (3, 4, 5)] == [3, 4, 5]  # of less than a vector
    assert width.by_parity(3, 40) == 2 * vector and width.by_parity(3, 41) == 2 * vector + 1
    assert width.exactly(3, 40) == 40
    assert narrowest(width.by_vectors, 3, 40) == vector and narrowest(width.exactly, 3, 40) == 40


def test_rules_hold_where_outputs_of_one_number_are_equal():
    one, other = torch.zeros(2), torch.ones(2)
    by_parity = lambda size, columns: columns % 2  # noqa: E731
    assert width.holds(by_parity, 1, [(4, one), (5, other), (6, one), (7, other.clone())])
    assert not width.holds(by_parity, 1, [(4, one), (5, other), (6, other)])


def test_widths_are_measured_for_texts_on_a_cpu_in_full_precision_only(monkeypatch):
    monkeypatch.setattr("ftrun.training.kept.rows.coarsest", lambda *words: 0)
    texts = {"attention_mask": torch.ones(1, 4)}
    measured = []
    for cpu in (True, False):
        for precision in ("no", "bf16"):
            for inputs in (texts, {"pixel_values": torch.ones(1, 4)}):
                rows = KeptRows.__new__(KeptRows)
                rows.cpu, rows.rule, rows.prefix = cpu, 2, SimpleNamespace(model=torch.nn.Linear(1, 1))
                rows.accelerator = SimpleNamespace(
                    mixed_precision=precision, autocast=nullcontext, num_processes=1
                )
                rows.measure(inputs, [4])
                measured.append(rows.rule)
    assert measured == [0] + [2] * 7


def test_an_address_tells_apart_what_a_width_changes():
    rows, example = KeptRows.__new__(KeptRows), Example([1, 2, 3], 0, 0)
    rows.contents = {id(example): bytes(range(CONTENT)) + bytes(VARIANT)}
    rows.cpu, found = True, set()
    for rows.rule in range(len(width.RULES)):
        for columns in (40, 41):
            for padded in (False, True):
                address = rows.address(example, columns, padded)
                assert address[:CONTENT] == bytes(range(CONTENT)) and len(address) == CONTENT + VARIANT
                found.add(address)
    assert len(found) == 1 + 2 + 4  # whole vectors; parity; every width, and whether any text is padded
    rows.cpu = False
    assert rows.address(example, 40, True) == rows.contents[id(example)]
    rows.cpu = True
    assert rows.address(example, None, False) == rows.contents[id(example)]


def test_the_key_of_kept_features_is_of_names_values_kinds_and_shapes():
    weight = torch.arange(6.0)
    model = SimpleNamespace(net=SimpleNamespace(config=BertConfig(num_labels=2)))
    other = SimpleNamespace(net=SimpleNamespace(config=BertConfig(num_labels=7)))  # no matter below the head
    deep = SimpleNamespace(net=SimpleNamespace(config=BertConfig(hidden_act="relu")))
    plain = SimpleNamespace(device=torch.device("cpu"), mixed_precision="no")
    half = SimpleNamespace(device=torch.device("cpu"), mixed_precision="bf16")

    def key(*frozen, cut=2, parts=None, net=model, accelerator=plain):
        site = SimpleNamespace(cut=cut, parts=parts or {}, frozen=lambda: list(frozen))
        return features.key_of(site, net, accelerator)

    both = ("a", weight), ("b", weight + 1)
    same = key(*both)
    assert key(*reversed(both)) == same == key(*both, net=other) and len(same) == 32
    found = {
        same,
        key(("a", weight), ("c", weight + 1)),
        key(("a", weight.view(2, 3)), both[1]),
        key(("a", weight.view(torch.int32)), both[1]),
        key(("a", weight + 1), ("b", weight)),
        key(both[0]),
        key(*both, cut=3),
        key(*both, parts={"hidden": 1}),
        key(*both, net=deep),
        key(*both, accelerator=half),
    }
    assert len(found) == 10
