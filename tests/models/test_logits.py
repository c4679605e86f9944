"""What a network answers: the vocabulary at the chosen positions only is the vocabulary at all of them."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from ftrun.models.load import quiet
from ftrun.models.logits import logits_of

NETWORKS = ["bert", "roberta", "distilbert", "modernbert", "albert", "electra", "mobilebert"]


def masked(name, tied=True):
    """A masked language model of two layers, 32 wide, and a batch with four tokens to be guessed."""
    shape = {
        "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 0, "embedding_size": 16,
        "tie_word_embeddings": tied,
    }  # fmt: skip
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **shape)
    net = transformers.AutoModelForMaskedLM.from_config(config).eval()
    inputs = {"input_ids": torch.randint(5, 50, (2, 9)), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    return net, inputs, torch.tensor([3, 9 + 1, 9 + 4, 9 + 8])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_chosen_positions_and_their_gradients_are_those_of_the_whole(name, tied):
    net, inputs, positions = masked(name, tied)
    whole = logits_of(net, inputs)
    some = logits_of(net, inputs | {"positions": positions})
    assert whole.shape == (2, 9, 50) and some.shape == (4, 50)
    torch.testing.assert_close(some, whole.flatten(0, 1)[positions], rtol=0, atol=1e-5)
    long, short = (
        torch.autograd.grad(each.square().sum(), list(net.parameters()), allow_unused=True)
        for each in (whole.flatten(0, 1)[positions], some)
    )
    for one, other in zip(long, short, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_vocabulary_is_not_computed_elsewhere_and_nothing_stays_behind():
    net, inputs, positions = masked("bert")
    seen = []
    net.get_output_embeddings().register_forward_hook(lambda *given: seen.append(given[2].shape))
    logits_of(net, inputs | {"positions": positions})
    logits_of(net, inputs)
    assert seen == [(4, 50), (2, 9, 50)]


@pytest.mark.parametrize("saved", [None, ["decoder"]])
def test_it_goes_through_what_peft_wraps(saved):
    net, inputs, positions = masked("bert")
    lora = LoraConfig(target_modules=["query", "value"], modules_to_save=saved, init_lora_weights=False)
    if saved:
        net.config.tie_word_embeddings = False
        head = net.cls.predictions
        head.decoder.weight = nn.Parameter(head.decoder.weight.detach().clone())
    with quiet():
        wrapped = get_peft_model(net, lora).eval()
    whole = logits_of(wrapped, inputs)
    some = logits_of(wrapped, inputs | {"positions": positions})
    torch.testing.assert_close(some, whole.flatten(0, 1)[positions], rtol=0, atol=1e-5)
