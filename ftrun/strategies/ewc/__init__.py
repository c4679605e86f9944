"""Elastic weight consolidation: weights held as earlier tasks need them (Kirkpatrick et al. 2017)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.runs.terminal import say
from ftrun.settings.checks import at_least, one_of
from ftrun.settings.seeds import stream
from ftrun.strategies.anchored import Anchored, Left

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from ftrun.models.model import Model
    from ftrun.strategies.anchored import Strengths
    from ftrun.strategies.base import Memory, SourceTask
    from ftrun.strategies.penalty import Update
    from ftrun.tasks.dataset import Batch

FILE = "fisher.safetensors"
DRAWS = 8  # labels per example where they are sampled; of a text one, at each of its positions
BATCH = 16  # examples


@dataclass
class Ewc(Anchored):
    """pull·(N₁/N₂)/2 · Σ (Fᵢ + floor)(θᵢ − θ*ᵢ)² with the diagonal Fisher information F of the source.

    N₁ and N₂ are the examples of the source and of this task: with a mean loss their ratio is what Bayes'
    rule asks for, so pull=1 is the Laplace approximation. floor > 0 is L2-SP-Fisher (Li et al. 2018). The
    source of a source is held too: online, F ← gamma·F + F_new with one anchor at the newest θ* (Schwarz et
    al. 2018); else the sum of one quadratic per task, each at its own θ*.
    """

    pull_: float | str
    floor: float
    samples: int
    fisher: str
    apply: str
    online: bool
    gamma: float
    source_fisher: str | None

    needs_source: ClassVar[bool] = True
    copies: ClassVar[int] = 2  # the anchors, and a strength for each weight
    strength: ClassVar[str] = "pull"
    left: ClassVar[Left] = Left(adaptive=0.2, plain=0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("floor", self.floor, 0)
        at_least("samples", self.samples, 1)
        one_of("fisher", self.fisher, ["auto", "exact", "sampled", "empirical"])
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma is between 0 and 1, not {self.gamma:g}")
        if self.source_fisher is not None and not Path(self.source_fisher).is_file():
            raise ConfigError(f"source_fisher={self.source_fisher}: no such file")

    def asked(self) -> float | str:
        return self.pull_

    def anchored(self, memory: Memory) -> tuple[set[str], dict[str, Parameter], dict[str, Update]]:
        if memory.model.adapter is not None and not self.online:
            raise ConfigError(
                "online=false anchors weights where each task left them;"
                " low-rank updates have no such weights"
            )
        return super().anchored(memory)

    def strengths(self, memory: Memory, names: list[str]) -> tuple[Strengths, dict[str, Tensor]]:
        fisher, targets = self.remembered(memory, names)
        factor = self.factor / memory.rows
        floor = self.factor * self.floor * memory.pasts[-1].rows / memory.rows
        return {name: factor * fisher[name] + floor for name in names}, targets

    def measure(self, memory: Memory) -> None:
        """Write the Fisher information, which takes a network in one piece, into the run's directory."""
        _, held, updates = self.anchored(memory)
        self.remembered(memory, [*held, *updates])

    def remembered(self, memory: Memory, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The Fisher information summed over all examples of all earlier tasks, and the anchor, by name."""
        from ftrun.strategies.ewc import fisher

        kept = Path(self.source_fisher) if self.source_fisher else memory.directory / FILE
        if not kept.is_file():
            summed, anchor = self.measured(memory, names)
            about = {"source": memory.pasts[-1].name, "rows": str(memory.pasts[-1].rows), "kind": self.fisher}
            anchors = {f"anchor/{name}": value for name, value in anchor.items()}
            fisher.save(memory.directory / FILE, {**summed, **anchors}, about)
        elif self.source_fisher and not (memory.directory / FILE).is_file():
            shutil.copyfile(kept, memory.directory / FILE)  # for the runs that have this one as their source
        found, _ = fisher.load(kept)
        summed = {name: value for name, value in found.items() if not name.startswith("anchor/")}
        if summed.keys() != set(names):
            odd = sorted(summed.keys() ^ set(names))
            raise ConfigError(
                f"{kept} belongs to other weights than this strategy trains:"
                f" {len(odd)} differ, such as {odd[0]}"
            )
        start = len("anchor/")
        return summed, {name[start:]: value for name, value in found.items() if name.startswith("anchor/")}

    def measured(self, memory: Memory, names: list[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """From the newest earlier task, and what that task's own run remembered of those before."""
        from ftrun.strategies.ewc import fisher

        now = {name: p.detach().cpu().clone() for name, p in memory.model.named_parameters() if name in names}
        latest = memory.pasts[-1]
        summed = {
            name: latest.rows * value
            for name, value in self.of(latest, memory.model, names, memory.seed).items()
        }
        if memory.earlier is None or not (memory.earlier / FILE).is_file():
            if len(memory.pasts) > 1:
                say(f"ewc holds only {latest.name}: {memory.earlier} has no {FILE} of the tasks before it")
            return summed, now
        found, _ = fisher.load(memory.earlier / FILE)
        if not set(names) <= found.keys():
            raise ConfigError(f"{memory.earlier / FILE} belongs to other weights than this strategy trains")
        if self.online:
            return {name: self.gamma * found[name] + summed[name] for name in names}, now
        total = {name: found[name] + summed[name] for name in names}
        share = {name: (found[name] / total[name]).nan_to_num(0.0) for name in names}  # of the earlier tasks
        before = {name: found.get(f"anchor/{name}", now[name]) for name in names}
        return total, {name: now[name] + share[name] * (before[name] - now[name]) for name in names}

    def of(self, past: SourceTask, model: Model, names: list[str], seed: int) -> dict[str, Tensor]:
        """The mean Fisher information of an earlier task on a seeded choice of its training examples.

        Zero for a weight that has no part in that task, such as the pooler in a language model.
        """
        import torch

        from ftrun.strategies.ewc.fisher import estimate

        if past.data.spec.windows:
            raise ConfigError(
                f"strategy=ewc measures one answer per example, and {past.name} was learned with"
                " task.long=windows; possible: strategy=l2sp, replay, or a source with task.long=truncate"
            )
        batches = chosen_batches(past, self.samples, seed)
        labels = batches[0]["labels"]
        several = labels.dim() > 1 and not labels.is_floating_point()
        if several and self.fisher == "exact":
            raise ConfigError(
                f"fisher=exact needs one answer per example, {past.name} has one at each of several"
                " positions; possible: auto, sampled, empirical"
            )
        own = dict(model.named_parameters())
        parts = parts_in(past, batches[-1], {name: own[name] for name in names})
        draws = 1 if several else DRAWS
        for batch in batches:
            if batch["labels"].is_floating_point():
                batch["labels"] = batch["labels"].float()
        theirs = estimate(
            past.model,
            batches,
            parts.values(),
            kind=self.fisher,
            samples=draws,
            seed=stream(seed, "fisher", 1),
        )
        nothing = {name: torch.zeros(own[name].shape) for name in names if name not in parts}
        return {name: theirs[other] for name, other in parts.items()} | nothing


def chosen_batches(past: SourceTask, samples: int, seed: int) -> list[Batch]:
    """Batches of a seeded choice of an earlier task's training examples, with the logits of all positions."""
    import torch

    from ftrun.data.batching import sorted_batches

    dataset = past.data.dataset("train")
    examples = dataset.examples
    generator = torch.Generator().manual_seed(stream(seed, "fisher"))
    chosen = torch.randperm(len(examples), generator=generator)[:samples].tolist()
    batches = [
        dataset.collate([examples[chosen[row]] for row in rows])
        for rows in sorted_batches([examples[row].size for row in chosen], BATCH)
    ]
    for batch in batches:
        batch.pop("positions", None)
    return batches


def parts_in(past: SourceTask, batch: Batch, parameters: dict[str, Parameter]) -> dict[str, str]:
    """The names that another network on the same backbone has for these weights, of those it uses."""
    import torch

    from ftrun.tasks.objective import outputs_of

    wanted = {name: parameter.requires_grad for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    whole = outputs_of(past.model, past.data.objective, batch).sum()
    found = torch.autograd.grad(whole, list(parameters.values()), allow_unused=True)
    for name, parameter in parameters.items():
        parameter.requires_grad_(wanted[name])
    theirs = {id(parameter): name for name, parameter in past.model.named_parameters()}
    used = zip(parameters.items(), found, strict=True)
    return {name: theirs[id(parameter)] for (name, parameter), grad in used if grad is not None}
