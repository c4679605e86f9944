"""Makes tiny_bert: corpus, vocabulary, teacher's vectors, one training run; each is kept on disk."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import ftrun
from ftrun.data.text.masking import mask_tokens, mlm_loss
from tiny_bert import card, corpus, distil, network, teacher, vocabulary

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

BLOCKS = 8  # of 128 tokens, for MLM (without a teacher: twice as many)
LIBRARY_SHARE = 0.25  # of the docstrings in a batch
MLM_WEIGHT = 0.3
STEPS, TAUGHT = 9000, 24_576  # docstrings
LR, WARMUP, DECAY = 2e-3, 100, 0.8  # the last 80 % of the steps decay linearly to nothing
SAVE_EVERY, LOG_EVERY = 200, 25  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of everything in between")
    parser.add_argument("--out", type=Path, default=Path(ftrun.__file__).parent / "assets" / "tiny_bert")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--taught", type=int, default=TAUGHT, help="docstrings that the teacher reads; 0 is MLM alone"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text, tokenizer = prepare(options.work)
    run = Training(options.work, text, tokenizer, options.taught, options.seed)
    run.train(options.steps)
    network.publish(run.model, tokenizer, options.out, card.card(text.words, options.work / "curve.jsonl"))


def prepare(work: Path) -> tuple[corpus.Corpus, PreTrainedTokenizerBase]:
    """The corpus and the tokenizer learned from it."""
    from transformers import AutoTokenizer

    kept = work / "corpus.json"
    if not kept.exists():
        kept.write_text(json.dumps(vars(corpus.read_corpus(work / "packages"))))
    text = corpus.Corpus(**json.loads(kept.read_text()))
    if not (work / "tokenizer").exists():
        vocabulary.learn(text.texts).save_pretrained(work / "tokenizer")
    return text, AutoTokenizer.from_pretrained(work / "tokenizer")


class Training:
    """The network, its optimizer and its data; stopped at any moment it goes on from the last save."""

    def __init__(
        self, work: Path, text: corpus.Corpus, tokenizer: PreTrainedTokenizerBase, taught: int, seed: int
    ) -> None:
        self.work, self.tokenizer, self.seed = work, tokenizer, seed
        self.blocks = vocabulary.blocks(tokenizer, text.texts, seed)
        self.model = network.new_model(seed)
        self.modules: nn.Module = torch.nn.ModuleDict({"model": self.model})
        self.taught = taught > 0
        if self.taught:
            self.teach(text, taught)
        self.optimizer = network.optimizer(list(self.modules.named_parameters()), LR)

    def teach(self, text: corpus.Corpus, count: int) -> None:
        """Reads or computes the teacher's vectors and starts the word embeddings from them."""
        chosen = teacher.choose(text.packages, count, self.seed)
        kept = self.work / f"teacher_{count}.npz"
        if not kept.exists():
            words = teacher.word_vectors(self.tokenizer)
            np.savez(kept, words=words, texts=teacher.vectors([text.texts[i] for i in chosen], distil.VIEW))
        found = np.load(kept)
        self.target = torch.from_numpy(found["texts"].astype(np.float32))
        self.rows = self.tokenizer([text.texts[i] for i in chosen], add_special_tokens=False)["input_ids"]
        self.lengths = np.array([min(len(row), distil.VIEW - 2) for row in self.rows])
        self.library = np.array([text.packages[i].startswith(teacher.LIBRARY + "==") for i in chosen])
        distil.warm_start(self.model, found["words"])
        self.modules["projections"] = distil.Projections(self.model.config.hidden_size, self.target.shape[1])

    def train(self, steps: int) -> None:
        """From the last save to the end; the losses go to curve.jsonl."""
        state = self.work / "training.pt"
        sums, tokens = np.zeros(3), 0
        for step in range(network.load_state(state, self.modules, self.optimizer), steps):
            found, seen = self.step(step, steps)
            sums, tokens = sums + found, tokens + seen
            if (step + 1) % LOG_EVERY == 0:
                self.log(step + 1, tokens, sums)
                sums, tokens = np.zeros(3), 0
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                network.save_state(state, self.modules, self.optimizer, step + 1)

    def step(self, step: int, steps: int) -> tuple[np.ndarray, int]:
        """One update: (distillation loss, MLM loss summed, tokens guessed), and the tokens seen."""
        random = np.random.default_rng((self.seed, step))
        loss, found, seen = torch.zeros(()), np.zeros(3), 0
        if self.taught:
            loss, seen = self.distillation(random)
            found[0] = loss.item()
        count = BLOCKS if self.taught else 2 * BLOCKS
        ids = torch.from_numpy(self.blocks[random.integers(0, len(self.blocks), count)].astype(np.int64))
        total, guessed = self.mlm(ids, step)
        loss = loss + (MLM_WEIGHT if self.taught else 1.0) * total / guessed
        found[1:], seen = (total.item(), guessed), seen + ids.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARMUP, (1 - step / steps) / DECAY)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return found, seen

    def distillation(self, random: np.random.Generator) -> tuple[Tensor, int]:
        """Its loss on a batch of docstrings, and the tokens seen."""
        special = (self.tokenizer.pad_token_id, self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        chosen = distil.draw(self.lengths, self.library, LIBRARY_SHARE, random)
        ids, mask = distil.pad([self.rows[i] for i in chosen], special)
        out = self.model.bert(ids, attention_mask=mask)
        states, pooled = out.last_hidden_state, out.pooler_output
        projections = self.modules["projections"]
        return distil.distillation_loss(projections, states, pooled, mask, self.target[chosen]), int(
            mask.sum()
        )

    def mlm(self, ids: Tensor, step: int) -> tuple[Tensor, int]:
        """Its loss on blocks with this step's masks: the sum and the count."""
        inputs, labels = mask_tokens(
            ids,
            share=0.15,
            mask_id=self.tokenizer.mask_token_id,
            special_ids=self.tokenizer.all_special_ids,
            vocabulary=len(self.tokenizer),
            generator=torch.Generator().manual_seed(self.seed * 1_000_003 + step),
        )
        return mlm_loss(self.model.cls, self.model.bert(inputs).last_hidden_state, labels)

    def log(self, step: int, tokens: int, sums: np.ndarray) -> None:
        """One line of the curve; tokens are those since the line before."""
        values = {
            "step": step,
            "tokens": tokens,
            "mlm": sums[1] / sums[2],
            "distillation": sums[0] / LOG_EVERY,
        }
        with (self.work / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: round(value, 4) for name, value in values.items()}) + "\n")


if __name__ == "__main__":
    main()
