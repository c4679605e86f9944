"""Sources: where a run starts, what it measures of the tasks before, and what it says when it cannot."""

import json
import math
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
import transformers
from accelerate import Accelerator
from lab import ran, sampled, settings, toy

from ftrun.errors import ConfigError, DataError, Interrupted
from ftrun.experiments import pretraining_head
from ftrun.experiments import single as experiment
from ftrun.experiments.sources import chain, open_sources
from ftrun.models.heads import backbone_of
from ftrun.models.load import load, quiet
from ftrun.models.reload import reload
from ftrun.models.similarity import drift, features, linear_cka, neighbours_kept
from ftrun.runs.run import Run
from ftrun.tasks.data import TaskData
from ftrun.tasks.metrics.metric import Metric
from ftrun.training.source_task import SourceTask
from ftrun.training.step import Step

DIGITS = [
    "task=digits", "model=mlp", "device=cpu", "train.optimizer=sgd", "train.lr=0.05", "task.modulo=5",
    "train.batch_size=32",
]  # fmt: skip
LOW, HIGH = "task.classes=[0,1,2,3,4]", "task.classes=[5,6,7,8,9]"
ONE = "train.max_steps=1"
INPUTS = {
    "input_ids": torch.arange(5, 15).reshape(2, 5),
    "attention_mask": torch.ones(2, 5, dtype=torch.long),
}


def digits(*words):
    return settings(*DIGITS, *words)


def source(run):
    return "source=run", f"source.run={run.path}"


def prepared(experiment_, path):
    """The network of a run before its first step."""
    data = TaskData.read(experiment_.task, experiment_.seed)
    directory = Run.create(path, experiment_.raw)
    model = experiment.load_network(experiment_, data, directory)
    experiment.prepare(experiment_, data, model, directory, Accelerator(cpu=True))
    directory.release()
    return model


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    """The digits 0 to 4, learned."""
    return ran(tmp_path_factory.mktemp("low") / "run", digits(LOW, "train.epochs=2"))


@pytest.fixture(scope="module")
def high(low, tmp_path_factory):
    """After it the digits 5 to 9, with a head of their own."""
    return ran(tmp_path_factory.mktemp("high") / "run", digits(HIGH, *source(low), "train.epochs=1"))


@pytest.mark.parametrize("scenario", ["task", "domain"])
def test_before_the_first_step_it_is_the_source(low, tmp_path, scenario):
    run = ran(tmp_path / "run", digits(HIGH, *source(low), ONE, f"scenario={scenario}"))
    result, theirs = run.read_json("result.json"), low.read_json("result.json")
    [known] = result["sources"]
    assert known["before"] == {name: theirs[f"test_{name}"] for name in known["before"]}
    assert known["metric"] == "accuracy"
    assert result["forgetting"] == known["forgetting"]
    assert known["forgetting"] == known["before"]["accuracy"] - known["after"]["accuracy"]
    assert [set(layer) for layer in result["drift"]] == [{"cka", "neighbours", "cosine"}]
    first = next(line for line in run.metrics() if "source_accuracy" in line)
    assert first["step"] == 0
    assert first["source_accuracy"] == pytest.approx(theirs["eval_accuracy"])


def test_the_head_is_new_or_shared_as_the_scenario_says(low, tmp_path):
    theirs = reload(low.model_dir, "AutoModelForImageClassification").state_dict()
    own, again, shared = (
        prepared(digits(HIGH, *source(low), f"scenario={scenario}"), tmp_path / str(number)).net.state_dict()
        for number, scenario in enumerate(["task", "task", "domain"])
    )
    for name, value in theirs.items():
        assert torch.equal(shared[name], value)
        assert torch.equal(own[name], value) == name.startswith("backbone.")
        assert torch.equal(own[name], again[name])


STRATEGIES = [["strategy=full"], ["strategy=lora"], ["strategy=lora", "variant=pissa"]]


@pytest.mark.parametrize(("words", "pooling"), sampled(STRATEGIES, ["head", "mean"], 2))
def test_what_a_strategy_put_beside_the_weights_is_folded_into_them(
    toy_files, tiny_dir, tmp_path, words, pooling
):
    more = f"model.pooling={pooling}", "train.lr=1e-2", "train.max_steps=3"
    first = ran(tmp_path / "first", toy(toy_files, tiny_dir("bert"), *words, *more))
    after = toy(toy_files, tiny_dir("bert"), *source(first), "scenario=domain", *more)
    model = prepared(after, tmp_path / "second").eval()
    with quiet():
        theirs = reload(first.model_dir, "AutoModelForSequenceClassification")(**INPUTS).logits
    torch.testing.assert_close(model(**INPUTS), theirs, rtol=0, atol=1e-5)
    assert (tmp_path / "second" / "start").is_dir() == (words != ["strategy=full"])
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_a_chain_is_measured_from_its_beginning(low, high, tmp_path):
    run = ran(tmp_path / "run", digits(LOW, "task.permute=1", *source(high), ONE))
    assert [each.path for each in chain(str(run.path))] == [low.path, high.path, run.path]
    result = run.read_json("result.json")
    assert len(result["sources"]) == 2
    mean = sum(each["forgetting"] for each in result["sources"]) / 2
    assert result["forgetting"] == pytest.approx(mean)
    before = [each["before"]["accuracy"] for each in result["sources"]]
    theirs = high.read_json("result.json")
    assert before == [theirs["sources"][0]["after"]["accuracy"], theirs["test_accuracy"]]
    names = {name for line in run.metrics() for name in line}
    assert {"source1_accuracy", "source2_accuracy", "source1_loss", "source2_loss"} <= names
    assert "source_accuracy" not in names


def first_task(*words):
    return digits(HIGH, "task@source=digits", "source.classes=[0,1,2,3,4]", "source.modulo=5", *words)


def test_a_task_as_source_is_trained_first_and_survives_an_interruption(low, tmp_path, monkeypatch):
    words = "train.epochs=1", "train.checkpoint_every=4"
    whole = ran(tmp_path / "whole", first_task(*words))
    inner = Run.open(whole.path / "source")
    assert inner.finished and inner.config["source"] == {"kind": "none"}
    before = whole.read_json("result.json")["sources"][0]["before"]["accuracy"]
    assert before == inner.read_json("result.json")["test_accuracy"]
    honest = Step.take

    def take(self, rows):
        if self.state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return honest(self, rows)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Step, "take", take)
        ran(tmp_path / "torn", first_task(*words))
    assert not (tmp_path / "torn" / "source" / "result.json").exists()
    experiment.resume(tmp_path / "torn")
    for file in ("source/metrics.jsonl", "source/result.json", "metrics.jsonl", "result.json"):
        assert (tmp_path / "torn" / file).read_bytes() == (whole.path / file).read_bytes(), file
    assert [run.path.name for run in chain(str(whole.path))] == ["source", "whole"]


@pytest.fixture
def pretrained(tiny_dir, tmp_path):
    """`pretrained("bert")`: a checkpoint with the head of its pretraining."""

    def make(name):
        place = tmp_path / f"pretrained-{name}"
        shutil.copytree(tiny_dir("bert" if name == "gpt2" else name), place)
        torch.manual_seed(1)
        if name == "gpt2":
            shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "pad_token_id": 0}
            tokens = len(transformers.AutoTokenizer.from_pretrained(place))
            net = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=tokens, **shape))
            file = place / "tokenizer_config.json"
            said = json.loads(file.read_text())
            said["model_input_names"] = ["input_ids", "attention_mask"]
            file.write_text(json.dumps(said))
        else:
            net = transformers.AutoModelForMaskedLM.from_config(
                transformers.AutoConfig.from_pretrained(place)
            )
        net.save_pretrained(place)
        return place

    return make


def opened(files, place, *words):
    """The network and the source of source=pretraining."""
    text = f"source.text={files}/train.csv"
    experiment_ = toy(
        files, place, "source=pretraining", text, "source.max_length=16", "source.rows=8", *words
    )
    data = TaskData.read(experiment_.task, 0)
    model = load(experiment_.model, data.spec, 0)
    [past] = open_sources(experiment_, data, model)
    return model, past


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert", "gpt2"])
def test_the_checkpoints_own_head_is_used_and_the_short_way_is_the_long_one(
    toy_files, pretrained, name, capsys
):
    place = pretrained(name)
    _, past = opened(toy_files, place)
    assert "has no pre-training head" not in capsys.readouterr().out
    examples = past.data.dataset("test").examples
    batch = past.data.dataset("test").collate(examples)
    plain, labels = batch["inputs"], batch["labels"]
    chosen = labels != -100
    past.model.eval()
    with torch.no_grad():
        short, long = past.model(**plain, positions=batch["positions"]), past.model(**plain)
        kind = "AutoModelForCausalLM" if name == "gpt2" else "AutoModelForMaskedLM"
        theirs = getattr(transformers, kind).from_pretrained(place).eval()(**plain).logits
    assert len(short) == int(chosen.sum()) > len(examples) - 1
    torch.testing.assert_close(short, long[chosen], rtol=0, atol=1e-5)
    torch.testing.assert_close(long[chosen], theirs[chosen], rtol=0, atol=1e-5)
    scores = past.scores("test", 8, Accelerator(cpu=True))
    wanted = torch.nn.functional.cross_entropy(theirs[chosen], labels[chosen])
    assert scores["loss"] == pytest.approx(float(wanted), abs=1e-5)
    right = (theirs[chosen].argmax(-1) == labels[chosen]).float().mean()
    assert scores["accuracy"] == pytest.approx(float(right))
    assert past.scores("test", 8, Accelerator(cpu=True)) == scores


def test_the_next_token_is_the_causal_target(toy_files, pretrained):
    _, past = opened(toy_files, pretrained("gpt2"))
    test = past.data.dataset("test")
    batch = test.collate(test.examples)
    ids, mask, labels = batch["inputs"]["input_ids"], batch["inputs"]["attention_mask"], batch["labels"]
    assert torch.equal(labels[:, :-1][mask[:, 1:] == 1], ids[:, 1:][mask[:, 1:] == 1])
    assert int((labels != -100).sum()) == int(mask.sum()) - len(mask)


def test_a_head_of_its_own_is_not_called_fitted(toy_files, pretrained):
    _, past = opened(toy_files, pretrained("bert"))
    assert past.gauge({"loss": 1.0})["gauge"]["fitted"] is False


def test_neighbours_that_are_kept():
    """scikit-learn finds the same; a rotation keeps all, and other features keep as many as chance."""
    from sklearn.neighbors import NearestNeighbors

    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(200, 12, generator=generator) for _ in range(2))
    rotation, _ = torch.linalg.qr(torch.randn(12, 12, generator=generator))
    assert neighbours_kept(one, 2.5 * one @ rotation) == 1
    assert abs(neighbours_kept(one, other) - 10 / 199) < 0.02
    moved = one + 0.5 * other
    near = [
        NearestNeighbors(n_neighbors=10, metric="cosine").fit(each.double()).kneighbors(return_distance=False)
        for each in (one, moved)
    ]
    shared = sum(len({*a} & {*b}) for a, b in zip(*near, strict=True)) / 2000
    assert 0.3 < shared < 0.9 and neighbours_kept(one, moved) == pytest.approx(shared)
    assert neighbours_kept(one[:4], other[:4]) == 1  # all others are neighbours
    assert math.isnan(neighbours_kept(one[:1], other[:1]))


def test_it_is_on_the_backbone_that_is_trained(toy_files, pretrained):
    model, past = opened(toy_files, pretrained("bert"))
    test = past.data.dataset("test")
    batch = test.collate(test.examples)
    past.model.eval()
    before = past.model(**batch["inputs"]).detach()
    trained = backbone_of(model.net)
    with torch.no_grad():
        trained.encoder.layer[0].output.dense.weight.mul_(2)
        trained.embeddings.word_embeddings.weight.mul_(1.5)
    assert not torch.allclose(past.model(**batch["inputs"]), before)
    assert past.model.net.cls.predictions.decoder.weight is trained.embeddings.word_embeddings.weight
    assert all(not p.requires_grad for name, p in past.model.named_parameters() if ".cls." in name)


def test_a_head_is_fitted_where_the_checkpoint_brings_none_and_kept(
    toy_files, tiny_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(pretraining_head, "FIT_BATCHES", 7)
    model, first = opened(toy_files, tiny_dir("bert"))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    said = capsys.readouterr().out
    assert "has no pre-training head; fitting one on the frozen network" in said
    assert "fitted in 21 steps" in said
    uniform = math.log(first.model.net.config.vocab_size)
    assert f"(uniform guess: {uniform:.2f})" in said
    assert first.gauge({"loss": uniform / 2})["gauge"] == {
        "fitted": True,
        "uniform_loss": uniform,
        "share": 0.5,
    }
    assert len(list((tmp_path / "cache" / "ftrun").glob("head-*.safetensors"))) == 1
    _, second = opened(toy_files, tiny_dir("bert"))
    assert "has no pre-training head; using the one fitted in an earlier run" in capsys.readouterr().out
    scores = [past.scores("test", 8, Accelerator(cpu=True)) for past in (first, second)]
    assert scores[0] == scores[1]
    fresh = read_network(toy_files, tiny_dir)
    assert all(torch.equal(value, weights[name]) for name, value in fresh.state_dict().items())


def read_network(files, tiny_dir):
    experiment_ = toy(files, tiny_dir("bert"))
    return load(experiment_.model, TaskData.read(experiment_.task, 0).spec, 0)


def test_a_fitted_head_is_better_than_a_random_one(toy_files, tiny_dir, tmp_path, monkeypatch):
    found = []
    for batches in (1, 20):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(batches)))
        monkeypatch.setattr(pretraining_head, "FIT_BATCHES", batches)
        found.append(opened(toy_files, tiny_dir("bert"))[1].scores("test", 8, Accelerator(cpu=True))["loss"])
    assert found[1] < found[0] - 0.05


def scored(direction):
    """A source whose task has one metric."""
    scorer = SimpleNamespace(metrics={"m": Metric("m", direction)})
    return SourceTask("past", SimpleNamespace(metric="m", scorer=scorer), None)


def test_forgetting_is_above_zero_where_something_is_lost():
    accuracy, loss = scored("max"), scored("min")
    assert accuracy.forgetting({"m": 0.9}, {"m": 0.6}) == pytest.approx(0.3)
    assert loss.forgetting({"m": 1.0}, {"m": 1.5}) == pytest.approx(0.5)
    assert loss.forgetting({"m": 1.0}, {"m": 0.5}) == pytest.approx(-0.5)


def hsic_cka(one, other):
    """The same from Gram matrices: HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with H = 1 - 1/n."""
    count = len(one)
    centre = torch.eye(count, dtype=torch.float64) - 1 / count
    k, m = (centre @ (each.double() @ each.double().T) @ centre for each in (one, other))
    return float((k * m).sum() / ((k * k).sum() * (m * m).sum()).sqrt())


def test_cka_is_blind_to_rotation_and_scale_and_not_to_noise():
    torch.manual_seed(0)
    features_ = torch.randn(60, 12) * torch.arange(1, 13) + 3
    rotation, _ = torch.linalg.qr(torch.randn(12, 12))
    assert linear_cka(features_, 2.5 * features_ @ rotation - 4) == pytest.approx(1, abs=1e-6)
    noisy = features_ + 5 * torch.randn(60, 12)
    assert linear_cka(features_, noisy) < 0.95
    for other in (noisy, torch.randn(60, 5), features_[:, :3] ** 2):
        assert linear_cka(features_, other) == pytest.approx(hsic_cka(features_, other), abs=1e-9)


def test_drift_of_nothing_is_one_and_of_constant_features_unknown():
    torch.manual_seed(0)
    before = [torch.randn(20, 4), torch.randn(20, 6)]
    for layer in drift(before, before):
        assert layer == {name: pytest.approx(1) for name in ("cka", "neighbours", "cosine")}
    [layer] = drift([torch.randn(20, 4)], [torch.ones(20, 4)])
    assert math.isnan(layer["cka"]) and math.isnan(layer["neighbours"]) and layer["cosine"] < 1


def test_features_know_no_padding(toy_files, tiny_dir):
    model = read_network(toy_files, tiny_dir)
    ids, mask = torch.zeros(1, 9, dtype=torch.long), torch.zeros(1, 9, dtype=torch.long)
    ids[:, :5], mask[:, :5] = INPUTS["input_ids"][:1], 1
    short = features(model, [{name: value[:1] for name, value in INPUTS.items()}])
    long = features(model, [{"input_ids": ids, "attention_mask": mask}])
    assert [layer.shape for layer in short] == [(1, 32), (1, 32)]
    for one, other in zip(short, long, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def refused(experiment_, path, message, kind=ConfigError):
    with pytest.raises(kind, match=message) as caught:
        ran(path, experiment_)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_source_that_is_none_is_one_line(low, tmp_path):
    (tmp_path / "empty").mkdir()
    for place, message in (("empty", "empty is not a run directory"), ("gone", "gone is not a directory")):
        words = "source=run", f"source.run={tmp_path / place}"
        assert refused(digits(HIGH, *words), tmp_path / f"run-{place}", message).exit_code == 2
    begun = Run.create(tmp_path / "begun", low.config)
    begun.release()
    refused(digits(HIGH, *source(begun)), tmp_path / "run", "begun is not finished; .* ftrun resume .*begun")


def test_another_network_is_one_line(low, toy_files, tiny_dir, tmp_path):
    refused(
        toy(toy_files, tiny_dir("bert"), *source(low)), tmp_path / "run",
        r"is embedded:mlp \(model.pooling=head\), this run is .*another model",
    )  # fmt: skip


@pytest.mark.parametrize("scenario", ["domain", "class"])
@pytest.mark.parametrize("words", [["task.modulo=null"], ["task.modulo=null", "task.classes=[1,2]"]])
def test_a_shared_head_needs_the_same_labels(low, tmp_path, scenario, words):
    """As many others, or fewer."""
    other = digits(HIGH, *source(low), f"scenario={scenario}", *words)
    refused(other, tmp_path / "run", "has the labels '0', '1', .* possible: scenario=task")


def test_a_control_from_random_weights_takes_no_source(low, tmp_path):
    refused(
        digits(HIGH, *source(low), "strategy=scratch"),
        tmp_path / "run",
        "strategy=scratch starts from random",
    )


def test_adapters_cannot_be_folded(toy_files, tiny_dir, tmp_path):
    first = ran(tmp_path / "first", toy(toy_files, tiny_dir("bert"), "strategy=adapter", ONE))
    message = "the layers of strategy=adapter hold a non-linearity and cannot be folded"
    refused(toy(toy_files, tiny_dir("bert"), *source(first)), tmp_path / "run", message)


def test_data_that_are_gone_are_named(toy_files, tiny_dir, tmp_path):
    shutil.copytree(toy_files, tmp_path / "files")
    first = ran(tmp_path / "first", toy(tmp_path / "files", tiny_dir("bert"), ONE))
    (tmp_path / "files" / "validation.csv").unlink()
    second = toy(toy_files, tiny_dir("bert"), *source(first))
    assert refused(second, tmp_path / "run", "files/validation.csv", DataError).exit_code == 3


def test_random_weights_have_no_pretraining(toy_files, tiny_dir, tmp_path):
    words = "source=pretraining", "strategy=scratch"
    refused(
        toy(toy_files, tiny_dir("bert"), *words), tmp_path / "run", "model.init=random has no pre-training"
    )
    refused(
        digits(LOW, "source=pretraining"), tmp_path / "other", "ftrun_mlp has neither a masked nor a causal"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.txt", "gone.txt does not exist"),
        ("few.txt", "too few texts"),
        ("short.txt", "longer than a word"),
    ],
)
def test_texts_that_cannot_be_used_are_one_line(toy_files, tiny_dir, tmp_path, text, message):
    (tmp_path / "few.txt").write_text("only one line here\n")
    (tmp_path / "short.txt").write_text("\n".join("abcdefghijklmnopqrstuvwxyz"))
    words = "source=pretraining", f"source.text={tmp_path / text}"
    refused(toy(toy_files, tiny_dir("bert"), *words), tmp_path / "run", message, DataError)


def test_held_out_texts_come_from_everywhere_and_are_not_trained_on(toy_files, monkeypatch):
    """Of the embedded ones, which stand chapter by chapter, as of a file."""
    made = {
        split: [{"text": f"{split} {n}", "label": str(n // 50)} for n in range(600)]
        for split in ("train", "test")
    }
    monkeypatch.setattr("ftrun.data.docstrings.rows", made.__getitem__)
    for text, count in (("embedded:docstrings", 50), (f"{toy_files}/train.csv", 5)):
        task = settings("source=pretraining", f"source.text={text}", f"source.rows={count}").source.task
        kept = TaskData.read(task, 0).rows.splits
        held, train = set(kept["test"]), set(kept["train"])
        assert len(held) == count and train and not held & train
        if text == "embedded:docstrings":
            assert len({int(each.split()[1]) // 50 for each in held}) > 8


def test_settings_without_a_source_measure_nothing():
    assert open_sources(SimpleNamespace(source=None), None, None) == []


def test_features_of_an_example_are_of_its_own_tokens_whatever_the_layers_do():
    """XLNet's layers have the tokens first, Longformer's whole windows of padding, Funnel's pool."""
    from types import SimpleNamespace as Space

    from torch import nn

    from ftrun.models import similarity

    torch.manual_seed(0)
    states = torch.randn(3, 3, 4)  # as many examples as tokens
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    truth = torch.stack([row[: int(own.sum())].mean(0) for row, own in zip(states, mask, strict=True)])

    class Layer(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output, self.weight = output, nn.Parameter(torch.zeros(1))

        def forward(self, attention_mask):
            return self.output

    class Network(nn.Module):
        depth, adapter = 1, None

        def __init__(self, output, kind=""):
            super().__init__()
            self.layer, self.net = Layer(output), Space(config=Space(model_type=kind))

        def layers(self):
            return [self.layer]

        def forward(self, **inputs):
            return self.layer(**inputs)

    def found(network):
        return similarity.features(network, [{"attention_mask": mask}])[0]

    torch.testing.assert_close(found(Network(states)), truth)
    torch.testing.assert_close(found(Network(states.transpose(0, 1), "xlnet")), truth)
    torch.testing.assert_close(found(Network(nn.functional.pad(states, (0, 0, 0, 5), value=9.0))), truth)
    torch.testing.assert_close(found(Network(states[:, :2])), states[:, :2].mean(1))
