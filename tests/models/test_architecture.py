"""Decoders: where they classify, what of them is new, and every strategy on them."""

import json
import shutil

import pytest
import torch
from lab import ran, sampled, settings, toy
from toys_lm import files, tiny_decoder
from transformers import T5Config, T5EncoderModel, XLNetConfig

from ftrun.errors import ConfigError
from ftrun.models.layers import adapted_layers, output_layers
from ftrun.models.load import load, outline, positions
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData

DECODERS = ["gpt2", "llama", "qwen2"]
EXTRA = {"freeze": ["bottom=1"], "gradual_unfreeze": ["every=0.4"]}


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            made[name] = tiny_decoder(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


def loaded(experiment):
    data = TaskData.read(experiment.task, experiment.seed)
    return load(experiment.model, data.spec, stream(experiment.seed, "init"))


def on_text(place, *words):
    return settings(
        "task=lm", f"task.train={files(place)}/rows.jsonl", f"model.name={place}", "task.block=32",
        "task.sample=0", "train.batch_size=16", "train.max_steps=4", "device=cpu", *words,
    )  # fmt: skip


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("pooling", ["head", "mean"])
def test_a_label_does_not_depend_on_padding(toy_files, decoder, name, pooling):
    experiment = toy(toy_files, decoder(name), f"model.pooling={pooling}")
    model = loaded(experiment).eval()
    data = TaskData.read(experiment.task, experiment.seed)
    data.encode(model.tokenizer, "validation")
    validation = data.dataset("validation")
    examples = sorted(validation.examples, key=lambda e: e.size)
    examples = [examples[0], examples[20], examples[-1]]
    assert examples[0].size < examples[-1].size
    together = model(**validation.collate(examples)["inputs"])
    for row, example in enumerate(examples):
        alone = model(**validation.collate([example])["inputs"])[0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-6)


def test_a_decoder_classifies_at_its_last_token(toy_files, decoder):
    model = loaded(toy(toy_files, decoder("llama"))).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    states = model.net.model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(model(input_ids=ids)[0], model.net.score(states[0, -1]))
    assert model.net.config.pad_token_id == model.tokenizer.pad_token_id
    assert {name for name, _ in model.head_parameters()} == {"net.score.weight"}


STRATEGIES = ["full", "freeze", "lora", "adapter", "norms", "gradual_unfreeze", "l2sp", "scratch", "bitfit"]
EVERY = [*(("lm", strategy) for strategy in STRATEGIES), ("classify", "lora"), ("classify", "adapter")]


@pytest.mark.parametrize(("way", "name"), sampled(EVERY, ["gpt2", "llama"]))
def test_every_strategy_trains_a_decoder_and_saves_it(toy_files, decoder, tmp_path, way, name):
    task, strategy = way
    words = [f"strategy={strategy}", *EXTRA.get(strategy, []), "train.max_steps=3", "train.lr=1e-2"]
    experiment = (
        toy(toy_files, decoder(name), *words) if task == "classify" else on_text(decoder(name), *words)
    )
    if (strategy, name) == ("bitfit", "llama"):
        with pytest.raises(ConfigError, match="strategy=bitfit trains biases, but .* has none"):
            ran(tmp_path / "run", experiment)
        return
    run = ran(tmp_path / "run", experiment)
    assert run.read_json("result.json")["reload_difference"] < 1e-5


@pytest.mark.parametrize("strategy", ["linear_probe", "lp_ft"])
def test_a_language_model_has_no_new_head_to_train_first(decoder, strategy):
    message = f"strategy={strategy} trains a new head, which task=lm does not have"
    with pytest.raises(ConfigError, match=message):
        on_text(decoder("gpt2"), f"strategy={strategy}")


@pytest.mark.parametrize(("name", "tied"), [("gpt2", True), ("llama", False)])
def test_the_head_of_a_language_model_is_not_new(decoder, name, tied):
    model = loaded(on_text(decoder(name)))
    assert [*model.head_parameters()] == []
    assert ("net.lm_head.weight" in dict(model.named_parameters())) is not tied
    names = dict(model.named_parameters())
    assert {model.stage_of(each) for each in names} == {0, 1, 2, 3}
    assert model.stage_of("net.lm_head.weight") == 3


@pytest.mark.parametrize(
    ("name", "targets"),
    [("gpt2", {"c_attn", "c_proj"}), ("llama", {"q_proj", "k_proj", "v_proj", "o_proj"})],
)
def test_lora_s_attention_targets(decoder, name, targets):
    found = adapted_layers(loaded(on_text(decoder(name))), "attention")
    assert {each.split(".")[-1] for each in found} == targets
    assert not any(".mlp." in each for each in found)


def test_adapters_on_conv1d_stand_behind_the_projection(decoder):
    model = loaded(on_text(decoder("gpt2"), "strategy=adapter"))
    plain = model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    assert output_layers(model, "houlsby") == [
        f"transformer.h.{layer}.{block}.c_proj" for block in ("attn", "mlp") for layer in range(2)
    ]
    settings("strategy=adapter").strategy.prepare(model)
    again = model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    assert 0 < (again - plain).norm() < 1e-2 * plain.norm()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["model=tiny_bert"],
            "task=lm needs a decoder, such as model=gpt2; .*tiny_bert \\(bert\\) is not one",
        ),
        (["model.pooling=cls"], "model.pooling=cls makes one vector of a text; task=lm needs one for each"),
        (["model.layers=3"], "model.layers=3 cannot be combined with pretrained weights"),
        (["task.tokenizer=train"], "task.tokenizer=train needs random weights"),
        (
            ["model.init=random", "model.width=30", "model.heads=4"],
            "model.width=30 is not divisible by model.heads=4",
        ),
        (["task.block=65"], "task.block=65, but .* has 64 positions; set task.block=64 or less"),
    ],
)
def test_what_does_not_fit_is_refused(decoder, words, message):
    name = [] if "model=tiny_bert" in words else [f"model.name={decoder('gpt2')}"]
    with pytest.raises(ConfigError, match=message):
        loaded(on_text(decoder("gpt2"), *name, *words) if name else settings(
            "task=lm", f"task.train={decoder('gpt2')}/text.txt", "device=cpu", *words
        ))  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (
            "t5",
            ["task=mlm"],
            "task=mlm needs a head that predicts masked tokens; transformers has none for .*(t5)",
        ),
        ("t5", ["task=lm"], "task=lm needs a decoder, such as model=gpt2; .*t5. is not one$"),
        ("splinter", ["task=ner"], "task=ner needs a head on each token; transformers has none for"),
        ("splinter", ["task=classify"], "needs a head on whole texts; .*; possible: model.pooling=mean"),
        ("marian", ["task=classify"], "needs a head on whole texts; transformers has none for .*marian.$"),
        ("marian", ["task=classify", "model.pooling=mean"], "needs an encoder that stands alone; .*marian.$"),
    ],
)
def test_a_head_that_transformers_does_not_have_is_refused(tmp_path, kind, words, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    chosen = settings(*words, "task.train=a.jsonl", f"model.name={tmp_path}", "model.init=random")
    with pytest.raises(ConfigError, match=message) as caught:
        outline(chosen.model, chosen.task.spec(None))
    assert "\n" not in str(caught.value)


def test_of_t5_the_encoder_alone_is_pooled(toy_files, tmp_path, tiny_dir):
    """As sentence-transformers has it; AutoModel would bring a decoder that wants inputs."""
    shape = {"vocab_size": 200, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    T5EncoderModel(T5Config(**shape)).save_pretrained(tmp_path / "t5")
    for file in tiny_dir("distilbert").glob("token*"):
        shutil.copy(file, tmp_path / "t5")
    words = ["model.pooling=mean", "strategy=lora", "train.max_steps=2"]
    run = ran(tmp_path / "run", toy(toy_files, tmp_path / "t5", *words))
    assert run.read_json("result.json")["reload_difference"] < 1e-5


def test_a_number_of_positions_below_one_is_no_limit():
    assert positions(XLNetConfig()) == 2**31 and XLNetConfig().max_position_embeddings == -1


def test_the_first_token_of_a_decoder_is_no_summary(toy_files, decoder):
    with pytest.raises(ConfigError, match="model.pooling=cls: the first token of a decoder sees no other"):
        loaded(toy(toy_files, decoder("gpt2"), "model.pooling=cls"))


@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "gpt2", "llama", "qwen2"])
def test_random_weights_take_another_size(toy_files, tiny_dir, decoder, name):
    place = decoder(name) if name in DECODERS else tiny_dir(name)
    words = ["model.init=random", "model.layers=3", "model.width=48", "model.heads=6"]
    model = loaded(toy(toy_files, place, *words))
    config = model.net.config
    assert (model.depth, config.hidden_size, config.num_attention_heads) == (3, 48, 6)
    assert model(input_ids=torch.tensor([[5, 6, 7]])).shape == (1, 2)
    before = json.loads((place / "config.json").read_text())
    if "intermediate_size" in before:
        assert config.intermediate_size == before["intermediate_size"] * 48 // 32
    if "num_key_value_heads" in before:
        assert config.num_key_value_heads == 3 and config.head_dim == 8 if name == "llama" else True


def test_a_network_without_such_a_number_is_told(tmp_path):
    experiment = settings("task=digits", "model=mlp", "model.layers=3", "device=cpu")
    with pytest.raises(ConfigError, match="model.layers: embedded:mlp, a ftrun_mlp, has no such setting"):
        loaded(experiment)
