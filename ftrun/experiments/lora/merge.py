"""A LoRA folded into the weights it stands beside: a plain checkpoint, proved before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ftrun.errors import UserError
from ftrun.experiments.inference import Saved
from ftrun.experiments.lora.equivalence import (
    COMPARED,
    HEADING,
    Agreement,
    agreement,
    as_markdown,
    in_fp32,
    rows_to_compare,
)
from ftrun.models import sentences
from ftrun.models.architecture import IMAGES
from ftrun.models.files.reading import read_config
from ftrun.models.heads import Pooled, save_beside
from ftrun.models.image_processor import ImageProcessor, reopen
from ftrun.models.load import quiet
from ftrun.models.recalibration import drop
from ftrun.models.reload import reload
from ftrun.models.save import save_network
from ftrun.models.saved.below import named
from ftrun.models.tokenizer import open_tokenizer
from ftrun.reports.numbers import short
from ftrun.reports.pages.model_card import Card, card_of, write_card
from ftrun.runs.artifacts import low_rank, update_in
from ftrun.runs.files import beside, free_space_check
from ftrun.runs.find import ORIGIN
from ftrun.runs.manifest import seal
from ftrun.runs.run import RESULT, Run
from ftrun.runs.terminal import say
from ftrun.runs.written import to_yaml
from ftrun.settings.read import read
from ftrun.settings.schema import Settings
from ftrun.tasks.data import TaskData
from ftrun.training.devices import open_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Source:
    """A finished LoRA to be folded: where it lies, and the settings of the run whose head it has."""

    place: Path
    settings: Settings
    title: str
    story: str
    told: Card | None = None  # what the card of the run says


def merge(source: Source, output: Path, dtype: str, tolerance: float) -> list[Agreement]:
    """Fold in fp32, write, read back and compare; then cast, if asked to, and compare again.

    Nothing is at `output` before all of it has gone well. `tolerance` bounds the difference of the folding;
    that of the cast is what the format loses of the weights, computed with in fp32, and only told. Raises
    UserError above the tolerance.
    """
    settings = in_fp32(source.settings)
    accelerator = open_accelerator(settings.device, "fp32", settings.train.deterministic)
    net, tokenizer, config = opened(source.place, settings)
    free_space_check(output, 4 * sum(p.numel() for p in net.parameters()))
    data, words = rows_to_compare(settings, tokenizer, config)
    rows, size = len(data.dataset(COMPARED)), 4 * settings.train.batch_size
    say(f"compared on {rows:,} {words}")
    say(HEADING)
    with beside(output) as place:
        write_whole(folded(source.place, settings), place, tokenizer)
        written = reloaded(place, settings)
        found = [compared("folded in fp32", net, written, data, size, accelerator)]
        if not found[0].largest_difference <= tolerance:
            raise UserError(
                f"the merged network differs from the run's: a logit by {found[0].largest_difference:.1e}, "
                f"more than --tolerance {tolerance:g}; nothing was written"
            )
        if dtype != "fp32":
            write_whole(reloaded(place, settings).to(DTYPES[dtype]), place, tokenizer)
            cast = reloaded(place, settings).float()  # the arithmetic of low precision differs by machine
            found.append(compared(f"cast to {dtype}", written, cast, data, size, accelerator))
            drop(place, f"the weights are cast to {dtype}, so", output)
        write_origin(place, source.settings)
        write_proof(place, source, found, f"{rows:,} {words}", "merged")
        seal(place)
    return found


def opened(
    place: Path, settings: Settings
) -> tuple[nn.Module, PreTrainedTokenizerBase | ImageProcessor | None, PretrainedConfig]:
    """The network with its LoRA beside the weights, its tokenizer or image processor, its configuration."""
    net, config = reloaded(place, settings), read_config(place, **settings.model.trust)
    if settings.task.spec(None).auto_class == IMAGES:
        return net, reopen(place, config), config
    return net, open_tokenizer(place, str(place), **settings.model.trust), config


def reloaded(place: Path, settings: Settings) -> nn.Module:
    with quiet():
        trust = settings.model.trust_remote_code
        return reload(place, settings.task.spec(None).auto_class, trust=trust)


def folded(place: Path, settings: Settings) -> nn.Module:
    """The network read anew, with plain weights: W₀ + s·B·A, for dora scaled to its magnitudes, by peft."""
    with quiet():
        trust = settings.model.trust_remote_code
        net: Any = reload(place, settings.task.spec(None).auto_class, in_full=True, trust=trust)
        if not isinstance(net, Pooled):
            tie_again(net.base_model.model)
            return net.merge_and_unload()
        net.backbone = net.backbone.merge_and_unload()
    return net


def tie_again(net: Any) -> None:
    """One tensor for tokens going in and coming out; peft has read it as two where the head was trained.

    Untied, the network would be read back without the bias of its head, which is tied as well.
    """
    out = net.get_output_embeddings()
    if hasattr(out, "modules_to_save"):  # peft's wrapper of a layer that was trained whole
        out = out.modules_to_save["default"]
    if out is not None and torch.equal(net.get_input_embeddings().weight, out.weight):
        out.weight = net.get_input_embeddings().weight


def write_whole(
    net: nn.Module, place: Path, tokenizer: PreTrainedTokenizerBase | ImageProcessor | None
) -> None:
    """Weights, configuration and tokenizer, as plain transformers loads them, or sentence-transformers."""
    if isinstance(net, Pooled):
        net.backbone.config.ftrun_pooling = net.pooling
        net.backbone.save_pretrained(place)
        sentences.write(net, place)
    else:
        save_network(net, place)
        save_beside(net, place)
    if tokenizer is not None:
        tokenizer.save_pretrained(place)


def compared(
    what: str, one: nn.Module, other: nn.Module, data: TaskData, size: int, accelerator: Accelerator
) -> Agreement:
    """How far two networks agree, as a line of the table."""
    pair = tuple(accelerator.prepare_model(Saved(net), evaluation_mode=True) for net in (one, other))
    found = agreement(what, (pair[0], pair[1]), data, size, accelerator)
    say(found.line())
    return found


def write_origin(place: Path, settings: Settings) -> None:
    """The run's settings, with which `ftrun predict` and `evaluate` read the directory."""
    (place / ORIGIN).write_text(to_yaml(settings.raw), encoding="utf-8")


def write_proof(place: Path, source: Source, found: list[Agreement], rows: str, tag: str) -> None:
    """README.md: what the directory is, and how that was proved; a cast network has scores of its own."""
    proof = f"{source.story}\n\n{as_markdown(found)}\n\non {rows}. The run's settings are in `{ORIGIN}`."
    told = source.told
    scores = told.scores if told is not None and len(found) == 1 else []
    sections = [("Proof", proof), *(told.sections if told is not None else ())]
    write_card(place, source.settings, Card(source.title, [tag], sections, scores))


def of_run(run: Run) -> Source:
    """The source that a run is."""
    settings = read(run.settings)
    peft = low_rank(run, "so there is nothing to merge")
    variant = next((name for name in ("dora", "rslora") if peft.get(f"use_{name}")), "lora")
    kinds = {
        "IA3": "its vectors (ia3) were multiplied into",
        "VERA": f"the update (vera, rank {peft.get('r')}) was added to",
    }
    told = kinds.get(peft["peft_type"], f"the low-rank update ({variant}, rank {peft.get('r')}) was added to")
    how = f", rounded by model.load={settings.model.load}," if settings.model.rounded else ""
    base = named(settings.model.name)
    story = (
        f"The network of an ftrun run on task={settings.task.name}: {told} the weights of "
        f"`{base}`{how} in fp32. The merged network was read back and compared with the run's:"
    )
    what = update_in(run.model_dir).partition(" ")[2]
    title = f"{short(base)} on {settings.task.name}, {what} merged"
    return Source(run.model_dir, settings, title, story, card_of(run, run.read_json(RESULT) or {}))
