"""The network, its optimizer and its data."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ftrun.data.text.masking import mask_tokens, mlm_loss
from tiny_bert import losses, network, teacher
from tiny_bert.views import Views
from tiny_bert.vocabulary import encode

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from tiny_bert.corpus import Corpus

LR, WARMUP = 6e-4, 0.03  # of the time; then it decays linearly to nothing
CONTRAST, MLM, POOLED = 0.5, 0.3, 0.5  # weights of the losses; that of the mean's distillation is 1
MASKED = 0.15
LOG_EVERY = 25  # steps
TAUGHT = {"cuda": 1024, "cpu": 32}  # texts at a time, read by the teacher
NAMES = ("distillation", "contrast", "mlm")


class Training:
    """One run; batches are pairs of texts, the first of each with masks."""

    def __init__(
        self,
        text: Corpus,
        tokenizer: PreTrainedTokenizerBase,
        teacher_folder: Path | None,
        device: torch.device,
        pairs: int,
        seed: int,
    ) -> None:
        torch.set_float32_matmul_precision("high")
        self.device, self.tokenizer, self.pairs = device, tokenizer, pairs
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.views = Views(text)
        large, known = teacher.load(teacher_folder, device)
        self.model = network.cut_out(large, known, tokenizer, seed).to(device)
        self.target = teacher.vectors(large, known, self.views.texts, TAUGHT[device.type])
        width = self.model.config.hidden_size
        self.pooled = nn.Linear(width, width).to(device)  # thrown away afterwards
        ids, self.lengths = encode(tokenizer, self.views.texts)
        self.ids, self.files = torch.from_numpy(ids).to(device), torch.from_numpy(self.views.file).to(device)
        self.parameters = [*self.model.parameters(), *self.pooled.parameters()]
        self.optimizer = network.optimizer(self.parameters, LR)

    def train(self, end: float, curve: Path) -> None:
        """Until that time by the monotonic clock; the losses go to the curve."""
        begin = time.monotonic()
        step, tokens, sums = 0, 0, torch.zeros(len(NAMES), device=self.device)
        while True:
            for batch in self.views.batches(self.pairs, self.lengths, self.random):
                now = time.monotonic()
                if now >= end:
                    return
                share = (now - begin) / (end - begin)
                sums += self.step(batch.T.reshape(-1), LR * min(1.0, share / WARMUP, 1 - share))
                step, tokens = step + 1, tokens + int(self.lengths[batch].sum())
                if step % LOG_EVERY == 0:
                    values = {"step": step, "tokens": tokens}
                    values |= dict(zip(NAMES, (sums / LOG_EVERY).tolist(), strict=True))
                    self.log(values, time.monotonic() - begin, curve)
                    sums.zero_()

    def step(self, rows: np.ndarray, lr: float) -> Tensor:
        """One update on the first texts of all pairs, then the second ones; the losses."""
        found = self.losses(rows)
        loss = found[0] + CONTRAST * found[1] + MLM * found[2]
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return torch.stack(found).detach()

    def losses(self, rows: np.ndarray) -> list[Tensor]:
        """Distillation, contrast and masked language modelling."""
        chosen = torch.from_numpy(rows).to(self.device)
        ids = self.ids[chosen, : int(self.lengths[rows].max())].long()
        mask = (ids != self.tokenizer.pad_token_id).long()
        hidden, labels = self.masked(ids[: self.pairs])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            out = self.model.bert(torch.cat([hidden, ids[self.pairs :]]), attention_mask=mask)
            states = out.last_hidden_state
            total, guessed = mlm_loss(self.model.cls, states[: self.pairs], labels)
            pooled = self.pooled(out.pooler_output)
        target, files = self.target[chosen].float(), self.files[chosen]
        vectors = [
            functional.normalize(each.float(), dim=-1) for each in (losses.mean_of(states, mask), pooled)
        ]
        taught = [losses.distillation_loss(each, target) for each in vectors]
        apart = [losses.contrastive_loss(each, target, files) for each in vectors]
        return [taught[0] + POOLED * taught[1], apart[0] + POOLED * apart[1], total / guessed]

    def masked(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """With masks of this very step, and what they hide."""
        return mask_tokens(
            ids,
            share=MASKED,
            mask_id=self.tokenizer.mask_token_id,
            special_ids=self.tokenizer.all_special_ids,
            vocabulary=len(self.tokenizer),
            generator=self.generator,
        )

    def log(self, values: dict[str, float], seconds: float, curve: Path) -> None:
        """One line of the curve, and of what is printed."""
        line = json.dumps({name: round(value, 4) for name, value in values.items()})
        with curve.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(f"{seconds:6.1f} s of training  {line}", flush=True)
