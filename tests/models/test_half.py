"""train.frozen_dtype=bf16: half the memory, and the numbers of fp32 weights with the same values."""

import copy
import gc

import pytest
import torch
from lab import EXTRA, one_of, ran, settings, toy
from safetensors.torch import load_file, save_file
from torch import nn

from ftrun.errors import ConfigError
from ftrun.experiments.inference import evaluation
from ftrun.experiments.lora.merge import merge, of_run
from ftrun.experiments.single import refuse
from ftrun.models import reload as reloading
from ftrun.models.few_bits.half import HalfWeight, halve, in_fp32, kept
from ftrun.models.files import sharing
from ftrun.models.load import load
from ftrun.models.logits import logits_of
from ftrun.models.reload import shown
from ftrun.models.save import export
from ftrun.training.memory import nbytes_of

HALF = "train.frozen_dtype=bf16"
WAYS = ["lora", "adapter", "bitfit", "freeze", "linear_probe", "norms"]
STEPS = "train.max_steps=4", "train.eval_every=2", "task.subset=32"


class Small(nn.Module):
    """Every way in which a weight is used: looked up, multiplied, normalised by, taken out of a module."""

    def __init__(self):
        super().__init__()
        self.embed, self.linear, self.norm = nn.Embedding(50, 16), nn.Linear(16, 16), nn.LayerNorm(16)
        self.attention, self.conv = nn.MultiheadAttention(16, 2, batch_first=True), nn.Conv1d(16, 16, 3)
        self.place, self.head = nn.Parameter(torch.randn(1, 7, 16)), nn.Linear(16, 3)

    def forward(self, ids):
        hidden = self.norm(self.linear(self.embed(ids)) + self.place).to(self.linear.weight.dtype)
        hidden = self.attention(hidden, hidden, hidden)[0] @ self.linear.weight.T
        return self.head(self.conv(hidden.transpose(1, 2)).transpose(1, 2))


@pytest.fixture
def pair():
    """A network whose frozen weights have values of bf16, in fp32, and another that keeps them in bf16."""
    torch.manual_seed(0)
    net = Small()
    net.requires_grad_(False).head.requires_grad_(True)
    net.embed.weight.requires_grad_(True)  # something trains below what is frozen
    for parameter in net.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16().float()
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    halve(other)
    return net, other


@pytest.mark.parametrize("autocast", [False, True])
def test_a_half_weight_is_its_values_in_fp32_to_every_layer(pair, autocast):
    ids = torch.arange(28).view(4, 7)
    found = []
    for net in pair:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = net(ids)
        outputs.float().square().sum().backward()
        found.append([outputs, net.head.weight.grad, net.embed.weight.grad])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_what_autograd_keeps_of_it_is_in_bf16(pair):
    """Otherwise all frozen weights were in fp32 between forward and backward."""
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: seen.append(value) or value, lambda v: v):
        pair[1](torch.arange(28).view(4, 7))
    square = [value for value in seen if value.shape == (16, 16)]
    assert square and all(isinstance(value, HalfWeight) for value in square)


def test_it_is_moved_copied_saved_and_put_in_fp32_as_a_weight_is(pair):
    plain, half = pair
    state = copy.deepcopy(half).to("cpu").state_dict()
    assert isinstance(state["linear.weight"], HalfWeight) and half.linear.weight.dtype == torch.float32
    assert kept(state["linear.weight"]).dtype == torch.bfloat16 and nbytes_of(half) < nbytes_of(plain)
    half.load_state_dict({name: value * 0 for name, value in plain.state_dict().items()})
    assert not half.linear.weight.any() and kept(half.linear.weight).dtype == torch.bfloat16
    half.load_state_dict(state)
    half.other = half.linear  # tied
    in_fp32(half)
    assert half.other.weight is half.linear.weight
    assert all(torch.equal(one, half.state_dict()[name]) for name, one in plain.state_dict().items())
    assert not any(isinstance(parameter, HalfWeight) for parameter in half.parameters())


@pytest.fixture(scope="module")
def exact(tiny_dir, tmp_path_factory):
    """A checkpoint whose weights all are values of bf16, stored in fp32."""
    import shutil

    place = shutil.copytree(tiny_dir("bert"), tmp_path_factory.mktemp("exact") / "bert")
    tensors = load_file(place / "model.safetensors")
    tensors = {name: value.bfloat16().float() for name, value in tensors.items()}
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    return place


@pytest.mark.parametrize("strategy", one_of(*WAYS))
def test_a_run_has_the_numbers_of_fp32_where_nothing_is_rounded_away(toy_files, exact, tmp_path, strategy):
    """And all that is done with it afterwards has them too."""
    words = f"strategy={strategy}", *EXTRA.get(strategy, []), *STEPS, "train.keep=false", "baselines=false"
    plain, half = (
        ran(tmp_path / kind, toy(toy_files, exact, *words, f"train.frozen_dtype={kind}"))
        for kind in ("fp32", "bf16")
    )
    for name in ("metrics.jsonl", "predictions.jsonl"):
        assert (plain.path / name).read_bytes() == (half.path / name).read_bytes()
    (one, other) = (run.read_json("result.json") for run in (plain, half))
    assert one | {"reload_difference": 0} == other | {"reload_difference": 0}
    assert other["reload_difference"] < 1e-6
    scores = evaluation(half, None).scores
    exact = 1e-12 if strategy != "linear_probe" else 1e-7  # whose vectors were computed in other batches
    assert {name: other[f"test_{name}"] for name in scores} == pytest.approx(scores, abs=exact)


@pytest.mark.parametrize("strategy", WAYS)
def test_frozen_weights_take_half_the_bytes(toy_files, tiny_dir, strategy):
    own = toy(toy_files, tiny_dir("bert"), f"strategy={strategy}", *EXTRA.get(strategy, []), HALF)
    spec = own.task.spec(None)
    plain, half = (load(own.model, spec, 0, freezing) for freezing in (None, own.strategy.prepare))
    sizes = []
    for model in (plain, half):
        torch.manual_seed(0)
        own.strategy.prepare(model)
        frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        sizes.append(sum(kept(parameter).nbytes for parameter in frozen))
    assert sizes[1] == sizes[0] / 2 > 0
    assert not any(isinstance(parameter, HalfWeight) for parameter in half.trained().values())
    assert all(torch.equal(plain.trained()[name], parameter) for name, parameter in half.trained().items())


def live():
    """Bytes of all tensors that there are, of those with one memory once."""
    tensors = [kept(value) for value in gc.get_objects() if issubclass(type(value), torch.Tensor)]
    here = [value for value in tensors if value.layout == torch.strided and not value.is_meta]
    stores = [value.untyped_storage() for value in here]
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


@pytest.mark.parametrize(
    ("strategy", "frozen_dtype"),
    [("lora", "bf16"), ("lora", "fp32"), ("adapter", "bf16"), ("freeze", "bf16")],
)
def test_the_closing_check_has_frozen_weights_once(
    toy_files, tiny_dir, tmp_path, monkeypatch, strategy, frozen_dtype
):
    """The network that is read back has weights of its own only where they train, or are other ones."""
    monkeypatch.setattr(sharing, "LEAST", 1)
    words = f"strategy={strategy}", *EXTRA.get(strategy, []), f"train.frozen_dtype={frozen_dtype}"
    own = toy(toy_files, tiny_dir("bert"), *words)
    spec = own.task.spec(None)
    model = load(own.model, spec, 0, own.strategy.prepare if own.half else None)
    own.strategy.prepare(model)
    export(model, tmp_path, spec.auto_class)
    ids = torch.arange(5, 13)[None]
    batch = {"inputs": {"input_ids": ids, "attention_mask": torch.ones_like(ids)}}
    here, seen = shown(model, batch), []

    def counted(*given, **named):
        seen.append(live())
        return logits_of(*given, **named)

    monkeypatch.setattr(reloading, "logits_of", counted)
    gc.collect()
    frozen, trained = (
        sum(kept(p).nbytes for p in model.parameters() if p.requires_grad == wanted)
        for wanted in (False, True)
    )
    before = live()
    assert here.differ(tmp_path, spec.auto_class, model) < 1e-6
    assert seen[0] - before < trained + 0.1 * frozen
    if strategy == "freeze":
        values = {name: kept(p).clone() for name, p in model.named_parameters()}
        file = tmp_path / "model.safetensors"
        stored = load_file(file)
        stored["bert.embeddings.word_embeddings.weight"] *= -1
        save_file(stored, file, {"format": "pt"})
        assert here.differ(tmp_path, spec.auto_class, model) > 1e-3
        assert all(torch.equal(kept(p), values[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("strategy", one_of("lora", "adapter", "freeze"))
def test_rounded_weights_are_rounded_again_wherever_the_run_is_used(toy_files, tiny_dir, tmp_path, strategy):
    """The base is a checkpoint in fp32: read so, it would give other scores."""
    words = f"strategy={strategy}", *EXTRA.get(strategy, []), *STEPS, HALF, "train.lr=0.02"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    result = run.read_json("result.json")
    assert result["reload_difference"] < 1e-6
    scores = evaluation(run, None).scores
    assert {f"test_{name}": value for name, value in scores.items()}.items() <= result.items()
    source = "source=run", f"source.run={run.path}"
    going_on = toy(toy_files, tiny_dir("bert"), *words, *source) if strategy != "adapter" else None
    if strategy == "lora":
        (found,) = merge(of_run(run), tmp_path / "merged", "fp32", 1e-4)
        assert found.largest_difference < 1e-4
        assert "rounded to bf16" in (run.model_dir / "README.md").read_text()
    if going_on is not None:
        assert ran(tmp_path / "second", going_on).finished
    if strategy == "freeze":  # whoever reads the file without ftrun has fp32 with the same values
        from transformers import AutoModelForSequenceClassification

        net = AutoModelForSequenceClassification.from_pretrained(run.model_dir)
        assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
        stored = load_file(run.model_dir / "model.safetensors")
        assert stored["bert.embeddings.word_embeddings.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["strategy=full"], "strategy=full trains every weight before it ends"),
        (["strategy=gradual_unfreeze"], "strategy=gradual_unfreeze trains every weight before it ends"),
        (["strategy=lora", "model.init=random"], "model.init=random has none"),
        (["strategy=lora", "model.load=4bit"], "model.load=4bit rounds them to fewer"),
        (["strategy=lora", "train.frozen_dtype=bf8"], "train.frozen_dtype is one of fp32, bf16, not 'bf8'"),
    ],
)
def test_what_has_nothing_to_be_rounded_is_refused(words, said):
    with pytest.raises(ConfigError) as caught:
        refuse(settings(HALF, *words), None)
    assert said in str(caught.value)
