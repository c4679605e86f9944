"""The memory of whole processes: the peak of each (VmHWM of Linux) beside what `ftrun plan` expects.

    python scripts/bench/memory_peak.py OUT [--cases NAME …]

Networks of random weights stored in bf16, two steps of short texts. "above" is the peak less that of the
same run with a network of next to no weights; "of frozen" that by the bytes of the frozen weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from tiny_networks import data, tokenizer

FEW = ["train.max_steps=2", "train.eval_every=2", "train.batch_size=2", "train.lr=1e-4", "device=cpu"]
BERT = {"vocab_size": 8_000, "max_position_embeddings": 128}
SIZES = {
    "bert": {**BERT, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
             "intermediate_size": 3072},
    "wide": {**BERT, "hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
             "intermediate_size": 4096},
    "llama": {"vocab_size": 8_000, "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 16,
              "intermediate_size": 2816, "max_position_embeddings": 128},
}  # fmt: skip
LEAST = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
         "max_position_embeddings": 128, "vocab_size": 8_000}  # fmt: skip
LORA = ["strategy=lora", "rank=4"]
HALF = ["train.frozen_dtype=bf16"]


@dataclass
class Case:
    """A run: its network, the words beside it, and how many processes make it."""

    network: str
    words: list[str]
    processes: int = 1


CASES = {
    "lora bf16": Case("wide", [*LORA, *HALF]),
    "lora fp32": Case("bert", LORA),
    "freeze bf16": Case("bert", ["strategy=freeze", "bottom=12", "train.keep=false", *HALF]),
    "probe bf16": Case("bert", ["strategy=linear_probe", *HALF]),
    "llama lora bf16": Case("llama", [*LORA, *HALF]),
    "full": Case("bert", ["strategy=full"]),
    "full ddp": Case("bert", ["strategy=full"], 2),
    "full shard": Case("bert", ["strategy=full", "train.shard=true"], 2),
    "lora ddp": Case("wide", LORA, 2),
    "lora shard": Case("wide", [*LORA, "train.shard=true"], 2),
    "lora bf16 ddp": Case("llama", [*LORA, *HALF], 2),
    "lora bf16 shard": Case("llama", [*LORA, *HALF, "train.shard=true"], 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", nargs="+", default=[*CASES], choices=[*CASES], metavar="NAME")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.out, options.child)
    print("| run | processes | weights, MB | frozen, MB | peak of each, MB | expected | expected : peak"
          " | above, MB | of frozen |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in options.cases:
        print(row(name, CASES[name], options.out.resolve()), flush=True)


def child(out: Path, words: list[str]) -> None:
    """The run itself, in this process or in each that torchrun has started; its peak is left in a file."""
    from ftrun import cli

    sys.argv = ["ftrun", *words]
    code = cli.main()
    (out / f"peak-{os.environ.get('RANK', '0')}").write_text(str(peak()))
    sys.exit(code)


def peak() -> int:
    """The most bytes that this process has had in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def row(name: str, case: Case, out: Path) -> str:
    """A line of the table."""
    task = "lm" if case.network == "llama" else "classify"
    words = [*data(task, out / "data" / task), *FEW, *case.words]
    place = checkpoint(case.network, SIZES[case.network], out)
    small = checkpoint(f"least-{case.network}", LEAST, out)
    peaks = measured([*words, f"model.name={place}"], case.processes, out)
    base = measured([*words, f"model.name={small}"], 1, out) if case.processes == 1 else [0]
    expected, weights, frozen = planned([*words, f"model.name={place}"], case.processes)
    above = max(peaks) - max(base)
    megabytes = [f"{number / 1e6:,.0f}" for number in (weights, frozen)]
    each = " ".join(f"{number / 1e6:,.0f}" for number in peaks)
    return (
        f"| {name} | {case.processes} | {' | '.join(megabytes)} | {each} | {expected / 1e6:,.0f} |"
        f" {expected / max(peaks):.2f} |"
        + (f" {above / 1e6:,.0f} | {above / frozen:.2f} |" if max(base) and frozen else " | |")
    )


def measured(words: list[str], processes: int, out: Path) -> list[int]:
    """The peak of each process of a run."""
    for former in out.glob("peak-*"):
        former.unlink()
    shutil.rmtree(out / "run", ignore_errors=True)
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(start if processes > 1 else []), __file__, str(out), "--child", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(out / "cache")}
    done = subprocess.run(
        [*command, f"hydra.run.dir={out / 'run'}"], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return [int(file.read_text()) for file in sorted(out.glob("peak-*"))]


def planned(words: list[str], processes: int) -> tuple[int, int, int]:
    """Bytes that are expected of a process, and those of all weights and of the frozen ones."""
    from ftrun.experiments.overrides import compose
    from ftrun.experiments.study.fitting import need_of, sizes_of
    from ftrun.settings.read import read

    settings = read(compose(words))
    sizes = sizes_of(settings, None)
    need = need_of(settings, sizes, processes, settings.train.shard)
    each = 2 if settings.half else 4
    return need.peak, need_of(settings, sizes).weights, each * sizes.frozen


def checkpoint(name: str, shape: dict[str, Any], out: Path) -> Path:
    """A directory with random weights in bf16 and a tokenizer, made once."""
    import torch
    import transformers

    place = out / "networks" / name
    if not place.is_dir():
        auto, kind = "AutoModel", transformers.BertConfig
        if name.endswith("llama"):
            auto, kind = "AutoModelForCausalLM", transformers.LlamaConfig
        torch.manual_seed(0)
        net = getattr(transformers, auto).from_config(kind(**shape), dtype=torch.bfloat16)
        net.save_pretrained(place)
        tokenizer(name).save_pretrained(place)
    return place


if __name__ == "__main__":
    main()
