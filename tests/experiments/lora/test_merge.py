"""A merged LoRA answers as the run does, alone, and nothing is left where that cannot be proved."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from lab import ran, settings, toy
from saved import answered, logits, refused
from toys_tasks import words_of
from transformers import AutoModelForSequenceClassification

from ftrun.errors import ConfigError
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.lora.equivalence import agreement, rows_to_compare
from ftrun.experiments.lora.starting import merge_first
from ftrun.models.files.locate import locate, unmerged
from ftrun.models.saved.below import named, on_hub
from ftrun.runs.manifest import SEAL
from ftrun.runs.run import Run

VARIANTS = ["lora", "rslora", "dora", "pissa"]


@pytest.fixture(scope="module")
def runs(toy_files, tiny_model_dir, tmp_path_factory):
    """A finished run of every variant, trained far enough to differ from its base."""
    place = tmp_path_factory.mktemp("runs")

    def make(name, *words):
        if not (place / name).is_dir():
            ran(place / name, toy(toy_files, tiny_model_dir, *words, "train.lr=1e-2", "train.epochs=1"))
        return Run.open(place / name)

    return make


def of_variant(runs, variant):
    return runs(variant, "strategy=lora", f"variant={variant}", "rank=3", "targets=all")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_merged_network_is_plain_and_gives_the_logits_of_the_run(
    runs, variant, ftrun_inprocess, tmp_path
):
    run = of_variant(runs, variant)
    out = ftrun_inprocess("merge", str(run.path), "--output", "whole").stdout
    assert "compared on 40 validation rows of task=classify" in out and "folded in fp32" in out
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "whole")
    adapted = answered(run.model_dir)
    torch.testing.assert_close(logits(net, tmp_path / "whole"), adapted, atol=1e-5, rtol=0)
    base = AutoModelForSequenceClassification.from_pretrained(run.config["model"]["name"])
    moved = [
        n for n, p in net.bert.encoder.named_parameters() if (p != base.bert.encoder.get_parameter(n)).any()
    ]
    assert len(moved) == 12  # every linear layer of both layers, nothing else
    assert not any("lora" in name for name in net.state_dict())
    assert net.config.id2label == {0: "negative", 1: "positive"}


@pytest.mark.parametrize(("strategy", "what"), [("ia3", "an (IA)³"), ("vera", "a VeRA")])
def test_vectors_are_merged_started_from_and_not_composed(runs, strategy, what, ftrun_inprocess, tmp_path):
    run = runs(strategy, f"strategy={strategy}", *(["rank=8"] if strategy == "vera" else []))
    assert (
        what
        in (said := ftrun_inprocess("compose", *[str(run.path)] * 2, "--weights", "1,1", check=False)).stderr
    )
    assert said.returncode == 2 and "compose takes LoRAs" in said.stderr
    with pytest.raises(ConfigError, match=re.escape(f"holds {what}; to make a network of it: ftrun merge")):
        locate(settings(f"model.name={run.path}").model)
    merge_first(settings(f"model.name={run.path}").model, "cpu")
    net = AutoModelForSequenceClassification.from_pretrained(run.path / "merged")
    torch.testing.assert_close(logits(net, run.path / "merged"), answered(run.model_dir), atol=1e-5, rtol=0)
    assert not any(part in name for name in net.state_dict() for part in ("ia3", "vera"))
    assert f"{what.split()[1]} merged" in (run.path / "merged" / "README.md").read_text()
    base = AutoModelForSequenceClassification.from_pretrained(run.config["model"]["name"])
    moved = [n for n, p in net.bert.named_parameters() if (p != base.bert.get_parameter(n)).any()]
    assert moved and all(".layer." in name for name in moved)


def test_it_answers_scores_and_is_started_from(runs, ftrun_inprocess, toy_files, toy_words, tmp_path):
    run = of_variant(runs, "lora")
    ftrun_inprocess("merge", str(run.path), "--output", "whole")
    words = "--input", f"{toy_files}/test.csv", "--output"
    ftrun_inprocess("predict", "whole", *words, "whole.csv")
    ftrun_inprocess("predict", str(run.path), *words, "run.csv")
    answers = [
        [line.split(",")[2] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("whole.csv", "run.csv")
    ]
    assert answers[0] == answers[1]
    scores = ftrun_inprocess("evaluate", "whole").stdout
    assert f"test_accuracy              {run.read_json('result.json')['test_accuracy']:.6f}" in scores
    again = "model.name=whole", "strategy=linear_probe", "train.max_steps=1", "hydra.run.dir=again"
    ftrun_inprocess(*(word for word in toy_words if not word.startswith("model.name")), *again)


def test_the_cast_is_told_apart_from_the_folding(runs, ftrun_inprocess, tmp_path):
    run = of_variant(runs, "lora")
    out = ftrun_inprocess("merge", str(run.path), "--output", "half", "--dtype", "bf16").stdout
    folding, cast = (
        float(line.split()[-2]) for line in out.splitlines() if line.startswith(("folded", "cast"))
    )
    assert folding < 1e-5 < cast
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path / "half")
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    card = (tmp_path / "half" / "README.md").read_text()
    assert "| folded in fp32 | 40 |" in card and "| cast to bf16 | 40 |" in card
    front = ModelCard(card).data
    assert (front.library_name, front.tags) == ("transformers", ["ftrun", "merged"])
    assert front.eval_results is None and "## Proof" in card  # the run's scores are not those of the cast


def test_the_card_names_a_base_that_others_know_too(tmp_path):
    assert on_hub("bert-base-uncased") and on_hub("org/bert")
    names = ("embedded:tiny_bert", str(tmp_path), str(tmp_path / "gone"), "./bert", "runs/a/model")
    assert not any(map(on_hub, names))
    assert named(str(tmp_path / "best" / "model")) == "best" and named("org/bert") == "org/bert"


def test_a_pooled_network_is_merged_too(runs, ftrun_inprocess, toy_files, tmp_path):
    run = runs("pooled", "strategy=lora", "rank=2", "model.pooling=mean")
    ftrun_inprocess("merge", str(run.path), "--output", "whole", "--dtype", "bf16")
    ftrun_inprocess("predict", "whole", "--input", f"{toy_files}/test.csv", "--output", "answers.csv")


def test_without_its_data_it_says_what_was_compared_instead(runs, ftrun_inprocess, tmp_path):
    shutil.copytree(of_variant(runs, "lora").path, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    lines = config.read_text().splitlines()
    config.write_text("\n".join("  train: gone.csv" if ln.startswith("  train: /") else ln for ln in lines))
    out = ftrun_inprocess("merge", "run").stdout
    assert "sentences of embedded:docstrings:validation" in out and "gone.csv does not exist" in out
    assert (tmp_path / "run" / "merged" / "model.safetensors").is_file()


def test_above_the_tolerance_nothing_is_left(runs, ftrun_inprocess, tmp_path, monkeypatch):
    from ftrun.experiments.lora import merge as merging

    fold = merging.folded

    def wrong(place, settings):
        net = fold(place, settings)
        net.classifier.bias.data += 0.01
        return net

    monkeypatch.setattr(merging, "folded", wrong)
    run = of_variant(runs, "lora")
    result = ftrun_inprocess("merge", str(run.path), "--output", "whole", check=False)
    assert result.returncode == 1 and list(tmp_path.iterdir()) == []
    assert "a logit by 1.0e-02, more than --tolerance 0.0001; nothing was written" in result.stderr


def test_what_cannot_be_merged_is_said_in_a_line(runs, ftrun_inprocess, toy_files, tmp_path):
    lora = str(of_variant(runs, "lora").path)
    assert "is not a directory" in refused(ftrun_inprocess, "merge", "nowhere")
    assert "--dtype fp8: possible: fp32, bf16, fp16" in refused(
        ftrun_inprocess, "merge", lora, "--dtype", "fp8"
    )
    assert "no directory" in refused(ftrun_inprocess, "merge", lora, "--output", "a/b")
    assert "exists" in refused(ftrun_inprocess, "merge", lora, "--output", str(toy_files))
    adapter = runs("adapter", "strategy=adapter", "bottleneck=4")
    assert "hold a non-linearity, so there is no weight" in refused(
        ftrun_inprocess, "merge", str(adapter.path)
    )
    full = runs("full", "strategy=full")
    assert "strategy=full trained the weights themselves" in refused(ftrun_inprocess, "merge", str(full.path))
    random = runs("random", "strategy=lora", "model.init=random")
    whole = "on random weights left no low-rank update; model/ is the whole network, with what"
    assert f"strategy=lora {whole}" in refused(ftrun_inprocess, "merge", str(random.path))


@pytest.mark.parametrize(
    "gone, said",
    [
        ("result.json", "is not finished"),
        ("model/adapter_model.safetensors", "is damaged: model/adapter_model.safetensors is missing"),
        ("model/adapter_config.json", "is damaged: model/adapter_config.json is missing"),
        ("model", "is damaged: model/config.json is missing"),
    ],
)
def test_a_damaged_run_is_said_in_a_line(runs, ftrun_inprocess, tmp_path, gone, said):
    shutil.copytree(of_variant(runs, "lora").path, tmp_path / "run")
    file = tmp_path / "run" / gone
    shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert said in refused(ftrun_inprocess, "merge", "run", "--output", "whole")
    assert not (tmp_path / "whole").exists()


def test_torn_weights_and_a_lost_base_are_said_in_a_line(runs, ftrun_inprocess, tmp_path):
    shutil.copytree(of_variant(runs, "lora").path, tmp_path / "run")
    weights = tmp_path / "run" / "model" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "run/model is damaged: adapter_model.safetensors has" in refused(ftrun_inprocess, "merge", "run")
    weights.with_name(SEAL).unlink()  # as in a run of an earlier version
    assert "run/model cannot be loaded" in refused(ftrun_inprocess, "merge", "run")
    config = weights.with_name("adapter_config.json")
    shutil.rmtree(weights.with_name("base"))  # so too
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "/gone/bert"}))
    assert "the checkpoint it was trained on is gone: /gone/bert" in refused(ftrun_inprocess, "merge", "run")
    config.write_text("{")
    assert "adapter_config.json is damaged" in refused(ftrun_inprocess, "merge", "run")


def test_a_run_that_starts_from_a_lora_merges_it_first(runs, ftrun_inprocess, toy_words, tmp_path):
    """As `ftrun merge` does, once; the numbers are those of the merged network under its own name."""
    shutil.copytree(of_variant(runs, "lora").path, tmp_path / "run")
    words = [word for word in toy_words if not word.startswith("model.name")]
    words += ["strategy=linear_probe", "train.max_steps=1", "baselines=false", "task.subset=40"]
    first = ftrun_inprocess(*words, "model.name=run", "hydra.run.dir=first").stdout
    assert "model.name=run holds a LoRA: merging it into run/merged, as ftrun merge does" in first
    assert "folded in fp32" in first
    second = ftrun_inprocess(*words, "model.name=run/merged", "hydra.run.dir=second").stdout
    assert "merging" not in second
    kept = [(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("first", "second")]
    assert kept[0] == kept[1]
    assert Run.open(tmp_path / "first").config["model"]["name"] == "run"
    for name in ("run", "run/model"):
        assert unmerged(name) is None
        assert locate(settings(*words, f"model.name={name}").model).name == str(tmp_path / "run" / "merged")
    shutil.rmtree(tmp_path / "run" / "merged")
    assert unmerged("run") == unmerged("run/model") == Path("run")
    ftrun_inprocess("merge", "run", "--dtype", "bf16")
    with pytest.raises(ConfigError, match="run/merged is cast to bfloat16; possible: model.name=run/merged"):
        locate(settings(*words, "model.name=run").model)


def test_what_cannot_be_started_from_is_said_in_a_line(runs, toy_words, tmp_path):
    words = [word for word in toy_words if not word.startswith("model.name")]

    def said(name):
        with pytest.raises(ConfigError) as caught:
            merge_first(settings(*words, f"model.name={name}").model, "cpu")
            locate(settings(*words, f"model.name={name}").model)
        return str(caught.value)

    adapter = runs("adapter", "strategy=adapter", "bottleneck=4")
    assert "layers of strategy=adapter hold a non-linearity and cannot be folded" in said(adapter.path)
    shutil.copytree(of_variant(runs, "lora").model_dir, tmp_path / "alone")
    assert "holds a LoRA and not the network it belongs to; possible: a run" in said(tmp_path / "alone")


@pytest.mark.parametrize("task", ["multilabel", "ner", "qa"])
def test_an_answer_is_another_one_by_what_it_says_and_not_by_its_probabilities(
    task, tmp_path, tiny_dir, ftrun_inprocess
):
    quick = ["strategy=lora", "rank=2", "train.max_steps=2", "train.batch_size=8"]
    run = ran(tmp_path / "run", settings(*words_of(task, tmp_path, tiny_dir), *quick))
    out = ftrun_inprocess("merge", str(run.path)).stdout
    line = next(line for line in out.splitlines() if line.startswith("folded in fp32"))
    assert line.split()[-1] == "0"
    opened = FinishedRun(run)
    data, _ = rows_to_compare(opened.settings, opened.processor, opened.config)
    other = copy.deepcopy(opened.model)
    with torch.no_grad():
        for parameter in [*other.parameters()][-2:]:  # the head's
            parameter.neg_()
    size = 4 * opened.settings.train.batch_size
    found = agreement("", (opened.model, other), data, size, opened.accelerator)
    assert found.flipped > len(data.dataset("validation")) // 4
