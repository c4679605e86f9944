"""Prompt tuning: vectors in front of a text's embeddings train, the network does not (Lester et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ftrun.errors import ConfigError
from ftrun.settings.checks import at_least
from ftrun.settings.habits import Pace
from ftrun.strategies.base import Strategy

if TYPE_CHECKING:
    from ftrun.models.model import Model
    from ftrun.settings.schema import Settings


@dataclass
class Prompt(Strategy):
    """Train `tokens` vectors in front of every text, and the head.

    They start as the embeddings of random tokens. Heads read the text's own tokens, as without a prompt.
    """

    pace: ClassVar[Pace] = Pace(rate=100.0, steps=1.5)  # as vectors of prefix, vera and ia3

    foldable: ClassVar[bool] = False  # no weight of the network does what a further token does

    tokens: int

    def __post_init__(self) -> None:
        at_least("strategy=prompt: tokens", self.tokens, 1)

    def check(self, settings: Settings) -> None:
        spec, name = settings.task.spec(None), settings.task.name
        if not spec.new_head or spec.inputs.unit != "tokens":
            raise ConfigError(
                f"strategy=prompt puts vectors in front of a text that gets an answer, and task={name} has"
                f" {'running text' if spec.inputs.unit == 'tokens' else 'images'};"
                " possible: strategy=prefix, lora or bitfit"
            )

    def fits(self, model: Model) -> None:
        from ftrun.models.adapted.beside import refuse_random
        from ftrun.models.adapted.prompts import embeddings_in

        refuse_random("prompt", model)
        embeddings_in(model)

    def chosen(self, settings: Settings, model: Model) -> tuple[dict[str, Any], str]:
        """Nothing is chosen; ConfigError where text and prompt are more tokens than there are positions."""
        from ftrun.models.load import positions

        longest, most = settings.task.spec(None).inputs.max_length, positions(model.net.config)
        if longest + self.tokens > most:
            fewer = (
                f"task.max_length={most - self.tokens}, or "
                if self.tokens < most // 2
                else "fewer tokens, or "
            )
            raise ConfigError(
                f"strategy=prompt: tokens={self.tokens} in front of task.max_length={longest} are more than"
                f" the {most} positions of {model.name}; possible: {fewer}strategy=prefix, which takes none"
            )
        return {}, ""

    def prepare(self, model: Model) -> None:
        from ftrun.models.adapted.beside import train
        from ftrun.models.adapted.prompts import Prompts

        train(model, Prompts(self.tokens))
