"""Named entities from files to scores: windows, labels, bad input, and the commands on a run."""

import json

import pytest
import toys_ner
from lab import EXTRA, ran, settings

from ftrun.data.baselines import UsualTags
from ftrun.data.text.word_alignment import worded
from ftrun.errors import ConfigError, DataError
from ftrun.reports.verdicts.single import baseline_warnings
from ftrun.tasks.data import TaskData
from ftrun.tasks.metrics.entities import entity_scores
from ftrun.tasks.objective import targets_of

FEW = "device=cpu", "train.max_steps=2"


def experiment(place, model, *words):
    return settings(*toys_ner.words(place), f"model.name={model}", "device=cpu", *words)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_model_dir):
    place = tmp_path_factory.mktemp("ner")
    words = "train.lr=1e-2", "train.epochs=12", "train.warmup=0", "train.eval_every=18"
    return ran(place / "run", experiment(place, tiny_model_dir, *words)), place


def test_it_learns_and_reports_every_type(learned):
    run, _ = learned
    result = run.read_json("result.json")
    assert result["test_f1"] > 0.8 and result["reload_difference"] < 1e-6
    found = run.read_json("entities.json")
    assert list(found) == ["all", "person", "place"]
    assert found["all"]["f1"] == result["test_f1"] and found["place"]["f1"] == result["test_f1_place"]
    assert found["all"]["entities"] == 12
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(12))
    for line in lines:
        assert len(line["label"]) == len(line["answer"]) == len(line["probability"])
    config = json.loads((run.model_dir / "config.json").read_text())
    assert list(config["id2label"].values()) == ["O", "B-person", "I-person", "B-place", "I-place"]


def test_its_baseline_is_the_most_frequent_tag_of_each_word(learned, ftrun_inprocess):
    run, place = learned
    read = {
        split: [[line.split("\t") for line in block.splitlines()] for block in file.read_text().split("\n\n")]
        for split, file in ((split, place / f"{split}.conll") for split in ("train", "validation", "test"))
    }
    seen = {}
    for word, tag in (pair for sentence in read["train"] for pair in sentence):
        seen.setdefault(word, []).append(tag)
    usual = {word: max(dict.fromkeys(tags), key=tags.count) for word, tags in seen.items()}
    card = run.read_json("data.json")["baselines"]
    assert list(card) == ["tags"]
    for split, prefix in (("validation", "eval"), ("test", "test")):
        answers = [[usual.get(word, "O") for word, _ in sentence] for sentence in read[split]]
        tags = [[tag for _, tag in sentence] for sentence in read[split]]
        pairs = [pair for own in zip(tags, answers, strict=True) for pair in zip(*own, strict=True)]
        right = sum(one == other for one, other in pairs) / len(pairs)
        assert card["tags"][f"{prefix}_accuracy"] == pytest.approx(right, abs=1e-6)
        assert card["tags"][f"{prefix}_f1"] == pytest.approx(entity_scores(tags, answers)[""]["f1"], abs=1e-6)
    lines = [json.loads(line) for line in (run.path / "baselines.jsonl").read_text().splitlines()]
    assert [line["tags"]["answer"] for line in lines] == answers and [line["label"] for line in lines] == tags
    theirs = {"tags": {"test_f1": 0.5}}
    assert baseline_warnings({"metric": "f1", "test_score": 0.2}, theirs) == [
        "the most frequent tag of each word beats this model on the test split (f1 50.0 % against 20.0 %)"
    ]
    page = ftrun_inprocess("evaluate", str(run.path)).stdout
    assert "most frequent tag" in page
    report = ftrun_inprocess("report", str(run.path)).stdout
    assert "most frequent tag" in report


def test_an_unknown_word_is_outside_and_of_equal_tags_the_first_met_is_taken():
    usual = UsualTags([["a", "b", "a"], ["b", "a"]], [["O", "B-x", "B-x"], ["O", "B-x"]])
    assert usual.tags(["b", "a", "new"]) == ["B-x", "B-x", "O"]


def test_predict_writes_tags_in_both_formats(learned, ftrun_inprocess, tmp_path):
    run, _ = learned
    (tmp_path / "new.txt").write_text("the\nfilm\ngood\n\nawful\nplot\n")
    ftrun_inprocess("predict", str(run.path), "--input", "new.txt", "--output", "out.conll")
    answered = (tmp_path / "out.conll").read_text()
    assert answered == "the\tO\nfilm\tO\ngood\tB-person\n\nawful\tB-place\nplot\tO\n\n"
    (tmp_path / "new.jsonl").write_text('{"id": 7, "tokens": ["a", "good"]}\n{"id": 8, "tokens": []}\n')
    ftrun_inprocess("predict", str(run.path), "--input", "new.jsonl", "--output", "out.jsonl")
    one, other = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert one["id"] == 7 and one["answer"] == ["O", "B-person"] and 0 < one["probability"][1] <= 1
    assert other == {"id": 8, "tokens": [], "answer": None, "probability": None}
    said = ftrun_inprocess(
        "predict", str(run.path), "--input", "new.jsonl", "--output", "out.csv", check=False
    )
    assert said.returncode == 2 and "possible: .jsonl, .conll" in said.stderr


def test_evaluate_counts_an_unknown_type_as_missed(learned, ftrun_inprocess, tmp_path):
    run, _ = learned
    (tmp_path / "new.conll").write_text("good\tB-person\n\nfilm\tB-new\nplot\tO\n")
    said = ftrun_inprocess("evaluate", str(run.path), "--input", "new.conll").stdout
    assert "test_recall                0.500000" in said and "test_f1_new" in said
    assert "warning: type 'new' occurs in test (1 word) and not in train" in said
    again = ftrun_inprocess("evaluate", str(run.path)).stdout
    assert f"test_f1                    {run.read_json('result.json')['test_f1']:.6f}   in the run" in again


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
    assert run.read_json("result.json")["reload_difference"] < 1e-6


def test_every_word_of_a_long_sentence_is_answered_once_with_most_context(tiny_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_dir("bert"))
    sentence = ["the", "film", "xyzzy", "plot"] * 10
    found, _ = worded(tokenizer, [sentence, ["the"], []], 16, 6)
    numbers = [word for row, _, words in found if row == 0 for word in words.numbers]
    assert sorted(numbers) == list(range(40)) and len([row for row, *_ in found if row == 0]) > 3
    assert [row for row, *_ in found if row] == [1]
    sizes = [len(tokenizer(" ".join(words)).input_ids) for words in (sentence, ["the"])]
    assert [*dict.fromkeys((row, words.tokens) for row, _, words in found)] == [*enumerate(sizes)]
    for _, ids, words in found:
        assert len(ids) <= 16 and words.numbers == sorted(words.numbers)
        tokens = tokenizer.convert_ids_to_tokens(ids)
        assert all(not tokens[at].startswith("##") for at in words.at)
    first = next(words for _, _, words in found)
    assert first.at[-1] < 15 - 1  # the last of a window has no context behind it


def test_a_word_the_tokenizer_drops_is_outside(tmp_path, tiny_dir, tiny_model_dir):
    from transformers import AutoTokenizer

    (tmp_path / "t.jsonl").write_text(
        json.dumps({"tokens": ["good", "\u200b", ""], "tags": ["B-x", "B-x", "O"]})
    )
    file = tmp_path / "t.jsonl"
    task = settings("task=ner", f"task.train={file}", f"task.validation={file}", f"task.test={file}").task
    data = TaskData.read(task, 0)
    (said,) = data.encode(AutoTokenizer.from_pretrained(tiny_model_dir), "test")
    assert said.startswith("test: 1 sentence, 3 words, up to ") and "2 words without a token tagged O" in said
    examples = data.dataset("test").examples
    batch = data.dataset("test").collate(examples)
    assert data.objective.count([batch]) == 1
    import torch

    outputs = torch.zeros(*batch["labels"].shape, 3)
    rows = data.scorer.rows(data.scorer.answers(outputs, batch), examples)
    assert [row.answer for row in rows] == [
        {"answer": ["O"] * 3, "probability": [pytest.approx(1 / 3), None, None]}
    ]


def test_the_loss_is_a_sum_over_first_tokens(tmp_path, tiny_dir):
    import torch
    from transformers import AutoTokenizer

    data = TaskData.read(experiment(tmp_path, tiny_dir("bert")).task, 0)
    data.encode(AutoTokenizer.from_pretrained(tiny_dir("bert")), "test")
    batch = data.dataset("test").collate(data.dataset("test").examples)
    words = sum(len(tags) for tags in data.rows.tags["test"])
    loss = data.objective.loss(torch.zeros(*batch["labels"].shape, 5), batch)
    assert targets_of(data.objective, batch) == words and float(loss.sum) == pytest.approx(
        words * torch.log(torch.tensor(5.0)).item(), rel=1e-5
    )


CONLL = """\
-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""


def read(tmp_path, content, *words, name="a.txt"):
    (tmp_path / name).write_text(content)
    files = [f"task.{split}={tmp_path / name}" for split in ("train", "validation", "test")]
    return TaskData.read(settings("task=ner", *files, *words).task, 0)


def test_four_columns_of_iob1(tmp_path):
    data = read(tmp_path, CONLL)
    assert "tags are IOB1, read as IOB2" in data.rows.notes
    assert data.rows.tags["train"] == [["B-ORG", "O"], ["B-PER", "I-PER"]]
    assert data.rows.splits["train"][1].tokens == ["Peter", "Blackburn"]
    assert list(data.spec.labels) == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]


def test_a_saved_data_set_gives_each_split_its_own(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    rows = {"tokens": [["a", str(n)] for n in range(9)], "tags": [["O", "B-x"]] * 9}
    parts = {"train": datasets.Dataset.from_dict(rows)}
    parts["test"] = datasets.Dataset.from_dict({name: column[:2] for name, column in rows.items()})
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    datasets.enable_progress_bars()
    for source in (tmp_path / "saved", f"{tmp_path}/saved:test"):
        task = settings("task=ner", f"task.train={tmp_path}/saved", f"task.test={source}").task
        data = TaskData.read(task, 0)
        assert len(data.rows.splits["test"]) == 2


def test_columns_by_number_and_by_header(tmp_path):
    data = read(tmp_path, CONLL, "task.tags=3")
    assert list(data.spec.labels) == ["O", "B-NP", "I-NP", "B-VP", "I-VP"]
    data = read(tmp_path, "ner\tword\nO\tNew York\nB-X\tb\n", "task.tokens=word", "task.tags=ner")
    assert data.rows.splits["train"][0].tokens == ["New York", "b"] and data.rows.tags["train"] == [
        ["O", "B-X"]
    ]


def test_illegal_transitions_and_unseen_types_are_said(tmp_path):
    (tmp_path / "v.txt").write_text("a B-Y\n\nb O\nc I-X\n")
    notes = read(tmp_path, "a B-X\nb I-X\n\nb B-X\n", f"task.validation={tmp_path / 'v.txt'}").rows.notes
    assert any(
        "validation: 1 illegal transition of IOB2, the first in " in n and "line 3" in n for n in notes
    )
    assert any("type 'Y' occurs in validation (1 word) and not in train" in note for note in notes)


def test_splits_are_carved_and_the_subset_is_said(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"w{n} B-X" for n in range(30)))
    task = settings("task=ner", f"task.train={tmp_path / 'a.txt'}", "task.subset=5").task
    data = TaskData.read(task, 0)
    assert [len(data.rows.splits[split]) for split in ("train", "validation", "test")] == [5, 3, 3]
    assert "train: 5 of 24 sentences chosen (task.subset=5, seed 0)" in data.rows.notes


@pytest.mark.parametrize(
    "content, words, message",
    [
        (
            "a B-X\nb\n",
            [],
            r"a.txt, line 2 \(sentence 1\): 1 column \('b'\), the first line has 2; .* misaligned",
        ),
        ("a\nb\n", [], "a.txt has one column, so its words have no tags"),
        ("a B-X\n", ["task.tags=3"], "task.tags=3: .* has 2 columns"),
        ("a ner\nb O\n", ["task.tags=net"], "task.tags=net: .* no such column; .*did you mean 'ner'"),
        ("a O\n", [], "every tag is O"),
        ("a B:X\n", [], r"line 1 \(sentence 1\): the token 'a' has the tag 'B:X'; tags are O and B-TYPE"),
        ("-DOCSTART- O\n\n", [], "a.txt has no words"),
        ("\n", [], "a.txt is empty"),
    ],
)
def test_bad_columns(tmp_path, content, words, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, *words)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "row 1 of .*: 2 tokens, but 1 tag"),
        ({"tokens": ["a"], "ner": ["O"]}, "task.tags=tags: .* has no such column; it has 'tokens', 'ner'"),
        ({"tokens": "a", "tags": ["O"]}, "task.tokens=tokens: row 1 of .* holds text, not a list"),
        ({"tokens": ["a"], "tags": [3]}, "task.tags=tags: row 1 of .*: 3 is an integer, not text"),
        ({"tokens": [], "tags": []}, "there is nothing to read in 1 sentence"),
    ],
)
def test_bad_rows(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, json.dumps(row), name="a.jsonl")


@pytest.mark.parametrize(
    "words, message",
    [
        (["task.train=null"], "task.train is not set; it takes a file of CoNLL columns"),
        (
            ["task.train=a", "task.max_length=36", "task.stride=32"],
            "task.stride is at most 31, not 32: the 36 tokens of task.max_length also hold up to 4 special",
        ),
        (["task.train=a", "task.max_length=128", "task.stride=200"], "task.stride is at most 123, not 200"),
        (
            ["task.train=a", "task.max_length=4", "task.stride=3"],
            "task.max_length is at least 8, not 4: task.stride=3, up to 4 special",
        ),
        (["task.train=a", "task.tags=0"], "task.tags=0: a column's name or its number from 1"),
        (["task.train=a", "task.subset=3 per class"], "these rows have no class"),
    ],
)
def test_bad_settings(words, message):
    with pytest.raises(ConfigError, match=message):
        settings("task=ner", *words)


def test_one_vector_of_a_text_is_refused(tmp_path, tiny_dir):
    with pytest.raises(
        ConfigError, match="model.pooling=mean makes one vector of a text; task=ner needs one"
    ):
        ran(tmp_path / "run", experiment(tmp_path, tiny_dir("bert"), "model.pooling=mean"))


def test_lists_of_class_labels_get_their_names(monkeypatch):
    import datasets

    from ftrun.data import hub

    kind = datasets.Features({"tags": datasets.List(datasets.ClassLabel(names=["O", "B-x"]))})
    data = datasets.Dataset.from_dict({"tags": [[0, 1], []]}, features=kind)
    monkeypatch.setattr(hub, "cached", lambda *_: data)
    assert hub.hub_rows("hub:a/b:train") == [{"tags": ["O", "B-x"]}, {"tags": []}]


def test_elastic_weights_of_a_tagging_task_and_a_source_with_a_pooler(toy_files, tmp_path, tiny_dir):
    """A classifier on the pooled first token stays whole beside a network that has no pooler."""
    source = settings(
        "task=classify", *(f"task.{s}={toy_files}/{s}.csv" for s in ("train", "validation", "test")),
        f"model.name={tiny_dir('bert')}", "task.max_length=32", *FEW,
    )  # fmt: skip
    before = ran(tmp_path / "one", source)
    words = "source=run", f"source.run={before.path}", "strategy=ewc", "samples=8", "pull=1", *FEW
    run = ran(tmp_path / "two", experiment(tmp_path, tiny_dir("bert"), *words))
    known = run.read_json("result.json")["sources"][0]
    assert known["before"]["loss"] == pytest.approx(before.read_json("result.json")["test_loss"], rel=1e-5)
    for fisher in ("auto", "empirical"):
        words = (
            "source=run",
            f"source.run={run.path}",
            "strategy=ewc",
            "samples=8",
            f"fisher={fisher}",
            "pull=1",
            *FEW,
        )
        third = ran(tmp_path / fisher, experiment(tmp_path, tiny_dir("bert"), *words))
        assert len(third.read_json("result.json")["sources"]) == 2
    words = (
        "source=run",
        f"source.run={run.path}",
        "strategy=ewc",
        "samples=8",
        "fisher=exact",
        "pull=1",
        *FEW,
    )
    with pytest.raises(ConfigError, match="fisher=exact needs one answer per example, ner has one at each"):
        ran(tmp_path / "exact", experiment(tmp_path, tiny_dir("bert"), *words))
