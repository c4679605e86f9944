"""Several LoRAs on one base as one: a weighted sum of their updates, kept as an adapter or folded in."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from ftrun.errors import UserError
from ftrun.experiments.lora.blend import Blend, with_head
from ftrun.experiments.lora.equivalence import COMPARED, HEADING, Agreement, in_fp32, rows_to_compare
from ftrun.experiments.lora.lowrank import Factors, Update, bare, by_peft, weighted_sum
from ftrun.experiments.lora.merge import Source, compared, merge, opened, write_origin, write_proof
from ftrun.models.heads import backbone_of
from ftrun.models.recalibration import drop
from ftrun.models.save import PEFT_PREFIX, on_cpu
from ftrun.models.saved.below import linked_or_copied, named
from ftrun.reports.numbers import short
from ftrun.runs.artifacts import LORA, LORA_WEIGHTS, TOLERANCE
from ftrun.runs.files import beside
from ftrun.runs.manifest import SEAL, seal
from ftrun.runs.terminal import say
from ftrun.training.devices import open_accelerator

RECORD = "compose.json"


@dataclass
class Composition:
    """What is summed, how, and whose head serves."""

    updates: list[Update]
    weights: list[float]
    head: int  # index of the run
    method: str
    rank: int | None
    density: float

    @property
    def serving(self) -> Update:
        return self.updates[self.head]

    def factors(self) -> Factors:
        """The composed update, by the chosen method."""
        own = [update.factors for update in self.updates]
        if self.method == "linear":
            return weighted_sum(own, self.weights)
        serving = self.serving
        backbone = backbone_of(bare(serving.run, serving.settings))
        seed = serving.settings.seed
        return by_peft(backbone, own, self.weights, self.method, self.rank, self.density, seed)

    def said(self) -> str:
        """0.7·amazon + 0.3·sst2, with the runs by their directories' names."""
        names = (update.run.path.resolve().name for update in self.updates)
        return " + ".join(f"{weight:g}·{name}" for weight, name in zip(self.weights, names, strict=True))


def compose(composition: Composition, output: Path, folded: bool, found: dict[str, Any] | None) -> None:
    """Write the composed adapter, read it back and compare it with the dense sum; or fold it into the base.

    Nothing is at `output` before all of it has gone well. `found` is what a search for the weights has seen.
    Raises UserError when the adapter read back is not the sum.
    """
    serving = composition.serving
    factors = composition.factors()
    say(f"{composition.method}: {composition.said()}, rank {widest(factors)}, head of {serving.run.path}")
    with beside(output) as place:
        write_adapter(composition, factors, place)
        drop(place, "the composed network gives other logits than its runs, so", output)
        title = f"{composition.said()} on {short(named(serving.settings.model.name))}"
        source = Source(place, serving.settings, title, story(composition, factors))
        if folded:
            whole = place / "whole"
            merge(source, whole, "fp32", TOLERANCE)
            for file in [*place.iterdir()]:
                if file.is_dir() and file != whole:
                    shutil.rmtree(file)
                elif file != whole:
                    file.unlink()
            for file in [*whole.iterdir()]:
                file.rename(place / file.name)
            whole.rmdir()
        else:
            prove(composition, factors, source)
        write_record(composition, factors, place, found)
        seal(place)


def prove(composition: Composition, factors: Factors, source: Source) -> None:
    """The adapter as peft reads it against W₀ + the dense sum; UserError where they differ."""
    settings = in_fp32(source.settings)
    accelerator = open_accelerator(settings.device, "fp32", settings.train.deterministic)
    net, tokenizer, config = opened(source.place, settings)
    data, words = rows_to_compare(settings, tokenizer, config)
    rows, size = len(data.dataset(COMPARED)), 4 * settings.train.batch_size
    exact = composition.method == "linear"
    parts = [update.factors for update in composition.updates] if exact else [factors]
    blend = Blend(with_head(composition.serving), parts)
    blend.set(composition.weights if exact else [1.0])
    say(f"compared on {rows:,} {words}")
    say(HEADING)
    found: list[Agreement] = [
        compared("read by peft, and dense sum", net, blend.net, data, size, accelerator)
    ]
    if not found[0].largest_difference <= TOLERANCE:
        raise UserError(
            f"the composed adapter differs from the sum: a logit by {found[0].largest_difference:.1e}; "
            "nothing was written"
        )
    write_origin(source.place, source.settings)
    write_proof(source.place, source, found, f"{rows:,} {words}", "composed")


def write_adapter(composition: Composition, factors: Factors, place: Path) -> None:
    """peft's format, every scaling 1; the rest of the files are those of the run whose head serves."""
    from peft import LoraConfig

    serving = composition.serving
    for file in serving.run.model_dir.iterdir():
        if file.is_dir():
            shutil.copytree(file, place / file.name, copy_function=linked_or_copied)
        elif file.name not in (LORA, LORA_WEIGHTS, SEAL, "README.md"):
            shutil.copy(file, place)
    full = {serving.prefix + name: pair for name, pair in factors.items()}
    ranks = {name: len(a) for name, (a, _) in full.items()}
    config = LoraConfig.from_pretrained(str(serving.run.model_dir))
    config.r = config.lora_alpha = widest(factors)
    config.rank_pattern = {name: rank for name, rank in ranks.items() if rank != config.r}
    config.alpha_pattern = dict(config.rank_pattern)
    config.target_modules = sorted(full)
    config.lora_dropout = 0.0
    config.use_rslora, config.init_lora_weights = False, True
    config.save_pretrained(place)
    tensors = {PEFT_PREFIX + name: value for name, value in serving.head.items()}
    shapes = {serving.prefix + n: shape for each in composition.updates for n, shape in each.shapes.items()}
    for name, (a, b) in full.items():
        tensors[f"{PEFT_PREFIX}{name}.lora_A.weight"] = a.reshape(-1, *shapes[name])
        tensors[f"{PEFT_PREFIX}{name}.lora_B.weight"] = b.reshape(*b.shape, *[1] * (len(shapes[name]) - 1))
    save_file(on_cpu(tensors), place / LORA_WEIGHTS, metadata={"format": "pt"})


def widest(factors: Factors) -> int:
    return max(len(a) for a, _ in factors.values())


def write_record(
    composition: Composition, factors: Factors, place: Path, found: dict[str, Any] | None
) -> None:
    """compose.json: the runs with their weights, and how the weights were found."""
    record = {
        "method": composition.method,
        "runs": [
            {"run": update.run.path.resolve().name, "weight": weight, "rank": widest(update.factors)}
            for update, weight in zip(composition.updates, composition.weights, strict=True)
        ],
        "head": composition.serving.run.path.resolve().name,
        "rank": widest(factors),
        **({} if composition.method in ("linear", "svd") else {"density": composition.density}),
        **({} if found is None else {"search": found}),
    }
    (place / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def story(composition: Composition, factors: Factors) -> str:
    """What the composition is, for its card."""
    how = "the exact sum" if composition.method == "linear" else f"peft's {composition.method}"
    return (
        f"{composition.said()}: {how} of low-rank updates trained on the same base weights, of rank "
        f"{widest(factors)}, with the head of {composition.serving.run.path.resolve().name}. The saved "
        "adapter was read back and compared:"
    )
