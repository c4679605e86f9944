"""The digits: splits that never move, tasks made of them, what is refused, and runs that learn them."""

import csv
import signal

import numpy
import pytest
import torch
from lab import ran, settings
from opened import given
from resuming import in_process, same
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ftrun.data.batching import EpochBatches
from ftrun.errors import ConfigError, DataError
from ftrun.runs.run import Run
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.digits import COLUMNS, DigitRows, permutation

LEARN = "model=mlp", "train.lr=3e-3", "train.epochs=10", "train.checkpoint_every=100", "device=cpu"


def read(*words, seed=0):
    """The data of `task=digits WORDS…`."""
    return TaskData.read(settings("task=digits", *words).task, seed)


def examples(data, split):
    return data.dataset(split).examples


def pixels_of(data, split):
    return data.rows.splits[split][0]


def test_splits_are_fixed_and_hold_every_image_once():
    data = read()
    assert [len(examples(data, split)) for split in SPLITS] == [1213, 134, 450]
    assert data.dataset("train").summary == "train: 1,213 images of 8 x 8"
    pixels = numpy.concatenate([pixels_of(data, split) for split in SPLITS])
    everything = load_digits().data / 16
    assert sorted(map(tuple, pixels)) == sorted(map(tuple, everything.astype("float32")))
    assert read(seed=7).rows.fingerprint == data.rows.fingerprint
    assert examples(data, "test")[0].inputs.shape == (1, 8, 8)


def test_the_test_split_is_the_usual_quarter():
    data = load_digits()
    _, pixels, _, labels = train_test_split(data.data, data.target, test_size=0.25, random_state=0)
    data = read()
    assert numpy.array_equal(pixels_of(data, "test") * 16, pixels)
    assert given(data, "test") == [str(label) for label in labels]


def test_validation_is_a_tenth_of_every_digit():
    data = read()
    for digit in map(str, range(10)):
        here, there = (given(data, split).count(digit) for split in ("validation", "train"))
        assert abs(here / (here + there) - 0.1) < 0.005


def test_some_digits_are_a_part_of_all():
    whole, low, high = read(), read("task.classes=[0,1,2,3,4]"), read("task.classes=[9,8,7,6,5]")
    assert low.spec.labels == tuple("01234") and high.spec.labels == tuple("56789")
    for split in SPLITS:
        assert len(examples(low, split)) + len(examples(high, split)) == len(examples(whole, split))
        chosen = [digit in "01234" for digit in given(whole, split)]
        assert numpy.array_equal(pixels_of(whole, split)[chosen], pixels_of(low, split))


def test_modulo_puts_digits_under_one_label():
    plain, data = read("task.classes=[5,6,7,8,9]"), read("task.classes=[5,6,7,8,9]", "task.modulo=5")
    assert data.spec.labels == tuple("01234")
    assert given(data, "test") == [str(int(digit) - 5) for digit in given(plain, "test")]
    assert read("task.modulo=2").spec.labels == ("0", "1")
    assert read("task.modulo=20").spec.labels == tuple("0123456789")


def test_declared_labels_make_the_head():
    data = read("task.classes=[5,6,7,8,9]", "task.labels=[0,1,2,3,4,5,6,7,8,9]")
    assert data.spec.config["num_labels"] == 10
    assert {example.target for example in examples(data, "train")} == {5, 6, 7, 8, 9}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_permutation_is_a_bijection_of_its_seed(seed):
    order = permutation(seed)
    assert sorted(order) == list(range(64)) and order == permutation(seed)
    assert all(order != permutation(other) for other in (None, 3, 4))
    plain, data = read(), read(f"task.permute={seed}", seed=5)
    for split in SPLITS:
        assert numpy.array_equal(pixels_of(data, split), pixels_of(plain, split)[:, order])
        assert given(data, split) == given(plain, split)
    assert data.dataset("train").summary.endswith(f"pixels permuted (task.permute={seed})")


def test_several_permutations_are_the_data_of_each():
    parts, joint = [read(), read("task.permute=1")], read("task.permute=[null,1]")
    for split in SPLITS:
        assert numpy.array_equal(
            pixels_of(joint, split), numpy.concatenate([pixels_of(part, split) for part in parts])
        )
        assert given(joint, split) == given(parts[0], split) * 2


def test_a_subset_is_of_train_alone_and_the_seed_s():
    data = read("task.subset=100")
    assert [len(examples(data, split)) for split in SPLITS] == [100, 134, 450]
    assert data.rows.notes == ["train: 100 of 1213 rows chosen (task.subset=100, seed 0)"]
    few = read("task.subset='5 per class'", "task.modulo=5")
    assert sorted(given(few, "train")) == sorted("01234" * 10)  # five of each of the ten digits
    assert read("task.subset=100", seed=1).rows.fingerprint != data.rows.fingerprint
    permuted = read("task.subset=100", "task.permute=1")
    assert numpy.array_equal(pixels_of(permuted, "train"), pixels_of(data, "train")[:, permutation(1)])


def test_a_batch_is_pixels_by_name():
    data = read()
    batch = data.dataset("train").collate(examples(data, "train")[:3])
    assert batch["inputs"]["pixel_values"].shape == (3, 1, 8, 8)
    assert batch["inputs"]["pixel_values"].dtype == torch.float32
    assert 0 <= batch["inputs"]["pixel_values"].min() and batch["inputs"]["pixel_values"].max() <= 1


def test_an_epoch_of_images_is_a_shuffle_of_them_all():
    batches = EpochBatches([example.size for example in examples(read(), "train")], 32, 0, 0)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat) == list(range(1213)) and sorted(map(len, batches)) == [29] + [32] * 37
    drift = sum(abs(place - row) for place, row in enumerate(flat)) / 1213**2
    assert abs(drift - 1 / 3) < 0.03  # what a random order moves a row on average
    neighbours = sum(abs(a - b) == 1 for a, b in zip(flat, flat[1:], strict=False))
    assert neighbours < 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.classes=[1,10]"], "task.classes is a list of two or more different digits from 0 to 9, not"),
        (["task.classes=[3,3]"], "different digits from 0 to 9, not [3, 3]"),
        (["task.classes=[3]"], "two or more different digits from 0 to 9, not [3]"),
        (["task.classes=[]"], "two or more"),
        (["task.classes=[true,2]"], "digits from 0 to 9"),
        (["task.classes=5"], "task.classes is a list"),
        (["task.modulo=1"], "task.modulo is at least 2, not 1"),
        (["task.modulo=2.5"], "task.modulo is a whole number or null, not 2.5"),
        (["task.classes=[0,5]", "task.modulo=5"], "maps the digits [0, 5] to one label; two are needed"),
        (["task.permute=-1"], "a seed of at least 0, null for none, or a list of different ones, not -1"),
        (["task.permute=[1,1]"], "list of different ones, not [1, 1]"),
        (["task.permute=[]"], "task.permute is a seed"),
        (["task.permute=true"], "task.permute is a seed"),
        (["task.labels=[0,1]"], "task.labels=[0, 1] does not include '2', '3', '4'"),
        (["task.labels=[0,0]"], "task.labels=[0, 0]: labels must be different and not empty"),
        (["task.labels=ten"], "task.labels is a list of labels"),
        (["task.subset=0"], "task.subset=0: a number of rows"),
        (["+task.pixels=3"], "has no setting 'task.pixels'"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ConfigError) as caught:
        settings("task=digits", *words)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_smoke_preset_fits_every_task():
    smoke = settings("experiment=smoke", "task=digits", "model=mlp")
    assert smoke.task.subset == 64 and smoke.train.max_steps == 4
    assert settings("experiment=smoke").task.max_length == 32
    for kind in ("ner", "qa", "lm", "mlm", "image", "multilabel", "regress"):
        label = ["task.label=a"] if kind in ("multilabel", "regress") else []
        assert settings("experiment=smoke", f"task={kind}", "task.train=a.jsonl", *label).task.subset == 64


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that has learned all ten digits."""
    return ran(tmp_path_factory.mktemp("digits") / "made", settings("task=digits", *LEARN))


def test_a_perceptron_learns_the_digits(made):
    result = made.read_json("result.json")
    assert result["test_accuracy"] > 0.92 and result["eval_accuracy"] > 0.92
    assert result["reload_difference"] == 0.0
    cost = made.read_json("cost.json")
    assert cost["images_per_second"] > 0 and "tokens_per_second" not in cost


def written(path, pixels, more=None):
    """A csv of images, pixels from 0 to 1, and other columns."""
    more = more or {}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *more])
        for number, row in enumerate(pixels):
            values = ["" if numpy.isnan(value) else int(value * 16) for value in row]
            writer.writerow([*values, *(column[number] for column in more.values())])
    return str(path)


def test_evaluate_on_the_split_and_on_a_file_of_it(made, ftrun_inprocess, tmp_path):
    data = read()
    score = f"test_accuracy              {made.read_json('result.json')['test_accuracy']:.6f}"
    assert f"{score}   in the run" in ftrun_inprocess("evaluate", str(made.path)).stdout
    file = written(tmp_path / "test.csv", pixels_of(data, "test"), {"label": given(data, "test")})
    assert score in ftrun_inprocess("evaluate", str(made.path), "--input", file).stdout


def test_predict_answers_the_rows_of_a_file(made, ftrun_inprocess, tmp_path):
    data = read()
    pixels = pixels_of(data, "test")[:20].copy()
    pixels[3] = numpy.nan
    file = written(tmp_path / "new.csv", pixels)
    out = ftrun_inprocess("predict", str(made.path), "--input", file, "--output", "answered.csv").stdout
    assert "predicted 19 of 20 rows" in out
    answered = [row["answer"] for row in csv.DictReader((tmp_path / "answered.csv").read_text().splitlines())]
    assert answered[3] == "" and len(answered) == 20
    right = sum(one == other for one, other in zip(answered, given(data, "test"), strict=False))
    assert right >= 16


def asked(data, rows):
    """The examples of rows to be answered."""
    pixels = data.task.unanswered(rows, "some.csv")
    return examples(TaskData(data.task, DigitRows({"test": (pixels, None)}, inputs=rows)), "test")


def test_the_pixels_of_a_file_are_permuted_as_the_run_s():
    plain, data = read(), read("task.permute=3")
    rows = [dict(zip(COLUMNS, (row * 16).tolist(), strict=True)) for row in pixels_of(plain, "test")[:2]]
    assert numpy.array_equal(asked(data, rows)[1].inputs, examples(data, "test")[1].inputs)
    with pytest.raises(
        ConfigError, match=r"task.permute=\[1, 2\]: this run has 2 permutations, and some.csv"
    ):
        asked(read("task.permute=[1,2]"), rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "some.csv has no column 'pixel0', .* and 56 more; an image is pixel0 to pixel63"),
        (dict.fromkeys(COLUMNS, 0) | {"pixel5": "dark"}, "row 1: pixel5 is 'dark', not a number"),
        (dict.fromkeys(COLUMNS, 0) | {"pixel5": 17}, "pixel5 is '17', not"),
        (dict.fromkeys(COLUMNS, 0) | {"pixel5": ""}, "pixel5 is '', not"),
        (dict.fromkeys(COLUMNS, 0) | {"pixel5": float("nan")}, "pixel5 is 'nan', not"),
    ],
)  # fmt: skip
def test_a_file_without_images_is_refused(row, message):
    with pytest.raises(DataError, match=message):
        asked(read(), [row])


@pytest.mark.parametrize(
    ("more", "message"),
    [({}, "column 'label': a row has no label"), ({"label": ["ten"]}, "'ten' is not one of the 10 labels")],
)
def test_a_file_to_score_needs_labels(made, ftrun_inprocess, tmp_path, more, message):
    file = written(tmp_path / "new.csv", pixels_of(read(), "test")[:1], more)
    result = ftrun_inprocess("evaluate", str(made.path), "--input", file, check=False)
    assert result.returncode == 3 and result.stderr.count("\n") == 1
    assert f"{file}, row 1" in result.stderr and message in result.stderr


@pytest.mark.ci
def test_killed_and_resumed_it_is_the_same_run(tmp_path):
    short = "task.subset=100", "train.epochs=2", "train.checkpoint_every=3", "train.eval_every=5"
    words = "task=digits", "task.permute=[null,1]", *LEARN[:2], *short
    for path, moments in ((tmp_path / "whole", [0]), (tmp_path / "killed", [25, 0])):
        for moment in moments:
            assert in_process(path, words, moment) == (-signal.SIGKILL if moment else 0)
    assert Run(tmp_path / "killed").finished
    same(tmp_path / "whole", tmp_path / "killed")
