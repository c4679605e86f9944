"""Muon for the matrices of hidden layers, and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from typing import Any

import torch


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal before each step (Jordan et al. 2024), by torch.optim.Muon.

    A matrix of (A, B) moves by 0.2·√max(A, B) times the rate, so that its numbers move as far as AdamW's do
    and the rate and weight decay of AdamW go for both (Liu et al. 2025, "Muon is Scalable for LLM Training").
    Momentum 0.95, Nesterov's, and five Newton-Schulz iterations are torch's and Jordan's. Groups of `others`
    are trained by AdamW (betas 0.9 and 0.999, eps 1e-8).
    """

    def __init__(
        self, hidden: list[dict[str, Any]], others: list[dict[str, Any]], lr: float, fused: bool
    ) -> None:
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=lr, adjust_lr_fn="match_rms_adamw")
        ]
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=lr, fused=fused))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        for part in self.parts:
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for part in self.parts:
            part.step()
