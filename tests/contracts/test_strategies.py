"""What every strategy promises, once for all that conf/strategy/ names."""

import json

import pytest
import torch
from lab import EACH_KIND, EXTRA, STRATEGIES, ran, sampled, toy
from transformers import AutoModelForSequenceClassification

from ftrun.errors import ConfigError
from ftrun.experiments import finish as outcome
from ftrun.models.load import load, quiet
from ftrun.models.reload import reload
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.training.checkpoint import load_weights, newest, read_tensors

NEAR = {"adapter"}  # these start near the pretrained function, the others at it
AWAY = {"prompt", "prefix"}  # but for these, which give the network more to read
REFUSED = {("bitfit", "modernbert"): "strategy=bitfit trains biases, but .* has none below its head"} | {
    (
        "setfit",
        name,
    ): "strategy=setfit solves for the head, but the new weights .*; possible: model.pooling=mean"
    for name in ("roberta", "distilbert", "modernbert")
}
INPUTS = {
    "input_ids": torch.arange(5, 15).reshape(2, 5),
    "attention_mask": torch.ones(2, 5, dtype=torch.long),
}


def experiment(files, model, strategy, *words):
    return toy(files, model, f"strategy={strategy}", *EXTRA.get(strategy, []), *words)


def prepared(settings):
    spec = TaskData.read(settings.task, settings.seed).spec
    model = load(settings.model, spec, stream(settings.seed, "init"))
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    logits = model.eval()(**INPUTS)
    settings.strategy.prepare(model)
    return model, plain, logits


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_starts_at_the_pretrained_function(toy_files, tiny_dir, strategy):
    model, _, logits = prepared(experiment(toy_files, tiny_dir("bert"), strategy))
    again = model.eval()(**INPUTS)
    if strategy in NEAR:
        assert 0 < (again - logits).norm() < 1e-3 * logits.norm()
    elif strategy in AWAY:
        assert logits.shape == again.shape and not torch.equal(logits, again)
    else:
        assert torch.equal(logits, again)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_trains_something_and_the_head_always(toy_files, tiny_dir, strategy):
    model, _, _ = prepared(experiment(toy_files, tiny_dir("bert"), strategy))
    trained, total = model.counts()
    assert 0 < trained <= total
    assert all(parameter.requires_grad for _, parameter in model.head_parameters())


@pytest.fixture(scope="module")
def trained(toy_files, tiny_dir, tmp_path_factory):
    """`trained(strategy)`: a run of it, and its network as it was when it was saved."""
    known = {}

    def make(strategy):
        if strategy not in known:
            kept, honest = [], outcome.export
            settings = experiment(toy_files, tiny_dir("bert"), strategy, "train.lr=1e-2", "train.warmup=0")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(outcome, "export", lambda *all: kept.append(all[0]) or honest(*all))
                known[strategy] = ran(tmp_path_factory.mktemp(strategy) / "run", settings), kept[0]
        return known[strategy]

    return make


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_is_frozen_stays_bit_for_bit_and_what_trains_moves(toy_files, tiny_dir, trained, strategy):
    before, _, _ = prepared(experiment(toy_files, tiny_dir("bert"), strategy))
    run, network = trained(strategy)
    place, _ = newest(run.checkpoints / "last")
    weights = read_tensors(place, "weights")
    own = before.trained()
    fixed = {name: value for name, value in before.named_buffers() if name in weights}  # VeRA's matrices
    assert {*weights} - {*fixed} == {*own}
    still = [name for name, value in own.items() if torch.equal(value, weights[name])]
    assert still == []
    frozen = {name: value for name, value in before.named_parameters() if not value.requires_grad}
    after = dict(network.named_parameters())
    assert [name for name, value in frozen.items() if not torch.equal(value, after[name])] == []
    result = run.read_json("result.json")
    assert result["trained_parameters"] == sum(value.numel() for value in own.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_saved_model_loads_without_ftrun_to_the_same_logits(toy_files, tiny_dir, trained, strategy):
    run, _ = trained(strategy)
    assert run.read_json("result.json")["reload_difference"] < 1e-6
    with quiet():  # the libraries' warnings to each other
        loaded = plain_load(run.model_dir, tiny_dir("bert"))
    assert loaded.config.id2label == {0: "negative", 1: "positive"}
    model, _, _ = prepared(experiment(toy_files, tiny_dir("bert"), strategy))
    load_weights(read_tensors(newest(run.checkpoints / "best")[0], "weights"), model)
    theirs = loaded.eval()(**INPUTS).logits
    torch.testing.assert_close(theirs, model.eval()(**INPUTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("strategy", EACH_KIND)
def test_a_pooled_model_is_saved_as_it_was_trained(toy_files, tiny_dir, tmp_path, strategy):
    words = "train.lr=1e-2", "model.pooling=mean", "train.max_steps=6"
    run = ran(tmp_path / "run", experiment(toy_files, tiny_dir("bert"), strategy, *words))
    assert run.read_json("result.json")["reload_difference"] < 1e-6


def plain_load(directory, base):
    if (directory / "adapter.json").is_file():  # no library but ftrun reads these
        return reload(directory, "AutoModelForSequenceClassification")
    if not (directory / "adapter_config.json").is_file():
        return AutoModelForSequenceClassification.from_pretrained(directory)
    from peft import PeftModel

    names = json.loads((directory / "config.json").read_text())["id2label"]
    names = {int(index): name for index, name in names.items()}
    whole = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(names), id2label=names)
    return PeftModel.from_pretrained(whole, directory)


@pytest.mark.parametrize("variant", ["lora", "lora_plus", "dora", "rslora", "pissa"])
def test_every_variant_of_lora_starts_at_the_base_and_loads_again(toy_files, tiny_dir, tmp_path, variant):
    words = "rank=2", f"variant={variant}", "train.lr=1e-2", "train.max_steps=4"
    model, _, logits = prepared(experiment(toy_files, tiny_dir("bert"), "lora", *words))
    again = model.eval()(**INPUTS)
    torch.testing.assert_close(again, logits, rtol=0, atol=1e-6)
    run = ran(tmp_path / "run", experiment(toy_files, tiny_dir("bert"), "lora", *words))
    assert run.read_json("result.json")["reload_difference"] < 1e-6


def test_the_first_step_of_lora_moves_b_by_the_scaled_gradient_and_leaves_a(toy_files, tiny_dir):
    """At B = 0: dL/dA = 0 exactly, and dL/dB = (alpha/rank)·(dL/dW)·Aᵀ."""
    settings = experiment(toy_files, tiny_dir("bert"), "lora", "rank=2", "alpha=6")
    model, _, _ = prepared(settings)
    layer = model.net.get_submodule("bert.encoder.layer.0.attention.self.query")
    layer.base_layer.weight.requires_grad_(True)
    model.eval()
    model(**INPUTS)[:, 0].sum().backward()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert torch.count_nonzero(a.grad) == 0
    torch.testing.assert_close(b.grad, 6 / 2 * layer.base_layer.weight.grad @ a.T, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("strategy", "architecture"), sampled(STRATEGIES, ["roberta", "distilbert", "modernbert"])
)
def test_it_runs_on_every_architecture(toy_files, tiny_dir, tmp_path, strategy, architecture):
    settings = experiment(toy_files, tiny_dir(architecture), strategy, "train.max_steps=2")
    if (strategy, architecture) in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[strategy, architecture]):
            ran(tmp_path / "run", settings)
        return
    run = ran(tmp_path / "run", settings)
    assert run.read_json("result.json")["reload_difference"] < 1e-6


@pytest.mark.parametrize("strategy", EACH_KIND)
def test_the_micro_batch_never_changes_the_result(toy_files, still_dir, tmp_path, strategy):
    """13 rows in batches of 8: the second batch is a partial one."""
    words = "task.subset=13", "train.batch_size=8", "train.clip=null", "train.lr=1e-4"
    if strategy == "setfit":  # vectors of random weights are nearly one, and Adam makes much of little
        words += "train.optimizer=sgd", "train.lr=0.1"
    weights = []
    for size in (8, 3):
        run = ran(
            tmp_path / str(size),
            experiment(toy_files, still_dir, strategy, *words, f"train.micro_batch={size}"),
        )
        weights.append(read_tensors(newest(run.checkpoints / "last")[0], "weights"))
    for name, value in weights[0].items():
        if strategy == "setfit" and "classifier" in name:  # solved for, as far as L-BFGS goes
            continue
        scale = value.abs().max().clamp(min=1e-3)
        assert (value - weights[1][name]).abs().max() / scale < 1e-4, name


def test_a_model_that_saves_something_else_is_noticed(toy_files, tiny_dir, tmp_path, monkeypatch):
    from ftrun.errors import UserError
    from ftrun.models.reload import Shown

    former = Shown.differ
    monkeypatch.setattr(Shown, "differ", lambda *given: former(*given) + 1.0)
    with pytest.raises(UserError, match="the saved model differs from the trained one: a logit by 1"):
        ran(tmp_path / "run", experiment(toy_files, tiny_dir("bert"), "full"))


def test_scratch_starts_from_random_weights_and_trains_them_all(toy_files, tiny_dir):
    settings = experiment(toy_files, tiny_dir("bert"), "scratch")
    assert settings.model.init == "random"
    model, _, _ = prepared(settings)
    pretrained, _, _ = prepared(experiment(toy_files, tiny_dir("bert"), "full"))
    assert model.counts() == pretrained.counts()
    weight = "net.bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(model.state_dict()[weight], pretrained.state_dict()[weight])
