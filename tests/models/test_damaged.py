"""Models that are not whole: one line that names the file, what is wrong and what is possible."""

import json
import shutil

import pytest
import torch
from fuzzing import models
from lab import ran, settings
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from ftrun.errors import ConfigError, OutOfMemory
from ftrun.experiments.inference import FinishedRun
from ftrun.models import load as loading
from ftrun.models.files import reading
from ftrun.models.files.reading import CODE
from ftrun.models.reload import processor_of, refuse_missing, reload
from ftrun.models.small import Stack
from ftrun.models.tokenizer import open_tokenizer
from ftrun.strategies.full import Full


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """By name: a checkpoint, and a function that reads one like it."""
    place, found = tmp_path_factory.mktemp("models"), {}
    for name, make in models.CHECKPOINTS.items():
        make(place / name)
        task = "task=image" if name == "vit" else "task=classify"
        length = [] if name == "vit" else ["task.max_length=32"]
        own = settings(task, f"task.train={place}", f"model.name={place / name}", *length)
        found[name] = place / name, models.reads_checkpoint(own)
    return found


@pytest.fixture
def refusal(kinds, tmp_path):
    """`refusal("bert", damage)`: the one line about a checkpoint after `damage(its directory)`."""

    def call(kind, damage):
        whole, read = kinds[kind]
        place = tmp_path / "damaged"
        shutil.copytree(whole, place)
        damage(place)
        with pytest.raises(ConfigError) as caught:
            read(place)
        said = str(caught.value)
        assert "\n" not in said and len(said) < 600
        assert str(place) in said, "the place is named"
        return said.replace(str(place), "DIR")

    return call


def written(file, content):
    """A damage: the file holds this."""
    return lambda place: (place / file).write_bytes(content.encode() if isinstance(content, str) else content)


def changed(file, **values):
    """A damage: a JSON file has other values; None takes one out."""

    def damage(place):
        found = json.loads((place / file).read_text()) | values
        kept = {name: value for name, value in found.items() if value is not None}
        (place / file).write_text(json.dumps(kept))

    return damage


def cut(file, share=0.5):
    """A damage: the file ends early."""

    def damage(place):
        content = (place / file).read_bytes()
        (place / file).write_bytes(content[: int(len(content) * share)])

    return damage


def without(*files):
    """A damage: these are gone."""
    return lambda place: [(place / file).unlink() for file in files]


def words_alone(place):
    """A damage: of the tokenizer there is a vocabulary alone, in the letters of another age."""
    without("tokenizer.json", "tokenizer_config.json")(place)
    (place / "vocab.txt").write_bytes("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncafé\n".encode("latin-1"))


def far_ids(place):
    """A damage: a token has a number far beyond the network's embeddings."""
    content = json.loads((place / "tokenizer.json").read_text())
    content["model"]["vocab"]["film"] = 5000
    (place / "tokenizer.json").write_text(json.dumps(content))


def unpaddable(place):
    changed("tokenizer_config.json", pad_token=None, eos_token=None)(place)


CONFIG, TOKENIZER, INDEX = "config.json", "tokenizer.json", "model.safetensors.index.json"
PROCESSOR = "preprocessor_config.json"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (written(CONFIG, "{"), "DIR/config.json is damaged: Expecting property name"),
        (written(CONFIG, ""), "DIR/config.json is damaged: Expecting value"),
        (written(CONFIG, b"\xff{}"), "DIR/config.json is damaged: 'utf-8' codec can't decode"),
        (written(CONFIG, "[" * 100_000), "DIR/config.json is damaged: maximum recursion depth"),
        (written(CONFIG, "[]"), "DIR/config.json is damaged: it holds [], not an object"),
        (written(CONFIG, "{}"), "DIR/config.json has no model_type"),
        (changed(CONFIG, model_type=None), "DIR/config.json has no model_type"),
        (changed(CONFIG, model_type="brt"), "model_type='brt' is no architecture of transformers"),
        (changed(CONFIG, model_type="brt"), "did you mean 'bert'?"),
        (changed(CONFIG, model_type=[1]), "model_type=[1] is no architecture"),
        (changed(CONFIG, hidden_size="x"), "config.json: "),
        (changed(CONFIG, hidden_size=-32), "DIR/config.json: hidden_size=-32; possible: 1 to"),
        (changed(CONFIG, vocab_size=10**12), "DIR/config.json: vocab_size=1000000000000; possible: 1 to"),
        (changed(CONFIG, num_hidden_layers=10**6), "num_hidden_layers=1000000; possible: 1 to 10,000"),
        (changed(CONFIG, num_hidden_layers=0), "num_hidden_layers=0; possible: 1 to 10,000"),
        (changed(CONFIG, num_attention_heads=True), "num_attention_heads"),
        (changed(CONFIG, num_attention_heads=3), "cannot be loaded: config.json: "),
        (
            changed(CONFIG, hidden_act="nonsense"),
            "config.json: hidden_act='nonsense' is unknown to",
        ),
        (changed(CONFIG, hidden_dropout_prob=7), "cannot be loaded: config.json: dropout probability"),
        (changed(CONFIG, ftrun_pooling="sum"), "ftrun_pooling='sum'; possible: cls, mean"),
        (without(CONFIG), "DIR is not a checkpoint: it has no config.json"),
        (changed(CONFIG, model_type="own", auto_map={"AutoConfig": "own.Config"}), CODE),
        (written(TOKENIZER, "{}"), "cannot be loaded: tokenizer.json: it has no 'added_tokens'"),
        (written(TOKENIZER, "no JSON"), "cannot be loaded: tokenizer.json: Expecting value"),
        (cut(TOKENIZER), "cannot be loaded: tokenizer.json: "),
        (written("tokenizer_config.json", "[]"), "DIR/tokenizer_config.json is damaged: it holds []"),
        (words_alone, "cannot be loaded: vocab.txt: 'utf-8' codec can't decode"),
        (far_ids, "the tokenizer has 5001 tokens, the network"),
        (unpaddable, "the tokenizer has no token to pad with"),
        (cut("model.safetensors"), "DIR/model.safetensors is damaged: "),
        (written("model.safetensors", b""), "DIR/model.safetensors is damaged: "),
        (written("model.safetensors", b"\0" * 1000), "DIR/model.safetensors is damaged: "),
        (without("model.safetensors"), "DIR has no usable weights: no *.safetensors"),
    ],
)
def test_a_checkpoint_for_texts(refusal, damage, said):
    assert said in refusal("bert", damage)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (written(INDEX, "[]"), f"DIR/{INDEX} is damaged: "),
        (written(INDEX, "{}"), f"DIR/{INDEX} is damaged: "),
        (without("model-00002-of-00003.safetensors"), f"DIR/{INDEX} names model-00002-of-00003.safetensors"),
        (cut("model-00002-of-00003.safetensors"), "DIR/model-00002-of-00003.safetensors is damaged: "),
    ],
)
def test_a_checkpoint_in_shards(refusal, damage, said):
    assert said in refusal("shards", damage)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (written("modules.json", "{}"), "DIR/modules.json is damaged: it holds {}, not a list"),
        (written("modules.json", "[1]"), "DIR/modules.json cannot be loaded: "),
        (written("1_Pooling/config.json", "[]"), "DIR/1_Pooling/config.json is damaged: it holds []"),
        (changed("1_Pooling/config.json", pooling_mode=5), "DIR/1_Pooling/config.json cannot be loaded: "),
    ],
)
def test_a_checkpoint_of_sentence_transformers(refusal, damage, said):
    assert said in refusal("sentences", damage)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (written(PROCESSOR, "{"), f"DIR/{PROCESSOR} is damaged: Expecting"),
        (written(PROCESSOR, "[]"), f"DIR/{PROCESSOR} is damaged: it holds []"),
        (changed(PROCESSOR, image_processor_type="No"), f"cannot be loaded: {PROCESSOR}: "),
        (
            changed(PROCESSOR, image_mean="x"),
            f"its image processor, ViTImageProcessorPil of {PROCESSOR}, does",
        ),
        (changed(PROCESSOR, size="x"), f"cannot be loaded: {PROCESSOR}: "),
        (changed(PROCESSOR, size={"height": 10**9, "width": 10**9}), "images of 1000000000 pixels"),
        (changed(CONFIG, image_size=-1), "image_size=-1; possible: 1 to"),
    ],
)
def test_a_checkpoint_for_images(refusal, damage, said):
    assert said in refusal("vit", damage)


def test_whole_ones_are_read(kinds):
    for place, read in kinds.values():
        read(place)


def test_what_is_larger_than_the_machine_is_not_begun(kinds, monkeypatch):
    place, read = kinds["bert"]
    monkeypatch.setattr(reading, "memory_of_machine", lambda: 40_000)
    with pytest.raises(OutOfMemory, match=r"has weights of .* in fp32, and this machine has .*; possible"):
        read(place)


def test_memory_that_ends_while_a_network_is_loaded(kinds, monkeypatch):
    place, read = kinds["bert"]
    monkeypatch.setattr(loading, "build", lambda *given: torch.empty(2**50, device="cpu"))
    with pytest.raises(OutOfMemory, match=f"out of memory while model.name={place} is loaded"):
        read(place)


def test_a_saved_model_names_its_file_too(kinds, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(kinds["bert"][0], place)
    cut("model.safetensors")(place)
    with pytest.raises(ConfigError, match=f"{place}/model.safetensors is damaged: "):
        reload(place, "AutoModelForSequenceClassification")
    written(CONFIG, "null")(place)
    with pytest.raises(ConfigError, match=f"{place}/config.json is damaged: it holds None, not an object"):
        reload(place, "AutoModelForSequenceClassification")
    shutil.rmtree(place)
    with pytest.raises(ConfigError, match=f"{place}/config.json is missing"):
        reload(place, "AutoModelForSequenceClassification")


def test_looking_at_a_tokenizer_leaves_it_as_it_was(kinds, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(kinds["bert"][0])
    tokenizer.backend_tokenizer.enable_truncation(7)
    tokenizer.backend_tokenizer.save(str(tmp_path / TOKENIZER))
    shutil.copy(kinds["bert"][0] / "tokenizer_config.json", tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer
    assert plain.truncation["max_length"] == 7
    assert open_tokenizer(tmp_path, "it").backend_tokenizer.to_str() == plain.to_str()


def test_a_saved_tokenizer_with_tokens_that_the_network_lacks_is_refused(kinds, tmp_path):
    """As where its pad_token was replaced: the id behind the last would be looked up among the embeddings."""
    place = shutil.copytree(kinds["bert"][0], tmp_path / "model")
    config = AutoConfig.from_pretrained(place)
    tokenizer = processor_of(place, config, images=False)
    assert len(tokenizer) <= config.vocab_size
    file = place / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": "nowhere"}))
    with pytest.raises(ConfigError, match=r"model: the tokenizer has \d+ tokens, the network \d+"):
        processor_of(place, config, images=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return ran(tmp_path_factory.mktemp("runs") / "full", settings(*models.DIGITS)).path


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda place: shutil.rmtree(place), "model is missing"),
        (lambda place: [file.unlink() for file in place.iterdir()], "model/config.json is missing"),
        (cut("model.safetensors"), "model is damaged: model.safetensors has"),
        (cut(CONFIG), "model is damaged: the content of config.json has changed"),
    ],
    ids=["gone", "empty", "weights", "config"],
)
def test_a_run_whose_model_is_not_whole(finished, tmp_path, ftrun_inprocess, damage, said):
    """In every command that reads it."""
    shutil.copytree(finished, tmp_path / "full")
    damage(tmp_path / "full" / "model")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"pixels": [0] * 64}) + "\n")
    own = [word for word in models.DIGITS if word != "model=mlp"]
    commands = [
        ["evaluate", "full"],
        ["predict", "full", "--input", str(rows), "--output", "answers.jsonl"],
        ["calibrate", "full"],
        ["merge", "full"],
        [*own, "model=mlp", "model.init=pretrained", "model.name=full"],
        [*own, f"source={tmp_path}/full"],
    ]
    for words in commands:
        done = ftrun_inprocess(*words, check=False)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, (words, done.stderr)
        named = said in done.stderr or "it has no config.json" in done.stderr
        assert named or words[0] == "merge", (words, done.stderr)
        assert "huggingface" not in done.stderr and "full" in done.stderr


OWN = """
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class OwnConfig(PreTrainedConfig):
    model_type = "own"
    image_size: int = 8
    num_channels: int = 1


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(64, 8), nn.Linear(8, 8)])

    def forward(self, hidden):
        hidden = hidden.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        return hidden


class Own(PreTrainedModel):
    config_class, base_model_prefix, main_input_name = OwnConfig, "body", "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.body, self.classifier = Body(), nn.Linear(8, config.num_labels)
        self.post_init()

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.classifier(self.body(pixel_values)))
"""


def test_code_that_comes_with_a_model_runs_where_that_is_allowed(tmp_path):
    """From the first step to the answers of what was saved, which has the code beside it."""
    place = tmp_path / "own"
    place.mkdir()
    (place / "own.py").write_text(OWN)
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForImageClassification": "own.Own"}
    (place / CONFIG).write_text(json.dumps({"model_type": "own", "auto_map": code}))
    words = [*models.DIGITS, f"model.name={place}"]
    with pytest.raises(ConfigError, match="possible: model.trust_remote_code=true"):
        ran(tmp_path / "no", settings(*words))
    run = ran(tmp_path / "run", settings(*words, "model.trust_remote_code=true"))
    finished = FinishedRun(run)
    scores, _ = finished.evaluate(finished.data())
    assert scores["accuracy"] == run.read_json("result.json")["test_accuracy"]


def test_a_network_that_cannot_compute_is_the_fault_of_its_files(tmp_path, monkeypatch):
    """And what fails elsewhere is a bug."""
    words = [*models.DIGITS, "strategy=full"]
    monkeypatch.setattr(Stack, "forward", lambda self, hidden: hidden + None)
    with pytest.raises(ConfigError, match="model.name=embedded:mlp cannot compute: config.json: TypeError"):
        ran(tmp_path / "damaged", settings(*words))
    monkeypatch.undo()
    monkeypatch.setattr(Full, "prepare", lambda self, model: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ran(tmp_path / "bug", settings(*words))


def test_damage_at_random_is_told_or_does_no_harm(tmp_path):
    ends, faults = models.tried(0, 120, tmp_path, runs=("mlp", "lora"))
    assert not faults and sum(ends.values()) == 120
    assert len({end.split()[0] for end in ends}) == 7, "some of every kind"


def test_a_lora_of_which_a_part_is_missing_is_not_made_up(tmp_path):
    """peft would begin that part anew, with a warning."""
    layer, path = nn.Module(), tmp_path / "adapter_model.safetensors"
    layer.lora_A = nn.ModuleDict({"default": nn.Linear(2, 2, bias=False)})
    layer.modules_to_save = nn.ModuleDict({"default": nn.Linear(2, 2, bias=False)})
    net, there = nn.ModuleDict({"query": layer}), torch.zeros(2, 2)
    save_file({"query.lora_A.weight": there, "query.weight": there.clone()}, path)
    refuse_missing(net, path)
    for name, lost in (("query.weight", "query.lora_A.weight"), ("query.lora_A.weight", "query.weight")):
        save_file({name: there}, path)
        with pytest.raises(ConfigError, match=f"damaged: 1 of 2 tensors are missing, as {lost}$"):
            refuse_missing(net, path)
