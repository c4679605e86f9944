"""Text that a language model writes on, sampled or the likeliest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ftrun.models.load import quiet


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
