"""The optimizer and its parameter groups, one per stage and weight decay, or fewer where rates are equal."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.errors import ConfigError
from ftrun.models.few_bits.quantized import size_of
from ftrun.models.split import is_split
from ftrun.training.updates.rates import rates_of

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Train

FROZEN_IN_PRACTICE = 1e-4  # below this share of the rate a stage hardly changes during fine-tuning in fp32


@dataclass
class Group:
    """The trained parameters of one stage, or of several, that share a rate and a weight decay."""

    stage: int  # of several, the highest
    scale: float  # share of the learning rate
    weight_decay: float
    parameters: dict[str, nn.Parameter]
    hidden: bool = False  # matrices of layers, for an optimizer that moves these in a way of their own


def groups(model: Model, train: Train, factor: Callable[[str], float] = lambda name: 1.0) -> list[Group]:
    """The parameter groups; every trained parameter is in exactly one.

    With L layers and the factor d, the head and the top layer have the full rate, layer i has
    d^(L-1-i) and the embeddings d^L of it (Howard & Ruder 2018 with d = 1/2.6). Biases, norms and other
    vectors have no weight decay (Devlin et al. 2019, reference code). A weight's rate is `factor` of its name
    times that of its stage, or the one that train.rates gives it; ConfigError as by `rates_of`.
    """
    norms = model.norms()
    own = rates_of(model, train, factor)
    found: dict[tuple[int, float, bool, bool], Group] = {}
    for name, parameter in model.trained().items():
        stage = model.stage_of(name)
        decayed = parameter.ndim > 1 and name not in norms
        scale = train.layer_decay ** min(model.depth - stage, model.depth) if stage <= model.depth else 1.0
        scale = own[name] / train.lr if name in own else scale * factor(name)
        decay = train.weight_decay if decayed else 0.0
        hidden = train.optimizer == "muon" and 1 <= stage <= model.depth and parameter.ndim == 2
        group = found.setdefault((stage, -scale, decayed, hidden), Group(stage, scale, decay, {}, hidden))
        group.parameters[name] = parameter
    return [found[key] for key in sorted(found)]


def merged(found: list[Group], course: Callable[[int], Hashable]) -> list[Group]:
    """As few groups as have the same rates and decay; `course` tells apart stages whose rates differ in time.

    An optimizer launches its kernels once for each group, and updates a weight the same in any company.
    """
    kept: dict[Hashable, Group] = {}
    for group in found:
        key = (group.scale, group.weight_decay, course(group.stage), group.hidden)
        former = kept.pop(key, group)  # the group of the highest stage is the last
        kept[key] = replace(group, parameters=former.parameters | group.parameters)
    return list(kept.values())


def optimizer(found: list[Group], train: Train, device: torch.device) -> torch.optim.Optimizer:
    """AdamW (betas 0.9 and 0.999, eps 1e-8) or another; fused where torch supports it.

    adamw8bit keeps the moments of weights from 4,096 numbers on in 8 bits, in blocks of 256 with a scale each
    (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"), by bitsandbytes.
    Muon is for the matrices of layers, with AdamW for the rest. Adafactor keeps means of squared gradients by
    row and column (Shazeer and Stern 2018), at the rate that is set, relative neither to the step nor to the
    weight's size, as transformers' Trainer has it. Schedule-free AdamW (Defazio et al. 2024) trains between a
    fast sequence and its average, which is what is scored and saved.
    LARS scales the rate of each weight by 0.001·|w|/|g| (You et al. 2017); biases, norms and other vectors
    have neither this scaling nor weight decay, as in SimCLR.
    """
    described = [
        {
            "params": list(g.parameters.values()),
            "weight_decay": g.weight_decay,
            "scale": g.scale,
            "stage": g.stage,
        }
        for g in found
    ]
    fused = device.type in ("cpu", "cuda")
    if train.optimizer == "muon":
        return muon(found, described, train, fused)
    if train.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(described, lr=train.lr, scale_parameter=False, relative_step=False)
    if train.optimizer == "schedulefree":
        from ftrun.training.updates.schedule_free import ScheduleFree

        return ScheduleFree(described, lr=train.lr)
    if train.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(described, lr=train.lr)
    if train.optimizer == "lars":
        from pytorch_optimizer import LARS

        return LARS(described, lr=train.lr, momentum=train.momentum)
    if train.optimizer == "sgd":
        whole = not any(
            is_split(p) for g in found for p in g.parameters.values()
        )  # else it has no fused kernel
        return torch.optim.SGD(described, lr=train.lr, momentum=train.momentum, fused=fused and whole)
    return torch.optim.AdamW(described, lr=train.lr, fused=fused)


def muon(
    found: list[Group], described: list[dict[str, Any]], train: Train, fused: bool
) -> torch.optim.Optimizer:
    """Muon for the groups of matrices; ConfigError where none of these trains."""
    from ftrun.training.updates.muon import Muon

    hidden, others = (
        [own for own, group in zip(described, found, strict=True) if group.hidden is kind]
        for kind in (True, False)
    )
    if not hidden:
        raise ConfigError(
            "train.optimizer=muon moves matrices of hidden layers, and none of them trains; possible:"
            " train.optimizer=adamw"
        )
    return Muon(hidden, others, train.lr, fused)


def refuse_optimizer(train: Train, model: Model) -> None:
    """ConfigError for an optimizer of a package that is not installed, or that does not suit the network."""
    if train.optimizer == "schedulefree" and model.batch_norms():
        raise ConfigError(
            "train.optimizer=schedulefree scores weights that are not those that were trained with, and the"
            f" statistics of batch normalisation in {model.name} are of the latter; possible: adamw"
        )
    if train.optimizer == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "train.optimizer=adamw8bit needs bitsandbytes: pip install 'ftrun[quantized]'; possible: adamw"
        )


def plan(model: Model, found: list[Group], lr: float, opens: dict[int, int], steps: int) -> list[str]:
    """A line per stage: trained parameters, rate, weight decay and the step at which it is unfrozen."""
    names = model.stage_names()
    totals = dict.fromkeys(range(len(names)), 0)
    for name, parameter in model.named_parameters():
        totals[model.stage_of(name)] += size_of(parameter)
    rows = []
    for stage, name in enumerate(names):
        if not totals[stage]:
            continue
        here = [g for g in found if g.stage == stage]
        count = sum(p.numel() for g in here for p in g.parameters.values())
        decay = max((g.weight_decay for g in here), default=0.0)
        rates = " to ".join(dict.fromkeys(f"{lr * g.scale:.3g}" for g in reversed(here)))
        text = (
            f"{count:,} of {totals[stage]:,} trained, rate {rates}, weight decay {decay:g}" if count else ""
        )
        text += ", matrices by muon" if any(g.hidden for g in here) else ""
        if count and opens.get(stage):
            text += f", unfrozen at step {opens[stage]:,}" if opens[stage] < steps else ", never unfrozen"
        rows.append((name, text or f"frozen ({totals[stage]:,})"))
    lines = merge_equal(rows)
    lowest = min((g for g in found), key=lambda g: g.scale, default=None)
    if lowest and lowest.scale < FROZEN_IN_PRACTICE:
        lines.append(
            f"{names[lowest.stage]}: {lowest.scale:.1e} of the rate, effectively frozen (train.layer_decay or"
            " train.rates)"
        )
    return lines


def merge_equal(rows: list[tuple[str, str]]) -> list[str]:
    """Merge the lines of neighbouring layers with the same text."""
    lines: list[list[str]] = []
    for name, text in rows:
        if lines and lines[-1][2] == text and name.startswith("layer"):
            lines[-1][1] = name
        else:
            lines.append([name, name, text])
    return [f"{a if a == b else f'{a} to {b.split()[-1]}'}: {text}" for a, b, text in lines]
