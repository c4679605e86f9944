"""An exported network answers as the run does, at other sizes than it was made with; or nothing is left."""

from __future__ import annotations

import importlib.util
import json
import warnings

import pytest
import torch
from huggingface_hub import ModelCard
from lab import ran, settings
from saved import refused
from toys_tasks import words_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftrun.experiments.exporting import export as exporting
from ftrun.experiments.exporting import formats
from ftrun.models.load import quiet
from ftrun.runs.run import Run

QUICK = ["baselines=false", "train.epochs=1", "train.max_steps=3", "train.lr=1e-2", "train.batch_size=8"]
TEXTS = ["a good story", "a very dull and awful plot of this film", "bad"]
HAS_ONNX = all(importlib.util.find_spec(name) for name in formats.NEEDED)


@pytest.fixture(scope="module")
def run(tiny_dir, tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("export")
    words = words_of("multilabel", place, tiny_dir)
    return ran(place / "run", settings(*words, *QUICK, "strategy=lora", "rank=2"))


def code_of(place) -> str:
    text = ModelCard.load(place / "README.md").text
    return text.split("```python\n")[1].split("```")[0].replace("DIR", str(place))


@pytest.mark.ci  # the exporters alone take some seconds
@pytest.mark.parametrize(
    "kind",
    [
        "torch-export",
        pytest.param("onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx")),
    ],
)
def test_the_lines_of_the_card_give_the_run_s_logits(run, ftrun_inprocess, tmp_path, kind):
    out = ftrun_inprocess("export", str(run.path), "--to", kind, "--output", "out").stdout
    assert (
        "compared on 32 validation rows of task=multilabel" in out
        and out.count("e-0") + out.count("0.0e") == 1
    )
    place = tmp_path / "out"
    with quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        net = AutoModelForSequenceClassification.from_pretrained(run.model_dir)
        batch = AutoTokenizer.from_pretrained(run.model_dir)(TEXTS, padding=True, return_tensors="pt")
        expected = net(**batch).logits
        names: dict = {"print": lambda *_: None}
        exec(code_of(place).replace('"A text."', f"{TEXTS!r}, padding=True"), names)
    found = torch.as_tensor(names["logits"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if kind == "onnx":
        about = names["session"].get_modelmeta().custom_metadata_map
        assert [each.name for each in names["session"].get_inputs()][:2] == ["input_ids", "attention_mask"]
    else:
        extra = {"about.json": ""}
        torch.export.load(place / formats.PROGRAM, extra_files=extra)
        about = json.loads(extra["about.json"])
    assert json.loads(about["labels"]) == ["comedy", "crime", "drama"]
    assert str(run.path.parent) not in (place / "README.md").read_text()


def test_above_the_tolerance_nothing_is_left(run, tmp_path, monkeypatch, ftrun_inprocess):
    """The writer is a stand-in whose network is wrong by a hundredth."""
    monkeypatch.setitem(
        exporting.WRITTEN,
        "torch-export",
        (lambda what, place, about: lambda inputs: what.module(**inputs) + 0.01, "a stand-in"),
    )
    result = ftrun_inprocess("export", str(run.path), "--to", "torch-export", "--output", "no", check=False)
    assert result.returncode == 1 and list(tmp_path.iterdir()) == []
    assert "a logit by 1.0e-02, more than --tolerance 0.0001; nothing was written" in result.stderr


def test_a_flipped_answer_is_counted(run):
    from ftrun.experiments.exporting.network import Exportable

    batches = [{"x": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}, {"x": torch.tensor([[1.0, 0.5], [3.0, 0.0]])}]

    class Same(torch.nn.Module):
        def forward(self, x):
            return x

    what = Exportable(Same(), None, batches, 4)
    found = exporting.compared(
        "", what, lambda batch: batch["x"].roll(1, -1) if batch is batches[0] else batch["x"]
    )
    assert (found.rows, found.flipped, found.largest_difference) == (4, 2, 1.0)


def test_a_decoder_is_laid_out_for_llama_cpp(tmp_path, tiny_dir, ftrun_inprocess):
    words = words_of("lm", tmp_path / "data", tiny_dir)
    ran(tmp_path / "lora", settings(*words, *QUICK, "strategy=lora", "rank=2"))
    out = ftrun_inprocess("export", "lora", "--to", "gguf-ready", "--output", "ready").stdout
    assert "folded in fp32" in out and "saved: ready (GPT2LMHeadModel)" in out
    assert "python convert_hf_to_gguf.py ready --outfile ready.gguf" in out
    names = {path.name for path in (tmp_path / "ready").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not names & {"adapter_config.json", "base"}


def test_what_cannot_be_exported_is_said_in_a_line(run, ftrun_inprocess, monkeypatch):
    place = str(run.path)
    assert "torch.jit" in refused(ftrun_inprocess, "export", place, "--to", "torchscript")
    assert "--to onx: possible: onnx, torch-export, merged, gguf-ready; did you mean 'onnx'?" in refused(
        ftrun_inprocess, "export", place, "--to", "onx"
    )
    assert "task=lm); possible: ftrun export" in refused(
        ftrun_inprocess, "export", place, "--to", "gguf-ready"
    )
    monkeypatch.setattr(formats, "NEEDED", ("onnx", "no_such_module"))
    said = refused(ftrun_inprocess, "export", place, "--to", "onnx")
    assert "no_such_module" in said and "pip install 'ftrun[onnx]'" in said
    assert "--tolerance must be at least 0" in refused(
        ftrun_inprocess, "export", place, "--to", "onnx", "--tolerance", "-1"
    )
