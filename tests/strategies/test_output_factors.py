"""Independent answers: their Fisher information against the sum over all answers there are, and in a run."""

import itertools

import pytest
import torch
import toys_text
from lab import EXTRA, ran, settings
from torch import nn

from ftrun.strategies.ewc import fisher

LABELS = 3


class Net(nn.Module):
    """Logits of three labels from features."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, LABELS)

    def forward(self, features):
        return self.second(torch.tanh(self.first(features)))


def batches(rows=6):
    torch.manual_seed(1)
    features, labels = torch.randn(rows, 5), (torch.rand(rows, LABELS) < 0.5).float()
    return [{"inputs": {"features": features}, "labels": labels}]


def by_hand(net, weigh):
    """The mean over examples and answers of the squared scores, a backward pass for each."""
    (batch,) = batches()
    total = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    for features, label in zip(batch["inputs"]["features"], batch["labels"], strict=True):
        for answer in map(torch.tensor, itertools.product((0.0, 1.0), repeat=LABELS)):
            net.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(net(features), answer, reduction="sum")
            weight = weigh(float(torch.exp(-loss.detach())), answer, label)
            loss.backward()
            for name, value in net.named_parameters():
                total[name] += weight * value.grad**2 / len(batch["labels"])
    return total


def estimated(net, kind, samples=1):
    return fisher.estimate(
        net, batches(), [*dict(net.named_parameters())], kind=kind, samples=samples, seed=0
    )


def test_exact_is_the_expectation_over_every_answer():
    net = Net()
    right = by_hand(net, lambda p, answer, label: p)
    for kind in ("exact", "auto"):
        for name, value in estimated(net, kind).items():
            torch.testing.assert_close(value, right[name], rtol=1e-4, atol=1e-7)


def test_empirical_is_the_squared_score_of_the_labels():
    net = Net()
    right = by_hand(net, lambda p, answer, label: float(torch.equal(answer, label)))
    for name, value in estimated(net, "empirical").items():
        torch.testing.assert_close(value, right[name], rtol=1e-4, atol=1e-7)


def test_sampled_comes_near_and_does_not_depend_on_the_batches():
    net = Net()
    exact, sampled = estimated(net, "exact"), estimated(net, "sampled", 2000)
    for name, value in exact.items():
        assert (sampled[name] - value).norm() < 0.1 * value.norm()
    (whole,) = batches()
    parts = [
        {"inputs": {"features": whole["inputs"]["features"][rows]}, "labels": whole["labels"][rows]}
        for rows in (slice(2), slice(2, 6))
    ]
    names = [*dict(net.named_parameters())]
    split = fisher.estimate(net, parts, names, kind="sampled", samples=7, seed=0)
    for name, value in estimated(net, "sampled", 7).items():
        torch.testing.assert_close(split[name], value)


@pytest.mark.parametrize("kind", ["multilabel", "regress"])
def test_a_run_of_such_a_task_is_held_by_its_fisher_information(tmp_path, tiny_dir, kind):
    """First the task, then pairs, held to the task by elastic weight consolidation."""
    for name in (kind, "pairs"):
        (tmp_path / name).mkdir()
    few = [f"model.name={tiny_dir('bert')}", "train.max_steps=2"]
    first = ran(tmp_path / "first", settings(*getattr(toys_text, kind)(tmp_path / kind), *few))
    held = [word for word in EXTRA["ewc"] if not word.startswith("source")]
    words = [*toys_text.pairs(tmp_path / "pairs"), *few, "strategy=ewc", *held]
    run = ran(tmp_path / "second", settings(*words, "source=run", f"source.run={first.path}"))
    found, about = fisher.load(run.path / "fisher.safetensors")
    assert about["source"] == kind
    assert all(torch.isfinite(value).all() for value in found.values())
    assert sum(float(value.sum()) for name, value in found.items() if not name.startswith("anchor/")) > 0
