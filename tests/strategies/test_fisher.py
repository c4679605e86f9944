"""The Fisher information against a loop over examples and classes, and against what is known of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification
from transformers.pytorch_utils import Conv1D

from ftrun.errors import DataError
from ftrun.strategies.ewc import fisher, per_example, squares

ARCHITECTURES = ["bert", "roberta", "distilbert", "modernbert"]


class Logits(nn.Module):
    """A network whose output is its logits."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, **inputs):
        return self.net(**inputs).logits


class Plain(nn.Module):
    """Layers one after the other."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


def every(model):
    return [name for name, _ in model.named_parameters()]


def by_hand(model, inputs, names):
    """Autograd of log p for each example and each class, squared and weighted by p."""
    own = dict(model.named_parameters())
    total = {name: torch.zeros_like(own[name]) for name in names}
    size = len(next(iter(inputs.values())))
    for n in range(size):
        chances = model(**{key: value[n : n + 1] for key, value in inputs.items()}).log_softmax(-1)[0]
        for logarithm in chances:
            found = torch.autograd.grad(
                logarithm, [own[name] for name in names], retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    total[name] += logarithm.exp().detach() * gradient**2 / size
    return total


def distance(found, right):
    """Relative, of all parameters as one vector."""
    assert found.keys() == right.keys()
    apart = sum(float((found[name].double() - right[name].double()).square().sum()) for name in right)
    return (apart / sum(float(value.double().square().sum()) for value in right.values())) ** 0.5


def in_batches(inputs, size, labels=None, order=None):
    count = len(next(iter(inputs.values())))
    order = torch.arange(count) if order is None else order
    for rows in order.split(size):
        batch = {"inputs": {name: value[rows] for name, value in inputs.items()}}
        yield batch if labels is None else {**batch, "labels": labels[rows]}


def estimate(model, batches, names=None, kind="exact", samples=1, seed=0):
    return fisher.estimate(
        model, batches, every(model) if names is None else names, kind=kind, samples=samples, seed=seed
    )


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return Plain(nn.Linear(6, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 5)).double()


@pytest.fixture
def points():
    return {"x": torch.randn(13, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}


def tiny(tiny_dir, name, classes=2, auto=AutoModelForSequenceClassification):
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny_dir(name), num_labels=classes)
    config.initializer_range = config.initializer_cutoff_factor = 0.2  # away from equal probabilities
    model = Logits(auto.from_config(config))
    for own, parameter in model.named_parameters():
        if own.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def texts(count=9, vocabulary=100, padding=0):
    """Random tokens with repetitions, of 4 to 12 tokens and padded to 12."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(5, vocabulary, (count, 12), generator=generator)
    ids[:, 3] = ids[:, 1]
    lengths = torch.randint(4, 13, (count, 1), generator=generator)
    mask = (torch.arange(12) < lengths).long()
    return {"input_ids": ids * mask + padding * (1 - mask), "attention_mask": mask}


def test_a_small_network_in_fp64_equals_the_loop(mlp, points):
    found = estimate(mlp, in_batches(points, 4))
    assert distance(found, by_hand(mlp, points, every(mlp))) < 1e-10
    assert {value.dtype for value in found.values()} == {torch.float64}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_text_networks_equal_the_loop(tiny_dir, name, classes):
    model = tiny(tiny_dir, name, classes)
    inputs = texts(padding=model.net.config.pad_token_id)
    found = estimate(model, in_batches(inputs, 4))
    right = by_hand(model, inputs, every(model))
    assert distance(found, right) < 1e-5
    for own in right:  # each by itself, where it is more than rounding
        largest = right[own].max()
        assert largest < 1e-9 or torch.allclose(found[own], right[own], rtol=1e-3, atol=1e-4 * largest), own
    assert all(value.dtype == torch.float32 and value.device.type == "cpu" for value in found.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_hooks_see_every_weight_of_the_text_networks(tiny_dir, name, monkeypatch):
    model = tiny(tiny_dir, name)
    batches = list(in_batches(texts(padding=model.net.config.pad_token_id), 4))
    looped = []
    loop = fisher.Estimator.add_by_loop
    monkeypatch.setattr(
        fisher.Estimator, "add_by_loop", lambda self, *args: looped.append(1) or loop(self, *args)
    )
    estimate(model, batches)
    assert len(looped) == 1  # the check at the start


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_the_batches_do_not_matter(tiny_dir, kind):
    model, inputs = tiny(tiny_dir, "bert", 3), texts(15)
    labels = torch.arange(15) % 3
    whole = estimate(model, in_batches(inputs, 15, labels), kind=kind, samples=2)
    for size in (1, 7):
        assert distance(estimate(model, in_batches(inputs, size, labels), kind=kind, samples=2), whole) < 1e-6
    if kind != "sampled":  # whose labels go by the running number
        order = torch.randperm(15, generator=torch.Generator().manual_seed(3))
        assert distance(estimate(model, in_batches(inputs, 7, labels, order), kind=kind), whole) < 1e-6


def test_keys_biases_carry_no_information(tiny_dir):
    """The same number added to all scores of a query does not change the softmax over them."""
    model = tiny(tiny_dir, "bert")
    found = estimate(model, in_batches(texts(), 4))
    assert max(float(found[name].max()) for name in found if name.endswith("key.bias")) < 1e-9
    assert min(float(found[name].max()) for name in found if name.endswith("value.bias")) > 1e-7


def test_softmax_regression_has_its_textbook_diagonal(points):
    model = Plain(nn.Linear(6, 4)).double()
    p, x = model(**points).softmax(1).detach(), points["x"]
    right = torch.einsum("nc,nj->cj", p * (1 - p), x**2) / len(x)
    found = estimate(model, in_batches(points, 5))
    torch.testing.assert_close(found["layers.0.weight"], right, rtol=1e-12, atol=0)
    torch.testing.assert_close(found["layers.0.bias"], (p * (1 - p)).mean(0), rtol=1e-12, atol=0)


def test_sampled_comes_to_exact_and_says_how_it_was_drawn(mlp, points):
    exact = estimate(mlp, in_batches(points, 13), kind="exact")
    few, many = (estimate(mlp, in_batches(points, 13), kind="sampled", samples=s) for s in (4, 400))
    assert distance(many, exact) < 0.05 < 0.2 < distance(few, exact)
    again, other = (
        estimate(mlp, in_batches(points, 4), kind="sampled", samples=4, seed=seed) for seed in (0, 1)
    )
    assert distance(again, few) < 1e-12 < 0.01 < distance(other, few)


def test_empirical_takes_the_true_labels(mlp, points):
    labels = torch.arange(13) % 5
    right = {name: torch.zeros_like(value) for name, value in mlp.named_parameters()}
    for x, y in zip(points["x"], labels, strict=True):
        loss = functional.cross_entropy(mlp(x[None]), y[None])
        for name, gradient in zip(right, torch.autograd.grad(loss, list(mlp.parameters())), strict=True):
            right[name] += gradient**2 / 13
    assert distance(estimate(mlp, in_batches(points, 4, labels), kind="empirical"), right) < 1e-12
    with pytest.raises(ValueError, match="kind=empirical .* needs labels"):
        estimate(mlp, in_batches(points, 4), kind="empirical")


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_a_network_that_is_sure_keeps_its_digits(kind):
    torch.manual_seed(0)
    model = Plain(nn.Linear(6, 3))
    model.layers[0].bias.data += torch.tensor([0.0, 14.0, 0.0])  # the probability of class 1 is 1 - 1e-6
    points, labels = {"x": torch.randn(7, 6)}, torch.ones(7, dtype=torch.long)
    found = estimate(model, in_batches(points, 3, labels), kind=kind)
    right = estimate(model.double(), in_batches({"x": points["x"].double()}, 3, labels), kind=kind)
    assert distance(found, right) < 1e-5


def test_auto_is_exact_up_to_twenty_classes(points):
    few, many = Plain(nn.Linear(6, 20)).double(), Plain(nn.Linear(6, 21)).double()
    for model, kind in ((few, "exact"), (many, "sampled")):
        auto, right = (estimate(model, in_batches(points, 13), kind=k, samples=2) for k in ("auto", kind))
        assert all(torch.equal(auto[name], right[name]) for name in right)


def test_regression_squares_the_gradient_of_the_output(points):
    model = Plain(nn.Linear(6, 1)).double()
    found = estimate(model, in_batches(points, 5), kind="auto")
    torch.testing.assert_close(found["layers.0.weight"][0], (points["x"] ** 2).mean(0))
    drawn = estimate(model, in_batches(points, 5), kind="sampled", samples=4000)
    torch.testing.assert_close(drawn["layers.0.weight"], found["layers.0.weight"], rtol=0.05, atol=0)
    targets = torch.randn(13, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    residual = targets - model(**points)[:, 0].detach()
    empirical = estimate(model, in_batches(points, 5, targets), kind="empirical")
    torch.testing.assert_close(empirical["layers.0.bias"], (residual**2).mean()[None])


def masked():
    """Texts, and labels at a few of their places; one text has none."""
    inputs = texts()
    labels = torch.where(torch.rand(9, 12, generator=torch.Generator().manual_seed(5)) < 0.3, 7, -100)
    labels[4] = -100
    return inputs, labels


def test_tied_weights_equal_the_loop(tiny_dir):
    model = tiny(tiny_dir, "bert", auto=AutoModelForMaskedLM)
    inputs, labels = masked()
    found = estimate(model, in_batches(inputs, 4, labels), kind="empirical")
    names = every(model)
    assert not any("decoder.weight" in name for name in names)  # it is the embeddings' own
    by_hooks = per_example.split(model, names, inputs)
    shared = [own["weight"] for own in by_hooks.values() if "word_embeddings" in own.get("weight", "")]
    assert len(shared) == 2
    right = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for n in range(9):
        logits = model(**{key: value[n : n + 1] for key, value in inputs.items()})
        loss = functional.cross_entropy(logits[0], labels[n], reduction="sum")
        for name, gradient in zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            right[name] += gradient**2 / 9
    assert distance(found, right) < 1e-5


def test_positions_sample_the_same_whatever_the_batches(tiny_dir):
    model = tiny(tiny_dir, "bert", auto=AutoModelForMaskedLM)
    inputs, labels = masked()
    names = [name for name in every(model) if ".layer." in name]
    one, all_, auto = (
        estimate(model, in_batches(inputs, size, labels), names, kind, 2)
        for size, kind in ((1, "sampled"), (9, "sampled"), (9, "auto"))
    )
    assert distance(one, all_) < 1e-6 and distance(auto, all_) == 0
    with pytest.raises(ValueError, match="kind=exact: there are too many answers at several positions"):
        estimate(model, in_batches(inputs, 4, labels))
    with pytest.raises(ValueError, match="kind=sampled .* needs labels"):
        estimate(model, in_batches(inputs, 4), kind="auto")


def test_a_network_of_images_equals_the_loop():
    torch.manual_seed(0)
    model = Plain(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=(0, 1), dilation=(2, 1), groups=2, bias=False), nn.Tanh(),
        nn.Conv2d(6, 4, 1, padding="same"), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    ).double()  # fmt: skip
    model(torch.randn(8, 3, 9, 9, dtype=torch.float64))  # running statistics
    model.eval()
    images = {"x": torch.randn(5, 3, 9, 9, dtype=torch.float64)}
    assert distance(estimate(model, in_batches(images, 2)), by_hand(model, images, every(model))) < 1e-10


class Odd(nn.Module):
    """What hooks cannot see, and what they can: shared, bare, unknown, broadcast, and of other families."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(20, 6, padding_idx=0), nn.Embedding(5, 6)
        self.types = nn.Embedding(2, 6)
        self.scale = nn.Parameter(torch.rand(6))
        self.twice, self.unused = nn.Linear(6, 6), nn.Linear(3, 3)
        self.norms = nn.ModuleList([nn.RMSNorm(6), nn.LayerNorm(6, bias=False), nn.LayerNorm(6)])
        self.across, self.first = Conv1D(7, 6), nn.Linear(7, 6)
        self.mixer = nn.Conv1d(6, 6, 3, padding=1)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, ids):
        places = torch.arange(ids.shape[1])
        x = self.tokens(ids) + self.places(places[None]) + self.types(places % 2)
        x = self.norms[0](self.twice(torch.tanh(self.twice(x))) * self.scale)
        x = self.norms[1](self.first(torch.tanh(self.across(x))))
        x = x + self.mixer(x.mT).mT
        x = self.norms[2](x + self.attention(x, x, x)[0])
        return self.head(x[:, 0])


def test_what_hooks_do_not_see_equals_the_loop_as_well():
    torch.manual_seed(0)
    model, inputs = Odd().double(), {"ids": torch.randint(0, 20, (7, 5))}
    found = estimate(model, in_batches(inputs, 3))
    right = by_hand(model.eval(), inputs, every(model))
    assert distance(found, right) < 1e-10
    assert distance(found, estimate(model, in_batches(inputs, 1))) < 1e-10
    for name in right:
        torch.testing.assert_close(found[name], right[name], rtol=1e-8, atol=1e-14)
    assert not found["unused.weight"].any() and not found["tokens.weight"][0].any()
    assert not estimate(model, in_batches(inputs, 3), ["unused.weight"])["unused.weight"].any()


def test_no_gradient_goes_below_the_lowest_wanted_layer(tiny_dir):
    model, inputs = tiny(tiny_dir, "bert"), texts()
    reached = []
    for number, layer in enumerate(model.net.bert.encoder.layer):

        def note(module, args, output, number=number):
            reached.append((number, output.requires_grad))

        layer.output.register_forward_hook(note)
    names = [name for name in every(model) if ".layer.1." in name]
    found = estimate(model, in_batches(inputs, 9), names)
    assert set(reached[-2:]) == {(0, False), (1, True)} and set(found) == set(names)
    assert distance(found, by_hand(model, inputs, names)) < 1e-5


def test_nothing_of_the_model_changes(tiny_dir):
    model = tiny(tiny_dir, "bert").train()
    model.net.bert.embeddings.eval()
    model.net.bert.pooler.requires_grad_(False)
    before = copy.deepcopy(model)
    for kind, names in (("exact", None), ("sampled", ["net.classifier.weight"])):
        estimate(model, in_batches(texts(), 4), names, kind)
    for (name, old), (_, new) in zip(before.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(old, new) and old.requires_grad == new.requires_grad and new.grad is None, name
    for old, new in zip(before.modules(), model.modules(), strict=True):
        assert old.training == new.training
        assert not new._forward_hooks and not new._forward_pre_hooks


def test_no_hook_stays_behind(mlp, points):
    estimate(mlp, in_batches(points, 4))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in mlp.modules())


def test_what_has_no_row_for_every_example_is_not_seen():
    assert per_example.per_example(torch.ones(2, 5), torch.ones(2, 3), 2)
    for entered, output in ((2, 3), (3, 2), (3, 3)):
        assert not per_example.per_example(torch.ones(entered, 5), torch.ones(output, 3), 2)
    assert not per_example.per_example(torch.tensor(1.0), torch.ones(2, 3), 2)


def test_a_model_is_as_before_also_after_an_error(mlp, points):
    mlp.train()
    broken = [{"inputs": points}, {"inputs": {"y": points["x"]}}]
    with pytest.raises(TypeError):
        estimate(mlp, broken)
    assert all(module.training and not module._forward_hooks for module in mlp.modules())
    assert all(parameter.requires_grad for parameter in mlp.parameters())


def test_what_cannot_be_is_refused(mlp, points):
    with pytest.raises(KeyError, match=r"no parameters layers.9.bias, layers.9.weight"):
        estimate(mlp, in_batches(points, 4), ["layers.9.weight", "layers.0.weight", "layers.9.bias"])
    with pytest.raises(ValueError, match="kind=guess: one of auto, exact, sampled, empirical"):
        estimate(mlp, in_batches(points, 4), kind="guess")
    with pytest.raises(ValueError, match="samples=0"):
        estimate(mlp, in_batches(points, 4), kind="sampled", samples=0)
    with pytest.raises(ValueError, match="no batches"):
        estimate(mlp, [])
    with pytest.raises(ValueError, match=r"logits of shape \(4,\)"):
        estimate(Plain(nn.Linear(6, 1), nn.Flatten(0)).double(), in_batches(points, 4))


def test_a_wrong_formula_is_found_at_the_start(tiny_dir, monkeypatch):
    model, seen = tiny(tiny_dir, "bert"), []
    right = squares.add_norm

    def wrong(layer, entered, delta, sums):
        right(layer, entered, delta * (1.01 if layer is model.net.bert.embeddings.LayerNorm else 1), sums)

    def batches():
        for batch in in_batches(texts(), 4):
            seen.append(batch)
            yield batch

    monkeypatch.setattr(squares, "add_norm", wrong)
    with pytest.raises(RuntimeError, match=r"most for net.bert.embeddings.LayerNorm.\w+: off by 2.0e-02"):
        estimate(model, batches())
    assert len(seen) == 1


class Coupled(nn.Module):
    """The examples of a batch meet each other."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        return self.layer(x) * x.mean()


def test_examples_that_meet_in_a_batch_are_found(points):
    with pytest.raises(RuntimeError, match="differ from those of single examples"):
        estimate(Coupled().double(), in_batches(points, 4))


def test_an_estimate_is_saved_with_what_it_came_from(tmp_path, mlp, points):
    found, path = estimate(mlp, in_batches(points, 4)), tmp_path / "fisher.safetensors"
    fisher.save(path, found, {"kind": "exact", "texts": "12 Sätze"})
    again, about = fisher.load(path)
    assert about == {"kind": "exact", "texts": "12 Sätze"} and again.keys() == found.keys()
    assert all(torch.equal(again[name], found[name]) for name in found)
    assert [file.name for file in tmp_path.iterdir()] == ["fisher.safetensors"]


def test_a_file_that_is_no_estimate_is_refused(tmp_path):
    path = tmp_path / "fisher.safetensors"
    with pytest.raises(DataError, match="no such file"):
        fisher.load(path)
    path.write_bytes(b"not at all")
    with pytest.raises(DataError, match="holds no Fisher information"):
        fisher.load(path)
