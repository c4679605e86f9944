"""What is saved of a pooled network: sentence-transformers loads it, ftrun reads it back, LoRA or not."""

import json

import pytest
import torch
from lab import ran, toy
from safetensors.torch import load_file, save_file
from saved import SENTENCES, answered
from transformers import AutoModel, AutoTokenizer

from ftrun.models.reload import reload
from ftrun.models.saved.usage import usage_of
from ftrun.runs.manifest import SEAL

QUICK = "train.max_steps=3", "train.lr=1e-2"
LORA = "strategy=lora", "rank=2"
TEXTS = [*SENTENCES, "", "a very dull story " * 20]  # the last longer than max_length
CLASS = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def runs(toy_files, tiny_dir, tmp_path_factory):
    """`runs("mean", "strategy=lora")`: a short run of a pooled tiny BERT, made once."""
    made = {}

    def make(pooling, *words):
        if (pooling, *words) not in made:
            place = tmp_path_factory.mktemp(pooling) / "run"
            more = f"model.pooling={pooling}", "task.max_length=16", *QUICK
            made[pooling, *words] = ran(place, toy(toy_files, tiny_dir("bert"), *words, *more))
        return made[pooling, *words]

    return make


def read(path):
    return json.loads(path.read_text())


def ours(place):
    """The logits of ftrun's own reading."""
    tokenizer = AutoTokenizer.from_pretrained(place)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        return reload(place, CLASS)(**batch).logits


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_files_are_those_of_sentence_transformers(runs, pooling):
    place = runs(pooling).model_dir
    kinds = {each["path"]: each["type"].rpartition(".")[2] for each in read(place / "modules.json")}
    assert kinds == {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    assert read(place / "sentence_bert_config.json") == {"max_seq_length": 16, "do_lower_case": False}
    pooled = read(place / "1_Pooling" / "config.json")
    ways = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
    assert pooled.pop("word_embedding_dimension") == 32
    assert len(pooled) == 6 and [name for name, on in pooled.items() if on] == [ways[pooling]]
    assert read(place / "2_Dense" / "config.json") == {
        "in_features": 32, "out_features": 2, "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }  # fmt: skip
    head = load_file(place / "2_Dense" / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in head.items()} == {
        "linear.weight": (2, 32), "linear.bias": (2,),
    }  # fmt: skip
    assert read(place / "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    assert not (place / "head.safetensors").exists()
    assert 'SentenceTransformer("DIR")' in (place / "README.md").read_text()


@pytest.mark.parametrize("words", [(), LORA, ("strategy=vera", "rank=4")])
def test_it_is_read_back_to_the_bit(runs, words):
    assert runs("mean", *words).read_json("result.json")["reload_difference"] == 0.0


def test_the_backbone_alone_is_transformers_s(runs):
    place = runs("mean").model_dir
    state, own = AutoModel.from_pretrained(place).state_dict(), reload(place, CLASS).backbone.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own.items())


def test_what_older_versions_saved_is_read(runs, tmp_path):
    place = runs("cls").model_dir
    before = ours(place)
    head = load_file(place / "2_Dense" / "model.safetensors")
    save_file(
        {name.removeprefix("linear."): value for name, value in head.items()}, place / "head.safetensors"
    )
    (place / "2_Dense" / "model.safetensors").rename(place / "apart.safetensors")
    (place / "sentence_bert_config.json").rename(place / "apart.json")
    (place / SEAL).rename(tmp_path / SEAL)
    assert torch.equal(ours(place), before) and reload(place, CLASS).max_length is None
    (place / "apart.safetensors").rename(place / "2_Dense" / "model.safetensors")
    (place / "apart.json").rename(place / "sentence_bert_config.json")
    (place / "head.safetensors").unlink()
    (tmp_path / SEAL).rename(place / SEAL)


def test_a_merged_lora_is_whole_and_the_lora_says_what_it_needs(runs, ftrun_inprocess, tmp_path):
    run = runs("mean", *LORA)
    assert not (run.model_dir / "modules.json").exists()
    assert 'load_adapter("DIR")' in (run.model_dir / "README.md").read_text()
    ftrun_inprocess("merge", str(run.path), "--output", "whole")
    text = (tmp_path / "whole" / "README.md").read_text()
    assert "library_name: sentence-transformers" in text and 'SentenceTransformer("DIR")' in text
    assert read(tmp_path / "whole" / "sentence_bert_config.json")["max_seq_length"] == 16
    torch.testing.assert_close(answered(tmp_path / "whole"), answered(run.model_dir))


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (None, "labels = [config.id2label[i] for i in logits.argmax(1)]"),
        ("regression", "scores = logits[:, 0] * config.target_scale + config.target_mean"),
        ("multi_label_classification", "(row >= -0.8472979).nonzero()"),  # the logit of 0.3
    ],
)
def test_the_lines_answer_as_the_task_does(runs, tmp_path, problem, line):
    config = read(runs("mean").model_dir / "config.json") | {"problem_type": problem}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert line in usage_of(tmp_path, CLASS, {"threshold": 0.3}).code


def by_its_card(place):
    """The logits and labels that the code of README.md comes to."""
    pytest.importorskip("sentence_transformers")
    code = (place / "README.md").read_text().split("```")[1].removeprefix("python\n")
    code, names = code.replace('["A text."]', repr(TEXTS)), {}
    exec(code.replace("DIR", str(place)), names)
    return torch.tensor(names["logits"]), names["labels"]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of other libraries to each other
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("words", [(), LORA, ("strategy=vera", "rank=4")])
def test_sentence_transformers_answers_the_same(runs, pooling, words):
    place = runs(pooling, *words).model_dir
    logits, labels = by_its_card(place)
    torch.testing.assert_close(logits, ours(place), rtol=0, atol=1e-6)
    assert labels == [("negative", "positive")[index] for index in ours(place).argmax(1).tolist()]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_sentence_transformers_reads_a_merged_lora(runs, ftrun_inprocess, tmp_path):
    pytest.importorskip("sentence_transformers")
    ftrun_inprocess("merge", str(runs("mean", *LORA).path), "--output", "whole")
    logits, _ = by_its_card(tmp_path / "whole")
    torch.testing.assert_close(logits, ours(tmp_path / "whole"), rtol=0, atol=1e-6)
