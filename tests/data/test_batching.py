"""Batches are a function of lengths, seed and epoch; every example comes once; little is padded."""

import random

import torch

from ftrun.data.batching import EpochBatches, pad, sorted_batches

GENERATOR = random.Random(0)
LENGTHS = [GENERATOR.randint(5, 60) for _ in range(1003)]


def test_every_example_comes_once_and_one_batch_is_smaller():
    batches = list(EpochBatches(LENGTHS, 32, seed=0, epoch=0))
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    assert sorted(map(len, batches)) == [1003 % 32] + [32] * 31


def test_the_order_is_a_function_of_seed_and_epoch():
    assert list(EpochBatches(LENGTHS, 32, 0, 0)) == list(EpochBatches(LENGTHS, 32, 0, 0))
    assert list(EpochBatches(LENGTHS, 32, 0, 0)) != list(EpochBatches(LENGTHS, 32, 0, 1))
    assert list(EpochBatches(LENGTHS, 32, 0, 0)) != list(EpochBatches(LENGTHS, 32, 1, 0))


def test_the_global_generator_has_no_part_in_it():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(EpochBatches(LENGTHS, 32, 0, 0))
    assert torch.equal(before, torch.get_rng_state())


def test_bucketing_pads_less_than_a_tenth():
    batches = list(EpochBatches(LENGTHS, 32, seed=0, epoch=0))
    padded = sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in batches)
    assert padded / sum(LENGTHS) < 1.1


def test_batches_of_similar_length_come_in_random_order():
    means = [sum(LENGTHS[i] for i in batch) / len(batch) for batch in list(EpochBatches(LENGTHS, 32, 0, 0))]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_a_pool_of_one_batch_is_a_random_sample():
    batches = list(EpochBatches(LENGTHS, 32, seed=0, epoch=0, pool=1))
    assert sorted(i for batch in batches for i in batch) == list(range(1003))
    means = [sum(LENGTHS[i] for i in batch) / len(batch) for batch in batches if len(batch) == 32]
    assert all(abs(mean - 32.5) < 4 * 16.2 / 32**0.5 for mean in means)  # of 5 to 60, each as likely
    assert all(max(LENGTHS[i] for i in batch) > 40 for batch in batches)


def test_evaluation_begins_with_the_longest():
    batches = sorted_batches(LENGTHS, 64)
    flat = [LENGTHS[i] for batch in batches for i in batch]
    assert flat == sorted(LENGTHS, reverse=True)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))


def test_padding_and_mask():
    ids, mask = pad([[5, 6, 7], [8]], 9)
    assert ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
