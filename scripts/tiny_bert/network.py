"""The small BERT itself: its shape, its training state on disk and its directory for users."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import torch

from tiny_bert.vocabulary import LENGTH, SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import BertForMaskedLM, PreTrainedTokenizerBase

DROPOUT = 0.1  # for those who fine-tune; pre-training itself sees every text few times and uses none


def new_model(seed: int) -> BertForMaskedLM:
    """Four layers, 128 wide, from random weights, with the pooler that classification will use."""
    from transformers import BertConfig, BertForMaskedLM
    from transformers.models.bert.modeling_bert import BertPooler

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=SIZE,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",  # faster than sdpa at this size on a CPU
    )
    model = BertForMaskedLM(config)
    model.bert.pooler = BertPooler(config)
    model.bert.pooler.dense.weight.data.normal_(std=config.initializer_range)
    model.bert.pooler.dense.bias.data.zero_()
    return model.train()


def optimizer(parameters: list[tuple[str, Tensor]], lr: float) -> torch.optim.AdamW:
    """AdamW without decay on biases and norms."""
    decayed = [p for _, p in parameters if p.ndim > 1]
    plain = [p for _, p in parameters if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


def save_state(path: Path, modules: nn.Module, opt: torch.optim.Optimizer, step: int) -> None:
    """All that is needed to go on, replaced in one move."""
    beside = path.with_suffix(".partial")
    torch.save({"modules": modules.state_dict(), "optimizer": opt.state_dict(), "step": step}, beside)
    os.replace(beside, path)


def load_state(path: Path, modules: nn.Module, opt: torch.optim.Optimizer) -> int:
    """The step to go on from; 0 where nothing was saved."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    modules.load_state_dict(state["modules"])
    opt.load_state_dict(state["optimizer"])
    return int(state["step"])


def publish(model: BertForMaskedLM, tokenizer: PreTrainedTokenizerBase, folder: Path, card: str) -> None:
    """A directory for AutoModelForMaskedLM and AutoModelForSequenceClassification, replaced as a whole."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    config = json.loads((fresh / "config.json").read_text())
    config |= {"hidden_dropout_prob": DROPOUT, "attention_probs_dropout_prob": DROPOUT}
    (fresh / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (fresh / "README.md").write_text(card)
    for file in fresh.iterdir():
        file.chmod(0o644)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
