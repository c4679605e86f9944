"""The derivative of log p(y|x) by the logits, for the labels y that the expectation is taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ftrun.settings.seeds import stream

KINDS = ("auto", "exact", "sampled", "empirical")
EXACT_CLASSES = 20  # up to so many, "auto" pays one backward pass for each class but one
IGNORED = -100  # label of a position without a target


@dataclass
class Factors:
    """Vectors c over a batch's logits z: squared gradients of ⟨c, z⟩ add up to the Fisher information."""

    count: int
    draw: Callable[[int], Tensor]  # shaped as the logits


@dataclass
class LabelSampling:
    """Which labels y the expectation is taken over."""

    kind: str
    samples: int
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind}: one of {', '.join(KINDS)}")
        if self.samples < 1:
            raise ValueError(f"samples={self.samples}: at least 1")

    def factors(self, logits: Tensor, labels: Tensor | None, number: int) -> Factors:
        """For logits (batch, classes) or (batch, length, vocabulary); `number` is the first example's.

        Labels of the logits' shape, 0 or 1, say that every label is an answer of its own, yes or no.
        """
        if logits.dim() not in (2, 3):
            raise ValueError(
                f"logits of shape {tuple(logits.shape)}: expected (batch, classes) or"
                " (batch, length, vocabulary)"
            )
        kind = self.kind_for(logits)
        if labels is not None and labels.shape == logits.shape and logits.shape[1] > 1:
            return self.independent(logits, labels, number, kind)
        if kind == "exact":
            vectors = exact(logits)
            return Factors(len(vectors), vectors.__getitem__)
        if labels is None and (kind == "empirical" or logits.dim() == 3):
            raise ValueError(f"kind={kind} with logits of shape {tuple(logits.shape)} needs labels")
        if logits.dim() == 2 and logits.shape[1] == 1:
            noise = self.noise(logits, labels, number, kind)
            return Factors(1, lambda k: noise)
        used = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
        if logits.dim() == 3 and labels is not None:
            used = labels != IGNORED
        p = logits[used].softmax(-1)  # (positions, classes)
        if labels is not None and kind == "empirical":
            drawn = labels[used][None]
        else:
            drawn = self.labels(p, used, number)
        scale = len(drawn) ** -0.5

        def draw(k: int) -> Tensor:
            values, at = -p, (torch.arange(len(p), device=p.device), drawn[k])
            values[at] = 0
            values[at] = -values.sum(-1)  # 1 - p of the label, without the cancellation where p is almost 1
            column = torch.zeros_like(logits)
            column[used] = values * scale
            return column

        return Factors(len(drawn), draw)

    def independent(self, logits: Tensor, labels: Tensor, number: int, kind: str) -> Factors:
        """For a Bernoulli on each logit: y - p, whose expected square is p(1 - p)."""
        p = logits.double().sigmoid()
        if kind == "exact":
            root = (p * (1 - p)).sqrt().to(logits)
            at = torch.arange(logits.shape[1], device=logits.device)
            return Factors(len(at), lambda k: root * (at == k))
        if kind == "empirical":
            found = (labels.to(p) - p).to(logits)
            return Factors(1, lambda k: found)
        chance = torch.stack(
            [
                torch.rand(self.samples, p.shape[1], dtype=p.dtype, generator=self.generator(number + row))
                for row in range(len(p))
            ],
            1,
        ).to(p.device)  # (samples, batch, labels)
        drawn = (((chance < p).to(p) - p) * self.samples**-0.5).to(logits)
        return Factors(self.samples, drawn.__getitem__)

    def kind_for(self, logits: Tensor) -> str:
        if self.kind == "exact" and logits.dim() == 3:
            raise ValueError(
                "kind=exact: there are too many answers at several positions; possible: sampled, empirical"
            )
        if self.kind != "auto":
            return self.kind
        return "exact" if logits.dim() == 2 and logits.shape[1] <= EXACT_CLASSES else "sampled"

    def generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream(self.seed, "fisher", number))

    def labels(self, p: Tensor, used: Tensor, number: int) -> Tensor:
        """(samples, positions) of labels drawn from p, on the CPU and in fp64 whatever p is."""
        drawn = []
        for row, own in enumerate(p.split(used.flatten(1).sum(1).tolist() if used.dim() > 1 else 1)):
            bounds = own.double().cpu().cumsum(-1)
            chance = torch.rand(
                len(own), self.samples, dtype=torch.float64, generator=self.generator(number + row)
            )
            drawn.append(torch.searchsorted(bounds, chance * bounds[:, -1:], right=True))
        return torch.cat(drawn).clamp(max=p.shape[-1] - 1).t().to(p.device)

    def noise(self, logits: Tensor, labels: Tensor | None, number: int, kind: str) -> Tensor:
        """(batch, 1), the root of the mean of (y - z)² over the true y, or drawn ones of variance one."""
        if labels is not None and kind == "empirical":
            return (labels.view_as(logits) - logits).abs()
        drawn = [
            torch.randn(self.samples, dtype=torch.float64, generator=self.generator(number + row))
            for row in range(len(logits))
        ]
        return torch.stack(drawn).square().mean(1, keepdim=True).sqrt().to(logits)


def exact(logits: Tensor) -> Tensor:
    """(classes - 1, batch, classes): columns c of which Σ ccᵀ = diag(p) - ppᵀ; ones for a single output."""
    p = logits.double().softmax(-1)
    if p.shape[1] == 1:
        vectors = torch.ones_like(p)[None]
    elif p.shape[1] == 2:
        half = p.prod(1).sqrt()
        vectors = torch.stack([-half, half], 1)[None]
    else:
        values, vectors = torch.linalg.eigh(torch.diag_embed(p) - p[:, :, None] * p[:, None, :])
        vectors = (vectors * values.clamp(min=0).sqrt()[:, None, :]).movedim(-1, 0)[1:]  # least: always 0
    return vectors.to(logits.dtype)
