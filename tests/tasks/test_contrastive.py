"""SimCLR and MoCo as runs: what they log, keep, resume, leave to fine-tune, and refuse."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest
import torch
import toys_image
from lab import ran, settings
from opened import opened
from PIL import Image
from safetensors.torch import load_file

from ftrun.errors import ConfigError, DataError, Diverged
from ftrun.experiments import single as experiment
from ftrun.models.load import quiet
from ftrun.runs.run import Run
from ftrun.training import checkpoint
from ftrun.training.gradients import gradient as stepping
from ftrun.training.loop import Loop

pytestmark = pytest.mark.images

WATCHED = {
    "temperature", "positive_similarity", "negative_similarity", "alignment", "uniformity",
    "contrastive_accuracy", "effective_rank", "grad_norm",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return toys_image.files(tmp_path_factory.mktemp("pictures"))


def words(place, task, network="resnet", *more):
    """Eight steps in which a tiny network learns to see."""
    own = [word for word in toys_image.words(place, network) if word != "task=image"]
    views = ["task.crop=[0.3,1]", "task.jitter=[0.2,0.2,0,0]", "task.grey=0", "task.blur=0", "task.width=8"]
    queue = ["task.queue=40"] if task == "moco" else []
    return [f"task={task}", *own, *views, *queue, "train.epochs=2", "train.batch_size=16", *more]


def lines(run):
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def learned(run):
    """The weights and running statistics of the backbone at the best step, by their names in the network."""
    kept = checkpoint.read_tensors(checkpoint.newest(run.checkpoints / "best")[0], "weights")
    return {n.removeprefix("net."): v for n, v in kept.items() if not n.startswith("net.classifier.")}


@pytest.fixture(scope="module")
def runs(place, tmp_path_factory):
    """A finished run of each method and network."""
    found = {}
    for task, network in (("simclr", "resnet"), ("moco", "vit")):
        path = tmp_path_factory.mktemp(task) / "run"
        found[task] = ran(path, settings(*words(place, task, network)))
    return found


@pytest.mark.parametrize("task", ["simclr", "moco"])
def test_a_run_says_how_well_it_goes(runs, task):
    trained = [line for line in lines(runs[task]) if "train_loss" in line]
    assert len(trained) == 8 and all(trained[0].keys() >= WATCHED for _ in trained)
    start = 0.5 if task == "simclr" else 0.07
    assert [trained[0]["temperature"], trained[-1]["temperature"]] == [start, 0.07]
    assert all(1 <= line["effective_rank"] <= 8.01 for line in trained)
    result = runs[task].read_json("result.json")
    assert result["metric"] == "eval_knn_accuracy" and 0 <= result["test_knn_accuracy"] <= 1
    assert result["reload_difference"] < 1e-4
    said = [json.loads(line) for line in (runs[task].path / "predictions.jsonl").read_text().splitlines()]
    assert {each["label"] for each in said} == {"high", "low"} and {each["answer"] for each in said}
    right = sum(each["label"] == each["answer"] for each in said) / len(said)
    assert right == pytest.approx(result["test_knn_accuracy"])


@pytest.mark.parametrize("task", ["simclr", "moco"])
def test_the_backbone_is_the_model_and_the_projection_lies_beside_it(runs, task, place, tmp_path):
    directory = runs[task].model_dir
    stored = load_file(directory / "model.safetensors")
    assert not [name for name in stored if name.startswith("classifier")]
    assert load_file(directory / "projection.safetensors")["outer.bias"].shape == (8,)
    probe = settings(
        "task=image", *[f"task.{split}={place}/{split}" for split in ("train", "validation", "test")],
        f"model.name={runs[task].path}", "strategy=linear_probe", "train.batch_size=16", "train.epochs=1",
        "device=cpu",
    )  # fmt: skip
    _, model = opened(probe)
    own, weights = model.net.state_dict(), learned(runs[task])
    assert len(weights) > 8 and all(torch.equal(own[name], value) for name, value in weights.items())
    probed = ran(tmp_path / "probe", probe).read_json("result.json")
    assert probed["trained_parameters"] == sum(p.numel() for _, p in model.head_parameters()) < 50


def test_transformers_alone_loads_what_vit_has_learned(runs):
    from transformers import AutoModelForImageClassification, ViTModel

    with quiet():
        bare = ViTModel.from_pretrained(runs["moco"].model_dir, add_pooling_layer=False)
        whole = AutoModelForImageClassification.from_pretrained(runs["moco"].model_dir)
    for own in (bare, whole.vit):
        state = own.state_dict()
        for name, value in learned(runs["moco"]).items():
            assert torch.equal(state[name.removeprefix("vit.")], value)


def test_pre_training_goes_on_with_the_projection(runs, place):
    more = words(place, "simclr", "resnet", f"model.name={runs['simclr'].path}", "model.init=pretrained")
    _, model = opened(settings(*more))
    kept = load_file(runs["simclr"].model_dir / "projection.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in model.net.classifier.state_dict().items())
    _, other = opened(settings(*more, "task.width=4"))
    assert other.net.classifier.outer.out_features == 4


def test_lora_adapts_what_was_pre_trained_and_merges(runs, place, tmp_path, ftrun_inprocess):
    more = ["strategy=lora", "rank=2", f"model.name={runs['moco'].path}", "model.init=pretrained"]
    run = ran(tmp_path / "run", settings(*words(place, "simclr", "vit", *more, "train.epochs=1")))
    assert run.read_json("result.json")["reload_difference"] < 1e-4
    adapter = load_file(run.model_dir / "adapter_model.safetensors")
    assert adapter and not [name for name in adapter if "lora_" not in name]
    ftrun_inprocess("merge", str(run.path))
    assert load_file(run.path / "merged" / "projection.safetensors").keys() > {"outer.weight"}
    stored = load_file(run.path / "merged" / "model.safetensors")
    assert stored.keys() == load_file(runs["moco"].model_dir / "model.safetensors").keys()


@pytest.mark.parametrize("task", ["simclr", "moco"])
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(place, tmp_path, monkeypatch, task):
    """For moco with batch normalisation and a queue that the batch does not divide."""
    more = words(place, task, "resnet", "train.checkpoint_every=3", "task.schedule_tau=cosine")
    whole = ran(tmp_path / "whole", settings(*more))
    honest = Loop.after_step

    def stop(loop, *arguments):
        honest(loop, *arguments)
        if loop.state.step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "after_step", stop)
    with pytest.raises(KeyboardInterrupt):
        ran(tmp_path / "stopped", settings(*more))
    monkeypatch.setattr(Loop, "after_step", honest)
    experiment.resume(tmp_path / "stopped")
    stopped = Run.open(tmp_path / "stopped")
    for file in ("metrics.jsonl", "result.json", "predictions.jsonl"):
        assert (whole.path / file).read_bytes() == (stopped.path / file).read_bytes(), file
    names = ["weights", "optimizer", *(["task"] if task == "moco" else [])]
    for name in names:
        ours, theirs = (
            checkpoint.read_tensors(checkpoint.newest(run.checkpoints / "last")[0], name)
            for run in (whole, stopped)
        )
        assert ours.keys() == theirs.keys()
        assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []
    if task == "moco":
        assert ours["pointer"] == 8 * 16 % 40 and len(ours["queue"]) == 40
        assert [key for key in ours if key.endswith("running_mean")]


def gradient_of(place, tmp_path, network, micro, coupled=True):
    """The gradient of the first step, by name, and the loss."""
    with pytest.MonkeyPatch.context() as patch:
        found = {}

        def take(loop):
            found["loss"] = float(loop.step.gradient(list(range(12)))[1])
            found["gradient"] = {name: p.grad.clone() for name, p in loop.step.parameters.items()}
            raise KeyboardInterrupt

        patch.setattr(Loop, "run", take)
        patch.setattr(experiment, "preflight", lambda loop: None)
        if not coupled:
            patch.setattr(stepping, "Coupled", ())
        more = words(place, "simclr", network, "train.batch_size=12", f"train.micro_batch={micro}")
        with pytest.raises(KeyboardInterrupt):
            ran(tmp_path / f"{micro}{coupled}", settings(*more, "train.clip=null"))
    return found


def test_the_micro_batch_gives_the_exact_gradient_of_the_large_batch_and_accumulation_does_not(
    place, tmp_path
):
    whole = gradient_of(place, tmp_path, "vit", 12)
    cached = gradient_of(place, tmp_path, "vit", 5)
    accumulated = gradient_of(place, tmp_path, "vit", 5, coupled=False)
    assert cached["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    scale = max(float(value.abs().max()) for value in whole["gradient"].values())
    far = 0.0
    for name, value in whole["gradient"].items():
        torch.testing.assert_close(cached["gradient"][name], value, rtol=1e-4, atol=1e-5 * scale)
        far = max(far, float((accumulated["gradient"][name] - value).abs().max()))
    assert far > 0.05 * scale and accumulated["loss"] < 0.9 * whole["loss"]


def test_running_statistics_move_once_in_a_step_of_parts(place, tmp_path):
    counted = []

    def count(loop):
        loop.step.gradient(list(range(12)))
        counted.append(int(loop.step.model.batch_norms()[0].num_batches_tracked))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "run", count)
        for number, more in enumerate((["train.micro_batch=4"], [])):
            with pytest.raises(KeyboardInterrupt):
                ran(tmp_path / str(number), settings(*words(place, "simclr", "resnet", *more)))
    assert counted == [3, 1]


@pytest.mark.parametrize("passes", [1, 2])
def test_running_statistics_move_once_where_memory_runs_out(place, tmp_path, passes):
    """In the first pass over the parts, the one without a graph; what begins again is halved."""
    seen = {}

    def short(model, objective, batch, plain=stepping.outputs_of):
        found = plain(model, objective, batch)
        seen["passes"] = seen.get("passes", 0) + 1
        if seen["passes"] == passes:
            raise torch.OutOfMemoryError("out of memory")
        return found

    def count(loop):
        loop.step.gradient(list(range(12)))
        seen["counted"] = int(loop.step.model.batch_norms()[0].num_batches_tracked)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "run", count)
        patch.setattr(experiment, "preflight", lambda loop: None)
        patch.setattr(stepping, "outputs_of", short)
        with pytest.raises(KeyboardInterrupt):
            ran(tmp_path / "run", settings(*words(place, "simclr", "resnet", "train.micro_batch=6")))
    assert seen["counted"] == 4


def test_pictures_without_labels_are_enough(place, tmp_path, capsys):
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        for file in (place / split).rglob("*.png"):
            shutil.copy(file, tmp_path / split / f"{file.parent.name}-{file.name}")
    more = [word for word in words(place, "simclr", "resnet") if not word.startswith("task.validation")]
    more = [word.replace(f"{place}/t", f"{tmp_path}/t") for word in more]
    result = ran(tmp_path / "run", settings(*more, "train.epochs=1")).read_json("result.json")
    assert result["metric"] == "eval_loss" and "test_knn_accuracy" not in result
    said = capsys.readouterr().out
    assert "train: no labels (task.label=label), so kNN accuracy is not computed" in said
    assert "validation: 6 rows split off train" in said


def test_an_epoch_leaves_out_what_is_less_than_a_batch_and_a_queue_holds_no_more_than_there_is(
    place, tmp_path, capsys
):
    more = words(place, "moco", "resnet", "task.queue=65536", "task.symmetric=true", "train.batch_size=24")
    run = ran(tmp_path / "run", settings(*more, "train.epochs=3"))
    assert (
        "queue: 64 keys, one for each training image, instead of task.queue=65,536" in capsys.readouterr().out
    )
    assert run.read_json("result.json")["steps"] == 6
    kept = checkpoint.read_tensors(checkpoint.newest(run.checkpoints / "last")[0], "task")
    assert kept["queue"].shape == (64, 8) and kept["pointer"] == 6 * 48 % 64
    train = opened(settings(*more), "train")[0].dataset("train")
    chosen = [train.epoch(0, epoch) for epoch in range(2)]
    assert [len(each) for each in chosen] == [48, 48] and chosen[0] != chosen[1]
    assert train.epoch(0, 1) == chosen[1]


@pytest.mark.parametrize(
    "task, more, said",
    [
        (
            "simclr",
            ["train.batch_size=1"],
            "train.batch_size=1: a view is compared with the other images",
        ),
        ("simclr", ["task.tau=0"], "task.tau is above 0, not 0"),
        ("simclr", ["task.tau=-0.1"], "task.tau is above 0, not -0.1"),
        ("simclr", ["task.tau_start=0"], "task.tau_start is above 0"),
        ("simclr", ["task.schedule_tau=linear"], "task.schedule_tau is one of constant, cosine"),
        ("simclr", ["strategy=linear_probe"], "trains a new head, which task=simclr does not have"),
        ("moco", ["task.queue=15"], "task.queue=15 is smaller than the number of keys of a step, 16"),
        ("moco", ["task.queue=31", "task.symmetric=true"], "smaller than the number of keys of a step, 32"),
        ("moco", ["task.momentum=1"], "task.momentum is at least 0 and below 1, not 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(place, task, more, said):
    with pytest.raises(ConfigError, match=said):
        settings(*words(place, task, "resnet", *more))


@pytest.mark.parametrize("task", ["simclr", "moco"])
def test_a_loss_that_is_no_number_ends_as_with_any_task(place, tmp_path, monkeypatch, task):
    monkeypatch.setattr("ftrun.models.heads.Projection.forward", nowhere)
    monkeypatch.setattr(experiment, "preflight", lambda loop: None)
    with pytest.raises(Diverged, match="loss nan and gradient norm nan at step 2, 3 steps in a row"):
        ran(tmp_path / "run", settings(*words(place, task, "resnet")))


def nowhere(head, features):
    found = head.outer(head.inner(features.flatten(1)))
    return torch.cat([features.flatten(1), found * math.nan], 1)


@pytest.mark.parametrize("task", ["simclr", "moco"])
def test_mixed_precision_goes_with_every_part(place, tmp_path, task):
    """Large steps by LARS, in parts; the saved model is compared in full precision."""
    more = ["train.precision=bf16", "train.optimizer=lars", "train.lr=1", "train.micro_batch=6"]
    run = ran(tmp_path / "run", settings(*words(place, task, "resnet", *more)))
    assert run.read_json("result.json")["reload_difference"] < 1e-4
    assert all(math.isfinite(value) for line in lines(run) for value in line.values())
    kept = load_file(checkpoint.newest(run.checkpoints / "last")[0] / "optimizer.safetensors")
    assert all(name.startswith(("momentum_buffer/", "group.step/")) for name in kept)


def test_processes_have_equal_shares_of_a_batch(place):
    asked = settings(*words(place, "simclr", "resnet", "train.batch_size=13"))
    data, model = opened(asked, "train")
    with pytest.raises(
        ConfigError,
        match="train.batch_size=13 is not divisible by the 2 processes; possible: train.batch_size=12",
    ):
        data.objective.setup(model, SimpleNamespace(num_processes=2))


def test_pictures_smaller_than_the_crop_are_refused(place, tmp_path):
    (tmp_path / "train").mkdir()
    for number in range(40):
        image = Image.new("RGB", (8, 8) if number else (8, 6), (number, 0, 0))
        image.save(tmp_path / "train" / f"{number:02}.png")
    more = [word for word in words(place, "simclr", "resnet") if not word.startswith(("task.val", "task.te"))]
    more = [word.replace(f"{place}/train", f"{tmp_path}/train") for word in more]
    with pytest.raises(DataError, match="00.png has 8 x 6 pixels, smaller than the crop of 8 x 8"):
        ran(tmp_path / "run", settings(*more))


def test_a_source_has_answers(runs, place, tmp_path):
    run = runs["simclr"].path
    with pytest.raises(
        ConfigError, match="makes no predictions, so forgetting cannot be measured; to start from its weights"
    ):
        ran(tmp_path / "run", settings(*toys_image.words(place, "resnet"), "source=run", f"source.run={run}"))


def test_a_gradient_that_spikes_ends_the_run_where_that_is_wanted(place, tmp_path, monkeypatch):
    monkeypatch.setattr("ftrun.tasks.contrastive.collapse.SPIKE", 1e-6)
    with pytest.raises(Diverged, match="warm-up of the temperature is too short: gradient norm"):
        ran(tmp_path / "run", settings(*words(place, "simclr", "resnet", "task.on_instability=stop")))


def test_an_embedding_that_collapses_is_noticed(place, tmp_path, monkeypatch, capsys):
    """All pictures are one point: what a network does whose projection has lost its weights."""
    from ftrun.models.heads import Projection

    honest = Projection.forward

    def flat(head, features):
        return honest(head, features) * 1e-6 + 1

    monkeypatch.setattr(Projection, "forward", flat)
    run = ran(tmp_path / "run", settings(*words(place, "simclr", "resnet")))
    assert "warning: the embedding has collapsed: effective rank 1." in capsys.readouterr().out
    assert lines(run)[-2]["eval_effective_rank"] < 1.2


def test_the_command_line_predicts_nothing_and_scores_again(runs, ftrun_inprocess, tmp_path, place):
    run = str(runs["simclr"].path)
    said = ftrun_inprocess("predict", run, "--input", f"{place}/test", "--output", "a.csv", check=False)
    assert said.returncode == 2 and "learns features and makes no predictions" in said.stderr
    scored = ftrun_inprocess("evaluate", run).stdout
    before = runs["simclr"].read_json("result.json")["test_knn_accuracy"]
    assert f"test_knn_accuracy          {before:.6f}" in scored
    other = ftrun_inprocess("evaluate", run, "--input", f"{place}/validation").stdout
    assert "test: 16 images" in other and "test_effective_rank" in other
