"""Losses, temperature, queue, key encoder, neighbours and figures, by their definitions."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from ftrun.errors import ConfigError, Diverged
from ftrun.tasks.contrastive.collapse import Watch
from ftrun.tasks.contrastive.losses import against_queue, ntxent
from ftrun.tasks.contrastive.momentum_encoder import Follower, Queue
from ftrun.tasks.contrastive.temperature import Momentum, Temperature
from ftrun.tasks.metrics.contrastive import effective_rank, figures, scores_of
from ftrun.tasks.metrics.knn import Bank, votes

pytestmark = pytest.mark.images


def fixed():
    """Two views of 16 pictures, (16, 2, 32)."""
    chance = torch.Generator().manual_seed(1234)
    first = torch.randn(16, 32, generator=chance)
    return torch.stack([first, torch.randn(16, 32, generator=chance)], 1)


def mean_loss(views, tau=0.1):
    return float(ntxent(views, views, 0, tau)) / (2 * len(views))


@pytest.mark.parametrize("tau, value", [(0.07, 5.95992), (0.1, 4.82356), (0.5, 3.51177), (1.0, 3.45841)])
def test_ntxent_has_the_values_of_another_implementation(tau, value):
    assert mean_loss(fixed(), tau) == pytest.approx(value, abs=1e-5)


def test_ntxent_does_not_depend_on_lengths_order_of_views_or_of_pictures():
    views = fixed()
    scaled = views * torch.rand(16, 2, 1, generator=torch.Generator().manual_seed(0)).add(0.1)
    shuffled = views[torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    for other in (scaled, views.flip(1), shuffled):
        assert mean_loss(other) == pytest.approx(mean_loss(views), abs=1e-5)


@pytest.mark.parametrize("pictures", [2, 64, 1024])
def test_where_all_are_equal_ntxent_is_the_logarithm_of_the_candidates(pictures):
    views = torch.ones(1, 1, 8).expand(pictures, 2, 8)
    assert mean_loss(views, 0.07) == pytest.approx(math.log(2 * pictures - 1), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_ntxent_is_computed_in_fp32_under_mixed_precision(dtype):
    views = (fixed() * 100).requires_grad_()
    plain = ntxent(views, views, 0, 0.07) / 32
    (expected,) = torch.autograd.grad(plain, views)
    with torch.autocast("cpu", dtype=dtype):
        mixed = ntxent(views.to(dtype), views.to(dtype), 0, 0.07) / 32
    (gradient,) = torch.autograd.grad(mixed, views)
    assert mixed.dtype == torch.float32 and torch.isfinite(gradient).all()
    assert mixed.item() == pytest.approx(plain.item(), abs=1e-2)
    torch.testing.assert_close(gradient, expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))


def test_the_parts_of_ntxent_add_up_to_the_whole():
    views = fixed()
    parts = [ntxent(views[i : i + 4], views, i, 0.1) for i in range(0, 16, 4)]
    assert float(sum(parts)) == pytest.approx(float(ntxent(views, views, 0, 0.1)), rel=1e-6)


def test_the_queue_loss_is_cross_entropy_with_the_own_key_in_the_first_place():
    first, second = normalize(fixed(), dim=-1).unbind(1)
    queue = normalize(torch.randn(50, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    loss, cosines = against_queue(first, second, queue, 0.2)
    own = (first * second).sum(1)
    expected = -(own / 0.2 - torch.logsumexp(torch.cat([own[:, None], first @ queue.T], 1) / 0.2, 1)).sum()
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    assert cosines.shape == (16, 51) and torch.allclose(cosines[:, 0], own)


def test_the_temperature_falls_by_half_a_cosine_and_is_a_function_of_the_step():
    tau = Temperature("cosine", 0.07, 0.5, 0.1)
    course = [tau.at(step, 1000) for step in range(1000)]
    assert course[0] == 0.5 and course[50] == pytest.approx(0.285) and course[100] == 0.07
    assert all(a >= b for a, b in zip(course, course[1:], strict=False)) and course[-1] == 0.07
    assert Temperature("cosine", 0.07, 0.5, 0).at(0, 1000) == 0.07
    assert Temperature("cosine", 0.07, 0.5, 20).at(10, 1000) == pytest.approx(0.285)
    assert Temperature("constant", 0.07, 0.5, 0.1).at(0, 1000) == 0.07


def test_the_momentum_rises_to_one_by_half_a_cosine():
    assert [Momentum("constant", 0.9).at(step, 10) for step in (0, 9)] == [0.9, 0.9]
    assert [Momentum("cosine", 0.9).at(step, 10) for step in (0, 5, 10)] == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize("size, batch", [(10, 4), (8, 3), (12, 4), (5, 5), (3, 7)])
def test_the_queue_holds_exactly_the_newest_keys(size, batch):
    queue = Queue(size, 2, 0, torch.device("cpu"))
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(size))
    for start in range(0, 6 * batch, batch):
        numbers = torch.arange(start, start + batch, dtype=torch.float32)
        queue.push(torch.stack([numbers, numbers], 1))
    held = sorted(queue.keys[:, 0].tolist())
    assert held == list(range(6 * batch - size, 6 * batch))


class Scaled(nn.Module):
    """A network with a frozen weight and running statistics, and the face of a Model."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.outer = nn.Linear(4, 2).requires_grad_(False)

    def forward(self, pixel_values):
        return self.outer(self.norm(self.inner(pixel_values)))

    def trained(self):
        return {name: value for name, value in self.named_parameters() if value.requires_grad}


def test_the_key_encoder_follows_by_the_closed_form_and_gets_no_gradient():
    torch.manual_seed(0)
    model = Scaled()
    follower = Follower(model)
    start = {name: value.clone() for name, value in follower.weights.items()}
    assert "outer.weight" not in start and all(value.dtype == torch.float32 for value in start.values())
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1.0)
    for _ in range(50):
        follower.follow(0.9)
    for name, value in model.trained().items():
        expected = 0.9**50 * start[name] + (1 - 0.9**50) * value
        torch.testing.assert_close(follower.weights[name], expected.detach(), rtol=0, atol=2e-6)
    assert not follower.outputs(torch.randn(5, 3)).requires_grad


def test_the_key_encoder_has_running_statistics_of_its_own():
    torch.manual_seed(0)
    model = Scaled()
    follower = Follower(model)
    before = {name: value.clone() for name, value in model.named_buffers()}
    follower.outputs(torch.randn(5, 3))
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name])
        assert not torch.equal(follower.statistics[name], value)


def reference_votes(features, bank, labels, classes, k):
    """Weighted neighbours, one picture and one neighbour after the other."""
    found = torch.zeros(len(features), classes)
    for row, feature in enumerate(features):
        cosines = [float(normalize(feature, dim=0) @ normalize(other, dim=0)) for other in bank]
        for place in sorted(range(len(bank)), key=lambda n: -cosines[n])[:k]:
            found[row, labels[place]] += math.exp(cosines[place] / 0.07)
    return found / found.sum(1, keepdim=True)


@pytest.mark.parametrize("neighbours", [1, 20, 200])
def test_neighbours_vote_by_their_cosine_and_there_may_be_fewer_than_asked_for(neighbours):
    chance = torch.Generator().manual_seed(0)
    bank, features = torch.randn(40, 6, generator=chance), torch.randn(9, 6, generator=chance)
    labels = torch.arange(40) % 3
    found = votes(features, bank, labels, 3, neighbours, [-1] * 9)
    torch.testing.assert_close(found, reference_votes(features, bank, labels, 3, neighbours))


def test_a_picture_does_not_vote_for_itself():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    known = Bank(bank, ["b", "a", "a"], [7, 8, 9])
    assert known.answers(bank[:1], 1, [None])[0] == ["b"]
    assert known.answers(bank[:1], 1, [7])[0] == ["a"]
    assert known.answers(bank[1:2], 1, [99])[0] == ["a"]  # it is not in the bank


def test_the_figures_of_pairs_at_hand():
    """Two pictures: the views of the first are equal, those of the second at right angles."""
    first = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    second = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    found = figures(first, second)
    assert found["positive_similarity"] == pytest.approx(0.5) and found["alignment"] == pytest.approx(1.0)
    assert found["negative_similarity"] == pytest.approx(0.0) and found["uniformity"] == pytest.approx(-4.0)
    assert found["contrastive_accuracy"] == pytest.approx(0.5)


def test_the_effective_rank_counts_directions():
    assert effective_rank(torch.ones(20, 8)) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(torch.eye(8)[:5]) == pytest.approx(5.0, abs=1e-3)
    assert math.isnan(effective_rank(torch.full((3, 2), math.nan)))


def test_the_scores_of_a_split_leave_out_what_is_less_than_a_batch():
    views = fixed()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    parts = [mean_loss(views[order[i : i + 5]]) for i in (0, 5, 10)]
    assert scores_of(views, 5, 0.1)["loss"] == pytest.approx(sum(parts) / 3, rel=1e-5)
    assert scores_of(views, 500, 0.1)["loss"] == pytest.approx(mean_loss(views), rel=1e-5)


def test_spikes_and_collapse_are_said_once_or_end_the_run(capsys):
    watch = Watch("warn")
    watch.gradient(99.0, 1, 0.07)
    watch.embedding(2.5, 128, 1, 0.5)
    assert capsys.readouterr().out == ""
    for _ in range(2):
        watch.gradient(250.0, 3, 0.07)
        watch.embedding(1.2, 128, 9, 0.99)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert "warm-up of the temperature is too short: gradient norm 250 at step 3" in said[0]
    assert "the embedding has collapsed: effective rank 1.20 of 128 at step 9" in said[1]
    with pytest.raises(Diverged, match="warm-up of the temperature is too short"):
        Watch("stop").gradient(101.0, 0, 0.07)
    with pytest.raises(ConfigError, match="task.on_instability is one of warn, stop"):
        Watch("halt")
