"""Micro-batches made ahead are those that would be made in time, and what is asked otherwise is made anew."""

from types import SimpleNamespace

import pytest
import torch

from ftrun.data.batching import pad
from ftrun.tasks.dataset import Dataset, Draw, Example
from ftrun.training.gradients.prepared import Batches

NONE = SimpleNamespace(into=lambda batch, examples: batch)


class Texts(Dataset):
    """Texts of these lengths; the labels are the rows, and the draw is in the batch."""

    def __init__(self, *lengths):
        super().__init__([Example([1] * length, row, row) for row, length in enumerate(lengths)], "")
        self.made = 0

    def collate(self, examples, draw=None):
        self.made += 1
        ids, mask = pad([example.inputs for example in examples], 0)
        labels = torch.tensor([example.target for example in examples])
        return {"inputs": {"input_ids": ids, "attention_mask": mask}, "labels": labels, "draw": draw}


class Pictures(Texts):
    def collate(self, examples, draw=None):
        return {"inputs": {"pixels": torch.zeros(len(examples), 3, 9, 9)}, "labels": None}


def rows_of(ready):
    return [batch["labels"].tolist() for batch in ready.batches]


@pytest.fixture
def batches():
    return Batches(Texts(3, 5, 2, 7, 1), NONE, torch.device("cpu"))


def test_a_step_is_cut_into_micro_batches_and_its_tokens_are_counted(batches):
    ready = batches.of([3, 0, 4], Draw(0, 0, 0), 2)
    assert rows_of(ready) == [[3, 0], [4]] and ready.host == ready.batches
    assert (ready.tokens, ready.padded) == (3 + 7 + 1, 2 * 7 + 1)
    pictures = Batches(Pictures(1, 1, 1), NONE, torch.device("cpu")).of([0, 1, 2], Draw(0, 0, 0), 2)
    assert (pictures.tokens, pictures.padded) == (3, 3)


def test_what_is_made_ahead_is_of_the_next_step_and_given_once(batches):
    batches.upcoming = [0, 1, 2, 3]
    batches.ahead(Draw(5, 1, 7), 2, 0, 1)
    made = batches.dataset.made
    ready = batches.of([0, 1, 2, 3], Draw(5, 1, 8), 2)
    assert batches.dataset.made == made and rows_of(ready) == [[0, 1], [2, 3]]
    assert ready.batches[0]["draw"] == Draw(5, 1, 8)
    assert batches.of([0, 1, 2, 3], Draw(5, 1, 8), 2) is not ready and batches.dataset.made > made
    batches.ahead(Draw(5, 1, 7), 2, 1, 2)
    assert rows_of(batches.of([1, 3], Draw(5, 1, 8), 2)) == [[1, 3]]  # the share of one process


@pytest.mark.parametrize(
    "rows, draw, size", [([1, 0], Draw(0, 0, 1), 2), ([0, 1], Draw(0, 0, 2), 2), ([0, 1], Draw(0, 0, 1), 1)]
)
def test_what_is_asked_otherwise_is_made_anew(batches, rows, draw, size):
    batches.upcoming = [0, 1]
    batches.ahead(Draw(0, 0, 0), 2, 0, 1)
    ready = batches.of(rows, draw, size)
    assert rows_of(ready) == ([rows] if size == 2 else [[0], [1]]) and ready.batches[0]["draw"] == draw


def test_nothing_is_made_ahead_at_the_end_of_an_epoch_and_what_was_can_be_forgotten(batches):
    batches.ahead(Draw(0, 0, 0), 2, 0, 1)
    assert batches.dataset.made == 0
    batches.upcoming = [0, 1]
    batches.ahead(Draw(0, 0, 0), 2, 0, 1)
    batches.forget()
    batches.of([0, 1], Draw(0, 0, 1), 2)
    assert batches.dataset.made == 2
