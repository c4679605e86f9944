"""A tokenizer without words is refused, and a tokenizer of other texts is said."""

from __future__ import annotations

import shutil

import pytest
from lab import settings, toy
from opened import opened
from toys_lm import tiny_decoder, words

from ftrun.errors import ConfigError
from ftrun.models.load import load
from ftrun.models.tokenizer import open_tokenizer
from ftrun.tasks.data import TaskData

KINDS = [
    "bert",
    "roberta",
    "gpt2",
    "t5",
    "albert",
    "xlnet",
    "llama",
    "distilbert",
    "electra",
    "mpnet",
    "deberta-v2",
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_vocabulary_is_refused(tmp_path, kind):
    """Every class makes one where the files are missing."""
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(
        ConfigError, match=r"^it (has no vocabulary: .* and no word|cannot be loaded: tokenizer.json)"
    ):
        open_tokenizer(tmp_path, "it")


def test_a_checkpoint_that_lost_its_tokenizer_is_not_trained(tiny_dir, tmp_path, toy_files):
    place = shutil.copytree(tiny_dir("bert"), tmp_path / "bert")
    for file in place.glob("token*"):
        file.unlink()
    experiment = toy(toy_files, place)
    with pytest.raises(ConfigError, match=r"model.name=.*/bert has no vocabulary: .* tokenizer.json of the"):
        load(experiment.model, TaskData.read(experiment.task, 0).spec, 0)


def test_pretrained_weights_get_no_tokenizer_of_their_own(tmp_path):
    """One trained on the text has other numbers for its words, even where it has as many."""
    place = tiny_decoder("gpt2", tmp_path / "gpt2")
    for file in place.glob("token*"):
        file.unlink()
    given = [word for word in words(place) if not word.startswith("model")]
    experiment = settings(*given, f"model.name={place}")
    with pytest.raises(
        ConfigError, match=r"model.name=.*gpt2 has no tokenizer, and its weights belong to one"
    ):
        load(experiment.model, TaskData.read(experiment.task, 0).spec, 0)
    experiment.model.init = "random"
    load(experiment.model, TaskData.read(experiment.task, 0).spec, 0)


@pytest.mark.parametrize(("strange", "share"), [(0, 0.0), (2, 0.0), (10, 10.0), (50, 50.0)])
def test_unknown_words_are_said_with_their_share(tiny_dir, tmp_path, strange, share):
    """As many words in Greek, which its letters do not have; special tokens do not count."""
    lines = ["the film was good", "the film was dull"] * 50
    for at in range(strange):
        lines[2 * at] = lines[2 * at].replace("film", "ταινία").replace("the", "η")
    file = tmp_path / "train.csv"
    file.write_text("text,label\n" + "".join(f"{line},{at % 2}\n" for at, line in enumerate(lines)))
    experiment = settings(
        "task=classify", f"task.train={file}", f"task.validation={file}", f"task.test={file}",
        f"model.name={tiny_dir('bert')}", "task.max_length=16",
    )  # fmt: skip
    data, model = opened(experiment)
    said = data.encode(model.tokenizer, "train")[1:]
    expected = f"{2 * strange / 400:.1%} of the training tokens are unknown to the tokenizer ([UNK])"
    assert [expected in line for line in said] == ([True] if share else []), said


def test_unknown_words_of_running_text(tiny_dir, tmp_path):
    from toys_mlm import words as masked

    file = tmp_path / "greek.txt"
    file.write_text("η ταινία ήταν καλή\n" * 200)
    own = ("task.train", "task.tokenizer", "model.")
    experiment = settings(
        *(word for word in masked(tmp_path) if not word.startswith(own)),
        *(f"task.{split}={file}" for split in ("train", "validation", "test")),
        f"model.name={tiny_dir('bert')}", "task.tokenizer=model",
    )  # fmt: skip
    data, model = opened(experiment)
    assert any(
        "100.0% of the training tokens are unknown" in line for line in data.encode(model.tokenizer, "train")
    )
