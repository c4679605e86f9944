"""Checkpoints whose tokenizer is a file of sentencepiece alone, as DeBERTa-v3's is on the Hub."""

from __future__ import annotations

import io
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lab import ran, toy
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from toys import toy_rows

from ftrun.errors import ConfigError
from ftrun.experiments.inference import evaluation
from ftrun.models.tokenizer import open_tokenizer

ALBERT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 66,
}  # fmt: skip
DEBERTA = ALBERT | {
    "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0,
    "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
}  # fmt: skip
T5 = {
    "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
BRACKETS = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
SPECIAL = {"control_symbols": ["[CLS]", "[SEP]", "[MASK]"], "pad_piece": "<pad>"}
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # file, its training, the network's shape
    "deberta-v2": ("spm.model", {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, **BRACKETS}, DEBERTA),
    "albert": ("spiece.model", {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, **SPECIAL}, ALBERT),
    "t5": ("spiece.model", {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, T5),
    "xlm-roberta": ("sentencepiece.bpe.model", {}, ALBERT),
}

OTHERS = ("albert", "xlm-roberta")


def checkpoint(kind: str, place: Path) -> Path:
    """Random weights, and a vocabulary of some sixty pieces in the file that the kind has on the Hub."""
    place.mkdir()
    file, own, shape = KINDS[kind]
    written, texts = io.BytesIO(), [text for text, _ in toy_rows(200, random.Random(0))]
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=60, hard_vocab_limit=False,
        num_threads=1, minloglevel=3, **own,
    )  # fmt: skip
    (place / file).write_bytes(written.getvalue())
    config = transformers.AutoConfig.for_model(kind, vocab_size=160, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(place)
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_those_of_sentencepiece(kind: str, tmp_path: Path) -> None:
    place, text = checkpoint(kind, tmp_path / kind), "the film was lovely, a plot and some more"
    tokenizer = open_tokenizer(place, kind)
    theirs = SentencePieceProcessor(model_file=str(place / KINDS[kind][0]))
    assert tokenizer.tokenize(text) == theirs.encode(text, out_type=str)
    assert tokenizer.unk_token_id not in tokenizer("the film was lovely")["input_ids"]


@pytest.mark.parametrize(
    "kind", ["deberta-v2", "t5", *(pytest.param(e, marks=pytest.mark.ci) for e in OTHERS)]
)
def test_such_a_checkpoint_trains_and_predicts(
    kind: str, tmp_path: Path, toy_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["train.epochs=1", "train.max_steps=8", "train.lr=3e-2", "train.batch_size=32", "baselines=false"]
    run = ran(tmp_path / "run", toy(toy_files, checkpoint(kind, tmp_path / kind), *own, "strategy=full"))
    assert run.result("reload_difference")["reload_difference"] < 1e-5
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # what is saved needs it no longer
    assert evaluation(run).scores["loss"] == pytest.approx(run.result("test_loss")["test_loss"])


def test_where_sentencepiece_does_not_work_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spm.model").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ConfigError, match="^it: spm.model is read by sentencepiece .* pip install"):
        open_tokenizer(tmp_path, "it")
    assert capfd.readouterr().err == ""


def test_a_damaged_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    (tmp_path / "spm.model").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="^it cannot be loaded: spm.model: "):
        open_tokenizer(tmp_path, "it")
