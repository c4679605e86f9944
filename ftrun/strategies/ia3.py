"""(IA)³: vectors rescale keys, values and the inner activations of feed-forward blocks (Liu et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model


@dataclass
class Ia3(Strategy):
    """softmax(Q(l_k ∘ Kᵀ))(l_v ∘ V), and l_ff ∘ γ(W₁x) before W₂; the vectors start at one (layers by peft).

    Where queries, keys and values come of one layer, all of its output is scaled, which reaches no other
    functions: scaling a query is scaling a key.
    """

    pace: ClassVar[Pace] = Pace(rate=100.0, steps=1.5)  # 3e-3 in the paper, for T5

    def fits(self, model: Model) -> None:
        from ftrun.models.layers import scaled_layers

        scaled_layers(model)

    def prepare(self, model: Model) -> None:
        from peft import IA3Config

        from ftrun.models.adapted.updates import inject
        from ftrun.models.layers import scaled_layers, transposed

        outputs, inputs = scaled_layers(model)
        inject(
            model,
            IA3Config(
                target_modules=[*outputs, *inputs],
                feedforward_modules=inputs,
                fan_in_fan_out=transposed(model),
            ),
        )
