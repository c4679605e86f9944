"""Attention is given the mask of a batch whether it pads or not."""

import pytest
import torch
from transformers import AutoModel

from ftrun.models.attention_masks import always_given, as_transformers_has_them


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
