"""A finished run at work: its model, read back from its directory, on any rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ftrun.errors import ConfigError
from ftrun.models.image_processor import Reader, reopen
from ftrun.models.load import fit_inputs, quiet
from ftrun.models.logits import logits_of
from ftrun.models.save import reload
from ftrun.models.small import IMAGES
from ftrun.settings.schema import Settings, read

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from ftrun.runs.run import Run


class Saved(nn.Module):
    """The saved network with the face that evaluation knows: named tensors in, logits out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, **inputs: Tensor) -> Any:
        """Logits of what the network takes by name."""
        return logits_of(self.net, inputs)


def open_model(run: Run) -> tuple[Settings, nn.Module, PreTrainedTokenizerBase | Reader | None, Accelerator]:
    """The settings, network and tokenizer or image reader of a finished run, on its settings' device."""
    from transformers import AutoConfig, AutoTokenizer

    from ftrun.training.devices import open_accelerator

    if not run.finished:
        raise ConfigError(
            f"{run.path} is not finished, so it has no model yet; to go on with it: ftrun resume {run.path}"
        )
    settings = read(run.settings)
    accelerator = open_accelerator(settings.device, settings.train.precision, settings.train.deterministic)
    with quiet():
        net = reload(run.model_dir, settings.task.auto_class)
    images = settings.task.auto_class == IMAGES
    config = AutoConfig.from_pretrained(run.model_dir)
    if images:
        tokenizer = reopen(run.model_dir, config)
    else:
        tokenizer = AutoTokenizer.from_pretrained(run.model_dir)
        fit_inputs(tokenizer, config)
    settings.task.restore(config)
    model = accelerator.prepare_model(Saved(net), evaluation_mode=True)
    return settings, model, tokenizer, accelerator
