"""Schedule-free AdamW, of which each group begins when its weights begin to train."""

from __future__ import annotations

from typing import Any

from pytorch_optimizer import ScheduleFreeAdamW


class ScheduleFree(ScheduleFreeAdamW):
    """AdamW between a fast sequence z and its average x (Defazio et al. 2024, "The Road Less Scheduled").

    The weights that gradients are taken at are y = (1 - β₁)·z + β₁·x with β₁ = 0.9, as in the paper. Steps
    are counted by group and correct its second moments, so that a group without gradients waits.
    """

    param_groups: list[dict[str, Any]]

    def step(self, closure: Any = None) -> None:
        every = self.param_groups
        self.param_groups = [group for group in every if any(p.grad is not None for p in group["params"])]
        super().step()
        self.param_groups = every
