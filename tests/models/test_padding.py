"""Everything in a saved network is read back, but for what transformers empties, which is not trained."""

import sys
from pathlib import Path

import pytest
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))
from tiny_networks import ENCODERS, IMAGES, NETWORKS, TOKENS

from ftrun.models.files.padding import emptied, keep_emptied
from ftrun.models.load import quiet

HEADS = [
    "MaskedLM",
    "CausalLM",
    "PreTraining",
    "SequenceClassification",
    "TokenClassification",
    "QuestionAnswering",
]


def network(name, head):
    """One of random weights, none of them zero; None where there is no such head."""
    family, shape = NETWORKS[name]
    config = getattr(transformers, f"{family}Config")(**TOKENS | shape)
    try:
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(0)
            net = getattr(transformers, f"AutoModelFor{head}").from_config(config)
            for parameter in net.parameters():
                parameter.data.normal_()
    except ValueError:
        return None
    return net


def unlike(net, place):
    """The names of what is another tensor after reading."""
    with quiet():
        net.save_pretrained(place)
        other = type(net).from_pretrained(place).state_dict()
    return [name for name, value in net.state_dict().items() if not torch.equal(value, other[name])]


@pytest.mark.ci
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in IMAGES])
def test_every_head_is_read_back_whole_or_known_not_to_be(name, tmp_path):
    for head in HEADS:
        if (net := network(name, head)) is not None:
            tokens = net.get_input_embeddings()
            row = tokens.padding_idx
            if row is not None and emptied(net, tokens):
                tokens.weight.data[row] = 0
            assert unlike(net, tmp_path / head) == [], head


@pytest.mark.parametrize(("name", "held"), [("Funnel", True), ("BERT", False)])
def test_a_row_that_is_emptied_is_not_trained_and_no_other_is_held(name, held, tmp_path):
    assert name in ENCODERS
    net = network(name, "MaskedLM").train()
    weight = net.get_input_embeddings().weight
    weight.data[0] = 0
    keep_emptied(net)
    state = torch.get_rng_state()
    assert emptied(net, net.get_input_embeddings()) is held and torch.equal(state, torch.get_rng_state())
    weight.requires_grad_(False).requires_grad_(True)  # as a strategy opens a stage
    ids = torch.arange(1, 9)[None]
    net(input_ids=ids, labels=ids).loss.backward()
    assert bool(weight.grad[0].any()) is not held and bool(weight.grad[1:].any())
    torch.optim.AdamW(net.parameters(), 0.1).step()
    assert unlike(net, tmp_path) == []
