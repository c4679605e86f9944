"""Two texts in one example, as the tokenizer joins them; token types where the network has them."""

import json

import pytest
import torch
import toys_text
from lab import ran, settings
from opened import opened
from toys import tiny_tokenizer

from ftrun.data.text.encoding import encode, encode_pairs
from ftrun.errors import ConfigError, DataError
from ftrun.tasks.data import TaskData
from ftrun.tasks.parts.texts import examples_of, padded, separates

FIRST = ["the film", "a good and lovely story of the plot and the music"]
SECOND = ["is dull", "it is bad"]
LIMITS = {"split": "train", "max_length": 64, "long": "truncate"}


@pytest.fixture(scope="module")
def bert():
    return tiny_tokenizer("bert")


def composed(tmp_path, model, *words):
    return settings(*toys_text.pairs(tmp_path), f"model.name={model}", *words)


def test_a_pair_is_what_the_tokenizer_makes_of_it(bert):
    ids, types, kept, report = encode_pairs(bert, list(zip(FIRST, SECOND, strict=True)), **LIMITS)
    right = bert(FIRST, SECOND)
    assert (ids, types, kept) == (right["input_ids"], right["token_type_ids"], [0, 1])
    assert set(types[0]) == {0, 1}
    assert report.longest == max(map(len, ids)) and report.line().endswith("none too long")


def test_what_is_too_long_is_cut_from_the_longer_text(bert):
    pairs = list(zip(FIRST, SECOND, strict=True))
    whole, _, _, _ = encode_pairs(bert, pairs, **LIMITS)
    ids, types, _, report = encode_pairs(bert, pairs, **LIMITS | {"max_length": 10})
    right = bert(FIRST, SECOND, truncation="longest_first", max_length=10)
    assert (ids, types) == (right["input_ids"], right["token_type_ids"])
    assert ids[0] == whole[0] and len(ids[1]) == 10
    assert sum(types[1]) == sum(types[0]) + 1  # "it is bad" and [SEP] are all there
    lost = len(whole[1]) - 10
    cut = f"50.0% truncated ({lost} tokens lost from the longer text)"
    assert report.line().endswith(f"{cut}; possible: a larger task.max_length")


def test_a_single_text_has_no_token_types_and_the_same_ids_as_before(bert):
    found, _ = examples_of(bert, [FIRST], **LIMITS)
    ids, _, _ = encode(bert, FIRST, **LIMITS)
    assert [example.inputs for example in found] == ids == bert(FIRST)["input_ids"]
    assert padded(found, 0).keys() == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(("name", "types"), [("bert", True), ("roberta", False), ("modernbert", False)])
def test_token_types_go_to_networks_that_have_them(tmp_path, tiny_dir, name, types):
    data, model = opened(composed(tmp_path, tiny_dir(name)), "train")
    train = data.dataset("train")
    said = train.summary
    inputs = train.collate(train.examples[:4])["inputs"]
    assert ("token_type_ids" in inputs) == types
    assert "none too long" in said and "warning" not in said
    logits = model.eval()(**inputs)
    if types:
        assert not torch.allclose(logits, model(**inputs | {"token_type_ids": 0 * inputs["input_ids"]}))


def test_a_tokenizer_with_types_serves_a_network_without(tmp_path, tiny_dir):
    """As a DistilBERT that was saved with the tokenizer of BERT."""
    place = tmp_path / "distilbert"
    tiny_tokenizer("bert").save_pretrained(place)
    for file in ("config.json", "model.safetensors"):
        (place / file).write_bytes((tiny_dir("distilbert") / file).read_bytes())
    run = ran(tmp_path / "run", composed(tmp_path, place, "train.max_steps=1"))
    assert "token_type_ids" not in json.loads((run.model_dir / "tokenizer_config.json").read_text()).get(
        "model_input_names", []
    )


def test_padding_and_types_never_change_a_pair(tmp_path, tiny_dir):
    data, model = opened(composed(tmp_path, tiny_dir("bert")), "test")
    test = data.dataset("test")
    examples = test.examples[:6]
    model.eval()
    together = model(**test.collate(examples)["inputs"])
    alone = torch.cat([model(**test.collate([example])["inputs"]) for example in examples])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_pairs_are_learned_predicted_and_evaluated(tmp_path, tiny_dir, ftrun_inprocess):
    words = ["train.epochs=30", "train.lr=3e-3", "schedule=constant", "train.eval_every=30"]
    run = ran(tmp_path / "run", composed(tmp_path, tiny_dir("bert"), *words))
    result = run.read_json("result.json")
    assert result["test_accuracy"] > 0.9
    seen = ftrun_inprocess("evaluate", str(run.path), "--input", str(tmp_path / "test.csv")).stdout
    assert f"{result['test_accuracy']:.6f}" in seen
    out = tmp_path / "out.jsonl"
    ftrun_inprocess("predict", str(run.path), "--input", str(tmp_path / "test.csv"), "--output", str(out))
    answered = [json.loads(line)["answer"] for line in out.read_text().splitlines()]
    kept = (run.path / "predictions.jsonl").read_text().splitlines()
    assert answered == [json.loads(line)["answer"] for line in kept]


def test_one_empty_text_leaves_a_row_out(tmp_path, tiny_dir):
    words = composed(tmp_path, tiny_dir("bert"))
    rows = [
        {"premise": "a", "hypothesis": "", "label": "first"},
        *toys_text.pair_rows(12, toys_text.random.Random(1)),
    ]
    toys_text.write(tmp_path / "train.csv", rows)
    notes = TaskData.read(words.task, 0).rows.notes
    assert "train: 1 of 13 rows dropped, an empty text (row 1)" in notes


def test_a_pair_in_two_splits_is_counted_and_a_text_is_not(tmp_path, tiny_dir):
    task = composed(tmp_path, tiny_dir("bert")).task
    rows = toys_text.pair_rows(12, toys_text.random.Random(1))
    toys_text.write(tmp_path / "train.csv", rows)
    changed = [row | {"hypothesis": f"{row['hypothesis']} so"} for row in rows[1:]]
    toys_text.write(tmp_path / "test.csv", [rows[0], *changed])
    [leak] = [line for line in TaskData.read(task, 0).rows.notes if "LEAK" in line]
    assert leak.startswith("warning: LEAK: 1 of 12 test rows is also in train ('is of")


def test_the_fingerprint_knows_both_texts(tmp_path, tiny_dir):
    def fingerprint(*words):
        return TaskData.read(composed(tmp_path, tiny_dir("bert"), *words).task, 0).rows.fingerprint

    assert fingerprint() == fingerprint() != fingerprint("task.text=[hypothesis,premise]")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.text=[a]"], "task.text is a column, or two different ones"),
        (["task.text=[a,b,c]"], "task.text is a column, or two different ones"),
        (["task.text=[a,a]"], "task.text is a column, or two different ones"),
        (["task.max_length=5"], "task.max_length is at least 6 for two texts, not 5"),
    ],
)
def test_wrong_settings(tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        composed(tmp_path, "x", *words)


def test_a_missing_second_column_is_named(tmp_path):
    task = composed(tmp_path, "x", "task.text=[premise,hypotesis]").task
    with pytest.raises(DataError, match=r"task.text=hypotesis: .* has no such column.*hypothesis"):
        TaskData.read(task, 0)


def test_a_tokenizer_that_puts_nothing_between_says_so(bert):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    assert separates(bert) and not separates(PreTrainedTokenizerFast(tokenizer_object=plain))
