"""The rehearsal of a step by which `ftrun plan` tells memory: what a network gets, and what is computed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ftrun.models.spec import ImageInput, Spec
from ftrun.training import dry


def test_the_loss_is_a_sum_over_all_positions() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 5)
    expected = -logits.log_softmax(-1)[..., 0].sum()
    torch.testing.assert_close(dry.cross_entropy(logits), expected)
    torch.testing.assert_close(dry.cross_entropy(logits[0]), -logits[0].log_softmax(-1)[:, 0].sum())


@pytest.mark.parametrize(("several", "passes"), [(False, 1), (True, 2)])
def test_a_step_of_parts_has_a_second_pass_beside_the_gradients_of_the_first(
    monkeypatch: pytest.MonkeyPatch, several: bool, passes: int
) -> None:
    seen = list[tuple[bool, int]]()
    model: Any = torch.nn.Linear(2, 2)

    def loss_of(model: Any, spec: Any, size: int, length: int) -> Any:
        seen.append((model.training, size))
        return model(torch.zeros(size, 2)).sum()

    monkeypatch.setattr(dry, "loss_of", loss_of)
    dry.step_bytes(model, Spec.__new__(Spec), 3, 5, bf16=False, twice=False, several=several)
    assert seen == [*[(True, 3)] * passes, (False, 12)]


@pytest.mark.parametrize(("own", "side"), [(40, 40), ((48, 48), 48), (None, dry.PIXELS)])
def test_images_are_as_large_as_the_network_says(own: Any, side: int) -> None:
    model: Any = SimpleNamespace(net=SimpleNamespace(config=SimpleNamespace(image_size=own, num_channels=1)))
    spec: Any = SimpleNamespace(inputs=ImageInput())
    assert dry.inputs_of(model, spec, 2, 0)["pixel_values"].shape == (2, 1, side, side)


def test_a_masked_language_model_computes_words_where_they_are_hidden_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(4, 7)
            self.config = None

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.head

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.head(torch.zeros(*input_ids.shape, 4))

    net = Net()
    monkeypatch.setattr(dry, "is_decoder", lambda config: False)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, **inputs: Any) -> Any:
            return self.net(**inputs)

    spec: Any = SimpleNamespace(auto_class="AutoModelForMaskedLM", inputs=None)
    found = dry.loss_of(Whole(), spec, 4, 10)  # type: ignore[arg-type]
    hidden = round(dry.MASKED * 40)
    expected = hidden * -net.head.bias.log_softmax(-1)[0]
    torch.testing.assert_close(found, expected)
    assert not net.head._forward_pre_hooks
