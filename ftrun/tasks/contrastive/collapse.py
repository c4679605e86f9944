"""Says when gradients spike or the embedding collapses, or ends the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from ftrun.errors import Diverged
from ftrun.runs.terminal import say
from ftrun.settings.checks import one_of

SPIKE = 100.0  # norm of a gradient in the first epoch from which on it is called one
COLLAPSED = 2.0  # an effective rank below it


@dataclass
class Watch:
    """Says what goes wrong once, or ends the run."""

    on_instability: str
    said: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        one_of("task.on_instability", self.on_instability, ["warn", "stop"])

    def gradient(self, norm: float, step: int, tau: float) -> None:
        """A look at a gradient of the first epoch."""
        if norm > SPIKE:
            self.alarm(
                f"warm-up of the temperature is too short: gradient norm {norm:,.0f} at step {step}, in the"
                f" first epoch, at temperature {tau:.3g}; possible: task.schedule_tau=cosine, a larger"
                " task.tau_warmup or task.tau, a lower train.lr"
            )

    def embedding(self, rank: float, width: int, step: int, similarity: float) -> None:
        """A look at the embeddings after the first epoch."""
        if rank < COLLAPSED:
            self.alarm(
                f"the embedding collapses: effective rank {rank:.2f} of {width} at step {step}, different"
                f" pictures are {similarity:.3f} similar; possible: a lower train.lr, a longer train.warmup,"
                " a larger train.batch_size"
            )

    def alarm(self, text: str) -> None:
        kind = text.partition(":")[0]
        if self.on_instability == "stop":
            raise Diverged(f"{text} (task.on_instability=stop)")
        if kind not in self.said:
            self.said.add(kind)
            say(f"warning: {text}")
