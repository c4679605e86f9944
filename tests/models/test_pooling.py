"""model.pooling=auto: what a checkpoint's files say of its pooling."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from lab import settings, toy
from pooled import MEAN, SAYS, sentences
from toys_lm import tiny_decoder
from toys_ner import words as ner_words
from transformers import BertModel

from ftrun.errors import ConfigError
from ftrun.models.files.locate import locate
from ftrun.models.load import load
from ftrun.models.pooling import pooling_of
from ftrun.tasks.data import TaskData

FORMER = dict.fromkeys([f"pooling_mode_{way}" for way in ("cls_token", "mean_tokens", "max_tokens")], False)
LAST = {"pooling_mode": "lasttoken"}
QUICK = "train.max_steps=3", "train.lr=1e-2"


@pytest.fixture
def copied(tiny_dir, tmp_path):
    """`copied("bert")`: a checkpoint to which something may be added."""
    return lambda name: Path(shutil.copytree(tiny_dir(name), tmp_path / f"of-{name}"))


@pytest.fixture
def sbert(copied):
    return sentences(copied("bert"), MEAN)


def found(experiment):
    return pooling_of(experiment.model, experiment.task.spec(None))


@pytest.mark.parametrize(
    ("pooling", "value", "reason"),
    [
        (FORMER | {"pooling_mode_mean_tokens": True}, "mean", SAYS),
        (FORMER | {"pooling_mode_cls_token": True}, "cls", SAYS),
        (FORMER, "mean", SAYS),  # as sentence-transformers itself
        ({"pooling_mode": "cls"}, "cls", SAYS),
        ({"pooling_mode": ["mean"]}, "mean", SAYS),
        ({"pooling_mode": ["cls", "max"]}, "mean", f"since there is no cls+max, {SAYS}"),
        (FORMER | {"pooling_mode_max_tokens": True}, "mean", f"since there is no max, {SAYS}"),
        (LAST, "mean", f"since there is no lasttoken, {SAYS}"),
    ],
)
def test_files_of_sentence_transformers_decide(toy_files, copied, pooling, value, reason):
    place = sentences(copied("bert"), pooling)
    assert found(toy(toy_files, place)) == (value, reason)
    assert found(toy(toy_files, place, "model.pooling=head")) == ("head", "")
    assert found(toy(toy_files, place, "model.init=random")) == ("head", "")
    (place / "modules.json").unlink()
    assert found(toy(toy_files, place)) == (value, reason)


def test_the_folder_is_the_one_that_the_list_names(toy_files, copied):
    place = sentences(copied("bert"), {"pooling_mode": "cls"}, folder="pooled")
    assert found(toy(toy_files, place)) == ("cls", "as the checkpoint's pooled/config.json says")
    (place / "pooled" / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"pooled/config.json is damaged"):
        found(toy(toy_files, place))


def test_another_kind_of_pooling_says_nothing(toy_files, copied):
    assert found(toy(toy_files, sentences(copied("bert"), LAST, "SpladePooling"))) == ("head", "")


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert"])
def test_heads_that_are_new_by_design_stay(toy_files, tiny_dir, name):
    assert found(toy(toy_files, tiny_dir(name))) == ("head", "")


def test_a_pooler_without_weights_gives_way_to_the_mean(toy_files, copied):
    place = copied("bert")
    BertModel.from_pretrained(place, add_pooling_layer=False).save_pretrained(place)
    reason = "as the checkpoint has no weights of the pooler in BertForSequenceClassification"
    assert found(toy(toy_files, place)) == ("mean", reason)
    assert found(settings(*ner_words(place), f"model.name={place}")) == ("head", "")
    assert found(toy(toy_files, place, "model.init=random")) == ("head", "")


def test_a_decoder_s_head_is_on_its_last_token(toy_files, tmp_path):
    place = tiny_decoder("gpt2", tmp_path / "gpt2")
    assert found(toy(toy_files, place)) == ("head", "")
    assert found(toy(toy_files, sentences(place, LAST))) == ("head", "")
    for way, reason in ("mean", SAYS), ("cls", f"since there is no cls, {SAYS}"):
        (place / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": way}))
        assert found(toy(toy_files, place)) == ("mean", reason)


def test_an_embedded_checkpoint_is_read_the_same(toy_files, sbert, monkeypatch):
    monkeypatch.setattr("ftrun.models.files.locate.ASSETS", sbert.parent)
    assert found(toy(toy_files, f"embedded:{sbert.name}")) == ("mean", SAYS)


def test_tokens_keep_their_own_head(sbert):
    """Also where the checkpoint was pooled by the run that saved it."""
    experiment = settings(*ner_words(sbert), f"model.name={sbert}")
    assert found(experiment) == ("head", "")
    config = json.loads((sbert / "config.json").read_text())
    (sbert / "config.json").write_text(json.dumps(config | {"ftrun_pooling": "mean"}))
    spec = TaskData.read(experiment.task, 0).spec
    assert not hasattr(load(experiment.model, spec, 0).net.config, "ftrun_pooling")


@pytest.fixture
def on_hub(tiny_dir, tmp_path, monkeypatch):
    """someone/toy, a checkpoint in the Hub's cache: its files, and where it is noted which are missing."""
    commit, place = "0123456789" * 4, tmp_path / "hub" / "models--someone--toy"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(tiny_dir("bert"), place / "snapshots" / commit)
    (place / ".no_exist" / commit).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return place / "snapshots" / commit, place / ".no_exist" / commit


def test_a_name_on_the_hub_is_asked_in_the_cache(toy_files, on_hub):
    snapshot, missing = on_hub
    experiment = toy(toy_files, "someone/toy")
    assert locate(experiment.model).name == "someone/toy"
    value, reason = found(experiment)  # nobody can be asked
    assert value == "head" and reason.startswith("since the Hub cannot be asked how the checkpoint pools")
    (missing / "modules.json").touch()
    (missing / "1_Pooling").mkdir()
    (missing / "1_Pooling" / "config.json").touch()
    assert found(experiment) == ("head", "")
    BertModel.from_pretrained(snapshot, add_pooling_layer=False).save_pretrained(snapshot)
    assert found(experiment)[0] == "mean"
    sentences(snapshot, {"pooling_mode": "cls"})
    shutil.rmtree(missing)
    assert found(experiment) == ("cls", SAYS)


def test_what_the_cache_lacks_is_fetched(toy_files, on_hub, sbert, monkeypatch):
    asked = []

    def fetch(name, file, *, revision):
        asked.append((name, file, revision))
        if file == "modules.json":
            raise RemoteEntryNotFoundError("no such file", response=Mock(headers={}))
        return str(sbert / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert found(toy(toy_files, "someone/toy")) == ("mean", SAYS)
    assert asked == [("someone/toy", name, None) for name in ("modules.json", "1_Pooling/config.json")]


def test_random_features_are_pooled_over_what_is_no_padding(toy_files, sbert):
    experiment = toy(toy_files, sbert)
    net = load(experiment.model, TaskData.read(experiment.task, 0).spec, 0).net.eval()
    ids, mask = torch.tensor([[2, 9, 8, 3, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    short = net.backbone(input_ids=ids[:, :4], attention_mask=mask[:, :4]).last_hidden_state.mean(1)
    torch.testing.assert_close(net(ids, mask).logits, net.classifier(short))
