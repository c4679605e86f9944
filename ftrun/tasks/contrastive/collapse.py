"""Detection of gradient spikes and of collapsed embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field

from ftrun.errors import Diverged
from ftrun.runs.terminal import say
from ftrun.settings.checks import one_of

SPIKE = 100.0  # a gradient norm above it in the first epoch is a spike
COLLAPSED = 2.0  # an effective rank below it is a collapse


@dataclass
class Watch:
    """Warns once of each problem, or ends the run."""

    on_instability: str
    warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        one_of("task.on_instability", self.on_instability, ["warn", "stop"])

    def gradient(self, norm: float, step: int, tau: float) -> None:
        """Check the gradient norm of a step in the first epoch."""
        if norm > SPIKE:
            self.alarm(
                f"the warm-up of the temperature is too short: gradient norm {norm:,.0f} at step {step},"
                f" in the first epoch, at temperature {tau:.3g}; possible: task.schedule_tau=cosine, a larger"
                " task.tau_warmup or task.tau, a lower train.lr"
            )

    def embedding(self, rank: float, width: int, step: int, similarity: float) -> None:
        """Check the embeddings of a step after the first epoch."""
        if rank < COLLAPSED:
            self.alarm(
                f"the embedding has collapsed: effective rank {rank:.2f} of {width} at step {step},"
                f" cosine similarity {similarity:.3f} of different images; possible: a lower train.lr,"
                " a longer train.warmup, a larger train.batch_size"
            )

    def alarm(self, text: str) -> None:
        kind = text.partition(":")[0]
        if self.on_instability == "stop":
            raise Diverged(f"{text} (task.on_instability=stop)")
        if kind not in self.warned:
            self.warned.add(kind)
            say(f"warning: {text}")
