"""Masked language modelling: which tokens are hidden, by what, and what a run says of them."""

import math

import pytest
import torch
from lab import ran, settings
from opened import opened
from resuming import same, scored_on_train, stopped
from toys_mlm import files, words

from ftrun.data.text.masking import continuing, hide
from ftrun.errors import ConfigError
from ftrun.experiments import start
from ftrun.models.tokenizer import train
from ftrun.tasks.dataset import Draw
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.metrics.tokens import KINDS

SPECIAL, MASK, VOCABULARY = 5, 4, 1000


@pytest.fixture
def place(tmp_path):
    return files(tmp_path / "data")


def gaps(length=100_000, share=0.15, split=(0.8, 0.1, 0.1), spans=False, continues_word=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(SPECIAL, VOCABULARY, (length,), generator=generator)
    ids[::50] = 2  # specials
    inputs, labels, kinds = hide(
        ids, ids < SPECIAL, share=share, split=list(split), words=continues_word, spans=spans, mask_id=MASK,
        ordinary=torch.arange(SPECIAL, VOCABULARY), generator=generator,
    )  # fmt: skip
    return ids, inputs, labels, kinds


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize(
    ("share", "split"), [(0.15, (0.8, 0.1, 0.1)), (0.4, (1.0, 0.0, 0.0)), (0.2, (0.5, 0.2, 0.3))]
)
def test_shares_are_what_the_settings_say(share, split, spans):
    length = 20_000 if spans else 400_000
    ids, inputs, labels, kinds = gaps(length, share, split, spans)
    text = ids >= SPECIAL
    chosen = labels != IGNORED
    assert float((chosen & text).sum() / text.sum()) == pytest.approx(share, abs=0.002)
    assert not (chosen & ~text).any() and torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen]) and torch.equal(chosen, kinds >= 0)
    for kind, wanted in enumerate(split):
        found = float((kinds == kind).sum() / chosen.sum())
        assert found == pytest.approx(wanted, abs=0.03 if spans else 0.005), KINDS[kind]
    assert (inputs[kinds == 0] == MASK).all() and torch.equal(inputs[kinds == 2], ids[kinds == 2])
    assert (inputs[kinds == 1] >= SPECIAL).all() and (kinds[~chosen] == -1).all()


def test_a_short_text_has_a_gap_always():
    for seed in range(50):
        assert (gaps(3, seed=seed)[2] != IGNORED).sum() >= 1


def test_words_are_hidden_whole():
    continues_word = torch.arange(10_000) % 3 != 0
    ids, _, labels, _ = gaps(10_000, continues_word=continues_word)
    chosen = (labels != IGNORED)[:9_999].view(-1, 3)
    plain = (ids >= SPECIAL)[:9_999].view(-1, 3).all(1)
    assert set(chosen[plain].sum(1).tolist()) == {0, 3}
    assert float(chosen.float().mean()) == pytest.approx(0.15, abs=0.02)


def test_spans_are_longer_than_chance_has_it():
    def neighbours(labels):
        chosen = labels != IGNORED
        return float((chosen[1:] & chosen[:-1]).sum() / chosen.sum())

    assert neighbours(gaps(20_000, spans=True)[2]) > 0.5 > 3 * neighbours(gaps(20_000)[2]) - 0.2


def test_a_word_ends_at_a_blank():
    tokenizer = train(["the cats eat the cats"] * 3, 270, masking=True)
    ids = tokenizer("the cats eat")["input_ids"]
    table = continuing(tokenizer)
    texts = tokenizer.convert_ids_to_tokens(ids)
    begins = [name for token, name in zip(ids, texts, strict=True) if not table[token]]
    assert all(name.startswith("Ġ") for name in begins) and len(begins) >= 2


def test_gaps_change_with_the_epoch_and_not_with_the_batch(place):
    data, _ = opened(settings(*words(place)), "train", "validation")

    def labels(split, count, epoch=None):
        dataset = data.dataset(split)
        draw = None if epoch is None else Draw(0, epoch, 4 * epoch)
        return dataset.collate(dataset.examples[:count], draw)["labels"]

    first, alone = labels("train", 4, 0), labels("train", 1, 0)
    assert torch.equal(first[:1, : alone.shape[1]], alone)
    assert not torch.equal(labels("train", 4, 1), first)
    assert torch.equal(labels("train", 4, 0), first)
    assert torch.equal(labels("validation", 2), labels("validation", 2))


@pytest.mark.parametrize(
    "more", [[], ["task.whole_words=true"], ["task.spans=true", "train.precision=bf16"], ["task=mlm_40"]]
)
def test_a_run_begins_at_the_logarithm_of_the_vocabulary_and_says_accuracy_by_kind(place, more):
    run = ran(place / "run", settings(*words(place), "train.lr=1e-9", *more))
    result = run.read_json("result.json")
    assert abs(result["test_loss"] - math.log(261)) < 0.15
    assert result["reload_difference"] < 1e-6 and 0 <= result["test_accuracy"] <= 1
    assert ("test_accuracy_random" in result) is (more != ["task=mlm_40"])


def test_the_masks_of_the_closing_score_on_train_are_always_the_same(place):
    own = [*words(place), "train.epochs=3", "train.max_steps=null", "train.lr=1e-2"]
    run = ran(place / "run", settings(*own))
    result = run.read_json("result.json")
    accuracy, loss = scored_on_train(run)
    assert result["train_accuracy"] == pytest.approx(accuracy)
    assert result["train_loss"] == pytest.approx(loss, rel=1e-5)
    stopped(place / "cut", settings(*own), result["steps"])
    start.resume(place / "cut")
    same(run.path, place / "cut")


def test_what_comes_out_can_be_fine_tuned(place, toy_files):
    run = ran(place / "run", settings(*words(place)))
    after = settings(
        "task=classify", f"task.train={toy_files}/train.csv", f"model.name={run.path}", "task.max_length=128",
        "train.max_steps=1", "task.subset=20", "device=cpu",
    )  # fmt: skip
    assert ran(place / "after", after).read_json("result.json")["reload_difference"] < 1e-6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["task.mask=0"], "task.mask is a share above 0 and below 1, not 0"),
        (["task.mask_split=[0.5,0.1,0.1]"], "task.mask_split is three shares, masked, random and kept"),
        (["task.whole_words=true", "task.spans=true"], "task.whole_words=true and task.spans=true exclude"),
        (["model=gpt2_small_random"], "task=mlm needs an encoder, such as model=tiny_bert"),
        (["strategy=linear_probe"], "strategy=linear_probe trains a new head, which task=mlm does not have"),
    ],
)
def test_mistakes_are_one_line(place, more, message):
    with pytest.raises(ConfigError, match=message):
        opened(settings(*words(place), *more))
