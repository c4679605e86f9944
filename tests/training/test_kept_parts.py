"""Kept features in parts: when they pay, in which shapes they are computed, and in which widths they hold."""

import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig

from ftrun.data.batching import pad
from ftrun.models.features.store import CONTENT, VARIANT
from ftrun.settings.schedules import Constant, Course, Length
from ftrun.strategies.base import Strategy
from ftrun.tasks.dataset import Dataset, Example
from ftrun.tasks.losses import Loss
from ftrun.tasks.objective import Objective
from ftrun.training.kept import check, features, width
from ftrun.training.kept.check import narrowest
from ftrun.training.kept.kept import LEAST, Kept
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


def test_the_longest_text_is_run_as_one_of_two_in_a_width(monkeypatch):
    """The other row is padded where padding is to be measured, and never shorter than a token."""
    seen = []
    monkeypatch.setattr(width, "stopped_at", lambda site, model, inputs: seen.append(inputs) or inputs)
    monkeypatch.setattr(width, "tensors_of", lambda inputs: {"hidden": inputs["input_ids"]})
    model = SimpleNamespace(layers=lambda: ["first", "second", "third"])
    inputs = {
        "input_ids": torch.arange(5)[None],
        "attention_mask": torch.ones(1, 5),
        "once": torch.ones(1, 1),
    }
    found = width.below(SimpleNamespace(model=model, cut=2), inputs, 3, 4, padded=True)
    assert found.tolist() == [0, 1, 2] and seen[-1]["input_ids"].shape == (2, 4)
    assert seen[-1]["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert seen[-1]["once"].shape == (2, 1)
    width.below(SimpleNamespace(model=model, cut=2), inputs, 3, 3, padded=False)
    assert seen[-1]["attention_mask"].tolist() == [[1, 1, 1]] * 2
    width.below(SimpleNamespace(model=model, cut=2), inputs, 1, 2, padded=True)
    assert seen[-1]["attention_mask"].tolist() == [[1, 0]] * 2


@pytest.mark.parametrize(
    "number, changes", [(0, lambda size, w: 0), (1, lambda size, w: w % 2 + size), (2, None)]
)
def test_the_coarsest_rule_holds_for_every_size(monkeypatch, number, changes):
    """By whole vectors nothing may depend on the width, by parity on nothing else; one size spoils a rule."""
    spoilt = (lambda size, w: w if size == 24 else 0) if changes is None else changes
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")

    def below(prefix, inputs, size, w, padded):
        return torch.tensor([spoilt(size, w)])

    monkeypatch.setattr(width, "below", below)
    sizes = [9, 17, 24, 33, 40]
    assert width.coarsest(None, {"attention_mask": torch.ones(1, 40)}, sizes) == number


def planted(*sizes):
    texts = Texts(*sizes)
    return SimpleNamespace(dataset=lambda split: texts), texts


def test_features_differ_by_the_largest_of_loss_and_values_and_infinitely_by_what_is_no_number(monkeypatch):
    data, texts = planted(*range(1, 20))
    losses, parts, rows = [], [[0.25], [0.125]], SimpleNamespace(into=lambda batch, examples: batch)
    monkeypatch.setattr(check, "loss", lambda *words: losses.pop(0))
    monkeypatch.setattr(check, "apart", lambda *words: parts[len(losses)])
    for pair, apart, expected in (
        ((4.0, 2.0), [0.25], 0.5),
        ((4.0, 3.5), [0.25], 0.25),
        ((0.0, 0.0), [0.25], 0.25),
        ((4.0, 4.0), [math.nan], math.inf),
    ):
        losses[:], parts[:] = pair, [apart]
        assert check.difference(rows, None, data, 4) == expected


def test_values_are_compared_with_the_largest_of_those_that_are_kept(monkeypatch):
    data, texts = planted(3, 3)
    accelerator = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext)
    plain, kept = torch.tensor([[2.0, -8.0], [1.0, 1.0]]), torch.tensor([[2.0, -10.0], [1.0, 0.0]])
    rows = SimpleNamespace(
        accelerator=accelerator,
        prefix=SimpleNamespace(run=lambda inputs: {"hidden": plain}),
        store=SimpleNamespace(parts={"hidden": SimpleNamespace(ragged=False)}),
    )
    monkeypatch.setattr(check, "otherwise", lambda *words: {"hidden": kept})
    batch = texts.collate(texts.examples)
    found = check.apart(rows, torch.nn.Linear(1, 1), batch, texts.examples)
    assert found == [pytest.approx(0.2)]


def test_the_loss_of_the_check_is_that_of_a_training_step_and_leaves_no_trace():
    """Dropout is on, and the same in both; afterwards nothing has moved."""

    class Noted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, values):
            self.seen += 1
            return torch.nn.functional.dropout(values * self.weight, 0.5, self.training)

    model, objective = Noted().eval(), Objective(None).eval()
    objective.loss = lambda outputs, batch: Loss(outputs.sum() * (1 if objective.training else math.nan), 1)
    data, rows = SimpleNamespace(objective=objective), SimpleNamespace(accelerator=SimpleNamespace())
    rows.accelerator.autocast = nullcontext
    batch, state = {"inputs": {"values": torch.ones(64)}}, torch.get_rng_state()
    first, second = (check.loss(model, data, batch, rows) for _ in range(2))
    assert first == second != 64.0 and not math.isnan(first)
    assert not model.training and not objective.training and model.seen == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_is_padded_where_any_of_its_texts_is_shorter_than_its_columns():
    texts, asked = Texts(3, 5, 5), []
    rows = KeptRows.__new__(KeptRows)
    rows.cpu, rows.failed = False, False
    rows.contents = {id(example): b"" for example in texts.examples}
    rows.address = lambda example, columns, padded: asked.append((columns, padded)) or b""
    rows.values = lambda addresses, inputs: {"hidden": torch.zeros(len(addresses), 1)}
    for some in (texts.examples, texts.examples[1:]):
        batch = rows.into(texts.collate(some), some)
        assert any(torch.is_tensor(value) and value.shape == (len(some), 1) for value in batch.values())
    assert asked == [(5, True)] * 3 + [(5, False)] * 2


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, None),
        ({"cut": LEAST}, None),
        ({"cut": LEAST - 1}, "trains the network from its lowest layer on"),
        ({"shard": True}, "splits the network"),
        ({"drawn": True}, "drawn anew"),
        ({"made": True}, "made when they are read"),
        ({"replays": True}, "earlier examples are replayed"),
        ({"own": True}, "depend on the objective"),
    ],
)
def test_what_keeps_features_from_being_kept(changes, said):
    class Replays(Strategy):
        def replay(self, *words):
            return []

    class Own(Objective):
        def inputs(self, batch):
            return {}

    texts = Texts(3, 4)
    if changes.get("made"):
        texts.examples = tuple(texts.examples)
    if changes.get("drawn"):
        texts.collate = lambda examples, draw: {"draw": draw}
    kept = Kept.__new__(Kept)
    kept.cut = changes.get("cut", LEAST + 1)
    kept.data = SimpleNamespace(
        dataset=lambda split: texts, objective=(Own if "own" in changes else Objective)(None)
    )
    kept.settings = SimpleNamespace(
        train=SimpleNamespace(shard=changes.get("shard", False)),
        strategy_name="freeze",
        guard=object.__new__(Replays if "replays" in changes else Strategy),
    )
    found = kept.hindrance()
    assert (found is None) if said is None else said in found


def test_it_is_said_what_is_kept(capsys):
    kept = Kept.__new__(Kept)
    kept.cut, kept.model = 3, SimpleNamespace(depth=6)
    kept.data = SimpleNamespace(dataset=lambda split: Texts(*[4] * (8 if split == "train" else 2)))
    rows = SimpleNamespace(
        agreed=lambda value: value, store=SimpleNamespace(size=lambda sizes: 1000 * len(sizes))
    )
    kept.tell(rows, False)
    kept.cut = 6
    kept.tell(rows, True)
    first, second = capsys.readouterr().out.splitlines()
    assert "features of 10 rows kept" in first and "layers 0–1 computed once" in first
    assert "every layer computed before" in second or "layers 0–4 computed before" in second
