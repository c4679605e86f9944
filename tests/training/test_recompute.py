"""Less memory, the same numbers: layers computed twice, and layers compiled."""

import json
from types import SimpleNamespace as Holder

import pytest
import torch
from lab import EXTRA, ran, toy
from safetensors.torch import load_file

from ftrun.errors import ConfigError
from ftrun.models.load import load
from ftrun.tasks.objective import Objective
from ftrun.training.gradients import compiling
from ftrun.training.gradients.recompute import recomputing, refuse_batch_norms

STEPS = "train.max_steps=2", "train.eval_every=2", "task.subset=32", "baselines=false"


def numbers(run):
    return {
        name: (run.path / name).read_bytes() for name in ("metrics.jsonl", "result.json", "predictions.jsonl")
    }


@pytest.mark.parametrize("strategy", ["full", "lora", "freeze"])
def test_layers_computed_twice_give_the_same_bytes(toy_files, tiny_dir, tmp_path, strategy):
    """With dropout, also above frozen embeddings, where no input of the first layer has a gradient."""
    words = f"strategy={strategy}", *EXTRA.get(strategy, []), *STEPS
    plain, twice = (
        ran(tmp_path / str(on), toy(toy_files, tiny_dir("bert"), *words, f"train.checkpoint_layers={on}"))
        for on in ("false", "true")
    )
    assert numbers(plain) == numbers(twice)
    assert [run.read_json("cost.json")["checkpoint_layers"] for run in (plain, twice)] == [False, True]


def kept_bytes(net, batch):
    """What autograd keeps between forward and backward, counted once for each storage."""
    kept = {}

    def pack(value):
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        net(**batch).sum()
    return sum(kept.values())


def network(toy_files, tiny_dir, *words):
    settings = toy(toy_files, tiny_dir("bert"), *words)
    return load(settings.model, settings.task.spec(None), 0)


def test_what_is_kept_between_forward_and_backward_is_less(toy_files, tiny_dir):
    net = network(toy_files, tiny_dir, "task.labels=[a,b]").train()
    batch = {"input_ids": torch.ones(16, 32, dtype=torch.long), "attention_mask": torch.ones(16, 32).long()}
    plain = kept_bytes(net, batch)
    with recomputing(net):
        twice = kept_bytes(net, batch)
    assert twice < 0.6 * plain
    assert all("forward" not in vars(layer) for layer in net.layers())


def test_auto_computes_layers_twice_when_a_small_batch_does_not_fit(
    toy_files, tiny_dir, tmp_path, monkeypatch, capsys
):
    whole = ran(tmp_path / "whole", toy(toy_files, tiny_dir("bert"), *STEPS, "train.batch_size=8"))
    honest, failed = Objective.loss, []

    def loss(self, outputs, batch):
        if outputs.requires_grad and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("planted")
        return honest(self, outputs, batch)

    monkeypatch.setattr(Objective, "loss", loss)
    tight = ran(tmp_path / "tight", toy(toy_files, tiny_dir("bert"), *STEPS, "train.batch_size=8"))
    assert "train.checkpoint_layers auto → true" in capsys.readouterr().out
    cost = tight.read_json("cost.json")
    assert cost["checkpoint_layers"] and cost["micro_batch"] == 8
    assert numbers(whole) == numbers(tight)


def test_batch_normalisation_is_not_computed_twice():
    refuse_batch_norms(Holder(name="an MLP", batch_norms=list))
    with pytest.raises(ConfigError, match="of a ResNet would count every batch twice"):
        refuse_batch_norms(Holder(name="a ResNet", batch_norms=lambda: [torch.nn.BatchNorm2d(2)]))


@pytest.mark.ci
def test_a_run_in_compiled_layers_is_the_run(toy_files, tiny_dir, tmp_path, monkeypatch, capsys):
    """Traced, with a backend that leaves the code as it is: the same bytes, the same names on disk."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    words = "strategy=lora", "train.checkpoint_layers=true", *STEPS
    plain, fast = (
        ran(tmp_path / str(on), toy(toy_files, tiny_dir("bert"), *words, f"train.compile={on}"))
        for on in ("false", "true")
    )
    assert "train.compile: numbers differ by rounding" in capsys.readouterr().out
    assert numbers(plain) == numbers(fast)
    for name in ("checkpoints/last/weights", "checkpoints/last/optimizer", "model/adapter_model"):
        one, other = (load_file(run.path / f"{name}.safetensors") for run in (plain, fast))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    state = json.loads((fast.checkpoints / "last" / "state.json").read_text())
    assert state["compiled"].startswith(f"torch {torch.__version__}")


def inside(net):
    """What compiling.compiled asks of a step."""
    return compiling.compiled(Holder(settings=Holder(train=Holder(compile=True)), model=net))


@pytest.mark.ci
def test_the_gradients_of_compiled_layers_computed_twice(toy_files, still_dir, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    settings = toy(toy_files, still_dir, "task.labels=[a,b]")
    net = load(settings.model, settings.task.spec(None), 0).train()
    ids = torch.arange(24).view(3, 8) + 5

    def gradients():
        return torch.autograd.grad(
            net(input_ids=ids, attention_mask=torch.ones_like(ids)).square().sum(), list(net.parameters())
        )

    plain = gradients()
    with inside(net), recomputing(net):
        fast = gradients()
    for one, other in zip(plain, fast, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_every_length_shares_one_compiled_layer(toy_files, tiny_dir, monkeypatch):
    """The second layer and the second length compile nothing; and nothing of it stays behind."""
    net = network(toy_files, tiny_dir, "task.labels=[a,b]").eval()
    made = []
    monkeypatch.setattr(compiling, "BACKEND", lambda graph, inputs: made.append(graph) or graph.forward)
    with inside(net), torch.no_grad():
        for length in (5, 9, 12):
            ids = torch.full((3, length), 7)
            net(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert len(made) == 1
    assert not any("_orig_mod" in name for name in net.state_dict())
    assert all(layer._compiled_call_impl is None for layer in net.layers())


def test_a_resume_with_other_kernels_says_so(capsys):
    step = Holder(
        settings=Holder(train=Holder(compile=True)),
        state=Holder(compiled="torch 1.0 on a PDP-11"),
        accelerator=Holder(device=torch.device("cpu")),
    )
    compiling.keep_key(step)
    assert "begun with torch 1.0 on a PDP-11, continued with torch" in capsys.readouterr().out
    compiling.keep_key(step)
    assert "begun with" not in capsys.readouterr().out


def test_the_compiler_is_one_that_torch_has():
    assert compiling.BACKEND in torch._dynamo.list_backends()


def test_without_a_compiler_it_is_refused(monkeypatch):
    def none(graph, inputs):
        raise OSError("no compiler")

    monkeypatch.setattr(compiling, "BACKEND", none)
    torch._dynamo.reset()
    with pytest.raises(ConfigError, match="needs a C.. compiler, such as g.., on a CPU: .*no compiler"):
        compiling.refuse_without_compiler(torch.device("cpu"))


def test_a_batch_of_one_row_in_batch_normalisation_is_a_sentence():
    from lab import settings

    from ftrun.training.preflight import rows_enough

    replayed = settings(
        "task=digits", "model=mlp", "task@source=digits", "strategy=replay", "train.batch_size=8"
    )
    alone = settings("task=digits", "model=mlp", "train.batch_size=8")
    for given, more in ((replayed, "a larger share= of replayed rows"), (alone, "or train.micro_batch$")):
        with pytest.raises(ConfigError, match=f"train.batch_size=8: a batch of one row .*{more}"):
            with rows_enough(given):
                torch.nn.BatchNorm1d(3)(torch.ones(1, 3))
    with pytest.raises(ValueError, match="expected 2D"), rows_enough(alone):
        torch.nn.BatchNorm1d(3)(torch.ones(3))  # another mistake is no sentence of ours
