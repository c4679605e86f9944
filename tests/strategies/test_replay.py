"""Replay: an even buffer, the same draws at every resuming, and the share of the loss that was asked for."""

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from types import SimpleNamespace

import pytest
import torch
from lab import ran, settings
from scipy.stats import chisquare

from ftrun.errors import ConfigError
from ftrun.strategies.replay import Replay, reservoir
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Example
from ftrun.tasks.digits import DigitImages
from ftrun.training.checkpoint import newest, read_tensors
from ftrun.training.loop import Loop

DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "train.optimizer=sgd", "train.lr=0.05", "task.modulo=5",
    "train.batch_size=32",
]  # fmt: skip
LOW, HIGH = "task.classes=[0,1,2,3,4]", "task.classes=[5,6,7,8,9]"


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    """The digits 0 to 4, learned."""
    return ran(tmp_path_factory.mktemp("low") / "run", settings(*DIGITS, LOW, "train.epochs=2"))


def after(source, *words):
    return settings(*DIGITS, HIGH, "source=run", f"source.run={source.path}", *words)


@pytest.fixture
def loops(monkeypatch):
    """Every loop that a run makes."""
    made, honest = [], Loop.__init__

    def init(self, *arguments):
        honest(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Loop, "__init__", init)
    return made


@dataclass
class Earlier:
    """Stands for an earlier task with these targets."""

    targets: list[int]
    name: str = "earlier"

    @property
    def data(self):
        data = TaskData(settings(*DIGITS).task)
        examples = [Example([0], target, row) for row, target in enumerate(self.targets)]
        data.encoded["train"] = DigitImages(examples, "")
        return data


def filled(pasts, seed=0, **words):
    strategy = Replay(**{"share": 0.5, "buffer": 50, "choose": "reservoir", **words})
    strategy.remember(SimpleNamespace(pasts=pasts, seed=seed))
    return strategy


def test_every_example_is_as_likely_to_be_kept_as_any_other():
    size, count, trials = 50, 1000, 2000
    kept = Counter(row for trial in range(trials) for row in reservoir(count, size, Random(trial)))
    found = [kept[row] for row in range(count)]
    error = (0.05 * 0.95 / trials) ** 0.5
    assert max(abs(number / trials - 0.05) for number in found) < 4.5 * error
    assert sum(found) == size * trials and chisquare(found).pvalue > 0.001


def test_a_small_task_is_kept_whole():
    assert reservoir(7, 50, Random(0)) == list(range(7))


def test_a_balanced_buffer_has_as_many_of_every_class():
    targets = [0] * 500 + [1] * 40 + [2] * 30
    [(_, rows)] = filled([Earlier(targets)], buffer=50, choose="balanced").kept
    assert Counter(targets[row] for row in rows) == {0: 16, 1: 16, 2: 16}
    assert len(set(rows)) == 48


def test_a_balanced_buffer_without_room_for_every_class_is_refused():
    with pytest.raises(
        ConfigError, match="buffer=2 has room for 2 examples of earlier, not for one of each of"
    ):
        filled([Earlier([0, 1, 2])], buffer=2, choose="balanced")


def test_the_buffer_is_split_evenly_between_earlier_tasks():
    kept = filled([Earlier([0] * 100, name) for name in "abc"], buffer=50).kept
    assert [(past.name, len(set(rows))) for past, rows in kept] == [("a", 16), ("b", 16), ("c", 16)]
    with pytest.raises(ConfigError, match="buffer=2 has no room for 3 earlier tasks"):
        filled([Earlier([0] * 100) for _ in "abc"], buffer=2)


def test_buffer_and_draws_depend_on_the_seed_and_the_position_alone():
    pasts = [Earlier([0] * 300)]
    one, again, other = filled(pasts), filled(pasts), filled(pasts, seed=1)
    one.replay(3, 32), one.replay(4, 32)
    assert one.kept == again.kept and one.kept != other.kept
    assert one.replay(9, 32) == again.replay(9, 32)
    assert one.replay(9, 32) != one.replay(10, 32)


@pytest.mark.parametrize(("share", "count"), [(0.5, 32), (0.2, 8), (0.8, 128), (0.001, 1)])
def test_a_batch_has_earlier_examples_in_proportion(share, count):
    drawn = filled([Earlier([0] * 100), Earlier([1] * 100)], share=share).replay(0, 32)
    assert sum(len(rows) for _, rows in drawn) == count
    assert all(rows for _, rows in drawn)


def test_only_training_examples_are_replayed(low, tmp_path, loops):
    ran(tmp_path / "run", after(low, "strategy=replay", "buffer=100", "train.max_steps=1"))
    [(past, rows)] = loops[-1].step.guard.kept
    images = {
        split: {hashlib.sha256(e.inputs.tobytes()).digest() for e in past.data.dataset(split).examples}
        for split in ("train", "validation", "test")
    }
    kept = [past.data.dataset("train")[row] for row in rows]
    hashes = {hashlib.sha256(e.inputs.tobytes()).digest() for e in kept}
    assert len(kept) == 100 and {e.target for e in kept} == set(range(5))
    assert hashes <= images["train"] and not hashes & (images["validation"] | images["test"])


def gradients(loop, rows):
    """The gradient of one step, by name."""
    loop.step.optimizer.zero_grad()
    loop.step.backward.accumulate(rows, loop.step.state)
    return {name: p.grad.clone() for name, p in loop.step.parameters.items()}


def mean_gradient(loop, model, data, rows):
    """By hand: of the mean cross-entropy over some training examples."""
    train = data.dataset("train")
    batch = train.collate([train[row] for row in rows])
    loss = torch.nn.functional.cross_entropy(model(**batch["inputs"]), batch["labels"])
    found = torch.autograd.grad(loss, list(loop.step.parameters.values()), allow_unused=True)
    named = zip(loop.step.parameters.items(), found, strict=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in named}


def test_without_earlier_examples_it_is_the_gradient_of_the_mean_loss(tmp_path, loops):
    ran(tmp_path / "run", settings(*DIGITS, LOW, "train.max_steps=1"))
    loop, rows = loops[-1], list(range(20))
    found = gradients(loop, rows)
    for name, wanted in mean_gradient(loop, loop.step.model, loop.data, rows).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scenario", ["task", "domain"])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_gradient_is_the_mixture_of_both_means(low, tmp_path, loops, scenario, share):
    words = "strategy=replay", f"share={share}", "train.max_steps=1", f"scenario={scenario}"
    ran(tmp_path / "run", after(low, *words))
    loop, rows = loops[-1], list(range(20))
    [(past, drawn)] = loop.step.guard.replay(loop.state.step, len(rows))
    found = gradients(loop, rows)
    own = mean_gradient(loop, loop.step.model, loop.data, rows)
    earlier = mean_gradient(loop, past.model, past.data, drawn)
    for name, gradient in found.items():
        wanted = (1 - share) * own[name] + share * earlier[name]
        torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-7)


def test_the_micro_batch_changes_nothing(low, tmp_path, loops):
    ran(tmp_path / "run", after(low, "strategy=replay", "train.max_steps=1"))
    loop, rows = loops[-1], list(range(20))
    whole = gradients(loop, rows)
    loop.step.state = replace(loop.state, micro_batch=1)
    for name, gradient in gradients(loop, rows).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-5, atol=1e-7)


def test_a_text_is_masked_the_same_way_in_every_batch(toy_files, tiny_dir):
    from transformers import AutoTokenizer

    from ftrun.tasks.pretraining import Pretraining

    data = TaskData.read(Pretraining(f"{toy_files}/train.csv", 8, 32), 0)
    data.encode(AutoTokenizer.from_pretrained(tiny_dir("bert")), "train")
    train = data.dataset("train")
    examples = sorted(train.examples, key=lambda example: example.size)[::200]
    together = train.collate(examples)
    for number, example in enumerate(examples):
        alone = train.collate([example])
        for one, all_ in ((alone["inputs"]["input_ids"], together["inputs"]["input_ids"]),
                          (alone["labels"], together["labels"])):  # fmt: skip
            assert torch.equal(one[0], all_[number, : example.size])


def test_earlier_heads_stay_as_they_were_and_the_backbone_moves(low, tmp_path, loops):
    run = ran(tmp_path / "run", after(low, "strategy=replay", "train.epochs=1"))
    [past], theirs = loops[-1].sources, read_model(low)
    ours = read_tensors(newest(run.checkpoints / "best")[0], "weights")
    for name in ("classifier.weight", "classifier.bias"):
        assert torch.equal(past.model.state_dict()[f"net.{name}"], theirs[name])
        assert not torch.equal(ours[f"net.{name}"], theirs[name])
    inside = [name for name in theirs if name.startswith("backbone.")]
    assert inside and not any(torch.equal(ours[f"net.{name}"], theirs[name]) for name in inside)


def read_model(run):
    from safetensors.torch import load_file

    return load_file(run.model_dir / "model.safetensors")
