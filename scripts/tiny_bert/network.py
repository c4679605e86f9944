"""The small BERT itself: cut out of the larger one, and its directory for users."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch

from tiny_bert.vocabulary import LENGTH

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import BertForMaskedLM, BertModel, PreTrainedTokenizerBase

LAYERS, INNER = (0, 1, 3, 5), 768  # of the teacher's six, and of the 1,536 units within each
DROPOUT = 0.1  # for those who fine-tune; pre-training itself uses none


def cut_out(
    teacher: BertModel, known: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, seed: int
) -> BertForMaskedLM:
    """Four of the teacher's layers at half their inner width, with its vectors of the vocabulary's pieces.

    The head of masked language modelling and the pooler, for classification, are new.
    """
    from transformers import BertConfig, BertForMaskedLM
    from transformers.models.bert.modeling_bert import BertPooler

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=teacher.config.hidden_size,
        num_hidden_layers=len(LAYERS),
        num_attention_heads=teacher.config.num_attention_heads,
        intermediate_size=INNER,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    model.bert.pooler = BertPooler(config)
    model.bert.pooler.dense.weight.data.normal_(std=config.initializer_range)
    model.bert.pooler.dense.bias.data.zero_()
    _copy_embeddings(model.bert.embeddings, teacher.embeddings, piece_ids(known, tokenizer))
    for fresh, number in zip(model.bert.encoder.layer, LAYERS, strict=True):
        _copy_layer(fresh, teacher.encoder.layer[number])
    model.tie_weights()
    return model.train()


def piece_ids(known: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """For each piece of the vocabulary the teacher's pieces that it consists of."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    theirs, found = known.get_vocab(), []
    known.backend_tokenizer.no_padding()
    for piece, _ in pieces:
        if piece in theirs:
            found.append([theirs[piece]])
            continue
        inner = known.backend_tokenizer.encode(piece.removeprefix("##"), add_special_tokens=False).ids
        found.append(list(inner) or [known.unk_token_id])
    return found


def _copy_embeddings(fresh: nn.Module, old: nn.Module, pieces: list[list[int]]) -> None:
    words = old.word_embeddings.weight.data
    fresh.word_embeddings.weight.data.copy_(torch.stack([words[ids].mean(0) for ids in pieces]))
    fresh.position_embeddings.weight.data.copy_(old.position_embeddings.weight.data[:LENGTH])
    fresh.token_type_embeddings.weight.data.copy_(old.token_type_embeddings.weight.data)
    fresh.LayerNorm.load_state_dict(old.LayerNorm.state_dict())


def _copy_layer(fresh: nn.Module, old: nn.Module) -> None:
    """The layer with those inner units whose weights are largest."""
    into, out = old.intermediate.dense, old.output.dense
    size = into.weight.norm(dim=1) * out.weight.norm(dim=0)
    kept = size.argsort(descending=True)[:INNER].sort().values
    state = {name: value.detach() for name, value in old.state_dict().items()}
    state["intermediate.dense.weight"] = into.weight.detach()[kept]
    state["intermediate.dense.bias"] = into.bias.detach()[kept]
    state["output.dense.weight"] = out.weight.detach()[:, kept]
    fresh.load_state_dict(state)


def optimizer(parameters: list[Tensor], lr: float) -> torch.optim.AdamW:
    """AdamW without decay on biases and norms."""
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


def save(model: BertForMaskedLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A directory for AutoModelForMaskedLM and AutoModelForSequenceClassification.

    Stored in half precision; its configuration asks for single precision, in which it is loaded.
    """
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": DROPOUT, "attention_probs_dropout_prob": DROPOUT, "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def sentence_files(width: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """modules.json and 1_Pooling/config.json of sentence-transformers: the mean is what was trained."""
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(kinds.items())
    ]
    return modules, {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}


def publish(trained: Path, folder: Path, card: str) -> None:
    """What `save` wrote, with its card, in place of the folder as a whole."""
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    fresh.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(trained / name, fresh / name)
    (fresh / "README.md").write_text(card)
    modules, pooling = sentence_files(json.loads((fresh / "config.json").read_text())["hidden_size"])
    (fresh / "modules.json").write_text(json.dumps(modules, indent=2) + "\n")
    (fresh / "1_Pooling").mkdir()
    (fresh / "1_Pooling" / "config.json").write_text(json.dumps(pooling, indent=2) + "\n")
    for file in fresh.rglob("*.*"):
        file.chmod(0o644)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
