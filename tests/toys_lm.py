"""Text that can be learned, tiny decoders at random, and the settings that make them an experiment."""

import json
import random
from pathlib import Path

NAMES, VERBS, THINGS = ["the cat", "a dog", "our cow"], ["eats", "sees", "likes"], ["fish", "grass", "trees"]


def files(place: Path) -> Path:
    """text.txt, one long text; rows.jsonl with 60 texts; asked.jsonl with 40 prompts and completions."""
    chance = random.Random(0)
    texts = [
        ". ".join(
            f"{chance.choice(NAMES)} {chance.choice(VERBS)} {chance.choice(THINGS)}"
            for _ in range(chance.randint(1, 4))
        )
        + "."
        for _ in range(60)
    ]
    place.mkdir(parents=True, exist_ok=True)
    (place / "text.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (place / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    asked = [{"question": f"{n} {v}", "reply": f" {t}"} for n in NAMES for v in VERBS for t in THINGS]
    chance.shuffle(asked)
    (place / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return place


def words(place: Path) -> list[str]:
    """The settings of a quick experiment on files(place), with a network from random weights."""
    return [
        "task=lm", f"task.train={place}/rows.jsonl", "task.block=32", "task.vocab=256", "task.sample=8",
        "model=gpt2_small_random", "model.layers=2", "model.width=32", "model.heads=2",
        "train.batch_size=16", "train.max_steps=4", "device=cpu",
    ]  # fmt: skip


def tiny_decoder(name: str, place: Path) -> Path:
    """A checkpoint of gpt2, llama or qwen2: two layers, 32 wide, 64 positions, with a byte-pair tokenizer."""
    import torch
    import transformers

    from ftrun.data.documents import Columns, documents
    from ftrun.text.vocabulary import train

    source = str(files(place) / "text.txt")
    texts = [each.text for each in documents([source], Columns("text", None, None), "line", False)]
    tokenizer = train(texts, 300)
    shape = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    inner = {} if name == "gpt2" else {"intermediate_size": 64, "num_key_value_heads": 2}
    tied = {"tie_word_embeddings": name != "llama"}
    family = {"gpt2": "GPT2", "llama": "Llama", "qwen2": "Qwen2"}[name]
    kind = "GPT2LMHeadModel" if name == "gpt2" else f"{family}ForCausalLM"
    config = getattr(transformers, f"{family}Config")(**shape, **inner, **tied)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, kind)(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place
