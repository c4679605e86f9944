"""Masked language modelling of pairs: which segment follows, its loss apart, and what comes out."""

import json
import math
import signal

import pytest
import torch
import transformers
from lab import ran, sampled, settings
from opened import opened
from toys_mlm import files, words

from ftrun.errors import ConfigError, DataError, Interrupted
from ftrun.experiments import start
from ftrun.runs.run import Run
from ftrun.settings import schedules
from ftrun.training.agreement import Agreement


@pytest.fixture
def place(tmp_path):
    return files(tmp_path / "data")


def albert(place):
    """A directory with the shape of an ALBERT and no tokenizer."""
    shape = {"embedding_size": 16, "intermediate_size": 64, "vocab_size": 300, "num_attention_heads": 2}
    transformers.AlbertConfig(hidden_size=32, num_hidden_layers=2, **shape).save_pretrained(place)
    return ["model.name=" + str(place), "model.layers=null", "model.width=null", "model.heads=null"]


@pytest.mark.parametrize("kind", ["nsp", "sop"])
@pytest.mark.parametrize("family", ["Bert", "Albert"])
def test_both_losses_begin_at_chance_and_the_checkpoint_has_both_heads(place, family, kind):
    more = albert(place / "albert") if family == "Albert" else []
    run = ran(place / "run", settings(*words(place), f"task.next={kind}", "train.lr=1e-9", *more))
    result = run.read_json("result.json")
    assert abs(result["test_mlm_loss"] - math.log(261)) < 0.15
    assert abs(result["test_next_loss"] - math.log(2)) < 0.05 and 0 <= result["test_next_accuracy"] <= 1
    assert result["test_loss"] == pytest.approx(result["test_mlm_loss"] + result["test_next_loss"], abs=1e-5)
    assert result["reload_difference"] < 1e-6
    network = getattr(transformers, f"{family}ForPreTraining")
    _, info = network.from_pretrained(run.model_dir, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    first = json.loads((run.path / "metrics.jsonl").read_text().splitlines()[0])
    total = first["train_mlm_loss"] + first["train_next_loss"]
    assert first["train_loss"] == pytest.approx(total, abs=1e-4) and "train_next_accuracy" in first


def test_segments_have_their_ids_and_the_order_of_the_pair(place):
    data, model = opened(settings(*words(place), "task.next=sop"), "validation")
    tokenizer, validation = model.tokenizer, data.dataset("validation")
    some = validation.examples[:6]
    batch = validation.collate(some)
    ids, types = batch["inputs"]["input_ids"], batch["inputs"]["token_type_ids"]
    assert set(batch["order"].tolist()) == {0, 1}
    for row, example in enumerate(some):
        one, other, false = validation.examples.segments.drawn(example.row, "sop", 0, 0)
        length = len(one) + len(other) + 3
        assert types[row].tolist() == [0] * (len(one) + 2) + [1] * (len(other) + 1) + [0] * (
            ids.shape[1] - length
        )
        text = torch.where(batch["labels"][row] >= 0, batch["labels"][row], ids[row])[:length].tolist()
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        assert text == [cls, *one, sep, *other, sep] and false == batch["order"][row]
        assert batch["labels"][row][[0, len(one) + 1, length - 1]].tolist() == [-100] * 3


def test_the_micro_batch_makes_no_difference(place):
    lines = []
    for micro in ("16", "3"):
        more = ["task.next=nsp", "train.lr=1e-2", f"train.micro_batch={micro}", "model.heads=1"]
        rest = ["train.clip=null", "strategy=norms"]
        run = ran(place / micro, settings(*words(place), *without_dropout(place), *more, *rest))
        lines.append([json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()])
    for one, other in zip(*lines, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def without_dropout(place):
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    transformers.BertConfig(**shape, **dropout).save_pretrained(place / "shape")
    return [f"model.name={place / 'shape'}"]


def test_the_losses_of_a_resumed_run_are_those_of_one_that_was_not(place, monkeypatch):
    monkeypatch.setattr(schedules, "LOG_POINTS", 2)
    experiment_ = settings(*words(place), "task.next=nsp", "train.max_steps=6")
    whole = ran(place / "whole", experiment_)
    monkeypatch.setattr(Agreement, "due", lambda *_: True)
    monkeypatch.setattr(Agreement, "signal", lambda _, __, state: signal.SIGINT if state.step == 2 else 0)
    with pytest.raises(Interrupted):
        ran(place / "stopped", experiment_)
    monkeypatch.setattr(Agreement, "signal", lambda *_: 0)
    start.resume(place / "stopped")
    stopped = Run.open(place / "stopped")
    assert (whole.path / "metrics.jsonl").read_bytes() == (stopped.path / "metrics.jsonl").read_bytes()


def test_what_comes_out_can_be_fine_tuned_and_predicts(place, toy_files, capsys):
    from ftrun.commands import evaluate, predict

    run = ran(place / "run", settings(*words(place), "task.next=nsp"))
    after = settings(
        "task=classify", f"task.train={toy_files}/train.csv", f"model.name={run.path}", "task.max_length=128",
        "train.max_steps=1", "task.subset=20", "device=cpu",
    )  # fmt: skip
    assert ran(place / "after", after).read_json("result.json")["reload_difference"] < 1e-6
    predict.main([str(run.path), "--input", f"{place}/rows.jsonl", "--output", f"{place}/out.jsonl"])
    evaluate.main([str(run.path)])
    assert f"{run.read_json('result.json')['test_next_loss']:.3f}" in capsys.readouterr().out
    said = json.loads((place / "out.jsonl").read_text().splitlines()[0])
    assert said["nats"] > 0 and said["guessed"] > 0


HOLD = {"ewc": "samples=4", "replay": "buffer=8"}


@pytest.mark.parametrize(("strategy", "then"), sampled(HOLD, ["none", "nsp"], 2))
def test_it_is_a_source_of_what_follows(place, strategy, then):
    first = ran(place / "first", settings(*words(place), "task.next=nsp"))
    own = [word for word in words(place) if word != "task.tokenizer=train"]
    more = [
        "source=run",
        f"source.run={first.path}",
        f"task.next={then}",
        f"strategy={strategy}",
        HOLD[strategy],
    ]
    second = ran(place / "second", settings(*own, *more)).read_json("result.json")
    before = second["sources"][0]["before"]
    assert before["loss"] == pytest.approx(first.read_json("result.json")["test_loss"], abs=1e-5)
    assert before["next_loss"] > 0


@pytest.mark.parametrize("more", [["task.stream=true"], ["task.whole_words=true"]])
def test_pairs_go_with_the_other_ways_to_read(place, more):
    held = [f"task.{split}={place}/text.txt" for split in ("validation", "test")]
    run = ran(place / "run", settings(*words(place), *held, "task.next=sop", *more))
    assert run.read_json("result.json")["reload_difference"] < 1e-6


@pytest.mark.parametrize(
    ("text", "more", "error", "message"),
    [
        (
            [f"{n} cats see a dog." for n in range(9)],
            ["task.next=sop"],
            DataError,
            "needs two sentences in a",
        ),
        (["A cat. A dog."] * 99, ["task.next=nsp", "task.documents=file"], DataError, "and train has one"),
        (
            ["A. B.", "C. D.", "E. F."],
            ["task.next=sop", "task.block=64"],
            DataError,
            "fewer than task.block=64",
        ),
        (None, ["task.next=both"], ConfigError, "task.next is one of none, nsp, sop, not 'both'"),
        (None, ["task.next=nsp", "model=roberta"], ConfigError, "is a roberta; possible: task.next=none"),
        (None, ["task.next=nsp", "model.pooling=cls"], ConfigError, "model.pooling"),
    ],
)
def test_mistakes_are_one_line(place, tiny_dir, text, more, error, message):
    if text is not None:
        (place / "text.txt").write_text("\n".join(text))
    more = [f"model.name={tiny_dir('roberta')}" if word == "model=roberta" else word for word in more]
    with pytest.raises(error, match=message) as caught:
        ran(place / "run", settings(*words(place), *more))
    assert "\n" not in str(caught.value)
