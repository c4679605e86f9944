"""SetFit's pairs, its loss, and the head that is solved for before each evaluation."""

from types import SimpleNamespace

import numpy
import pytest
import torch
from lab import ran, settings

from ftrun.errors import ConfigError, DataError
from ftrun.tasks.contrastive.pairs import Cosine, Pairs
from ftrun.tasks.dataset import Draw, Example
from ftrun.training.linear import fit

DIGITS = "strategy=setfit", "task=digits", "model=mlp", "task.subset=100", "device=cpu", "baselines=false"


class Split(list):
    """Rows with these targets, whose only input is their place."""

    summary = ""

    def __init__(self, targets):
        super().__init__(Example([place], target, place) for place, target in enumerate(targets))
        self.examples = list(self)

    def of(self, examples, multiple):
        return self

    def collate(self, examples, draw=None):
        return {
            "inputs": {"input_ids": torch.tensor([example.inputs for example in examples])},
            "labels": torch.tensor([0 for _ in examples]),
        }


def drawn(targets, epoch=0, seed=0):
    pairs = Pairs(Split(targets))
    batch = pairs.collate(pairs.examples, Draw(seed, epoch, 0))
    return batch["inputs"]["input_ids"].reshape(-1, 3).tolist(), batch["pairs"].tolist()


def test_each_row_has_one_that_is_alike_and_one_that_is_not():
    targets = [0, 1, 0, 1, 0, 2, 2, 1]
    seen = set()
    for epoch in range(40):
        for place, positive, negative in drawn(targets, epoch)[0]:
            assert targets[place] == targets[positive] and place != positive
            assert targets[place] != targets[negative]
            seen.add((place, positive))
    alike = {
        (a, b) for a, one in enumerate(targets) for b, two in enumerate(targets) if one == two and a != b
    }
    assert seen == alike  # every pair of a label is drawn in the end
    assert drawn(targets, 3) == drawn(targets, 3) != drawn(targets, 4)
    assert drawn(targets, 3) != drawn(targets, 3, seed=1)


def test_rows_with_several_labels_are_alike_where_they_share_one():
    targets = [(0, 1), (1,), (2,), (), (), (0, 1, 2)]
    for epoch in range(20):
        rows, there = drawn(targets, epoch)
        for (place, positive, negative), (_, found) in zip(rows, there, strict=True):
            own, other = {*targets[place]}, {*targets[negative]}
            assert own == {*targets[positive]} or own & {*targets[positive]}
            assert not found or (not own & other and own != other)


def test_a_row_alone_stands_beside_itself_and_a_pair_that_is_not_there_is_not_counted():
    assert drawn([0, 1, 1])[0][0][:2] == [0, 0]
    rows, there = drawn([0, 0])
    assert there == [[1.0, 0.0]] * 2
    cosine = Cosine().train()
    assert cosine.count([{"pairs": torch.tensor(there)}]) == 2


def test_the_loss_is_the_squared_error_of_the_cosine():
    torch.manual_seed(0)
    cosine = Cosine().train()
    vectors = torch.randn(4, 3, 5, requires_grad=True)
    cosine.see(torch.nn.Identity(), (vectors.flatten(0, 1),))
    batch = {"inputs": {}, "pairs": torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])}
    logits = torch.randn(12, 2, requires_grad=True)
    found = cosine.loss(logits, batch).sum
    a, p, n = vectors.detach().numpy().transpose(1, 0, 2)

    def cos(u, v):
        return (u * v).sum(1) / numpy.linalg.norm(u, axis=1) / numpy.linalg.norm(v, axis=1)

    expected = ((cos(a, p) - 1) ** 2).sum() + (cos(a, n)[[0, 1, 3]] ** 2).sum()
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert (logits.grad == 0).all() and vectors.grad.abs().sum() > 0


def test_training_brings_rows_of_a_label_together(tmp_path):
    run = ran(tmp_path / "run", settings(*DIGITS, "train.max_steps=40", "train.lr=1e-2"))
    lines = [line["train_loss"] for line in run.metrics() if "train_loss" in line]
    assert lines[-1] < 0.5 * lines[0]
    assert all(
        line["eval_accuracy"] > 0.7 for line in run.metrics() if "eval_accuracy" in line
    )  # chance: 0.1


def test_the_head_is_where_its_own_loss_is_least(tmp_path, monkeypatch):
    """Of the strengths tried, the head has the weights of the one with the least validation loss."""
    from ftrun.training import refit

    tried = []

    def kept(*given):
        tried.append(fit(*given))
        return tried[-1]

    monkeypatch.setattr(refit, "fit", kept)
    put = []
    monkeypatch.setattr(refit.Refit, "put", lambda self, layer, found: put.append(found))
    losses = []
    own = refit.Refit.loss
    monkeypatch.setattr(refit.Refit, "loss", lambda *all: losses.append(own(*all)) or losses[-1])
    ran(tmp_path / "run", settings(*DIGITS, "train.max_steps=1"))
    assert len(put) == 1 and len(tried) == len(losses) > 5
    best = tried[losses.index(min(losses))]
    alive = (best.weights != 0).all(0)  # of the units, which were standardised for the fit
    scale = best.weights[:, alive] / put[0].weights[:, alive]
    assert numpy.allclose(scale, scale[0], rtol=1e-6) and (scale > 0).all() and alive.sum() > 10


def test_what_cannot_be_paired_is_refused():
    same = Pairs(Split([1, 1]))
    with pytest.raises(DataError, match="all training rows are alike"):
        settings(*DIGITS).strategy.lesson(SimpleNamespace(dataset=lambda split: same.whole), None)
    for words, said in {
        "task=stsb": "task=stsb gives rows none; possible: classify, multilabel, digits, and image",
        "task=digits model=mlp train.shard=true": "which train.shard=true does not allow",
    }.items():
        with pytest.raises(ConfigError, match=said):
            settings("strategy=setfit", *words.split())
