"""What a network computes below the lowest stage that trains: captured once, and given in its place later.

No architecture is known here beyond its stages: masks, positions and embeddings stay the network's own code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ftrun.models.heads import backbone_of, name_of

if TYPE_CHECKING:
    from ftrun.models.model import Model

ALL, FIRST, LAST, NOTHING = "all", "first", "last", "nothing"  # the tokens of an output that are read above
HIDDEN = "hidden"  # the name of an output that is one tensor
Values = dict[str, Tensor]


@dataclass
class Part:
    """One tensor of an output, as it is kept of an example."""

    reads: str  # which tokens of it are kept
    per_token: bool  # (batch, tokens, *tail), else (batch, *tail)
    tail: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool = False  # in memory

    @property
    def ragged(self) -> bool:
        """Whether an example's share is as long as the example."""
        return self.per_token and self.reads == ALL

    def of(self, value: Tensor, lengths: Tensor | None) -> Tensor:
        """Of a batch's output what is read, (batch, *tail), or all tokens, (batch, tokens, *tail)."""
        if not self.per_token or self.reads == ALL:
            return value
        return value[torch.arange(len(value), device=value.device), self.at(value, lengths)]

    def at(self, value: Tensor, lengths: Tensor | None) -> Tensor | int:
        return 0 if self.reads == FIRST or lengths is None else lengths.to(value.device) - 1

    def back(
        self, kept: Tensor | None, rows: int, tokens: int, lengths: Tensor | None, rest: Tensor
    ) -> Tensor:
        """A batch's output again, with `rest`, one number, where nothing of it is read."""
        shape = (rows, tokens, *self.tail) if self.per_token else (rows, *self.tail)
        rest = rest.to(self.dtype)
        if kept is None:
            return rest.expand(shape).clone()  # the network above may change it in place
        if self.per_token and self.reads != ALL:
            whole = rest.repeat(shape)
            whole[torch.arange(rows, device=kept.device), self.at(kept, lengths)] = kept
            return whole
        return kept.contiguous(memory_format=torch.channels_last) if self.channels_last else kept


class _Reached(Exception):  # noqa: N818  it is no error: what lies above is not computed
    pass


def lowest(model: Model) -> int:
    """The lowest stage that trains; one above the last where none does."""
    return min(map(model.stage_of, model.trained()), default=model.depth + 2)


class Prefix:
    """Everything below the lowest stage that trains, `cut`; `learn` first."""

    def __init__(self, model: Model) -> None:
        self.model, self.cut, self.parts = model, lowest(model), dict[str, Part]()
        backbone, layers = backbone_of(model.net), model.layers()
        self.name = f"net.{name_of(model.net, backbone)}"
        self.whole = not any(name.startswith(self.name + ".") for name in model.trained())
        self.site = backbone if self.whole else layers[self.cut - 2]
        self.skipped = [] if self.whole else layers[: self.cut - 2]
        self._made: Any = None  # an output, for its type

    def frozen(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor on which the output may depend, by name."""
        for name, value in self.model.named_parameters():
            if name.startswith(self.name + ".") and not value.requires_grad:
                yield name, value
        for name, value in self.model.named_buffers():
            if name.startswith(self.name + ".") and (self.whole or self.model.stage_of(name) < self.cut):
                yield name, value

    def run(self, inputs: Mapping[str, Tensor]) -> Values:
        """What is read of a batch's output, by its name; the network is in evaluation mode."""
        found = stopped_at(self.site, self.model, inputs)
        values, lengths = tensors_of(found) or {}, lengths_of(inputs)
        return {
            name: part.of(values[name], lengths) for name, part in self.parts.items() if part.reads != NOTHING
        }

    def learn(self, inputs: Mapping[str, Tensor]) -> str | None:
        """Find what of the output is read above, on a batch; returns why this network has no such output.

        What is not read may be anything: with NaN in its place the logits are the same to the last bit.
        """
        found: list[Any] = []
        handle = self.site.register_forward_hook(lambda module, given, output: found.append(output))
        with torch.enable_grad():
            logits = flat(self.model(**inputs))
        handle.remove()
        values, tokens = tensors_of(found[-1]), tokens_of(inputs)
        if values is None:
            return f"a {type(self.site).__name__} returns more than tensors of its own"
        if any(value.requires_grad for value in values.values()):
            return "a weight that trains takes part in it"
        if not self.follows_width(inputs, values):
            return f"a {type(self.site).__name__} does not return a vector for each token"
        self._made = found[-1]
        for name, value in values.items():
            per_token = tokens is not None and value.ndim > 2 and value.shape[1] == tokens
            self.parts[name] = Part(
                ALL, per_token, tuple(value.shape[1 + per_token :]), value.dtype, is_channels_last(value)
            )
        if not self.same(inputs, values, logits):
            return "the network above reads more than its output"
        for part in self.parts.values():
            for reads in (NOTHING, *([FIRST, LAST] if part.per_token else []), ALL):
                part.reads = reads
                if self.same(inputs, values, logits):
                    break
        return None

    def follows_width(self, inputs: Mapping[str, Tensor], values: Values) -> bool:
        """Whether an output of texts is as wide as they are: not where it is padded further, or pooled."""
        mask = inputs.get("attention_mask")
        if mask is None or mask.ndim != 2 or mask.shape[1] < 2:
            return True
        narrow = {n: v[:, :-1] if v.shape[:2] == mask.shape else v for n, v in inputs.items()}
        others = tensors_of(stopped_at(self.site, self.model, narrow)) or {}
        pairs = [(value.shape, others[name].shape) for name, value in values.items() if value.ndim > 2]
        return all(one[1] == mask.shape[1] == other[1] + 1 for one, other in pairs)

    def same(self, inputs: Mapping[str, Tensor], values: Values, logits: list[Tensor]) -> bool:
        """Whether the logits stay the same where everything that is not read is NaN."""
        lengths = lengths_of(inputs)
        read = {
            name: part.of(values[name], lengths) for name, part in self.parts.items() if part.reads != NOTHING
        }
        with self.given(read, inputs, rest=float("nan")):
            found = flat(self.model(**inputs))
        return all(map(torch.equal, found, logits))

    @contextmanager
    def given(self, values: Values, inputs: Mapping[str, Tensor], rest: float = 0.0) -> Iterator[None]:
        """The network with these values in the place of what it would compute from the inputs."""
        lengths, some = lengths_of(inputs), next(iter(inputs.values()))
        number = torch.full((), rest, device=next(self.model.parameters()).device)
        tensors = {
            name: part.back(values.get(name), len(some), tokens_of(inputs) or 0, lengths, number)
            for name, part in self.parts.items()
        }
        output = rebuilt(self._made, tensors)
        passed = in_tuple if isinstance(self._made, tuple) else first
        with replaced(self.skipped, passed), replaced([self.site], lambda *_, **__: output):
            yield


def stopped_at(site: nn.Module, model: nn.Module, inputs: Mapping[str, Tensor], before: bool = False) -> Any:
    """The output of a module inside a network, or what comes `before` it, its first input."""
    found: list[Any] = []

    def reached(module: nn.Module, given: Any, output: Any = None) -> None:
        found.append(given[0] if before else output)
        raise _Reached

    handle = site.register_forward_pre_hook(reached) if before else site.register_forward_hook(reached)
    try:
        model(**inputs)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[-1]


@contextmanager
def replaced(modules: list[nn.Module], forward: Any) -> Iterator[None]:
    """Another forward for these modules, whose attributes stay."""
    before = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = forward
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            del module.forward
            if own is not None:
                module.forward = own


def first(*given: Any, **named: Any) -> Any:
    """A layer that does nothing."""
    return given[0] if given else next(iter(named.values()))


def in_tuple(*given: Any, **named: Any) -> Any:
    return (first(*given, **named),)


def tensors_of(output: Any) -> Values | None:
    """The tensors of an output by name; None where it holds anything else."""
    if isinstance(output, Tensor):
        return {HIDDEN: output}
    if isinstance(output, tuple):
        return {HIDDEN: output[0]} if [type(each) for each in output] == [Tensor] else None
    if not isinstance(output, dict):
        return None
    found = {name: value for name, value in output.items() if value is not None}
    return found if all(isinstance(value, Tensor) for value in found.values()) else None


def rebuilt(made: Any, tensors: Values) -> Any:
    """An output of the type of another one."""
    if isinstance(made, Tensor):
        return tensors[HIDDEN]
    return (tensors[HIDDEN],) if isinstance(made, tuple) else type(made)(**tensors)


def flat(logits: Any) -> list[Tensor]:
    return [logits.detach()] if isinstance(logits, Tensor) else [each.detach() for each in logits]


def tokens_of(inputs: Mapping[str, Tensor]) -> int | None:
    """The columns of a batch of texts, None of images."""
    return inputs["attention_mask"].shape[1] if "attention_mask" in inputs else None


def lengths_of(inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Tokens of each text, all to the left of the padding."""
    return inputs["attention_mask"].sum(1) if "attention_mask" in inputs else None


def is_channels_last(value: Tensor) -> bool:
    return (
        value.ndim == 4
        and not value.is_contiguous()
        and value.is_contiguous(memory_format=torch.channels_last)
    )
