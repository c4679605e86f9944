"""ONNX and torch.export: how a network is written for each, and how it is read back to be compared."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftrun.errors import UserError, needs, told
from ftrun.experiments.exporting.network import PIXELS, Exportable
from ftrun.models.load import quiet

ONNX, PROGRAM = "model.onnx", "model.pt2"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
Network = Callable[[dict[str, Tensor]], Tensor]
OPENED = {
    "onnx": """\
import onnxruntime
from transformers import {reader}

session = onnxruntime.InferenceSession("DIR/model.onnx")
inputs = {reader}.from_pretrained("DIR")({example}, return_tensors="np")
(logits,) = session.run(None, dict(inputs))
print(logits)""",
    "torch-export": """\
import torch
from transformers import {reader}

inputs = {reader}.from_pretrained("DIR")({example}, return_tensors="pt")
logits = torch.export.load("DIR/model.pt2").module()(**inputs)
print(logits)""",
}


def refuse_missing() -> None:
    """ConfigError where the libraries that write and run ONNX are not installed."""
    needs("--to onnx", "onnx", *NEEDED)


def lines_for(kind: str, images: bool) -> str:
    """The lines of Python that use what is exported."""
    if images:
        values = {"reader": "AutoImageProcessor", "example": 'Image.open("image.png")'}
        return "from PIL import Image\n" + OPENED[kind].format(**values)
    return OPENED[kind].format(reader="AutoTokenizer", example='"A text."')


def to_onnx(what: Exportable, place: Path, about: dict[str, str]) -> Network:
    """Write model.onnx, and read it back by onnxruntime; `about` becomes its metadata."""
    import onnxruntime

    example = what.example
    with calm(), exporting():
        program: Any = torch.onnx.export(
            what.module,
            tuple(example.values()),
            input_names=[*example],
            output_names=["logits"],
            dynamic_shapes=what.shapes(),
            dynamo=True,
            verbose=False,
        )
        program.model.metadata_props.update(about)
        program.save(place / ONNX)
    session = onnxruntime.InferenceSession(place / ONNX, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Tensor]) -> Tensor:
        (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(found)

    return run


def to_program(what: Exportable, place: Path, about: dict[str, str]) -> Network:
    """Write model.pt2, and read it back by torch.export; `about` becomes a file in it."""
    example = what.example
    with calm(), exporting():
        program = torch.export.export(what.module, (), example, dynamic_shapes=what.shapes(), strict=False)
        torch.export.save(program, place / PROGRAM, extra_files={"about.json": json.dumps(about)})
        network = torch.export.load(place / PROGRAM).module()
    return lambda inputs: network(**inputs)


@contextmanager
def exporting() -> Iterator[None]:
    """One line where a network cannot be written as a graph."""
    try:
        yield
    except (torch._dynamo.exc.TorchDynamoException, torch.onnx.errors.OnnxExporterError) as error:
        raise UserError(f"PyTorch cannot write this network as a graph: {told(error, 300)}") from error


@contextmanager
def calm() -> Iterator[None]:
    """Without what the exporters tell each other."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def is_images(what: Exportable) -> bool:
    return PIXELS in what.example
