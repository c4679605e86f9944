"""train.shard: a network split over processes trains as in one, is saved as in one, and takes less."""

import json
import signal
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from lab import SMALL_SOURCE, ran, settings
from safetensors.torch import load_file
from together import killed_at, said, together
from torch import nn
from toys_tasks import words_of

from ftrun.errors import ConfigError
from ftrun.experiments import single
from ftrun.models.split import nbytes
from ftrun.runs.run import Run
from ftrun.training import tensor_files
from ftrun.training.sharding import refuse_unsplittable, separate
from ftrun.training.step import Step

SMALL = [
    "train.batch_size=10", "train.micro_batch=3", "train.lr=1e-3", "train.max_steps=7", "train.eval_every=3",
    "task.subset=41", "baselines=false", "train.patience=null", "train.keep=false",
]  # fmt: skip
WAYS = {
    "full": ["strategy=full"],
    "full of recomputed layers by momentum": [
        "strategy=full", "train.checkpoint_layers=true", "train.optimizer=sgd", "train.layer_decay=0.5",
    ],
    "full, a moving average": ["train.average=ema"],
    "full, a soup": ["train.average=soup"],
    "full, without a schedule": ["train.optimizer=schedulefree", "schedule=constant"],
    "freeze": ["strategy=freeze", "bottom=1"],
    "gradual_unfreeze": ["strategy=gradual_unfreeze", "every=0.2"],
    "lora": ["strategy=lora", "train.checkpoint_layers=true"],
    "lora in bf16": ["strategy=lora", "train.frozen_dtype=bf16"],
    "freeze in bf16, layers recomputed": [
        "strategy=freeze", "bottom=1", "train.frozen_dtype=bf16", "train.checkpoint_layers=true",
    ],
    "adapter in bf16": ["strategy=adapter", "train.frozen_dtype=bf16"],
    "dora": ["strategy=lora", "variant=dora"],
    "adapter": ["strategy=adapter"],
    "prompt": ["strategy=prompt"],
    "prefix": ["strategy=prefix"],
    "bitfit": ["strategy=bitfit"],
    "norms": ["strategy=norms"],
    "linear_probe": ["strategy=linear_probe", "solver=adamw"],
    "lp_ft": ["strategy=lp_ft"],
    "l2sp": ["strategy=l2sp", *SMALL_SOURCE],
    "l2sp in the loss": ["strategy=l2sp", "apply=loss", *SMALL_SOURCE],
    "ewc": ["strategy=ewc", "samples=8", *SMALL_SOURCE],
    "ewc in the loss": ["strategy=ewc", "samples=8", "apply=loss", *SMALL_SOURCE],
    "lora held by l2sp": ["strategy=lora", "protect=l2sp", "protect.apply=loss", *SMALL_SOURCE],
    "lora held by ewc": ["strategy=lora", "protect=ewc", "protect.samples=8", *SMALL_SOURCE],
    "replay": ["strategy=replay", "buffer=16", *SMALL_SOURCE],
    "gradual_unfreeze with replay": [
        "strategy=gradual_unfreeze", "every=0.2", "protect=replay", "protect.buffer=16", *SMALL_SOURCE,
    ],
    "replay after its source": [
        "strategy=replay", "buffer=16", "task@source=classify", "source.train={files}/train.csv",
        "source.subset=40", "source.max_length=32",
    ],
}  # fmt: skip
KINDS = ["pairs", "multilabel", "regress", "ner", "qa", "lm", "mlm", "vit", "digits"]
QUICK = ["lora", "gradual_unfreeze with replay"]


def still(place):
    """The network at `place` without dropout, whose draws depend on the number of processes."""
    file = place / "config.json"
    config = json.loads(file.read_text())
    none = {name: 0.0 for name in config if "dropout" in name or name.endswith("pdrop")}
    file.write_text(json.dumps(config | none))
    return place


@pytest.fixture
def cases(toy_files, still_dir, tmp_path, monkeypatch):
    """The settings of each case by its name."""
    files = [f"task.{split}={toy_files}/{split}.csv" for split in ("train", "validation", "test")]
    classify = ["task=classify", *files, f"model.name={still_dir}", "task.max_length=32", "device=cpu"]
    found = {
        way: [*classify, *SMALL, *(word.replace("{files}", str(toy_files)) for word in words)]
        for way, words in WAYS.items()
    }
    for kind in KINDS[:-1]:
        place = tmp_path / "files" / kind
        place.mkdir(parents=True)
        words = words_of(kind, place, lambda name: still_dir)
        if kind == "lm":
            still(place / "gpt2")
        found[kind] = [*words, *SMALL, "strategy=full", *(["train.optimizer=sgd"] if kind == "qa" else [])]
    found["digits"] = ["task=digits", "model=mlp", "device=cpu", *SMALL]
    return found


# weights without a gradient but for rounding, which Adam makes steps of: an attention's keys, and what moves
# all logits of a softmax over positions alike
FREE = (".key.bias", "qa_outputs.bias")


def lines_of(place):
    return [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]


def differences(one, two):
    """In what two finished runs differ: losses by more than 1e-6, other metrics by 1e-4, weights by 5e-5."""
    found, ours, theirs = [], lines_of(one), lines_of(two)
    if [line.keys() for line in ours] != [line.keys() for line in theirs] or len(ours) < 4:
        return ["other lines of metrics"]
    for line, other in zip(ours, theirs, strict=True):
        found += [
            f"{name} at {line['step']}: {value} and {other[name]}"
            for name, value in line.items()
            if other[name] != pytest.approx(value, abs=1e-6 if "loss" in name else 1e-4, nan_ok=True)
        ]
    places = [sorted((run / "model").glob("*.safetensors")) for run in (one, two)]
    for mine, other in zip(*places, strict=True):
        weights = load_file(mine), load_file(other)
        if {n: v.shape for n, v in weights[0].items()} != {n: v.shape for n, v in weights[1].items()}:
            return [*found, f"other weights in {mine.name}"]
        found += [
            f"{name}: {float((value - weights[1][name]).abs().max()):.1e}"
            for name, value in weights[0].items()
            if not (name.endswith(FREE) or torch.allclose(value, weights[1][name], rtol=1e-4, atol=5e-5))
        ]
    return found


def split_run(words, place):
    """Work that makes a run, and keeps the bytes of its tensors in a process, and of all of them."""

    def work():
        former = Step.clear

        def clear(step):
            own, all_of_them = held(step)
            file = place.with_name(f"{place.name}-bytes-{step.accelerator.process_index}")
            file.write_text(json.dumps([own, all_of_them]))
            former(step)

        Step.clear = clear
        try:
            single.run(settings(*words, "train.shard=true"), place)
        finally:
            Step.clear = former

    return work


def held(step):
    """Bytes of the parameters, gradients and moments: those of this process, and of all together."""
    parameters = [*step.model.parameters()]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    moments = [value for state in step.plain_optimizer().state.values() for name, value in state.items()
               if name != "step"]  # fmt: skip
    tensors = [*parameters, *gradients, *moments]
    return sum(map(nbytes, tensors)), sum(value.numel() * value.element_size() for value in tensors)


def compared(cases, processes, tmp_path):
    """What is different between each case in one process and the same split over several, by its name."""
    alone = {
        name: ran(tmp_path / f"one-{at}", settings(*words)) for at, (name, words) in enumerate(cases.items())
    }
    places = {name: tmp_path / f"{processes}-{at}" for at, name in enumerate(cases)}
    works = {name: split_run(words, places[name]) for name, words in cases.items()}
    codes = together(processes, works, tmp_path / "logs")
    assert not any(codes), said(tmp_path / "logs")
    found = {name: differences(run.path, places[name]) for name, run in alone.items()}
    return {name: what for name, what in found.items() if what}


def test_two_processes_split_a_network_and_have_the_losses_and_weights_of_one(cases, tmp_path):
    """Micro-batches of 3, of which one process has fewer, and a last batch that only one can take."""
    assert compared({name: cases[name] for name in QUICK}, 2, tmp_path) == {}
    for case in range(len(QUICK)):
        parts = [json.loads((tmp_path / f"2-{case}-bytes-{rank}").read_text()) for rank in range(2)]
        (first, whole), (second, _) = parts  # of DDP each would hold the whole
        assert first + second == whole and whole > 100_000
        assert max(first, second) < 0.52 * whole  # the first has the odd rows


@pytest.mark.ci
def test_frozen_weights_in_bf16_are_split_in_bf16(cases, tmp_path):
    assert compared({name: cases[name] for name in ("lora", "lora in bf16")}, 2, tmp_path) == {}
    wide, half = (json.loads((tmp_path / f"2-{case}-bytes-0").read_text()) for case in range(2))
    assert half[0] < 0.52 * half[1] < 0.52 * 0.75 * wide[1]


@pytest.mark.slow
@pytest.mark.ci
def test_every_strategy_and_kind_is_the_same_in_three_processes(cases, tmp_path):
    """In which nothing is even: neither rows nor the parts of weights."""
    assert compared(cases, 3, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.ci
def test_a_killed_run_goes_on_in_fewer_processes_to_the_same_end(cases, tmp_path, monkeypatch):
    """From three to two to one: the checkpoint, of several files, does not tell how many there were."""
    monkeypatch.setattr("ftrun.training.tensor_files.MOST", 20_000)
    words = [*cases["gradual_unfreeze with replay"], "train.checkpoint_every=2", "train.shard=true"]
    alone, place = ran(tmp_path / "one", settings(*words)), tmp_path / "killed"
    for processes, step in ((3, 2), (2, 5)):
        work = killed_at(step, place, None if processes == 2 else settings(*words))
        codes = together(processes, {"killed": work}, tmp_path / str(processes))
        assert codes == [-signal.SIGKILL] * processes, said(tmp_path / str(processes))
        assert len([*(place / "checkpoints/last").glob("weights-*-of-*.safetensors")]) > 1
    single.resume(place)
    assert differences(alone.path, place) == []
    assert (place / "model/model.safetensors").is_file() and Run.open(place).finished


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train.optimizer=lars"],
            "train.optimizer=lars needs each weight in one piece; possible: train.optimizer=adamw",
        ),
        (
            ["train.precision=fp16", "device=auto"],
            "train.precision=fp16 scales .* possible: train.precision=bf16",
        ),
        (["train.compile=true"], "train.compile=true compiles .* possible: train.compile=false"),
        (["train.keep=true"], "train.keep=true computes .* possible: train.keep=auto"),
        (
            ["model.load=4bit", "strategy=lora"],
            "model.load=4bit keeps .* possible: model.load=full with train.frozen_dtype=bf16",
        ),
        (
            ["task=simclr", "model=vit_tiny", "task.train=here"],
            "task=simclr compares .* possible: train.shard=false",
        ),
    ],
)
def test_settings_that_do_not_go_with_a_split_network_are_refused(words, said):
    """Whatever the number of processes is."""
    with pytest.raises(ConfigError, match=f"train.shard=true: {said}"):
        settings("device=cpu", *words, "train.shard=true")


def test_a_head_that_is_solved_for_is_not_split():
    asked = settings(
        "task=digits", "model=mlp", "strategy=linear_probe", "solver=lbfgs", "device=cpu", "train.shard=true"
    )
    with pytest.raises(
        ConfigError, match="train.shard=true .* solver=lbfgs solves .* possible: solver=adamw"
    ):
        single.refuse(asked, Accelerator(cpu=True))


@pytest.mark.parametrize("norms", [[], ["some"]])
def test_networks_that_cannot_be_split_are_refused(norms):
    net = nn.Module()
    net.scale = nn.Parameter(torch.ones(()))
    net.batch_norms, net.name = lambda: norms, "this"
    said = "the batch normalisation of this keeps statistics" if norms else "scale of this is a single number"
    with pytest.raises(ConfigError, match=f"train.shard=true: {said}.*possible: train.shard=false"):
        refuse_unsplittable(net, SimpleNamespace(solved=False))


def test_one_process_with_train_shard_is_one_process_without(tmp_path, capsys):
    words = ["task=digits", "model=mlp", "device=cpu", "train.max_steps=3", "baselines=false"]
    one, two = (
        ran(tmp_path / str(n), settings(*words, *more)) for n, more in enumerate([[], ["train.shard=true"]])
    )
    assert "train.shard=true: one process holds all" in capsys.readouterr().out
    for name in ("metrics.jsonl", "result.json", "model/model.safetensors"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


def test_layers_that_share_weights_with_others_stay_with_the_root():
    root = nn.ModuleList([nn.Linear(2, 2) for _ in range(4)])
    root[3].weight = root[1].weight
    assert separate(list(root[:3]), root) == [root[0], root[2]]
    assert separate([root[1], root[3]], root) == []


def test_a_large_set_of_tensors_is_several_files(tmp_path, monkeypatch):
    values = {f"w{n}": torch.full((n + 1, 3), float(n)) for n in range(5)} | {"step": torch.tensor(3.0)}
    for most, files in ((10**9, 1), (60, 5), (1, 6)):
        monkeypatch.setattr(tensor_files, "MOST", most)
        place = tmp_path / str(most)
        place.mkdir()
        tensor_files.write(place, "weights", values)
        names = sorted(file.name for file in place.iterdir())
        assert len(names) == files, names
        assert names[0] == (
            "weights.safetensors" if files == 1 else f"weights-00001-of-0000{files}.safetensors"
        )
        found = tensor_files.read_tensors(place, "weights")
        assert found.keys() == values.keys() and all(torch.equal(found[n], v) for n, v in values.items())
        assert tensor_files.shapes_of(place, "weights") == {n: list(v.shape) for n, v in values.items()}
