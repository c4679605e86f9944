"""Prompts and prefixes against peft on the same tensors, where it reads them; what has no place for them."""

import sys
from pathlib import Path

import pytest
import torch
import transformers
from lab import settings, toy
from toys import tiny_network

from ftrun.errors import ConfigError
from ftrun.models.adapted.beside import train
from ftrun.models.adapted.prefixes import Prefixes, blocks_of
from ftrun.models.adapted.prompts import Prompts
from ftrun.models.load import load
from ftrun.models.model import Model
from ftrun.models.similarity import features
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "bench"))
from tiny_networks import NETWORKS

INPUTS = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


def made(config, kind="Sequence"):
    """A network of random weights, not a checkpoint's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = getattr(transformers, f"AutoModelFor{kind}Classification").from_config(config)
    return net.eval()


def model_of(net):
    return Model(
        net, None, "here", {n for n, _ in net.named_parameters() if "classifier" in n or "score" in n}
    )


@pytest.mark.filterwarnings("ignore")  # of peft
@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert"])
def test_the_tags_of_a_prompted_text_are_those_of_peft(name):
    from peft import PromptTuningConfig, get_peft_model

    config = tiny_network(name, 40).config
    theirs = get_peft_model(
        made(config, "Token"), PromptTuningConfig(task_type="TOKEN_CLS", num_virtual_tokens=3)
    )
    model = model_of(made(config, "Token"))
    train(model, Prompts(3))
    (vectors,) = (value for part, value in model.named_parameters() if "prompt_vectors" in part)
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(vectors)
        wanted = theirs.eval()(**INPUTS).logits[:, 3:]
        found = model.eval()(**INPUTS)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def decoder():
    return transformers.GPT2Config(
        vocab_size=40, n_embd=32, n_layer=2, n_head=2, n_positions=64, pad_token_id=0, num_labels=2
    )


@pytest.mark.filterwarnings("ignore")  # of peft
@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_the_answer_after_a_prefix_is_that_of_peft_where_positions_are_alike(name):
    """Of which peft's prefix takes some and ours none: so all positions are the same vector here."""
    from peft import PrefixTuningConfig, get_peft_model

    config = decoder() if name == "gpt2" else tiny_network(name, 40).config
    nets = [made(config), made(config)]
    for net in nets:
        for part, value in net.named_parameters():
            if "position_embeddings" in part or ".wpe." in part:
                value.data[:] = value.data[:1]
    theirs = get_peft_model(nets[0], PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3))
    model = model_of(nets[1])
    train(model, Prefixes(3))
    blocks = [block for block, _ in blocks_of(model)]
    with torch.no_grad():
        for block in blocks:
            block.prefix_keys.normal_()
            block.prefix_values.normal_()
        pairs = [each for block in blocks for each in (block.prefix_keys, block.prefix_values)]
        theirs.prompt_encoder["default"].embedding.weight.copy_(torch.cat(pairs, 1))
        wanted, found = theirs.eval()(**INPUTS).logits, model.eval()(**INPUTS)
        apart = model_of(made(config)).eval()(**INPUTS)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert (found - apart).abs().max() > 1e-4


@pytest.mark.parametrize("own", [Prompts(3), Prefixes(3)])
@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "gpt2"])
def test_padding_is_not_seen_and_everything_new_learns(own, name):
    model = model_of(made(decoder() if name == "gpt2" else tiny_network(name, 40).config))
    train(model, own)
    whole = model(**INPUTS)
    short = {key: value[1:, :3] for key, value in INPUTS.items()}
    alone = model(**short)
    torch.testing.assert_close(whole[1], alone[0], rtol=0, atol=1e-6)
    if name == "bert":  # its last layer makes what leaves it: the text's own states, from which drift is told
        states = model.net.base_model(**INPUTS).last_hidden_state
        torch.testing.assert_close(features(model, [INPUTS])[-1][1], states[1, :3].mean(0))
    whole.square().sum().backward()
    trained = model.trained()
    assert any(own.mark in part for part in trained) and all(p.grad is not None for p in trained.values())


def test_a_prompt_starts_as_the_embeddings_of_tokens(toy_files, tiny_dir):
    experiment = toy(toy_files, tiny_dir("bert"), "strategy=prompt", "tokens=7")
    model = load(experiment.model, TaskData.read(experiment.task, 0).spec, stream(0, "init"))
    experiment.strategy.prepare(model)
    words = model.net.get_input_embeddings()
    assert words.prompt_vectors.shape == (7, 32)
    assert all((words.weight == each).all(1).any() for each in words.prompt_vectors)


@pytest.mark.parametrize("network", ["Llama", "T5", "BART", "ALBERT", "ViT", "DeBERTa", "BLOOM", "ResNet"])
def test_prefixes_know_the_attention_of_a_network_or_say_so(network):
    family, shape = NETWORKS[network]
    config = getattr(transformers, f"{family}Config")(**{"pad_token_id": 0, **shape})
    images = network in ("ViT", "ResNet")
    net = made(config, "Image" if images else "Sequence")
    model = model_of(net)
    if network in ("DeBERTa", "BLOOM", "ResNet"):
        with pytest.raises(
            ConfigError, match="strategy=prefix gives attention more keys .* in|possible: strategy=lora"
        ):
            train(model, Prefixes(2))
        return
    given = INPUTS | {"input_ids": INPUTS["input_ids"].clone()}
    if images:
        side = config.image_size
        given = {"pixel_values": torch.rand(2, config.num_channels, side, side)}
    elif network in ("T5", "BART"):
        given["input_ids"][:, -1] = config.eos_token_id
    before = model(**given)
    train(model, Prefixes(2))
    for block, _ in blocks_of(model):
        torch.nn.init.normal_(block.prefix_keys)
        torch.nn.init.normal_(block.prefix_values)
    after = model(**given)
    after.square().sum().backward()
    assert (after - before).abs().max() > 1e-5
    assert all(
        value.grad is not None and value.grad.any()
        for name, value in model.trained().items()
        if "prefix_" in name
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strategy=prompt", "tokens=0"], "strategy=prompt: tokens is at least 1, not 0"),
        (["strategy=prefix", "tokens=0"], "strategy=prefix: tokens is at least 1, not 0"),
        (["strategy=prompt", "task=digits"], "task=digits has images; possible: strategy=prefix"),
        (["strategy=prompt", "task=lm", "task.train=a.txt"], "task=lm has running text; possible"),
    ],
)
def test_a_value_or_kind_that_cannot_be_is_refused_in_a_line(words, said):
    with pytest.raises(ConfigError) as caught:
        settings(*words)
    assert said in str(caught.value)


def test_a_prompt_that_leaves_no_positions_for_the_text_is_refused(toy_files, tiny_dir):
    experiment = toy(toy_files, tiny_dir("bert"), "strategy=prompt", "tokens=40")
    model = load(experiment.model, TaskData.read(experiment.task, 0).spec, 0)
    with pytest.raises(
        ConfigError, match=r"=40 in front of task.max_length=32 .* 64 positions .* possible: few"
    ):
        experiment.strategy.chosen(experiment, model)
    few = toy(toy_files, tiny_dir("bert"), "strategy=prompt", "tokens=4", "task.max_length=64")
    with pytest.raises(ConfigError, match="possible: task.max_length=60, or strategy=prefix"):
        few.strategy.chosen(few, model)
