"""A table whose training rows stay on the disk gives what the same rows in memory give, and is read once."""

import gzip
import json
import math
import random
import tracemalloc

import pytest
from lab import ran, settings
from resuming import FILES, same, stopped
from toys import toy_rows

from ftrun.data.streamed import shards
from ftrun.data.streamed.shards import Shard
from ftrun.errors import ConfigError, DataError
from ftrun.experiments import start
from ftrun.models.tokenizer import cutting, restore_cutting
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import SPLITS, sizes_of
from ftrun.tasks.parts.labelled import weights_of

KINDS = {
    "classify": ["task.balance=weights"],
    "a pair": ["task.text=[text,other]", "task.max_length=12"],
    "classes": ["task.label=mood", "task.classes=[0,2]", "task.long=drop", "task.max_length=14"],
    "subset": ["task.subset=50"],
    "multilabel": ["task.label=tags"],
    "regress": ["task.label=score"],
}


def rows(count, seed):
    chance = random.Random(seed)
    return [
        {"text": text, "label": label, "other": text[:9], "mood": n % 3, "tags": [label, "x"][: n % 3],
         "score": chance.gauss(label == "positive", 1)}
        for n, (text, label) in enumerate(toy_rows(count, chance))
    ]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Training rows in three files, one of them gzipped, in shards of a kilobyte; and other splits."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "SIZE", 1000)
    counts = {"train1": 60, "train2": 35, "validation": 30, "test": 30}
    for seed, (name, count) in enumerate(counts.items()):
        part = rows(count, seed)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    text = "\n".join(["", *map(json.dumps, rows(25, 4)), json.dumps({"text": "", "label": "positive"})])
    (tmp_path / "train3.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def quick(place, model, *more, stream=True):
    files = [f"task.{split}={place}/{split}{'*' if split == 'train' else '.jsonl'}" for split in SPLITS]
    kind = next((word for word in ("multilabel", "regress") if f"task={word}" in more), "classify")
    return settings(
        f"task={kind}", *files, f"model.name={model}", "device=cpu", f"task.stream={str(stream).lower()}",
        *(word for word in more if not word.startswith("task=")),
    )  # fmt: skip


def read(experiment, tokenizer):
    data = TaskData.read(experiment.task, experiment.seed)
    data.encode(tokenizer, *SPLITS)
    return data


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.mark.parametrize("name", KINDS)
def test_examples_and_data_card_are_those_of_rows_in_memory(place, tiny_model_dir, tokenizer, name):
    words = [f"task={name}", *KINDS[name]]
    streamed = read(quick(place, tiny_model_dir, *words), tokenizer)
    if name == "subset":  # the first rows, and not a choice of all
        few = [f"task.train={place}/train1.jsonl"]
        held = read(quick(place, tiny_model_dir, *few, stream=False), tokenizer)
        assert streamed.dataset("train").examples[:] == [
            one for one in map(without_place, held.dataset("train").examples[:50])
        ]
        return
    held = read(quick(place, tiny_model_dir, *words, stream=False), tokenizer)
    ours, theirs = streamed.dataset("train"), held.dataset("train")
    assert ours.examples[:] == [without_place(one, n) for n, one in enumerate(theirs.examples)]
    assert sizes_of(ours).tolist() == sizes_of(theirs) and ours.summary == theirs.summary
    assert len(streamed.rows.stream.parts) > 10 and not isinstance(ours.examples, list)
    if name == "classify":
        assert weights_of(streamed) == weights_of(held)
    cards = [data.rows.card(data) for data in (streamed, held)]
    for card in cards:
        for part in ("duplicates", "leaks", "notes", *(["baselines"] if name == "classes" else [])):
            card.pop(part, None)  # rows that are too long are in the sample of a stream
    assert flat(cards[0]) == pytest.approx(flat(cards[1]), rel=1e-12)
    assert any("dropped, an empty text (row 26 of train3.jsonl.gz)" in note for note in streamed.rows.notes)


def without_place(example, row=None):
    from dataclasses import replace

    return replace(example, place=None, **({} if row is None else {"row": row}))


def flat(node, name=""):
    if isinstance(node, dict):
        return {key: value for part in node for key, value in flat(node[part], f"{name}/{part}").items()}
    return {name: node if isinstance(node, int | float) else hash(str(node))}


def test_a_run_is_that_of_rows_in_memory_and_goes_on_without_reading_them(place, tiny_model_dir, monkeypatch):
    words = [
        "task.max_length=32", "train.batch_size=8", "train.max_steps=10", "train.eval_every=5",
        "train.checkpoint_every=2", "strategy=full", "baselines=false",
    ]  # fmt: skip
    streamed = quick(place, tiny_model_dir, *words)
    whole = ran(place / "whole", streamed)
    held = ran(place / "held", quick(place, tiny_model_dir, *words, stream=False))
    for name in FILES:
        assert (whole.path / name).read_bytes() == (held.path / name).read_bytes(), name
    stopped(place / "part", streamed, 6)
    monkeypatch.setattr(Shard, "rows", lambda *_: pytest.fail("a shard is read again"))
    start.resume(place / "part")
    same(whole.path, place / "part")


@pytest.mark.parametrize(
    "way", [["strategy=replay", "choose=balanced", "buffer=8"], ["strategy=ewc", "samples=8", "pull=1"]]
)
def test_a_stream_can_be_an_earlier_task(place, tiny_model_dir, way):
    few = ["task.max_length=32", "train.max_steps=2", "baselines=false"]
    before = ran(place / "before", quick(place, tiny_model_dir, *few))
    again = [*few, *way, "source=run", f"source.run={before.path}"]
    after = ran(place / "after", quick(place, tiny_model_dir, *again))
    assert math.isfinite(after.read_json("result.json")["forgetting"])


def test_splits_are_carved_by_what_rows_say(place, tiny_model_dir, tokenizer):
    lines = [json.dumps({"text": f"the film was {n % 900}", "label": f"l{n % 2}"}) for n in range(1200)]
    (place / "many.jsonl").write_text("\n".join(lines))
    words = [f"task.train={place}/many.jsonl", "task.validation=null", "task.test=null"]
    data = read(quick(place, tiny_model_dir, *words), tokenizer)
    texts = {split: [row["text"] for row in data.rows.splits[split]] for split in ("validation", "test")}
    assert 3 < len(set(texts["test"])) < 25 and not set(texts["test"]) & set(texts["validation"])
    assert len(data.dataset("train")) == 1200 - sum(map(len, texts.values()))
    places = [row.number for row in data.rows.splits["test"]]
    assert [json.loads(lines[number - 1])["text"] for number in places] == texts["test"]
    (place / "many.jsonl").write_text("\n".join(lines[:20]))
    with pytest.raises(
        DataError, match=r"too few rows \(20\) to carve (test|validation) from, one in a hundr"
    ):
        read(quick(place, tiny_model_dir, *words), tokenizer)


def test_what_was_read_before_a_damaged_file_is_not_read_again(place, tiny_model_dir, tokenizer, monkeypatch):
    whole = (place / "train2.jsonl").read_text()
    (place / "train2.jsonl").write_text(whole[:-20])
    with pytest.raises(DataError, match=r"train2\.jsonl, line 35: not JSON"):
        read(quick(place, tiny_model_dir), tokenizer)
    (place / "train2.jsonl").write_text(whole)
    honest, seen = Shard.rows, []
    monkeypatch.setattr(Shard, "rows", lambda self, columns=(): seen.append(self) or honest(self, columns))
    data = TaskData.read(quick(place, tiny_model_dir).task, 0)
    assert not any("train1" in shard.source for shard in seen)
    assert len(data.rows.stream.parts) > len(seen) > 0


@pytest.mark.parametrize(
    ("line", "more", "message"),
    [
        ({"text": 7, "label": "a"}, [], r"task\.text=text: row 21 of .*2\.jsonl holds an integer, not text"),
        ({"text": "x", "label": ["a"]}, [], r"task\.label=label: row 21 of .*train2\.jsonl: a label is text"),
        (
            {"text": "x", "label": "other"}, ["task.labels=[negative,positive]"],
            r"label 'other' of the train row 'x' \(row 21 of .*\) is not in task.labels",
        ),
        (None, ["task.label=lable"], r"lable: .*train1\.jsonl has no such column; .*did you mean"),
        (None, ["task.long=error", "task.max_length=5"], r"task\.long=error: row \d+ of .*train1\.jsonl \('"),
        (
            {"text": "x", "label": "a", "score": "many"}, ["task=regress", "task.label=score"],
            "row 21 of .*'many' is not a number",
        ),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(place, tiny_model_dir, tokenizer, line, more, message):
    if line is not None:
        lines = (place / "train2.jsonl").read_text().splitlines()
        (place / "train2.jsonl").write_text("\n".join([*lines[:20], json.dumps(line), *lines[20:]]))
    with pytest.raises(DataError, match=message):
        read(quick(place, tiny_model_dir, *more), tokenizer)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.folds=5", "task.fold=0"], "task.folds=5 .* possible: task.folds=null"),
        (["task.group=other"], "task.group=other looks at all training rows at once"),
        (["task.leaks=drop"], "task.leaks=drop .* possible: task.leaks=warn"),
        (["task.subset=3 per class"], "task.subset=3 per class .* possible: task.subset=3"),
        (["task.balance=sample"], "task.balance=sample .* possible: task.balance=weights"),
        (["strategy=linear_probe", "solver=lbfgs"], "solver=lbfgs: task.stream=true does not hold"),
        (["train.keep=true", "strategy=freeze", "bottom=2"], "train.keep=true: the examples are made when"),
    ],
)  # fmt: skip
def test_what_looks_at_all_rows_at_once_is_refused(place, tiny_model_dir, words, message):
    with pytest.raises(ConfigError, match=message):
        ran(place / "run", quick(place, tiny_model_dir, "task.max_length=32", *words))


def test_memory_does_not_grow_with_the_rows(place, tiny_model_dir, tokenizer, monkeypatch):
    monkeypatch.setattr(shards, "SIZE", 1 << 20)
    monkeypatch.setattr("ftrun.data.streamed.tables.FITTED", 100_000)
    lines = [
        json.dumps({"text": text, "label": label, "more": "y" * 500})
        for text, label in toy_rows(3_000, random.Random(0))
    ]

    def peak(count):
        (place / f"{count}.jsonl").write_text("\n".join(lines[:count]))
        experiment = quick(place, tiny_model_dir, f"task.train={place}/{count}.jsonl", "baselines=false")
        tracemalloc.start()
        try:
            data = read(experiment, tokenizer)
            assert len(data.dataset("train")) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    before = cutting(tokenizer)
    peak(900)
    assert peak(3000) - peak(1000) < 2000 * 8 + 50_000
    restore_cutting(tokenizer, before)
