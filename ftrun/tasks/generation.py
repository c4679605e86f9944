"""Text that a language model writes: completions of prompts, and a sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ftrun.data.text.document_tokens import separators
from ftrun.models.load import quiet

if TYPE_CHECKING:
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.scorer import Answer

PROMPT_SHARE = 8  # an eighth of a block is shown to a network that has no prompt
TEMPERATURE, TOP = 0.8, 200  # of sampled text, as in nanoGPT's sample.py


class Generator:
    """Writes with the network of a language-modelling task."""

    def __init__(self, task: Any, data: TaskData) -> None:
        self.task, self.data, self.tokenizer = task, data, data.processor
        self.begin, self.end, _ = separators(data.processor)

    def complete(self, net: nn.Module, seed: int) -> dict[int, Answer]:
        """By row of the file to be answered: the likeliest continuation of a prompt that stands alone."""
        found: dict[int, Answer] = {}
        for number, row in enumerate(self.data.rows.inputs):
            prompt = self.task.prompt_of(row)
            if isinstance(prompt, str):
                ids = [self.begin, *self.tokenizer(prompt, add_special_tokens=False)["input_ids"]]
                written = continued(net, ids, self.task.block // 2, self.end, 0.0, 1, seed)
                answer = self.tokenizer.decode(written, skip_special_tokens=True)
                found[number] = dict.fromkeys(self.data.scorer.columns) | {"answer": answer}
        return found

    def write_sample(self, net: nn.Module, directory: Path, seed: int) -> None:
        """sample.txt: a continuation of the prompt, or of the beginning of the validation split."""
        task, tokenizer = self.task, self.tokenizer
        if not task.sample:
            return
        if task.sample_from is not None:
            prompt = tokenizer(task.sample_from, add_special_tokens=False)["input_ids"]
        else:
            tokens = self.data.dataset("validation")[0].inputs
            prompt = tokens[1 : max(2, task.block // PROMPT_SHARE)].tolist()
        written = continued(net, [self.begin, *prompt], task.sample, self.end, TEMPERATURE, TOP, seed)
        text = f"{tokenizer.decode(prompt)}|{tokenizer.decode(written, skip_special_tokens=True)}\n"
        (directory / "sample.txt").write_text(text, encoding="utf-8")


@torch.no_grad()
def continued(
    net: nn.Module, prompt: list[int], count: int, end: int, temperature: float, top: int, seed: int
) -> list[int]:
    """At most `count` tokens after the prompt, drawn from the `top` likeliest.

    At temperature 0 each is the likeliest. Stops before the token `end`. The prompt is cut
    from the left to leave room in the network's positions.
    """
    limit = getattr(net.config, "max_position_embeddings", None) or 2**31
    count = min(count, limit - 1)
    ids = torch.tensor([prompt[-(limit - count) :]], device=next(net.parameters()).device)
    how: dict[str, object] = {"do_sample": False}
    if temperature > 0:
        how = {"do_sample": True, "temperature": temperature, "top_k": min(top, net.config.vocab_size)}
    was_training = net.training
    net.eval()
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        found: Tensor = net.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            eos_token_id=end,
            pad_token_id=end,
            **how,
        )
    net.train(was_training)
    written = found[0, ids.shape[1] :].tolist()
    return written[: written.index(end)] if end in written else written
