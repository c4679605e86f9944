"""The lines of a saved model's card, executed as they stand: plain libraries answer as the run did."""

from __future__ import annotations

import json
import os
import re
import warnings
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from lab import ran, settings
from PIL import Image
from toys_tasks import words_of

from ftrun.data.rows import read_rows
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.lora.equivalence import without_measures
from ftrun.experiments.serving.answering import Answering
from ftrun.experiments.verifying.proofs import Verified
from ftrun.models.load import quiet
from ftrun.models.reload import reload
from ftrun.runs.artifacts import TOLERANCE
from ftrun.runs.content import answers_of
from ftrun.runs.run import Run
from ftrun.tasks.generation import continued

QUICK = ["baselines=false", "train.epochs=1", "train.max_steps=4", "train.lr=1e-2", "train.batch_size=8"]
LORA, ADAPTERS = ["strategy=lora", "rank=2"], ["strategy=adapter", "bottleneck=4"]
RUNS = {  # a task of `words_of`, and more settings
    "pairs": ("pairs", LORA),
    "adapters": ("pairs", ADAPTERS),
    "vera": ("pairs", ["strategy=vera", "rank=4"]),
    "pooled vera": ("multilabel", ["strategy=vera", "rank=4", "model.pooling=mean"]),
    "ia3": ("pairs", ["strategy=ia3"]),
    "pooled adapters": ("multilabel", [*ADAPTERS, "model.pooling=cls"]),
    "multilabel": ("multilabel", LORA),
    "regress": ("regress", LORA),
    "ner": ("ner", [*LORA, "train.epochs=6", "train.max_steps=30", "train.lr=5e-2"]),
    "qa": ("qa", LORA),
    "mlm": ("mlm", LORA),
    "lm": ("lm", LORA),
    "vit": ("vit", ["strategy=full"]),
    "resnet": ("resnet", ["strategy=full"]),
    "simclr": ("simclr", ["strategy=full"]),
    "digits": ("digits", ["strategy=full", "model=cnn_small"]),
}


@pytest.fixture(scope="module")
def run_of(tiny_dir, tmp_path_factory) -> Callable[[str], Run]:
    """A short run of one of `RUNS`, made once."""
    made: dict[str, Run] = {}

    def make(name: str) -> Run:
        if name not in made:
            task, words = RUNS[name]
            place = tmp_path_factory.mktemp(task)
            own = ["task=digits", "device=cpu"] if task == "digits" else words_of(task, place, tiny_dir)
            made[name] = ran(place / "run", settings(*own, *QUICK, *words))
        return made[name]

    return make


def shown(run: Run, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]) -> dict[str, Any]:
    """What the card's lines print, and what their names stand for, with other words in some places."""
    card = ModelCard.load(run.model_dir / "README.md")
    (code,) = re.findall(r"```python\n(.*?)\n```", card.text, re.DOTALL)
    for literal, value in asked.items():
        assert literal in code, (literal, code)
        code = code.replace(literal, value)
    printed: list[Any] = []
    names: dict[str, Any] = {"print": printed.append}
    monkeypatch.chdir(run.model_dir.parent)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries to each other
        exec(code.replace("DIR", "model"), names)
    return names | {"printed": printed}


def rows_of(run: Run) -> list[dict[str, Any]]:
    return [dict(row) for row in read_rows(run.config["task"]["test"])]


def predicted(run: Run) -> list[dict[str, Any]]:
    return answers_of(run.path / "predictions.jsonl")


def close(found: float, expected: float) -> bool:
    return abs(found - expected) <= 1e-5 * max(1.0, abs(expected))


@pytest.mark.parametrize("name", ["pairs", "adapters", "vera", "ia3"])
def test_labels_of_texts(run_of, monkeypatch, name):
    run = run_of(name)
    for row, line in [*zip(rows_of(run), predicted(run), strict=True)][:2]:
        own = {'"A text."': repr(row["premise"]), '"Another."': repr(row["hypothesis"])}
        (answer,) = shown(run, monkeypatch, own)["printed"]
        found = {each["label"]: each["score"] for each in answer}
        assert answer[0]["label"] == line["answer"] and found.keys() == line["probabilities"].keys()
        assert all(close(found[label], p) for label, p in line["probabilities"].items())


def test_several_labels(run_of, monkeypatch):
    run = run_of("multilabel")
    for row, line in [*zip(rows_of(run), predicted(run), strict=True)][:2]:
        names = shown(run, monkeypatch, {'"A text."': repr(row["text"])})
        assert sorted(names["printed"][0]) == sorted(line["answer"])
        assert all(close(each["score"], line["probabilities"][each["label"]]) for each in names["found"])


def test_several_labels_of_adapters_below_a_pooled_head(run_of, monkeypatch):
    run = run_of("pooled adapters")
    texts, lines = [row["text"] for row in rows_of(run)], predicted(run)
    names = shown(run, monkeypatch, {'["A text."]': repr(texts)})
    assert [sorted(each) for each in names["labels"]] == [sorted(line["answer"]) for line in lines]


def test_a_number_in_the_units_of_its_column(run_of, monkeypatch):
    run = run_of("regress")
    for row, line in [*zip(rows_of(run), predicted(run), strict=True)][:2]:
        (answer,) = shown(run, monkeypatch, {'"A text."': repr(row["text"])})["printed"]
        assert close(answer, line["answer"])


def entities(tags: list[str], words: list[str]) -> list[tuple[str, str]]:
    """Type and words of each run of tags."""
    found: list[tuple[str, str]] = []
    before = ""
    for tag, word in zip(tags, words, strict=True):
        begin, kind = tag[:1], tag[2:]
        if kind and kind == before and begin == "I":
            found[-1] = kind, f"{found[-1][1]} {word}"
        elif kind:
            found.append((kind, word))
        before = kind
    return found


def test_tags_of_words(run_of, monkeypatch):
    run = run_of("ner")
    seen = 0
    for line in predicted(run)[:3]:
        text, words = line["text"], line["text"].split(" ")
        names = shown(run, monkeypatch, {'"Ada Lovelace lived in London."': repr(text)})
        found = [(each["entity_group"], text[each["start"] : each["end"]]) for each in names["printed"][0]]
        assert found == entities(line["answer"], words)
        seen += len(found)
        starts = [len(" ".join(words[:at])) + bool(at) for at in range(len(words))]
        each = names["use"](text, aggregation_strategy="none", ignore_labels=[])
        first = {token["start"]: token for token in each}
        for start, tag, probability in zip(starts, line["answer"], line["probability"], strict=True):
            assert first[start]["entity"] == tag and close(first[start]["score"], probability)
    assert seen


def test_a_span_of_a_text(run_of, monkeypatch):
    run = run_of("qa")
    for row, line in [*zip(rows_of(run), predicted(run), strict=True)][:3]:
        own = {
            '"Who wrote it?"': repr(row["question"]),
            '"Ada Lovelace wrote it in 1843."': repr(row["context"]),
        }
        assert shown(run, monkeypatch, own)["printed"] == [line["answer"]]


def test_a_masked_token(run_of, monkeypatch):
    run = run_of("mlm")
    names = shown(run, monkeypatch, {"The sky is": "the cat"})
    tokenizer = names["use"].tokenizer
    with quiet(), torch.no_grad():
        net = reload(run.model_dir, "AutoModelForMaskedLM")
        inputs = tokenizer(f"the cat {tokenizer.mask_token}.", return_tensors="pt")
        logits = net(**inputs).logits[0]
    best = logits[inputs["input_ids"][0] == tokenizer.mask_token_id][0].softmax(-1).topk(5)
    (found,) = names["printed"]
    assert [each["token"] for each in found] == best.indices.tolist()
    assert all(close(each["score"], p) for each, p in zip(found, best.values.tolist(), strict=True))


def test_a_text_goes_on_as_the_run_s_own_generator_writes_it(run_of, monkeypatch):
    run = run_of("lm")
    names = shown(run, monkeypatch, {"Once upon a time": "the cat"})
    tokenizer = names["use"].tokenizer
    end = tokenizer.eos_token_id
    with quiet():
        net = reload(run.model_dir, "AutoModelForCausalLM")
        ids = [end, *tokenizer("the cat")["input_ids"]]
        expected = continued(net, ids, 40, end, 0.0, 1, 0)
    whole = tokenizer.decode([*ids, *expected])
    assert expected and names["printed"][0].startswith(whole)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_labels_of_images(run_of, monkeypatch, name):
    run = run_of(name)
    for line in predicted(run)[::9]:
        image = str(Path(line["file"]) / line["text"])
        (answer,) = shown(run, monkeypatch, {'"image.png"': repr(image)})["printed"]
        found = {each["label"]: each["score"] for each in answer}
        assert answer[0]["label"] == line["answer"]
        assert all(close(found[label], p) for label, p in line["probabilities"].items())


def test_features_of_images(run_of, monkeypatch):
    run = run_of("simclr")
    line = predicted(run)[0]
    image = Path(line["file"]) / line["text"]
    names = shown(run, monkeypatch, {'"image.png"': repr(str(image))})
    pixels = names["processor"](Image.open(image).convert("RGB"), return_tensors="pt")["pixel_values"]
    with quiet(), torch.no_grad():
        own = reload(run.model_dir, "AutoModelForImageClassification")
        width = own.classifier.inner.in_features
        torch.testing.assert_close(names["features"], own(pixels).logits[:, :width], atol=1e-5, rtol=0)


def test_digits_on_a_network_of_ftrun_s_own(run_of, monkeypatch):
    run = run_of("digits")
    data = FinishedRun(run).data()
    pixels = data.dataset("test").collate([data.dataset("test")[0]])["inputs"]["pixel_values"]
    names = {"torch.rand(1, 1, 8, 8)": f"torch.tensor({pixels.tolist()})"}
    assert shown(run, monkeypatch, names)["printed"] == [predicted(run)[0]["answer"]]


@pytest.mark.parametrize("name", RUNS)
def test_a_card_is_the_hub_s_and_nothing_names_a_place(run_of, name):
    run = run_of(name)
    card = ModelCard.load(run.model_dir / "README.md")
    assert card.data.library_name and card.data.pipeline_tag and "ftrun" in card.data.tags
    result = run.read_json("result.json")
    scores = {each.metric_type: each.metric_value for each in card.data.eval_results}
    given = {name[5:]: value for name, value in result.items() if name.startswith("test_")}
    assert scores == {name: pytest.approx(value, rel=5e-6, abs=0) for name, value in given.items()}
    assert all(len(f"{abs(value) % 1:.12f}".rstrip("0")) <= 10 for value in scores.values())  # of few digits
    assert run.read_json("data.json")["fingerprint"] in card.text
    places = {str(run.path.parent), run.config["model"]["name"], os.getcwd(), str(Path.home())}
    for file in run.model_dir.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            text = file.read_text(encoding="utf-8")
            found = [place for place in places if place.startswith("/") and len(place) > 1 and place in text]
            assert not found, (file, found)
            assert '"_name_or_path"' not in text


OTHERS = [
    pytest.param(name, marks=pytest.mark.ci) for name in sorted({*RUNS} - {"pairs", "qa", "lm", "simclr"})
]


@pytest.mark.parametrize("name", ["pairs", "qa", "lm", "simclr", *OTHERS])
def test_a_run_of_every_kind_is_proved_again(run_of, name):
    found = {proof.what: proof for proof in Verified(run_of(name), TOLERANCE).proofs()}
    assert all(proof.holds is not False for proof in found.values()), found
    left = {what for what, proof in found.items() if proof.holds is None}
    assert left == ({"export"} if "adapters" in name else set()), found


def served_rows(run: Run, finished: FinishedRun, place: Path) -> tuple[str, list[dict[str, Any]]]:
    """A file, and its rows as a request has them: images by their content."""
    task = run.config["task"]
    file = task.get("test") or task.get("train") or str(place / "digits.jsonl")
    if not task.get("train"):
        pixels = ({f"pixel{at}": (7 * at + n) % 17 for at in range(64)} for n in range(9))
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in pixels))
    rows = [dict(row) for row in finished.data(file, answered=False).rows.inputs]
    if "image" in task:
        rows = [{"image": b64encode((Path(file) / row["file"]).read_bytes()).decode()} for row in rows]
    return file, rows


@pytest.mark.parametrize("name", ["pairs", "qa", "lm", *OTHERS])
def test_a_service_answers_rows_of_every_kind_as_predict_does(run_of, tmp_path, name):
    run = run_of(name)
    finished = FinishedRun(run)
    file, rows = served_rows(run, finished, tmp_path)
    expected = finished.answers(finished.data(file, answered=False))
    parts = Answering(finished).each([rows[:1], rows[1:4], rows[4:]])
    assert without_measures([each for part in parts for each in part]) == without_measures(
        [expected[number] for number in range(len(rows))]
    )
