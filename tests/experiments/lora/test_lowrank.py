"""Weighted sums of low-rank updates are sums, and peft's own ways to make them agree where they should."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel
from torch import nn
from toys import tiny_network

from ftrun.experiments.lora.blend import Blend
from ftrun.experiments.lora.lowrank import by_peft, factors_in, fill, weighted_sum
from ftrun.models.load import quiet

LAYERS = ["encoder.layer.0.attention.self.query", "encoder.layer.1.attention.self.value"]


def random_factors(seed, rank, names, scaling=1.0):
    chance = torch.Generator().manual_seed(seed)
    return {
        name: (scaling * torch.randn(rank, 32, generator=chance), torch.randn(32, rank, generator=chance))
        for name in names
    }


@pytest.fixture
def three():
    """Other ranks, other scalings, and one that lacks a layer."""
    return [
        random_factors(0, 4, LAYERS, 4.0),
        random_factors(1, 2, LAYERS[1:], 1.0),
        random_factors(2, 8, LAYERS, 2**0.5),
    ]


def dense(factors):
    return {name: b.double() @ a.double() for name, (a, b) in factors.items()}


def assert_same(found, wanted, tolerance=1e-6):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert (found[name] - value).norm() <= tolerance * max(1.0, float(value.norm())), name


def total(updates, weights):
    sums = {name: torch.zeros(32, 32, dtype=torch.float64) for name in LAYERS}
    for factors, weight in zip(updates, weights, strict=True):
        for name, value in dense(factors).items():
            sums[name] += weight * value
    return sums


def test_the_sum_is_the_sum_of_the_dense_updates(three):
    weights = [0.7, -0.3, 1.1]
    composed = weighted_sum(three, weights)
    assert_same(dense(composed), total(three, weights))
    assert {name: len(a) for name, (a, _) in composed.items()} == {LAYERS[0]: 12, LAYERS[1]: 14}
    other = weighted_sum(three[::-1], weights[::-1])
    assert_same(dense(other), dense(composed))


def test_one_with_weight_one_is_itself_and_zero_is_nothing(three):
    assert_same(dense(weighted_sum(three, [1.0, 0.0, 0.0])), dense(three[0]))
    assert all(not value.any() for value in dense(weighted_sum(three, [0.0, 0.0, 0.0])).values())


def peft_model(backbone, updates, alphas):
    """peft's model with the same factors, their scaling in alpha."""
    net = None
    with quiet():
        for number, (factors, alpha) in enumerate(zip(updates, alphas, strict=True)):
            rank = len(next(iter(factors.values()))[0])
            config = LoraConfig(r=rank, lora_alpha=alpha * rank, target_modules=list(factors))
            net = PeftModel(backbone, config, "0") if net is None else net
            if number:
                net.add_adapter(str(number), config)
            plain = {name: (a / alpha, b) for name, (a, b) in factors.items()}
            fill(net.base_model.model, str(number), plain)
    return net


def test_it_is_what_peft_calls_cat(three):
    net = peft_model(tiny_network("bert", 50), three, [4.0, 1.0, 2**0.5])
    weights = [0.7, -0.3, 1.1]
    net.base_model.add_weighted_adapter(["0", "1", "2"], weights, "sum", combination_type="cat")
    found = factors_in(net.base_model.model, "sum")
    assert_same(dense(found), dense(weighted_sum(three, weights)))


def test_it_is_what_peft_calls_linear_where_that_is_exact(three):
    for updates, weights in (
        (three[:1], [0.6]),
        ([three[0], {name: (a, 2 * b) for name, (a, b) in three[0].items()}], [0.6, 0.4]),
    ):
        single = len(updates) == 1
        net = peft_model(tiny_network("bert", 50), updates, [4.0] * len(updates))
        names = [str(number) for number in range(len(updates))]
        net.base_model.add_weighted_adapter(names, weights, "sum", combination_type="linear")
        found = dense(factors_in(net.base_model.model, "sum"))
        if single:
            assert_same(found, dense(weighted_sum(updates, weights)))
        else:  # its cross terms: (Σ√wB)(Σ√wA), another sum than this one
            wanted = total(updates, weights)
            assert (found[LAYERS[0]] - wanted[LAYERS[0]]).norm() > 0.1 * wanted[LAYERS[0]].norm()


def test_svd_is_the_best_of_its_rank_and_with_all_ranks_the_sum(three):
    weights = [0.7, 0.3, -0.5]
    full = by_peft(tiny_network("bert", 50), three, weights, "svd", 14, 1.0, 0)
    assert_same(dense(full), total(three, weights), 1e-5)
    cut = dense(by_peft(tiny_network("bert", 50), three, weights, "svd", 3, 1.0, 0))
    for name, value in total(three, weights).items():
        u, s, v = torch.linalg.svd(value)
        best = u[:, :3] * s[:3] @ v[:3]
        assert (cut[name] - best).norm() <= 1e-5 * best.norm()


def test_ties_and_dare_keep_the_layers_and_repeat(three):
    for method in ("ties", "dare"):
        first, second = (
            by_peft(tiny_network("bert", 50), three, [0.7, 0.3, 0.5], method, None, 0.5, 0) for _ in range(2)
        )
        assert_same(dense(first), dense(second), 0)
        assert {len(a) for a, _ in first.values()} == {14}


def test_a_blend_is_set_from_the_base_each_time(three):
    net = tiny_network("bert", 50)
    before = copy.deepcopy(net)
    blend = Blend(net, three)
    for weights in ([0.7, -0.3, 1.1], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]):
        blend.set(weights)
        for name, change in total(three, weights).items():
            layer, first = net.get_submodule(name), before.get_submodule(name)
            assert isinstance(layer, nn.Linear) and isinstance(first, nn.Linear)
            torch.testing.assert_close(
                layer.weight.double(), first.weight.double() + change, atol=1e-4, rtol=1e-5
            )
    assert all((a == b).all() for a, b in zip(net.parameters(), before.parameters(), strict=True))
