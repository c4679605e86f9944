"""Peak memory and time of the loss over a large vocabulary, all logits at once and in parts: GPT-2's head.

python scripts/bench/vocabulary_loss.py 4096         # positions; each way in a process of its own
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from ftrun.models import vocabulary

WORDS, WIDTH = 50_257, 768


def peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(way: str, positions: int) -> None:
    """One layer under GPT-2's head: forward and backward."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=WIDTH, n_head=12, vocab_size=WORDS)).to(device)
    ids = torch.randint(WORDS, (positions // 512, 512), device=device)
    vocabulary.HELD = 2**60 if way == "whole" else vocabulary.HELD
    before, start = peak(), time.perf_counter()
    loss = vocabulary.surprise(net, {"input_ids": ids}, ids, use_cache=False).mean()
    loss.backward()
    seconds, megabytes = time.perf_counter() - start, (peak() - before) / 2**20
    norm = net.transformer.wte.weight.grad.norm()
    numbers = f"loss {float(loss.detach()):.7f}, norm of its gradient {float(norm):.7f}"
    print(f"{way:<6}{positions:>6} positions  {numbers}  {megabytes:>7,.0f} MB {seconds:>6.1f} s")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[2], int(sys.argv[1]))
    else:
        for way in ("whole", "parts"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], way], check=True)
