"""Attention is given the mask of a batch whether it pads or not."""

import pytest
import torch
import transformers
from transformers import AutoModel

from ftrun.data.text.packing import apart
from ftrun.models.attention_masks import always_given, as_transformers_has_them
from ftrun.models.logits import logits_of


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_nobody_looks_into_the_mask_and_the_numbers_are_the_same(tiny_dir, monkeypatch, name):
    net = AutoModel.from_pretrained(tiny_dir(name)).eval()
    ids, mask = torch.arange(5, 15).reshape(2, 5), torch.ones(2, 5, dtype=torch.long)
    honest, looked = torch.Tensor.all, []
    monkeypatch.setattr(torch.Tensor, "all", lambda self, *a: looked.append(1) or honest(self, *a))
    with torch.no_grad():
        before = net(input_ids=ids, attention_mask=mask).last_hidden_state
        assert looked, "transformers looks into the mask"
        looked.clear()
        always_given()
        always_given()
        try:
            after = net(input_ids=ids, attention_mask=mask).last_hidden_state
            assert not looked
        finally:
            as_transformers_has_them()
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
        net(input_ids=ids, attention_mask=mask)
    assert looked


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
