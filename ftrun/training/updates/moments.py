"""What an optimizer keeps of each weight and each group, as the tensors of a checkpoint and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ftrun.models.split import is_split, put_together
from ftrun.training.tensor_files import read_tensors

OF_GROUPS = ("step", "lr_max", "weight_sum")  # numbers that pytorch_optimizer keeps in a group


def moments(optimizer: Optimizer, names: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state by parameter name, `exp_avg/net.classifier.weight`, all as tensors.

    A number of a group is `group.step/NAME`, with the first parameter of the group.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, parameter in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is None:
                continue
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            if tensor.data_ptr() in seen:  # adamw8bit's weights share a table, and files of safetensors none
                tensor = tensor.clone()
            seen.add(tensor.data_ptr())
            found[f"{key}/{name}"] = tensor
    by_id = {id(parameter): name for name, parameter in names.items()}
    for group in optimizer.param_groups:
        first = by_id[id(group["params"][0])]
        for key in OF_GROUPS:
            if key in group:
                found[f"group.{key}/{first}"] = torch.tensor(group[key], dtype=torch.float64)
    return found


def read_moments(place: Path, optimizer: Optimizer, names: dict[str, nn.Parameter]) -> None:
    """Give an optimizer the state of a checkpoint."""
    saved = read_tensors(place, "optimizer", lambda full: names[full.split("/", 1)[1]])
    load_moments(saved, optimizer, names)


def load_moments(saved: dict[str, Tensor], optimizer: Optimizer, names: dict[str, nn.Parameter]) -> None:
    """The same from tensors in memory."""
    for full, value in saved.items():
        key, name = full.split("/", 1)
        parameter = names[name]
        if key.startswith("group."):
            own = key.removeprefix("group.")
            group = next(each for each in optimizer.param_groups if each["params"][0] is parameter)
            group[own] = int(value) if own == "step" else float(value)
            continue
        if value.dtype == torch.int64:  # a whole number
            place: Any = int(value)
        elif key == "step":
            place = value
        else:
            place = put_together(value, parameter) if is_split(parameter) else value.to(parameter.device)
        optimizer.state[parameter][key] = place
