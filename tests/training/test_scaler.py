"""The scaler of fp16: its scales are powers of two, so on fp32 gradients a run with it is the plain run."""

import pytest
import torch
from accelerate import Accelerator, AutocastKwargs
from lab import EXTRA, kept, ran, toy

from ftrun.experiments import single

HELD = {"full": [], "lora": ["rank=2"], "l2sp": [], "replay": EXTRA["replay"], "ewc": EXTRA["ewc"]}


class Scaled(Accelerator):
    """An accelerator on the CPU with the scaler that fp16 has on a GPU."""

    mixed_precision = "fp16"

    def __init__(self) -> None:
        super().__init__(cpu=True, kwargs_handlers=[AutocastKwargs(enabled=False)])
        self.native_amp, self.scaler = True, torch.amp.GradScaler("cpu")


def with_scaler(monkeypatch):
    monkeypatch.setattr(single, "open_accelerator", lambda *words: Scaled())


@pytest.mark.parametrize("strategy", kept(HELD, {"full", "ewc"}))
def test_a_run_with_the_scaler_is_the_run_without(toy_files, still_dir, tmp_path, monkeypatch, strategy):
    words = (
        f"strategy={strategy}", *HELD[strategy], "train.clip=0.5", "train.max_steps=6", "train.eval_every=3"
    )  # fmt: skip
    plain = ran(tmp_path / "plain", toy(toy_files, still_dir, *words))
    with_scaler(monkeypatch)
    scaled = ran(tmp_path / "scaled", toy(toy_files, still_dir, *words))
    assert scaled.read_json("cost.json")["device"].endswith("fp16")
    assert scaled.metrics() == plain.metrics()
