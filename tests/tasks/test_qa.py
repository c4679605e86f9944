"""Questions from files to scores: windows, spans, decoding, bad input, and the commands on a run."""

import json

import numpy
import pytest
import torch
import toys_qa
from lab import EXTRA, ran, settings

from ftrun.data.text.answer_spans import candidates, decided
from ftrun.errors import ConfigError, DataError
from ftrun.reports.verdicts.single import baseline_warnings
from ftrun.tasks.data import TaskData
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.objective import targets_of

FEW = "device=cpu", "train.max_steps=2"


def experiment(place, model, *words, impossible=False):
    return settings(*toys_qa.words(place, impossible), f"model.name={model}", "device=cpu", *words)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_model_dir):
    place = tmp_path_factory.mktemp("qa")
    words = "train.lr=1e-2", "train.epochs=15", "train.warmup=0", "train.eval_every=30"
    return ran(place / "run", experiment(place, tiny_model_dir, *words, impossible=True))


def test_it_learns_and_keeps_the_best_spans(learned):
    result = learned.read_json("result.json")
    assert result["test_exact_match"] > 0.6 and result["test_f1"] >= result["test_exact_match"]
    assert {"test_f1_answerable", "test_exact_match_impossible"} <= result.keys()
    assert result["reload_difference"] < 1e-5
    lines = [json.loads(line) for line in (learned.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(12))
    assert lines[0]["label"] == [] and lines[1]["label"] and lines[1].keys() == {
        "row", "label", "answer", "probability", "text", "file", "file_row", "slices"
    }  # fmt: skip
    assert [line["file_row"] for line in lines] == list(range(1, 13)) and lines[0]["text"] == "was the film"
    best = learned.read_json("nbest.json")
    assert list(best) == [f"q{number}" for number in range(12)]
    for line, options in zip(lines, best.values(), strict=True):
        assert 1 < len(options) <= 21 and sum(o["probability"] for o in options) == pytest.approx(1)
        assert [o["score"] for o in options] == sorted((o["score"] for o in options), reverse=True)
        assert line["answer"] == options[0]["text"] and line["probability"] == options[0]["probability"]


def test_its_baseline_answers_nothing_where_that_can_be_correct(learned, tiny_model_dir, tmp_path):
    card = learned.read_json("data.json")["baselines"]
    assert list(card) == ["nothing"]
    for split in ("eval", "test"):  # three of twelve questions have no answer
        wanted = {"": 0.25, "_answerable": 0.0, "_impossible": 1.0}
        expected = {
            f"{split}_{name}{kind}": value for name in ("f1", "exact_match") for kind, value in wanted.items()
        }
        assert {name: card["nothing"][name] for name in card["nothing"] if split in name} == expected
    lines = [json.loads(line) for line in (learned.path / "baselines.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(12)) and lines[0]["label"] == []
    assert {line["nothing"]["answer"] for line in lines} == {""}
    warned = baseline_warnings({"metric": "f1", "test_score": 0.2}, card)
    assert warned == [
        "no better than always giving the empty answer on the test split (f1 20.0 % against 25.0 %)"
    ]
    answerable = ran(tmp_path / "run", experiment(tmp_path, tiny_model_dir, "train.max_steps=1"))
    assert answerable.read_json("data.json")["baselines"] == {}
    assert not (answerable.path / "baselines.jsonl").exists()


def test_evaluate_parts_long_names_from_their_numbers(learned, ftrun_inprocess):
    result = learned.read_json("result.json")
    said = ftrun_inprocess("evaluate", str(learned.path)).stdout
    for name in ("f1", "exact_match_answerable", "exact_match_impossible"):
        score = f"{result[f'test_{name}']:.6f}"
        assert f"test_{name:<23}{score}   in the run {score}" in said


def test_predict_and_evaluate_read_squad_json(learned, ftrun_inprocess, tmp_path):
    asked = {"id": "x", "question": "was the film", "answers": [{"text": "good", "answer_start": 9}]}
    paragraph = {"context": "the film good plot", "qas": [asked]}
    content = {"version": "2.0", "data": [{"title": "", "paragraphs": [paragraph]}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    ftrun_inprocess("predict", str(learned.path), "--input", "a.json", "--output", "out.jsonl")
    (answered,) = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert answered["id"] == "x" and answered["answer"] in ("", *paragraph["context"].split())
    (tmp_path / "b.jsonl").write_text(
        '{"question": "", "context": "c"}\n{"question": "was", "context": "bad"}\n'
    )
    ftrun_inprocess("predict", str(learned.path), "--input", "b.jsonl", "--output", "out.csv")
    header, one, other = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "question,context,answer,probability" and one == ",c,,"
    assert other.startswith("was,bad,")
    said = ftrun_inprocess("evaluate", str(learned.path), "--input", "a.json").stdout
    assert "test_exact_match" in said
    again = ftrun_inprocess("evaluate", str(learned.path)).stdout
    assert f"test_f1                     {learned.read_json('result.json')['test_f1']:.6f}   in the" in again


@pytest.mark.parametrize(
    "architecture, strategy",
    [
        *(("bert", strategy) for strategy in ("lora", "adapter", "bitfit", "linear_probe")),
        *((architecture, "lora") for architecture in ("roberta", "distilbert", "modernbert")),
    ],
)
def test_strategies_and_architectures(tmp_path, tiny_dir, strategy, architecture):
    words = f"strategy={strategy}", *EXTRA.get(strategy, []), *FEW
    run = ran(tmp_path / "run", experiment(tmp_path, tiny_dir(architecture), *words))
    assert run.read_json("result.json")["reload_difference"] < 1e-5


def encoded(data, model, split="test"):
    from transformers import AutoTokenizer

    (said,) = data.encode(AutoTokenizer.from_pretrained(model), split)
    return said, data.dataset(split)


def test_windows_hold_the_question_and_point_at_the_answer(tmp_path, tiny_dir):
    row = {
        "id": "a",
        "question": "was the film",
        "context": " ".join(["plot"] * 30 + ["good"] + ["story"] * 30),
    }
    row["answers"] = {"text": ["good"], "answer_start": [150]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    files = [f"task.{split}={tmp_path}/a.jsonl" for split in ("train", "validation", "test")]
    small = "task.max_length=24", "task.max_question=4", "task.stride=8"
    data = TaskData.read(settings("task=qa", *files, *small).task, 0)
    said, test = encoded(data, tiny_dir("bert"))
    examples = test.examples
    assert len(examples) > 4 and {example.row for example in examples} == {0}
    assert said.startswith(f"test: 1 question in {len(examples)} windows of up to 24 tokens, ")
    assert said.endswith(f"{sum(e.target.span != (0, 0) for e in examples)} with the answer")
    found = [example for example in examples if example.target.span != (0, 0)]
    assert found
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_dir("bert"))
    whole = len(tokenizer(row["question"], row["context"]).input_ids)
    assert data.rows.lengths(examples) == {0: whole} and {example.whole for example in examples} == {whole}
    for example in examples:
        tokens = tokenizer.convert_ids_to_tokens(example.inputs)
        first, last = example.target.span
        assert ("good" in "".join(tokens).replace("##", "")) == (first > 0)
        if first:
            assert "".join(tokens[first : last + 1]).replace("##", "") == "good"
    batch = test.collate(examples)
    assert batch["inputs"]["token_type_ids"].sum() > 0
    assert batch["labels"].tolist() == [list(example.target.span) for example in examples]


def test_the_loss_is_the_mean_of_start_and_end_and_knows_no_padding(tmp_path, tiny_dir):
    from ftrun.models.load import load
    from ftrun.tasks.objective import outputs_of

    chosen = experiment(tmp_path, tiny_dir("bert"))
    data = TaskData.read(chosen.task, 0)
    _, test = encoded(data, tiny_dir("bert"))
    model = load(chosen.model, data.spec, 0).eval().requires_grad_(False)
    objective, examples = data.objective, test.examples
    whole = test.collate(examples)
    loss = objective.loss(outputs_of(model, objective, whole), whole)
    assert targets_of(objective, whole) == len(examples) == objective.count([whole])
    single = 0.0
    for example in examples:
        batch = test.collate([example])
        starts, ends = outputs_of(model, objective, batch)[0].log_softmax(-1)
        single -= float(starts[example.target.span[0]] + ends[example.target.span[1]]) / 2
    assert float(loss.sum) == pytest.approx(single, rel=1e-5)


def test_candidates_are_the_best_spans_in_order():
    starts, ends = numpy.array([0.0, 5.0, 1.0, 0.0]), numpy.array([9.0, 0.0, 2.0, 3.0])
    spans = numpy.array([[0, 3], [4, 7], [8, 9], [10, 14]])
    assert candidates(starts, ends, spans, best=3, longest=2)[:2] == [(9.0, 0, 3), (7.0, 4, 9)]
    assert candidates(starts, ends, spans, best=9, longest=3)[:3] == [(9.0, 0, 3), (8.0, 4, 14), (7.0, 4, 9)]
    assert len(candidates(starts, ends, spans, best=9, longest=9)) == 9
    assert all(first < behind for _, first, behind in candidates(starts, ends, spans, 9, 9))


def test_the_best_window_wins_and_a_span_counts_once():
    context = "red green blue"
    one = {"candidates": [(3.0, 0, 3), (1.0, 4, 9)], "null": 2.0}
    other = {"candidates": [(4.0, 10, 14), (2.5, 4, 9)], "null": 5.0}
    found = decided([one, other], context, best=2, no_answer=False, threshold=0.0)
    assert found["answer"] == "blue" and [o["text"] for o in found["n_best"]] == ["blue", "red"]
    assert found["probability"] == pytest.approx(1 / (1 + numpy.exp(-1.0)))
    found = decided([one, other], context, best=20, no_answer=False, threshold=0.0)
    assert [(o["text"], o["score"]) for o in found["n_best"]] == [("blue", 4.0), ("red", 3.0), ("green", 2.5)]
    assert decided([{"candidates": [], "null": 0.5}], "", 2, False, 0.0)["answer"] == ""


@pytest.mark.parametrize("threshold, answer", [(-2.5, ""), (-2.0, "blue"), (0.0, "blue")])
def test_no_answer_wins_by_the_lowest_null_score_above_the_threshold(threshold, answer):
    windows = [{"candidates": [(4.0, 10, 14)], "null": 2.0}, {"candidates": [(3.0, 0, 3)], "null": 9.0}]
    found = decided(windows, "red green blue", best=5, no_answer=True, threshold=threshold)
    assert found["answer"] == answer
    assert [o["text"] for o in found["n_best"]] == ["blue", "red", ""]


def read(tmp_path, rows, *words):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return TaskData.read(settings("task=qa", f"task.train={tmp_path}/a.jsonl", *words).task, 0)


def row(number, answer="good", start=4, context="the good film"):
    answers = [{"text": answer, "answer_start": start}] if answer else []
    return {"id": number, "question": "was", "context": f"{context} {number}", "answers": answers}


def test_misplaced_answers_are_counted_named_and_dropped(tmp_path):
    rows = [row(n) for n in range(30)] + [row(n, start=5) for n in range(30, 34)]
    test = f"task.test={tmp_path}/a.jsonl", f"task.validation={tmp_path}/a.jsonl"
    data = read(tmp_path, rows, *test)
    (said,) = [note for note in data.rows.notes if note.startswith("task.train=")]
    assert "4 answers not in the context at the offset: 'good' in row 31 of" in said
    assert "row 33" in said and "row 34" not in said and said.endswith("4 questions dropped")
    assert len(data.rows.splits["train"]) == 30 and len(data.rows.splits["test"]) == 34
    with pytest.raises(DataError, match="4 answers not in .*; possible: task.misplaced=drop"):
        read(tmp_path, rows, *test, "task.misplaced=error")


def test_a_misplaced_answer_is_scored_but_has_no_place_to_learn(tmp_path, tiny_dir):
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r) for r in (row(1), row(2, start=5))))
    data = read(tmp_path, [row(n) for n in range(30)], f"task.test={tmp_path}/t.jsonl")
    _, test = encoded(data, tiny_dir("bert"))
    batch = test.collate(test.examples)
    assert batch["labels"][1].tolist() == [IGNORED, IGNORED] and data.objective.count([batch]) == 1
    answers = [{"candidates": [(1.0, 0, 3)], "null": 0.0}] * 2
    assert data.scorer.rows(answers, test.examples)[1].label == ["good"]


def test_splits_are_carved_by_paragraph(tmp_path):
    rows = [row(n // 3) | {"id": n} for n in range(90)]
    data = read(tmp_path, rows)
    contexts = [{r.context for r in data.rows.splits[split]} for split in ("train", "validation", "test")]
    assert [len(found) for found in contexts] == [24, 3, 3] and not contexts[0] & contexts[1]
    assert "test: 9 questions split off train (10%, seed 0)" in data.rows.notes


def test_questions_without_an_answer_must_be_expected(tmp_path):
    with pytest.raises(
        DataError, match="1 of 31 questions without an answer, first row 31 .*task.no_answer=true"
    ):
        read(tmp_path, [*(row(n) for n in range(30)), row(30, answer="")])


def test_a_long_question_is_cut_and_said(tmp_path, tiny_dir):
    rows = [row(n) | {"question": "was the film good or bad " * 10} for n in range(30)]
    data = read(tmp_path, rows, "task.max_question=8", "task.max_length=40", "task.stride=8")
    said, test = encoded(data, tiny_dir("bert"))
    assert "3 questions cut to 8 tokens" in said
    files = [f"task.{split}={tmp_path}/one.jsonl" for split in ("train", "validation", "test")]
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[0]))
    one = TaskData.read(settings("task=qa", *files, "task.max_question=8", "task.leaks=warn").task, 0)
    assert "1 question in 1 window of" in (said := encoded(one, tiny_dir("bert"))[0])
    assert said.endswith("1 question cut to 8 tokens")
    assert all(example.size <= 40 for example in test.examples)


@pytest.mark.parametrize(
    "words, message",
    [
        (["task.train=null"], "task.train is not set; it takes SQuAD JSON"),
        (
            ["task.train=a", "task.max_length=190", "task.stride=128", "task.max_question=64"],
            "task.stride is at most 121, not 128: the 190 tokens of .* also hold task.max_question=64",
        ),
        (
            ["task.train=a", "task.max_length=60", "task.max_question=50"],
            "task.max_question is at most 35, not 50: the 60 tokens of .* also hold task.stride=20",
        ),
        (
            ["task.train=a", "task.max_length=60", "task.max_question=60", "task.stride=9"],
            "task.max_question is at most 46, not 60",
        ),
        (
            ["task.train=a", "task.max_length=7"],
            "task.max_length is at least 8, not 7: task.stride=2, task.max_",
        ),
        (["task.train=a", "task.max_length=5"], "task.max_question is at least 1, not 0"),
        (
            ["task.train=a", "task.stride=half"],
            "task.stride is auto or a number, not 'half'",
        ),
        (["task.train=a", "task.misplaced=keep"], "task.misplaced is one of drop, error"),
        (["task.train=a", "task.n_best=0"], "task.n_best is at least 1"),
    ],
)
def test_bad_settings(words, message):
    with pytest.raises(ConfigError, match=message):
        settings("task=qa", *words)


def test_the_parts_of_a_window_follow_its_length():
    found = {
        length: settings("task=qa", "task.train=a", f"task.max_length={length}").task for length in (384, 32)
    }
    assert [(task.asked, task.overlap) for task in found.values()] == [(64, 128), (5, 10)]


def test_a_decoder_is_refused_before_it_is_loaded(tmp_path, tiny_dir):
    (tmp_path / "gpt").mkdir()
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match=r"task=qa needs an encoder, .* \(gpt2\) is a decoder"):
        ran(tmp_path / "run", experiment(tmp_path, tmp_path / "gpt", "model.init=random"))
    with pytest.raises(ConfigError, match="model.pooling=cls makes one vector of a text; task=qa needs one"):
        ran(tmp_path / "again", experiment(tmp_path, tiny_dir("bert"), "model.pooling=cls"))


@pytest.mark.parametrize("fisher", ["auto", "exact"])
def test_elastic_weights(tmp_path, tiny_dir, fisher):
    first = ran(tmp_path / "one", experiment(tmp_path, tiny_dir("bert"), *FEW))
    words = (
        "source=run",
        f"source.run={first.path}",
        "strategy=ewc",
        "samples=8",
        f"fisher={fisher}",
        "pull=1",
    )
    second = experiment(tmp_path, tiny_dir("bert"), *words, *FEW)
    if fisher == "exact":
        with pytest.raises(
            ConfigError, match="fisher=exact needs one answer per example, qa has one at each"
        ):
            ran(tmp_path / "two", second)
        return
    known = ran(tmp_path / "two", second).read_json("result.json")["sources"][0]
    assert known["before"]["loss"] == pytest.approx(first.read_json("result.json")["test_loss"], rel=1e-5)
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "two" / "fisher.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())
    assert sum(float(value.sum()) for name, value in kept.items() if not name.startswith("anchor/")) > 0
