"""A run's network as one plain directory of transformers, which llama.cpp's converter reads as well."""

from __future__ import annotations

import shutil
from pathlib import Path

from ftrun.errors import ConfigError
from ftrun.experiments.lora.merge import merge, of_run
from ftrun.models.files.reading import CONFIG, stored
from ftrun.runs.artifacts import BOTTLENECKS, LORA, low_rank, told_beside
from ftrun.runs.files import beside
from ftrun.runs.manifest import seal, verify
from ftrun.runs.run import Run
from ftrun.runs.typed import command, prediction, word
from ftrun.settings.read import read

DECODERS = "AutoModelForCausalLM"
OWN_TOKENIZER = (
    "note: its tokenizer was trained for this run; llama.cpp's converter knows tokenizers by a hash of what"
    " they make of a text, and asks to have this one added"
)


def whole(run: Run, kind: str, output: Path, tolerance: float) -> list[str]:
    """Write it, proved by its logits where a LoRA is folded in; the lines that say what to do next.

    Raises ConfigError for a run whose network is whole already or of another kind than is asked for.
    """
    if kind == "merged":
        low_rank(run, "so there is no weight equal to weight and adapter together; nothing can be merged")
        merge(of_run(run), output, "fp32", tolerance)
        return [f"saved: {output}", f"to use it: {prediction(output)}"]
    settings = read(run.settings)
    if settings.task.spec(None).auto_class != DECODERS:
        raise ConfigError(
            f"{run.path} is task={settings.task.name}; --to gguf-ready is for networks that generate text"
            f" (task=lm); possible: {command('export', run.path, '--to', 'onnx')}"
        )
    if (run.model_dir / BOTTLENECKS).is_file():
        raise ConfigError(
            f"{run.path}: {told_beside(run.model_dir)}, for which llama.cpp has no place; possible: a run of"
            " strategy=lora or full"
        )
    if (run.model_dir / LORA).is_file():
        merge(of_run(run), output, "fp32", tolerance)
    else:
        verify(run.model_dir)
        with beside(output) as place:
            shutil.copytree(run.model_dir, place, dirs_exist_ok=True)
            seal(place)
    convert = f"python convert_hf_to_gguf.py {word(str(output))} --outfile {word(str(output) + '.gguf')}"
    kinds = ", ".join(stored(output / CONFIG).get("architectures") or ["?"])
    lines = [f"saved: {output} ({kinds})", f"next, in a checkout of llama.cpp: {convert}"]
    return [*lines, OWN_TOKENIZER] if settings.raw["task"].get("tokenizer") == "train" else lines
