"""The loss over a large vocabulary in parts is the loss of all logits at once, and so are its gradients."""

import pytest
import torch
import transformers
from toys_lm import tiny_decoder

from ftrun.models import vocabulary
from ftrun.models.vocabulary import surprise
from ftrun.tasks.parts import next_tokens

WORDS = 300
SHAPE = {
    "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0,
    "head_dim": 8, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def decoder(name, **more):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(name, **SHAPE, **more)
    return transformers.AutoModelForCausalLM.from_config(config)


def batch():
    ids = torch.randint(3, WORDS, (3, 11), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, 1)
    targets[:, -1] = targets[1, :4] = -100
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, targets


def cost_and_gradients(net, held, monkeypatch):
    """What each target costs, the gradients of their sum, and how many positions the head saw at a time."""
    seen = []
    head = net.get_output_embeddings()
    handle = head.register_forward_hook(lambda *given: seen.append(given[2][..., 0].numel()))
    monkeypatch.setattr(vocabulary, "HELD", held)
    torch.manual_seed(2)  # of the dropout
    inputs, targets = batch()
    found = surprise(net.train(), inputs, targets, use_cache=False)
    gradients = torch.autograd.grad(found.sum(), list(net.parameters()))
    handle.remove()
    return found.detach(), gradients, seen


@pytest.mark.parametrize(
    ("name", "more"), [("gpt2", {}), ("llama", {"tie_word_embeddings": False}), ("qwen2", {})]
)
def test_in_parts_it_is_the_same_loss_with_the_same_gradients(name, more, monkeypatch):
    net = decoder(name, **more)
    whole, long, seen = cost_and_gradients(net, 2**24, monkeypatch)
    assert seen == [33]
    parts, short, seen = cost_and_gradients(net, 5 * WORDS, monkeypatch)
    assert sorted(seen[-14:]) == 2 * [3] + 12 * [5]
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    assert not parts[1, :4].any() and not parts[:, -1].any() and (parts[0, :-1] > 1).all()
    for one, other in zip(long, short, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_cap_behind_the_head_is_not_lost(monkeypatch):
    """Gemma 2 bends its logits; its loss is that of all of them."""
    net = decoder("gemma2", final_logit_softcapping=0.5, attn_logit_softcapping=None)
    whole, _, _ = cost_and_gradients(net, 2**24, monkeypatch)
    found, _, seen = cost_and_gradients(net, 5 * WORDS, monkeypatch)
    assert torch.equal(found, whole) and seen[-1] == 33
    inputs, targets = batch()
    with torch.no_grad():
        logits = net(**inputs).logits
    assert logits.abs().max() <= 0.5


def test_looking_at_the_head_draws_no_number(monkeypatch):
    """So a run that is resumed, and looks again, has the same dropout."""
    net = decoder("gpt2")
    inputs, _ = batch()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    assert vocabulary.in_parts(net, net.get_output_embeddings(), inputs, {"use_cache": False})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_run_with_a_large_vocabulary_is_the_run_with_all_logits(tmp_path, monkeypatch):
    from lab import ran, settings
    from toys_lm import words

    place = tiny_decoder("gpt2", tmp_path / "gpt2")
    own = [each for each in words(tmp_path / "gpt2") if not each.startswith(("model", "task.vocab"))]
    own += [f"model.name={place}", "model=gpt2", "train.lr=1e-3"]
    whole = ran(tmp_path / "whole", settings(*own))
    monkeypatch.setattr(next_tokens.LargeVocabulary, "words", 1)
    monkeypatch.setattr(vocabulary, "HELD", 5000)
    parts = ran(tmp_path / "parts", settings(*own))
    for one, other in zip(whole.metrics(), parts.metrics(), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
