"""model.pooling=auto settled before a run begins, by its source or its checkpoint, and told to the person."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftrun.models.adapted.beside import Beside
from ftrun.models.heads import Pooled
from ftrun.models.pooling import pooling_of
from ftrun.runs.run import Run
from ftrun.runs.terminal import say
from ftrun.settings.read import read
from ftrun.settings.schema import Settings

if TYPE_CHECKING:
    from ftrun.models.model import Model


def with_pooling(settings: Settings) -> Settings:
    """The settings with head, cls or mean, also in what config.yaml will hold; prints why it is not head."""
    settings, reason = pooled(settings)
    if reason:
        say(f"pooling: {settings.model.pooling}, {reason}")
    return settings


def pooled(settings: Settings) -> tuple[Settings, str]:
    """The same, and why, nothing where it is head or was set.

    A source that answers for whole texts too has decided it: its head and this one stand on the same vector.
    """
    if settings.model.pooling != "auto":
        return settings, ""
    spec = settings.task.spec(None)
    value, reason = of_source(settings) or pooling_of(settings.model, spec)
    node = settings.raw["model"] | {"pooling": value}
    model = replace(settings.model, pooling=value)
    return replace(settings, model=model, raw=settings.raw | {"model": node}), reason


def of_source(settings: Settings) -> tuple[str, str] | None:
    """What a source run on the same kind of answer has, and why; None where there is no such source."""
    if settings.source is None or settings.source.kind != "run":
        return None
    theirs = read(Run.open(settings.source.run).settings)
    if theirs.model.pooling == "auto" or not answers_alike(theirs, settings):
        return None
    return theirs.model.pooling, "" if theirs.model.pooling == "head" else f"as source={settings.source.run}"


def answers_alike(one: Settings, other: Settings) -> bool:
    """Whether both tasks have the same class of head, which then stands on the same pooling."""
    return one.task.spec(None).auto_class == other.task.spec(None).auto_class


def for_task(settings: Settings, raw: dict[str, Any]) -> dict[str, Any]:
    """`raw` for another task than that of the settings, with their pooling where both answer alike."""
    if answers_alike(read(raw), settings):
        return raw
    return raw | {"model": raw["model"] | {"pooling": "auto"}}


def loading(model: Model) -> str | None:
    """Who loads a pooled network when it is saved, in a sentence; None for those that transformers loads."""
    if not isinstance(model.net, Pooled):
        return None
    if isinstance(model.adapter, Beside):
        return "the saved model needs ftrun: no other library reads what stands beside the network"
    peft = " and peft load" if model.adapter is not None and model.source is not None else " loads"
    return f"the saved model does not need ftrun: sentence-transformers{peft} it, see model/README.md"
