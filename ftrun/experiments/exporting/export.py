"""`ftrun export`: a run's network in another format, compared with the run's own before it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ftrun.errors import UserError
from ftrun.experiments.exporting import formats
from ftrun.experiments.exporting.network import Exportable, exportable
from ftrun.experiments.lora.equivalence import HEADING, Agreement, as_markdown, in_fp32, rows_to_compare
from ftrun.experiments.lora.merge import opened
from ftrun.experiments.sources import plain
from ftrun.models.recalibration import recalibration_of
from ftrun.models.saved.usage import PIPELINES, Usage
from ftrun.reports.pages.model_card import Card, card_of, write_card
from ftrun.runs.files import beside, free_space_check
from ftrun.runs.manifest import seal
from ftrun.runs.run import RESULT, Run
from ftrun.runs.terminal import say
from ftrun.settings.read import read

if TYPE_CHECKING:
    from ftrun.settings.schema import Settings

WRITTEN = {"onnx": (formats.to_onnx, "onnxruntime"), "torch-export": (formats.to_program, "torch.export")}


def export(run: Run, kind: str, output: Path, tolerance: float) -> Agreement:
    """Write the network of a finished run as `kind`, read it back, and compare it on real rows.

    Nothing is at `output` before all has gone well. A LoRA is folded into the weights. Raises UserError where
    a logit differs by more than the tolerance.
    """
    settings = in_fp32(read(run.settings))
    _, processor, config = opened(run.model_dir, settings)
    net = plain(run).eval()
    free_space_check(output, 8 * sum(p.numel() for p in net.parameters()))
    data, words = rows_to_compare(settings, processor, config)
    auto_class = settings.task.spec(None).auto_class
    what = exportable(net, config, data, auto_class)
    write, reader = WRITTEN[kind]
    say(f"compared on {what.rows:,} {words}, in batches of other sizes and lengths than it was made with")
    say(HEADING)
    with beside(output) as place:
        config.save_pretrained(place)
        if processor is not None:
            processor.save_pretrained(place)
        found = compared(f"{kind}, read by {reader}", what, write(what, place, about(run, config)))
        say(found.line())
        if not found.largest_difference <= tolerance:
            raise UserError(
                f"the exported network differs from the run's: a logit by {found.largest_difference:.1e},"
                f" more than --tolerance {tolerance:g}; nothing was written"
            )
        write_exported_card(run, settings, place, kind, found, f"{what.rows:,} {words}", what)
        seal(place)
    return found


@torch.no_grad()
def compared(name: str, what: Exportable, other: Callable[[Any], torch.Tensor]) -> Agreement:
    """The largest difference of a logit, and in how many rows another one is the largest."""
    largest, flipped, rows = 0.0, 0, 0
    for batch in what.batches:
        here, there = what.module(**batch).float(), other(batch).float()
        difference = float((here - there).abs().max())
        largest = difference if not difference <= largest else largest  # nan is the largest of all
        flipped += int((here.argmax(-1) != there.argmax(-1)).reshape(len(here), -1).any(1).sum())
        rows += len(here)
    return Agreement(name, rows, largest, flipped)


def about(run: Run, config: Any) -> dict[str, str]:
    """What stands inside the file: what answers mean, and where it comes from."""
    found = {"ftrun_run": run.path.resolve().name, "model_type": config.model_type}
    found |= {"labels": json.dumps([config.id2label[at] for at in range(config.num_labels)])}
    for name in ("problem_type", "target_mean", "target_scale"):
        if getattr(config, name, None) is not None:
            found[name] = str(getattr(config, name))
    if (own := recalibration_of(run.model_dir)) is not None:
        found["temperature"] = str(own.temperature)  # by which the logits are to be divided
    return found


def write_exported_card(
    run: Run, settings: Settings, place: Path, kind: str, found: Agreement, rows: str, what: Exportable
) -> None:
    """README.md: what it is, how that was proved, the lines that use it, and what the run's card says."""
    told = card_of(run, run.read_json(RESULT) or {})
    proof = (
        f"The network of an ftrun run as {kind}, read back and compared with the run's own; batch and length"
        f" may change.\n\n{as_markdown([found])}\n\non {rows}."
    )
    code = formats.lines_for(kind, formats.is_images(what))
    library = "onnx" if kind == "onnx" else "pytorch"
    usage = Usage(library, PIPELINES[settings.task.spec(None).auto_class], code)
    card = Card(f"{told.title}, {kind}", [kind], [("Proof", proof), *told.sections], told.scores, usage)
    write_card(place, settings, card)
