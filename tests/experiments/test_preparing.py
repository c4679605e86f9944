"""A run whose settings stand at auto writes numbers into its config.yaml, and is repeated by them."""

import pytest
from lab import EACH_KIND, EXTRA, ran, settings

from ftrun.settings.read import STAND_INS


def auto(files, model, *words):
    return settings(
        "task=classify", f"task.train={files}/train.csv", f"task.validation={files}/validation.csv",
        f"task.test={files}/test.csv", f"model.name={model}", "task.max_length=32", "task.subset=24",
        "train.epochs=2", "device=cpu", *(word.replace("{files}", str(files)) for word in words),
    )  # fmt: skip


@pytest.mark.parametrize("strategy", EACH_KIND)
def test_every_strategy_has_numbers_in_the_end(toy_files, still_dir, tmp_path, strategy):
    run = ran(tmp_path / "run", auto(toy_files, still_dir, f"strategy={strategy}", *EXTRA.get(strategy, [])))
    left = {name for name in STAND_INS if run.config["train"][name] == "auto"}
    solved = "l2" in run.read_json("result.json")  # without steps nothing comes of what was left to auto
    assert solved == (strategy == "linear_probe")
    assert left == ({*STAND_INS} - {"epochs"} if solved else set())
    assert run.config["model"]["pooling"] != "auto"


def test_a_run_is_repeated_by_its_numbers(toy_files, still_dir, tmp_path, capsys):
    first = ran(tmp_path / "first", auto(toy_files, still_dir, "strategy=lora"))
    assert (
        "auto: 24 rows → 2 epochs of 3 steps, 6 in all, in batches of 8; rate 0.03 for lora"
        in capsys.readouterr().out
    )
    train = first.config["train"]
    words = [f"train.{name}={train[name]}" for name in STAND_INS]
    again = ran(tmp_path / "again", auto(toy_files, still_dir, "strategy=lora", *words))
    assert "auto:" not in capsys.readouterr().out
    assert again.metrics() == first.metrics()
    assert again.config == first.config
    assert first.asked["train"]["lr"] == "auto" and again.asked["train"]["lr"] == train["lr"]


def test_few_labels_are_the_default_of_the_embedded_data():
    from ftrun.tasks.data import TaskData

    rows = TaskData.read(settings().task, 0).rows.splits
    assert {split: len(rows[split]) for split in ("train", "validation")} == {"train": 96, "validation": 96}
    assert 500 <= len(rows["test"]) <= 700  # as many docstrings as this Python has
