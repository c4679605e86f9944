"""Images learned: the processor's pixels, augmentation and batch norms that resume, and answers per file."""

import csv
import json
import shutil
from base64 import b64encode

import numpy
import pytest
import torch
from lab import one_of, ran, settings
from opened import opened
from PIL import Image
from resuming import FILES, same, scored_on_train, stopped
from safetensors.torch import load_file
from toys_image import network, rows, words
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ConvNextImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
)

from ftrun.data.images.transforms import moved
from ftrun.errors import ConfigError, DataError
from ftrun.experiments import start
from ftrun.experiments.inference import FinishedRun
from ftrun.experiments.serving.answering import Answering
from ftrun.models.small import register
from ftrun.runs.run import Run
from ftrun.strategies.ewc.per_example import split
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Draw
from ftrun.training import checkpoint

pytestmark = pytest.mark.images

VARIED = "task.augment=crop+flip", "train.eval_every=3", "train.checkpoint_every=3", "train.patience=50"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    words(tmp_path_factory.mktemp("image"))
    return tmp_path_factory.getbasetemp() / "image0"


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """A finished run of the tiny ResNet."""
    return ran(tmp_path_factory.mktemp("made") / "run", settings(*words(place, "resnet"), "train.epochs=4"))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_pictures_are_learned_and_what_is_saved_loads_by_transformers_alone(name, place, made, tmp_path):
    run = made if name == "resnet" else ran(tmp_path / "run", settings(*words(place, name), "train.epochs=4"))
    result = run.read_json("result.json")
    assert result["test_accuracy"] >= 0.9 and result["reload_difference"] == 0.0
    assert "test_f1" in result and "test_top5_accuracy" not in result  # two classes
    register()
    net = AutoModelForImageClassification.from_pretrained(run.model_dir)
    processor = AutoImageProcessor.from_pretrained(run.model_dir, backend="pil")
    files = sorted((place / "test").rglob("*.png"))
    inputs = processor(images=[Image.open(file) for file in files], return_tensors="pt")
    answers = [net.config.id2label[int(i)] for i in net.eval()(**inputs).logits.argmax(-1)]
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    assert [line["answer"] for line in lines] == answers
    assert [line["label"] for line in lines] == [file.parent.name for file in files]


def test_the_checkpoint_s_own_processor_makes_the_pixels(place, tmp_path):
    """Sizes are given by the shorter edge, and a tenth is cut away, as microsoft/resnet-18 has it."""
    own = words(place, "resnet")
    net = network(tmp_path / "net", "resnet")
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 8}, crop_pct=0.8)
    processor.save_pretrained(net)
    Image.fromarray(rows(1, side=24)[0][0][:18]).save(tmp_path / "wide.png")
    (tmp_path / "wide.csv").write_text("file,label\nwide.png,low\n")
    data, _ = opened(settings(*own, f"model.name={net}", f"task.test={tmp_path}/wide.csv"))
    for part, file in [
        ("validation", place / "validation" / "high" / "000.png"),
        ("test", tmp_path / "wide.png"),
    ]:
        batch = data.dataset(part).collate(data.dataset(part).examples[:1])
        right = processor(images=[Image.open(file)], return_tensors="pt")["pixel_values"]
        assert right.shape == (1, 3, 8, 8)
        assert torch.allclose(batch["inputs"]["pixel_values"], right, atol=1e-6)
    data, _ = opened(settings(*own, f"model.name={net}", "task.size=6"), "train")
    assert data.dataset("train")[0].inputs.shape == (3, 6, 6)
    assert data.dataset("train")[0].inputs.dtype == numpy.uint8


def test_a_processor_that_does_more_is_refused(place, tmp_path):
    net = network(tmp_path / "net", "resnet")
    ConvNextImageProcessorPil(size={"shortest_edge": 12}).save_pretrained(net)
    with pytest.raises(
        ConfigError, match="its image processor, ConvNext.* does not make 3 x 8 x 8 by resizing"
    ):
        opened(settings(*words(place), f"model.name={net}"))


def test_pretrained_weights_keep_their_shape(place, tmp_path):
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        patch_size=4,
        image_size=8,
    )
    ViTForImageClassification(config).save_pretrained(tmp_path / "net")
    own = [*words(place), f"model.name={tmp_path}/net", "model.init=pretrained"]
    for word, message in [
        (
            "task.size=12",
            "task.size=12, but the positions of model.name=.* 8 x 8 pixels; task.size=null resizes",
        ),
        ("task.channels=1", "task.channels=1, but the weights of model.name=.* take 3; task.channels=null"),
    ]:
        with pytest.raises(ConfigError, match=message):
            opened(settings(*own, word))
    opened(settings(*own, "task.size=8"))


def test_more_than_five_classes_have_a_top_five(tmp_path):
    numpy.savez(tmp_path / "a.npz", x=rows(120)[0], y=numpy.arange(120) % 8)
    own = [*words(tmp_path), f"task.train={tmp_path}/a.npz", "task.validation=null", "task.test=null"]
    asked = settings(*own, "train.epochs=1", "train.metric=eval_top5_accuracy")
    result = ran(tmp_path / "run", asked).read_json("result.json")
    assert result["test_top5_accuracy"] >= result["test_accuracy"]
    scorer = TaskData.read(asked.task, 0).scorer
    answers = scorer.answers(-torch.arange(8.0).repeat(8, 1), {"labels": torch.arange(8)})
    assert [answer["top5"] for answer in answers] == [True] * 5 + [False] * 3
    message = "train.metric=eval_top5_accuracy: task=image has no such metric; possible: eval_accuracy"
    with pytest.raises(ConfigError, match=message):
        ran(tmp_path / "few", settings(*words(tmp_path), "train.metric=eval_top5_accuracy"))


def test_several_folders_are_one_set_and_rare_classes_can_weigh_more(place, tmp_path):
    (tmp_path / "more" / "high").mkdir(parents=True)
    for number, pixels in enumerate(rows(8, seed=9)[0][::2]):
        Image.fromarray(pixels).save(tmp_path / "more" / "high" / f"{number}.png")
    given = f"task.train=[{place}/train,{tmp_path}/more]", "task.balance=weights", "train.max_steps=1"
    run = ran(tmp_path / "run", settings(*words(place), *given))
    card = run.read_json("data.json")
    assert card["labels"]["train"] == {"high": 36, "low": 32}
    assert card["weights"] == pytest.approx({"high": 68 / 72, "low": 68 / 64})
    assert card["baselines"]["majority"]["test_accuracy"] == 0.5 and card["leaks"] == []


def test_augmentation_is_a_function_of_seed_step_and_picture(place):
    data, _ = opened(settings(*words(place), "task.augment=crop+flip"))
    train, validation = data.dataset("train"), data.dataset("validation")
    examples = train.examples[:16]

    def pixels(some, step=None, dataset=train):
        draw = None if step is None else Draw(0, 0, step)
        return dataset.collate(some, draw)["inputs"]["pixel_values"]

    plain, whole = pixels(examples), pixels(examples, 5)
    parts = [pixels(examples[i : i + 4], 5) for i in range(0, 16, 4)]
    assert torch.equal(whole, torch.cat(parts)) and not torch.equal(whole, plain)
    assert not torch.equal(pixels(examples, 6), whole)
    assert torch.equal(pixels(examples, 5), whole)
    held = validation.examples[:4]
    scaled = data.processor.scale(torch.from_numpy(held[0].inputs))
    assert torch.equal(pixels(held, dataset=validation)[0], scaled)
    assert torch.equal(pixels(held, 5, validation)[0], scaled)


def test_a_moved_picture_is_mirrored_or_shifted_within_an_eighth():
    pixels = numpy.arange(1, 129, dtype=numpy.uint8).reshape(2, 8, 8)
    assert numpy.array_equal(moved(pixels, 0, False), pixels)
    assert numpy.array_equal(moved(pixels, 1, False), pixels[:, :, ::-1])
    middle = (1 + 3 * 1) << 1  # the second of three places each way: by none of -1, 0, 1
    assert numpy.array_equal(moved(pixels, middle, True), pixels)
    corner = moved(pixels, 0, True)
    assert numpy.array_equal(corner[:, 1:, 1:], pixels[:, :-1, :-1]) and not corner[:, 0].any()


@pytest.mark.parametrize("strategy", ["full", "freeze"])
def test_batch_norms_and_augmentation_resume_bit_for_bit(strategy, place, tmp_path):
    own = [*words(place, "resnet"), *VARIED, f"strategy={strategy}", *(["bottom=1"] * (strategy == "freeze"))]
    whole = ran(tmp_path / "whole", settings(*own))
    stopped(tmp_path / "cut", settings(*own), 3)
    start.resume(tmp_path / "cut")
    for name in FILES:
        assert (whole.path / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    mine, other = (checkpoint.newest(p / "checkpoints" / "last")[0] for p in (whole.path, tmp_path / "cut"))
    saved, again = (checkpoint.read_tensors(path, "weights") for path in (mine, other))
    assert all(torch.equal(value, again[name]) for name, value in saved.items())
    assert any(name.endswith("running_mean") for name in saved)
    stem = "net.resnet.embedder.norm.running_mean"
    assert bool(saved[stem].any()) == (strategy == "full")  # frozen statistics stay where they began
    assert saved["net.resnet.encoder.stages.1.layers.0.layer.0.normalization.running_mean"].any()


def test_the_closing_score_on_train_is_of_the_images_as_they_are(place, tmp_path):
    own = [*words(place), "task.augment=flip"]
    run = ran(tmp_path / "run", settings(*own))
    result = run.read_json("result.json")
    accuracy, loss = scored_on_train(run)
    assert result["train_accuracy"] == accuracy and result["train_loss"] == pytest.approx(loss, rel=1e-5)
    stopped(tmp_path / "cut", settings(*own), result["steps"])
    start.resume(tmp_path / "cut")
    same(run.path, tmp_path / "cut")


def test_a_run_killed_before_its_first_checkpoint_begins_where_it_began(place, tmp_path):
    """What is tried before the first step leaves no trace in the running statistics."""
    own = [*words(place, "resnet"), "train.max_steps=2"]
    whole = ran(tmp_path / "whole", settings(*own))
    stopped(tmp_path / "cut", settings(*own), 1)
    shutil.rmtree(tmp_path / "cut" / "checkpoints")
    start.resume(tmp_path / "cut")
    for name in FILES:
        assert (whole.path / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_small_batches_of_batch_norms_are_said(place, tmp_path, capsys):
    ran(tmp_path / "run", settings(*words(place, "resnet"), "train.micro_batch=8", "train.max_steps=1"))
    said = "batch normalisation: statistics over train.micro_batch=8 images, not over 16"
    assert said in capsys.readouterr().out
    ran(tmp_path / "vit", settings(*words(place), "train.micro_batch=8", "train.max_steps=1"))
    assert "batch normalisation" not in capsys.readouterr().out


def test_stages_norms_and_what_does_not_fit_a_residual_network(place):
    _, model = opened(settings(*words(place, "resnet")))
    assert model.depth == 2 and model.stage_of("net.resnet.embedder.conv.weight") == 0
    assert model.stage_of("net.resnet.encoder.stages.1.layers.0.shortcut.convolution.weight") == 2
    assert {name for name, _ in model.head_parameters()} == {
        "net.classifier.1.weight",
        "net.classifier.1.bias",
    }
    assert len(model.norms()) == 2 * len(model.batch_norms()) == 2 * 6
    with pytest.raises(
        ConfigError, match="lora adapts linear layers, and the layers of ftrun_resnet .* none"
    ):
        settings(*words(place, "resnet"), "strategy=lora", "variant=pissa").strategy.fits(model)


def test_lora_on_convolutions_leaves_statistics_alone_merges_and_is_summed(
    place, made, tmp_path, ftrun_inprocess
):
    own = [*words(place, "resnet"), f"model.name={made.path}", "model.init=pretrained", "train.max_steps=4"]
    paths = []
    for variant in ("lora", "dora", "rslora"):
        more = ["strategy=lora", f"variant={variant}", "rank=2", "train.lr=0.1"]
        run = ran(tmp_path / variant, settings(*own, *more))
        paths.append(str(run.path))
        assert run.read_json("result.json")["reload_difference"] < 1e-5
        ftrun_inprocess("merge", str(run.path), "--output", f"{variant}-whole")  # refused if a logit differs
    whole = load_file(tmp_path / "lora-whole" / "model.safetensors")
    base = load_file(made.model_dir / "model.safetensors")
    moved = {name for name, value in whole.items() if not torch.equal(value, base[name])}
    assert moved == {name for name, value in base.items() if value.ndim == 4 and ".stages." in name} | {
        "classifier.1.weight",
        "classifier.1.bias",
    }  # and no running mean or variance
    out = ftrun_inprocess("compose", paths[0], paths[2], "--weights", "0.7,0.5", "--output", "sum").stdout
    assert "read by peft, and dense sum" in out
    ftrun_inprocess(
        "compose", paths[0], paths[2], "--weights", "0.7,0.5", "--method", "svd", "--output", "svd"
    )


@pytest.fixture(scope="module")
def first(place, tmp_path_factory):
    """A run of the tiny vision transformer, which another may start from."""
    return ran(tmp_path_factory.mktemp("first") / "run", settings(*words(place), "train.max_steps=2"))


@pytest.mark.parametrize("strategy", ["lora", "adapter", "norms", "bitfit"])
def test_light_strategies_on_a_vision_transformer(strategy, first, place, tmp_path):
    own = [*words(place), f"model.name={first.path}", "model.init=pretrained", "train.max_steps=2"]
    run = ran(tmp_path / "run", settings(*own, f"strategy={strategy}"))
    result = run.read_json("result.json")
    assert result["trained_parameters"] < result["total_parameters"] and result["reload_difference"] < 1e-5


@pytest.mark.parametrize("strategy", ["norms", "bitfit", "linear_probe", "gradual_unfreeze"])
def test_light_strategies_on_a_residual_network(strategy, place, tmp_path):
    extra = ["every=0.2"] * (strategy == "gradual_unfreeze")
    run = ran(
        tmp_path / "run",
        settings(*words(place, "resnet"), f"strategy={strategy}", *extra, "train.max_steps=6"),
    )
    assert run.read_json("result.json")["reload_difference"] == 0.0
    weights = checkpoint.read_tensors(checkpoint.newest(run.path / "checkpoints" / "last")[0], "weights")
    still = not weights["net.resnet.embedder.norm.running_mean"].any()
    assert still == (strategy == "linear_probe")  # gradual_unfreeze opens it at step 3


def test_hooks_see_every_layer_of_a_residual_network(place):
    """And so its Fisher information needs no loop over the examples; the estimate is that of a loop."""
    from ftrun.strategies.ewc import fisher

    data, model = opened(settings(*words(place, "resnet")), "train")
    train = data.dataset("train")
    model.train()(**train.collate(train.examples[:32])["inputs"])
    names = [name for name, _ in model.named_parameters()]
    batches = [{"inputs": train.collate(train.examples[i : i + 5])["inputs"]} for i in (0, 5)]
    seen = {
        name for own in split(model.eval(), names, batches[0]["inputs"]).values() for name in own.values()
    }
    assert seen == set(names)
    before = {name: value.clone() for name, value in model.named_buffers()}
    found = fisher.estimate(model, batches, names, kind="exact", samples=1, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    for name in ("net.resnet.embedder.norm.weight", "net.resnet.embedder.conv.weight"):
        right = torch.zeros_like(found[name])
        for batch in batches:
            for image in batch["inputs"]["pixel_values"]:
                chances = model(pixel_values=image[None]).log_softmax(-1)[0]
                for chance in chances:
                    weight = dict(model.named_parameters())[name]
                    gradient = torch.autograd.grad(chance, weight, retain_graph=True)[0]
                    right += chance.exp().detach() * gradient.square() / 10
        assert torch.allclose(found[name], right, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("strategy", one_of("replay", "ewc", "l2sp"))
def test_a_sequence_of_domains(strategy, tmp_path, ftrun_inprocess):
    for name, seed, side in (("a", 0, 8), ("b", 1, 6)):
        pixels, labels = rows(80, seed, side)
        numpy.savez(tmp_path / f"{name}.npz", images=pixels if name == "a" else pixels[..., 0], labels=labels)
    own = [
        *words(tmp_path, "resnet"),
        "task.validation=null",
        "task.test=null",
        "scenario=domain",
        "train.epochs=1",
    ]
    tasks = f"sequence=[{{name: a, train: {tmp_path}/a.npz}}, {{name: b, train: {tmp_path}/b.npz}}]"
    ftrun_inprocess(*own, f"strategy={strategy}", tasks, f"hydra.run.dir={tmp_path}/run")
    result = Run.open(tmp_path / "run").read_json("result.json")
    assert 0 <= result["average"] <= 1
    assert (tmp_path / "run" / "2-b" / "model" / "preprocessor_config.json").is_file()


def test_one_picture_is_answered_as_in_its_folder(made, place, ftrun_inprocess, tmp_path):
    picture, bad = place / "test" / "low" / "001.png", tmp_path / "bad.PNG"
    found = []
    for source in (place / "test" / "low", picture):
        ftrun_inprocess("predict", str(made.path), "--input", str(source), "--output", "out.csv")
        found.append(list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines())))
    (alone,) = found[1]
    (beside,) = [row for row in found[0] if row["file"] == "001.png"]
    assert alone["file"] == str(picture)
    assert alone["answer"] == beside["answer"] and float(alone["probability"]) == pytest.approx(
        float(beside["probability"]), abs=1e-5
    )
    bad.write_text("no picture")
    result = ftrun_inprocess("predict", str(made.path), "--input", str(bad), "--output", "o.csv", check=False)
    assert result.returncode == 3 and "bad.PNG (not an image file)" in result.stderr


def test_a_served_picture_that_cannot_be_read_is_named_by_its_row(made, place):
    answering = Answering(FinishedRun(made))
    picture = (place / "test" / "low" / "001.png").read_bytes()
    good, bad = ({"image": b64encode(content).decode()} for content in (picture, b"no picture"))
    with pytest.raises(DataError, match=r"^rows: 1 of 1 images cannot be read: row 1 \("):
        answering.answers(answering.rows([bad]))
    first, second = answering.answers(answering.rows([good, bad]))
    assert first["answer"] in ("low", "high") and second["answer"] is None


def test_answers_for_files_in_their_order(made, place, ftrun_inprocess, tmp_path):
    shutil.copytree(place / "test", tmp_path / "new")
    (tmp_path / "new" / "high" / "bad.png").write_text("no picture")
    (tmp_path / "t.csv").write_text(
        "who,file\nme,new/low/001.png\nyou,new/high/bad.png\nus,new/high/000.png\n"
    )
    numpy.savez(tmp_path / "a.npz", x=rows(4)[0])
    for source, count in [("new", 17), ("t.csv", 3), ("a.npz", 4)]:
        said = ftrun_inprocess("predict", str(made.path), "--input", source, "--output", "out.csv").stdout
        answered = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
        good = [row for row in answered if row["answer"]]
        assert f"predicted {len(good)} of {count} rows" in said
        assert len(good) == count - (source != "a.npz")
        assert ("1 dropped that cannot be read: " in said) == (source != "a.npz")
    ftrun_inprocess("predict", str(made.path), "--input", "t.csv", "--output", "out.csv")
    answered = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["who"], row["answer"]) for row in answered] == [("me", "low"), ("you", ""), ("us", "high")]
    out = ftrun_inprocess("evaluate", str(made.path), "--input", str(place / "test")).stdout
    score = made.read_json("result.json")["test_accuracy"]
    assert f"{score:.6f}" in out and "16 images of 3 x 8 x 8" in out
