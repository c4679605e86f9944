"""Checkpoints of tiny random weights in many architectures, with a tokenizer, and rows for each task."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = "the film was plot actor a very is and story scene of music this".split()
TELLING = {"positive": ["good", "fine", "lovely"], "negative": ["bad", "awful", "dull"]}
COUNTS = {"train": 24, "validation": 8, "test": 8}
SIDE = 32  # pixels
VOCABULARY = 120

TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
TOKENS = {
    "pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3,
    "mask_token_id": 4, "decoder_start_token_id": 2,
}  # fmt: skip
BOTH_SIDES = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "max_position_embeddings": 64,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2,
    "decoder_start_token_id": 0,
}  # fmt: skip
XLM = {"vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64}
STAGES = {"image_size": SIDE, "num_channels": 3, "depths": [1, 3], "hidden_sizes": [8, 16]}
PATCHES = {
    "image_size": SIDE, "num_channels": 3, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "pooler_output_size": 16,
}  # fmt: skip
LEVIT = {
    "image_size": 64, "hidden_sizes": [16, 24], "num_attention_heads": [2, 2], "depths": [2, 2],
    "key_dim": [4, 4], "drop_path_rate": 0, "mlp_ratio": [2, 2], "attention_ratio": [2, 2],
    "down_ops": [["Subsample", 4, 4, 4, 2, 2], [""]],
}  # fmt: skip

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("Bert", TEXT),
    "RoBERTa": ("Roberta", TEXT),
    "XLM-R": ("XLMRoberta", TEXT),
    "DistilBERT": ("DistilBert", {**TEXT, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "ALBERT": ("Albert", {**TEXT, "embedding_size": 16}),
    "ELECTRA": ("Electra", {**TEXT, "embedding_size": 16}),
    "DeBERTa": ("Deberta", {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DeBERTa-v2": ("DebertaV2", {**TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "MPNet": ("MPNet", TEXT),
    "ModernBERT": ("ModernBert", TEXT),
    "Funnel": ("Funnel", {
        "vocab_size": VOCABULARY, "block_sizes": [1, 1], "block_repeats": [1, 1], "d_model": 32, "n_head": 2,
        "d_head": 16, "d_inner": 64, "num_decoder_layers": 1, "architectures": ["FunnelModel"],
    }),
    "XLNet": ("XLNet", {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
    "Longformer": ("Longformer", {**TEXT, "attention_window": 8}),
    "BigBird": ("BigBird", {**TEXT, "attention_type": "original_full"}),
    "ConvBERT": ("ConvBert", {**TEXT, "embedding_size": 32}),
    "MobileBERT": ("MobileBert", {**TEXT, "embedding_size": 16, "intra_bottleneck_size": 32}),
    "XLM": ("XLM", XLM),
    "RoFormer": ("RoFormer", TEXT),
    "FNet": ("FNet", TEXT),
}  # fmt: skip
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2", {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "GPT-Neo": ("GPTNeo", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 2,
        "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64, "intermediate_size": 64,
    }),
    "GPT-NeoX": ("GPTNeoX", TEXT),
    "OPT": ("OPT", {**TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "BLOOM": ("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 2}),
    "Falcon": ("Falcon", TEXT),
    "Llama": ("Llama", TEXT),
    "Qwen2": ("Qwen2", {**TEXT, "num_key_value_heads": 2}),
    "Phi": ("Phi", TEXT),
}  # fmt: skip
TWO_SIDED: dict[str, tuple[str, dict[str, Any]]] = {
    "T5": ("T5", T5),
    "BART": ("Bart", BOTH_SIDES),
    "mBART": ("MBart", BOTH_SIDES),
}
TRANSFORMERS_OF_IMAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("ViT", PATCHES),
    "DeiT": ("DeiT", PATCHES),
    "BEiT": ("Beit", {**PATCHES, "use_mask_token": True, "use_relative_position_bias": True}),
    "DINOv2": ("Dinov2", PATCHES),
    "Swin": ("Swin", {
        "image_size": SIDE, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 2],
        "window_size": 4,
    }),
    "LeViT": ("Levit", LEVIT),
    "SegFormer": ("Segformer", {
        "image_size": SIDE, "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1],
        "hidden_sizes": [8, 16], "patch_sizes": [3, 3], "strides": [2, 2],
        "num_attention_heads": [1, 2], "mlp_ratios": [2, 2],
    }),
    "PoolFormer": ("PoolFormer", {
        "image_size": SIDE, "depths": [1, 1], "hidden_sizes": [8, 16], "patch_sizes": [7, 3],
        "strides": [4, 2], "padding": [2, 1], "num_encoder_blocks": 2, "mlp_ratio": 2.0,
    }),
}  # fmt: skip
CONVOLUTIONAL: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet": ("ResNet", {**STAGES, "embedding_size": 8, "layer_type": "basic"}),
    "ConvNeXt": ("ConvNext", {**STAGES, "num_stages": 2, "patch_size": 4}),
    "ConvNeXt V2": ("ConvNextV2", {**STAGES, "num_stages": 2, "patch_size": 4}),
    "RegNet": ("RegNet", {**STAGES, "embedding_size": 8, "groups_width": 4}),
    "MobileNet V2": ("MobileNetV2", {"image_size": SIDE, "depth_multiplier": 0.25, "min_depth": 8}),
}
IMAGES = TRANSFORMERS_OF_IMAGES | CONVOLUTIONAL
NETWORKS = ENCODERS | DECODERS | TWO_SIDED | IMAGES


def checkpoint(name: str, place: Path) -> Path:
    """A directory with random weights in the shape of NETWORKS[name], made once."""
    import torch
    import transformers

    if place.is_dir():
        return place
    family, shape = NETWORKS[name]
    images = name in IMAGES
    config = getattr(transformers, f"{family}Config")(**({} if images else TOKENS) | shape)
    auto = "AutoModelForCausalLM" if name in DECODERS else "AutoModel"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(transformers, auto).from_config(config)
    net.save_pretrained(place)
    if not images:
        tokenizer(name).save_pretrained(place)
    return place


def sentences(count: int, chance: random.Random) -> list[tuple[list[str], str, str]]:
    """Words of which one tells the label, the label, and that word."""
    rows = []
    for number in range(count):
        label = [*TELLING][number % 2]
        words = chance.choices(WORDS, k=chance.randint(3, 8))
        told = chance.choice(TELLING[label])
        words.insert(chance.randrange(len(words)), told)
        rows.append((words, label, told))
    return rows


def tokenizer(name: str) -> Any:
    """WordPiece over the sentences' words, between [CLS] and [SEP]; of encoder-decoders only [SEP] behind."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *WORDS, *(word for own in TELLING.values() for word in own), "?"]
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first = "" if name in TWO_SIDED else "[CLS] "
    twice = "[SEP] " if name == "Longformer" else ""  # it looks for three in a question with its text
    made.post_processor = processors.TemplateProcessing(
        single=f"{first}$A [SEP]",
        pair=f"{first}$A [SEP] {twice}$B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in special}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="[CLS]",
        eos_token="[SEP]",
        **names,
    )


def data(task: str, place: Path) -> list[str]:
    """Rows of a task as files, made once, and the settings that name them."""
    place.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    suffix = {"image": "", "ner": ".conll"}.get(task, ".jsonl")
    for split, count in COUNTS.items():
        file = place / f"{split}{suffix}"
        if file.exists():
            continue
        if task == "image":
            pictures(file, count)
        else:
            file.write_text(
                "".join(line_of(task, *row) for row in sentences(count, chance)), encoding="utf-8"
            )
    return [f"task={task}", *(f"task.{split}={place / split}{suffix}" for split in COUNTS), *LENGTHS[task]]


LENGTHS = {
    "classify": ["task.max_length=16"], "ner": ["task.max_length=16"], "qa": ["task.max_length=20"],
    "lm": ["task.block=16", "task.sample=0"], "mlm": ["task.block=16"], "image": [],
}  # fmt: skip


def line_of(task: str, words: list[str], label: str, told: str) -> str:
    """A row as a task reads it."""
    text = " ".join(words)
    if task == "ner":
        return "\n".join(f"{word}\t{f'B-{label}' if word == told else 'O'}" for word in words) + "\n\n"
    row: dict[str, Any] = {"text": text, "label": label}
    if task == "qa":
        answers = {"text": [told], "answer_start": [text.index(told)]}
        row = {"question": "was this film ?", "context": text, "answers": answers}
    return json.dumps(row) + "\n"


def pictures(folder: Path, count: int) -> None:
    """Pictures that are bright above or below, in a folder for each label."""
    import numpy
    from PIL import Image

    chance = numpy.random.default_rng(count)
    for number in range(count):
        pixels = chance.integers(0, 120, (SIDE, SIDE, 3))
        pixels[slice(0, SIDE // 2) if number % 2 else slice(SIDE // 2, SIDE)] += 120
        own = folder / ("high" if number % 2 else "low")
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(numpy.uint8)).save(own / f"{number}.png")
