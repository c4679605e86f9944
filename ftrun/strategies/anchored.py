"""What L2-SP and EWC share: an anchor on the pretrained weights, or on what low-rank updates add to them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ftrun.errors import ConfigError
from ftrun.runs.terminal import say
from ftrun.settings.checks import at_least, auto_or, one_of
from ftrun.strategies.full import Full

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from ftrun.settings.schema import Settings
    from ftrun.strategies.base import Memory
    from ftrun.strategies.penalty import Anchor, Update, UpdateAnchor

    Strengths = dict[str, Tensor | float]

LITTLE = 0.05  # share of a move undone, below which a hold is reported to do almost nothing


@dataclass(frozen=True)
class Left:
    """The share of the harm of a free drift that is to be left, in the estimate of `left_of_harm`.

    In plain gradient descent a weight that the task needs moves fast in spite of a pull, the others hardly
    move. So the pull may be stronger than under Adam, where every weight moves at about one speed.
    """

    adaptive: float  # under Adam
    plain: float  # under gradient descent


@dataclass
class Anchored(Full, ABC):
    """Pulls after every optimizer step, or adds the pull's gradient to the loss's.

    What trains of the checkpoint's own weights is anchored at its start; a new head never is. Low-rank
    updates are anchored by what they add to their weights, in the loss form: the other one is elementwise.
    """

    apply: str  # proximal | loss

    copies: ClassVar[int] = 1  # the anchors
    strength: ClassVar[str]  # the setting that is the factor of every pull
    left: ClassVar[Left]  # of the harm that an even drift would do: what auto leaves

    def __post_init__(self) -> None:
        one_of("apply", self.apply, ["proximal", "loss"])
        asked = self.asked()
        auto_or(self.strength, asked)
        self.factor = 1.0 if isinstance(asked, str) else asked  # with auto until `remember` has found it
        at_least(self.strength, self.factor, 0)
        self.anchors: list[Anchor] = []
        self.updates: UpdateAnchor | None = None

    def check(self, settings: Settings) -> None:
        optimizer = settings.train.optimizer
        if optimizer in ("lars", "muon") and self.apply == "proximal":
            raise ConfigError(
                f"train.optimizer={optimizer} takes a step of its own length for each weight, and"
                " apply=proximal pulls by the learning rate; possible: apply=loss, or train.optimizer=sgd"
            )

    @abstractmethod
    def asked(self) -> float | str:
        """The factor of every pull as it was set, a number or auto."""

    def settled(self) -> dict[str, float]:
        return {self.strength: self.factor} if isinstance(self.asked(), str) else {}

    @abstractmethod
    def strengths(self, memory: Memory, names: list[str]) -> tuple[Strengths, dict[str, Tensor]]:
        """How strongly each weight is held, and where to, by name; no target is where it now stands."""

    def head_strength(self) -> float:
        """How strongly a new head is pulled to zero."""
        return 0.0

    def remember(self, memory: Memory) -> None:
        from ftrun.models.split import own, part_of
        from ftrun.strategies.penalty import Anchor, UpdateAnchor

        model = memory.model
        head, held, updates = self.anchored(memory)
        if self.settled():
            self.settle(memory, list(held), updates)
        strengths, targets = self.strengths(memory, [*held, *updates])
        if held and self.apply == "proximal":
            say(self.strength_note(Anchor(held, dict(held), {n: strengths[n] for n in held}), memory.lr_sum))
        start = {
            name: (part_of(targets[name], p) if name in targets else own(p).detach()).clone().to(p.device)
            for name, p in held.items()
        }
        parts = {name: placed(strengths[name], p) for name, p in held.items()}
        self.anchors = [Anchor(held, start, parts)]
        if updates:
            theirs = {name: each.part(strengths[name]) for name, each in updates.items()}
            theirs = {n: s if isinstance(s, float) else s.to(updates[n].up.device) for n, s in theirs.items()}
            self.updates = UpdateAnchor(updates, theirs)
        if self.head_strength() > 0 and not memory.shared:
            new = {name: p for name, p in model.trained().items() if name in head}
            zero = {name: own(p).detach() * 0 for name, p in new.items()}
            self.anchors.append(Anchor(new, zero, dict.fromkeys(new, self.head_strength())))

    def anchored(self, memory: Memory) -> tuple[set[str], dict[str, Parameter], dict[str, Update]]:
        """The names of a new head, the weights that are held and the low-rank updates that are, by name.

        ConfigError where there is nothing to hold.
        """
        from ftrun.models.adapted.beside import Beside
        from ftrun.models.adapted.updates import is_sum
        from ftrun.strategies.penalty import updates_of

        model = memory.model
        head = set() if memory.shared else {name for name, _ in model.head_parameters()}
        if isinstance(model.adapter, Beside):
            raise ConfigError(
                "protect= holds pretrained weights; strategy=adapter, prompt and prefix do not change them"
            )
        if model.adapter is not None and not is_sum(model.adapter):
            raise ConfigError(
                "protect= holds pretrained weights and what lora, lora_plus, rslora and pissa add to them;"
                " ia3, vera and variant=dora rescale them; possible: strategy=lora"
            )
        updates = updates_of(model) if model.adapter is not None else {}
        held = {n: p for n, p in model.trained().items() if n not in head and ".lora_" not in n}
        if not held and not updates:
            raise ConfigError("protect= has nothing to hold: this strategy trains no pretrained weight")
        return head, held, updates

    def settle(self, memory: Memory, held: list[str], updates: dict[str, Update]) -> None:
        """Find the factor from the strengths that the weights would have with a factor of one."""
        from ftrun.strategies.penalty import sampled
        from ftrun.strategies.strength import that_leaves

        self.factor = 1.0
        left = self.left.adaptive if memory.adaptive else self.left.plain
        numbers = {name: p.numel() for name, p in memory.model.named_parameters()}
        shape = sampled(self.strengths(memory, [*held, *updates])[0], numbers)
        rates = sampled(self.rates(memory, held, updates), numbers)
        self.factor = float(f"{that_leaves(left, shape, rates):.3g}")
        say(
            f"hold: {self.strength}=auto is {self.factor:g}, at which a drift over learning rates of"
            f" {memory.lr_sum:.3g} in all does {left:.0%} of the harm that it would do freely"
        )

    def rates(self, memory: Memory, held: list[str], updates: dict[str, Update]) -> Strengths:
        """The sum of the rates at which a pull of strength one acts on each weight, by name.

        A proximal step acts at the learning rate. Where the pull is a gradient, the optimizer divides it by
        the size of the weight's gradients as it does these; that of an update reaches it through its factors.
        """
        if self.apply == "proximal" and not updates:
            return dict.fromkeys(held, memory.lr_sum)
        sizes = memory.sizes() if memory.adaptive else {}
        names = {id(p): name for name, p in memory.model.named_parameters()}
        acts = {n: 1.0 if self.apply == "proximal" else 1 / sizes.get(n, 1.0) for n in held}
        acts |= {n: each.pace() / sizes.get(names[id(each.up)], 1.0) for n, each in updates.items()}
        return {name: memory.lr_sum * value for name, value in acts.items()}

    def strength_note(self, anchor: Anchor, lr_sum: float) -> str:
        """How strong the hold is, for the terminal: a pull that does nothing looks like one that works."""
        undone = anchor.share_undone(lr_sum)
        most = float(undone.sort().values[len(undone) * 9 // 10])
        whose = (
            "every weight" if undone.min() == undone.max() else "the tenth of the weights held most strongly"
        )
        note = f"hold: the run undoes {most:.2%} of a move for {whose}"
        if not 0 < most < LITTLE:
            return note
        enough = self.factor * math.log(2) / -math.log1p(-most)
        return f"{note}, almost nothing; {self.strength}={enough:.0e} would undo half"

    def add_gradient(self) -> None:
        if self.apply == "loss":
            for anchor in self.anchors:
                anchor.add_gradient()
        if self.updates is not None:
            self.updates.add_gradient()

    def pull(self, rates: dict[str, float]) -> None:
        if self.apply == "proximal":
            for anchor in self.anchors:
                anchor.pull(rates)

    def pulls(self) -> bool:
        return self.apply == "proximal"

    def penalty(self) -> float | None:
        if not self.anchors:
            return None
        held = sum(anchor.penalty() for anchor in self.anchors)
        return held + (self.updates.penalty() if self.updates is not None else 0.0)


def placed(strength: Tensor | float, weight: Parameter) -> Tensor | float:
    """The strengths of this process's rows of a weight, on its device; one for all is a number."""
    from ftrun.models.split import part_of

    return strength if isinstance(strength, float | int) else part_of(strength, weight).to(weight.device)
