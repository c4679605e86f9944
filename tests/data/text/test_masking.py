from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from ftrun.data.text.masking import IGNORED, LONGEST, choose, mask_tokens, mlm_loss, spanned

PAD, CLS, SEP, MASK = 0, 2, 3, 4
SPECIAL = [PAD, 1, CLS, SEP, MASK]
VOCABULARY = 100


def masked(ids: torch.Tensor, seed: int = 0, share: float = 0.15) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return mask_tokens(
        ids, share=share, mask_id=MASK, special_ids=SPECIAL, vocabulary=VOCABULARY, generator=generator
    )


def sequences(rows: int, length: int) -> torch.Tensor:
    ids = torch.randint(5, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = CLS, SEP
    return ids


def test_shares_over_a_million_tokens() -> None:
    ids = sequences(8000, 127)
    inputs, labels = masked(ids)
    chosen = labels != IGNORED
    hidden = (inputs == MASK) & chosen
    kept = (inputs == ids) & chosen
    count = chosen.sum().item()
    assert abs(count / (8000 * 125) - 0.15) < 0.001
    assert abs(hidden.sum().item() / count - 0.8) < 0.003
    assert abs(kept.sum().item() / count - 0.1 - 0.1 / 95) < 0.003  # one random draw in 95 is the same token
    assert abs((~hidden & ~kept & chosen).sum().item() / count - 0.1) < 0.003


def test_special_tokens_are_neither_chosen_nor_drawn() -> None:
    ids = sequences(2000, 64)
    ids[:, 40:] = PAD
    inputs, labels = masked(ids)
    special = torch.isin(ids, torch.tensor(SPECIAL))
    assert (labels[special] == IGNORED).all()
    assert torch.equal(inputs[special], ids[special])
    changed = inputs[(inputs != ids) & (inputs != MASK)]
    assert changed.min() >= 5
    assert set(changed.tolist()) == set(range(5, VOCABULARY))


def test_labels_are_the_chosen_tokens_and_nothing_else_changes() -> None:
    ids = sequences(50, 30)
    before = ids.clone()
    inputs, labels = masked(ids)
    chosen = labels != IGNORED
    assert torch.equal(ids, before)
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])


def test_every_sequence_has_a_token_to_guess() -> None:
    ids = sequences(3000, 5)
    _, labels = masked(ids)
    assert ((labels != IGNORED).sum(dim=1) >= 1).all()
    _, labels = masked(ids, share=0.0)
    assert ((labels != IGNORED).sum(dim=1) == 1).all()


def test_a_sequence_of_special_tokens_has_none() -> None:
    ids = torch.tensor([[CLS, SEP, PAD, PAD], [CLS, 7, SEP, PAD]])
    _, labels = masked(ids)
    assert (labels != IGNORED).sum(dim=1).tolist() == [0, 1]


def test_masks_follow_the_generator() -> None:
    ids = sequences(8, 32)
    assert all(torch.equal(one, two) for one, two in zip(masked(ids, 3), masked(ids, 3), strict=True))
    generator = torch.Generator().manual_seed(3)
    special = torch.isin(ids, torch.tensor(SPECIAL))
    assert not torch.equal(choose(special, 0.15, generator), choose(special, 0.15, generator))


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    masked(sequences(8, 32))
    assert torch.equal(before, torch.get_rng_state())


def test_loss_is_the_sum_over_chosen_tokens_and_their_count() -> None:
    torch.manual_seed(0)
    head, hidden = nn.Linear(16, VOCABULARY), torch.randn(4, 10, 16)
    _, labels = masked(sequences(4, 10))
    total, count = mlm_loss(head, hidden, labels)
    mean = functional.cross_entropy(head(hidden).flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    assert count == (labels != IGNORED).sum()
    assert total.item() / count == pytest.approx(mean.item(), rel=1e-6)


def test_loss_without_a_chosen_token_is_zero_and_differentiable() -> None:
    hidden = torch.randn(2, 4, 16, requires_grad=True)
    total, count = mlm_loss(nn.Linear(16, VOCABULARY), hidden, torch.full((2, 4), IGNORED))
    total.backward()
    assert (total.item(), count) == (0.0, 0)
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_an_untrained_network_is_as_surprised_as_chance() -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    model = BertForMaskedLM(config).eval()
    inputs, labels = masked(sequences(64, 32))
    total, count = mlm_loss(model.cls, model.bert(inputs).last_hidden_state, labels)
    assert total.item() / count == pytest.approx(math.log(VOCABULARY), abs=0.1)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.8])
@pytest.mark.parametrize("length", [3, 40, 400])
def test_spans_hide_as_many_tokens_as_asked_for_and_none_is_longer_than_ten(
    length: int, share: float
) -> None:
    special = torch.zeros(length, dtype=torch.bool)
    special[0] = special[-1] = True
    for seed in range(3):
        chosen, groups = spanned(special, share, torch.Generator().manual_seed(seed))
        assert int(chosen.sum()) == max(1, round(share * (length - 2)))
        assert not (chosen & special).any() and ((groups > 0) == chosen).all()
        sizes = groups[chosen].bincount()
        assert sizes[0] == 0 and (sizes[1:] <= LONGEST).all()
        for number in range(1, len(sizes)):
            own = (groups == number).nonzero().squeeze(1)
            assert len(own) < 2 or int(own[-1] - own[0]) < LONGEST
    nothing, _ = spanned(torch.ones(4, dtype=torch.bool), share, torch.Generator())
    assert not nothing.any()


def test_spans_have_the_lengths_of_a_geometric_draw() -> None:
    """A span ends after each token with chance 0.2, at ten at the latest: 4.46 tokens in the mean."""
    special = torch.zeros(100_000, dtype=torch.bool)
    _, groups = spanned(special, 0.05, torch.Generator().manual_seed(0))
    sizes = groups.bincount()[1:].float()
    assert float(sizes.mean()) == pytest.approx((1 - 0.8**10) / 0.2, rel=0.06)
    assert float((sizes == 1).float().mean()) == pytest.approx(0.2, abs=0.04)
