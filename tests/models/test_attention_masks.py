"""Attention is given the mask of a batch whether it pads or not."""

from pathlib import Path

import pytest
import torch
import toys_lm
import transformers
from transformers import AutoModel

from ftrun.data.text.packing import apart
from ftrun.models.attention_masks import always_given, as_transformers_has_them
from ftrun.models.logits import logits_of


@pytest.mark.parametrize("name", ["bert", "modernbert", "gpt2", "llama"])
def test_nobody_looks_into_the_mask_and_the_numbers_are_the_same(tiny_dir, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts/bench"))
    from syncs import Counts

    place = tiny_dir(name) if "bert" in name else toys_lm.tiny_decoder(name, tmp_path / name)
    net = AutoModel.from_pretrained(place).eval()
    ids, mask = torch.arange(5, 15).reshape(2, 5), torch.ones(2, 5, dtype=torch.long)

    def answered():
        with torch.no_grad(), Counts() as counts:
            found = net(input_ids=ids, attention_mask=mask).last_hidden_state
        return found, sum(counts.waits.values())

    before, looked = answered()
    assert looked, "transformers looks into the mask"
    always_given()
    always_given()
    try:
        after, looked = answered()
        assert not looked
    finally:
        as_transformers_has_them()
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert answered()[1]


@pytest.mark.parametrize(
    ("family", "own"), [("Bloom", {"n_layer": 2, "n_head": 2}), ("Falcon", {"alibi": True})]
)
def test_networks_with_alibi_keep_the_documents_of_a_block_apart(family, own):
    shape = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2} | own
    torch.manual_seed(0)
    net = getattr(transformers, f"{family}ForCausalLM")(
        getattr(transformers, f"{family}Config")(**shape)
    ).eval()
    ids = torch.arange(1, 10)[None]
    place = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    block = {"input_ids": ids, "position_ids": place, "attention_mask": apart((place == 0).cumsum(1))}
    alone = {"input_ids": ids[:, 4:], "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    with torch.no_grad():
        torch.testing.assert_close(logits_of(net, block)[:, 4:], logits_of(net, alone), rtol=0, atol=1e-6)
