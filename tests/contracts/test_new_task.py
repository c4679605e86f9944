"""To add a task is one file of about a hundred lines and one YAML: here one that is no part of ftrun."""

import csv
import json
import random
import sys

from toys import SPLITS, toy_rows

KIND = '''\
"""Whether a text is short or long: a class of the number in a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftrun.data.label_columns import LabelColumn, number_in
from ftrun.data.labels import Labels
from ftrun.settings.checks import at_least
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.parts import labelled
from ftrun.tasks.parts.table import TextTable
from ftrun.tasks.parts.table_rows import TableRows, labels_of_rows, texts_of

if TYPE_CHECKING:
    from ftrun.models.spec import Spec
    from ftrun.tasks.data import TaskData
    from ftrun.tasks.objective import Objective

NAMES = ("short", "long")


@dataclass
class LengthClass(TextTable):
    """One text column or a pair of them, and a column with its number of words."""

    limit: int  # words of a short text at most

    def __post_init__(self) -> None:
        at_least("task.limit", self.limit, 1)
        super().__post_init__()

    def reading(self) -> LabelColumn:
        return LabelColumn(self.class_of, list, "length class", None)

    def class_of(self, cell: Any) -> str | None:
        words = number_in(cell)
        return None if words is None else NAMES[words > self.limit]

    def load(self, seed: int) -> TableRows:
        return self.rows_from(self.load_table(seed), Labels(list(NAMES), []), [])

    def spec(self, source: Any) -> Spec:
        return self.spec_of(NAMES, labelled.head_of(NAMES))

    def targets(self, rows: Sequence[dict[str, Any]], spec: Spec) -> list[Any]:
        return [NAMES.index(row[self.label]) for row in rows]

    def describe(self, data: TaskData) -> dict[str, Any]:
        from ftrun.data.card import frequencies

        labels, texts = labels_of_rows(data), {split: texts_of(data, split) for split in SPLITS}
        return {"labels": frequencies(labels), "baselines": labelled.baselines(data, texts, labels)}

    def objective(self, data: TaskData) -> Objective:
        return labelled.class_objective(data, weighted=False)

    def scorer(self, data: TaskData) -> labelled.ClassScorer:
        return labelled.ClassScorer(NAMES)
'''

OPTION = """\
# Whether a text is short or long.
kind: mytasks.length_class
name: length_class
train: null
validation: null
test: null
text: text
label: words
limit: 12
max_length: 32
long: truncate
stride: auto
aggregate: mean
subset: null
leaks: warn
folds: null
fold: null
split_seed: 0
group: null
time: null
slices: []
stream: false
"""


def write_task(place):
    """The task as its author has it: a module and an option beside each other."""
    for file, content in (("mytasks/length_class.py", KIND), ("conf/task/length_class.yaml", OPTION)):
        (place / file).parent.mkdir(parents=True)
        (place / file).write_text(content)


def forget(place):
    """As in a new process: neither the module nor where it is found is known."""
    sys.path[:] = [each for each in sys.path if each != str(place)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "mytasks"]:
        del sys.modules[name]


def write_table(file, count, seed):
    """A csv of texts and the number of their words; returns the texts."""
    texts = [text for text, _ in toy_rows(count, random.Random(seed))]
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerows([["text", "words"], *([text, len(text.split())] for text in texts)])
    return texts


def test_a_task_of_one_s_own_is_one_file_and_one_yaml(ftrun_inprocess, tiny_model_dir, tmp_path):
    assert KIND.count("\n") < 110
    write_task(tmp_path)
    for seed, (split, count) in enumerate(SPLITS.items()):
        write_table(tmp_path / f"{split}.csv", count, seed)
    given = [f"task.{split}={split}.csv" for split in SPLITS]
    learn = ["train.epochs=6", "train.lr=1e-2", "train.batch_size=16", "model.pooling=mean"]
    said = ftrun_inprocess(
        "--config-dir", "conf", "task=length_class", "strategy=full", f"model.name={tiny_model_dir}", *given,
        *learn, "device=cpu", "hydra.run.dir=run",
    ).stdout  # fmt: skip
    assert "train: 120 rows" in said
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["task"] == "length_class" and result["metric"] == "eval_accuracy"
    assert result["test_accuracy"] > 0.8 and result["reload_difference"] < 1e-6
    card = json.loads((tmp_path / "run" / "data.json").read_text())
    assert card["labels"]["train"].keys() == {"short", "long"} and "majority" in card["baselines"]

    texts = write_table(tmp_path / "new.csv", 30, 7)
    forget(tmp_path)
    said = ftrun_inprocess("predict", "run", "--input", "new.csv", "--output", "out.csv").stdout
    assert "predicted 30 of 30 rows: out.csv" in said
    answered = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["text"] for row in answered] == texts
    right = [row["answer"] == ("long" if int(row["words"]) > 12 else "short") for row in answered]
    assert sum(right) > 0.8 * len(right) and all(0.5 <= float(row["probability"]) <= 1 for row in answered)
    forget(tmp_path)
    scored = ftrun_inprocess("evaluate", "run", "--input", "new.csv").stdout
    assert f"test_accuracy              {sum(right) / len(right):.6f}" in scored
    forget(tmp_path)


def test_a_wrong_setting_of_one_s_own_task_is_one_line(ftrun_inprocess, tmp_path):
    write_task(tmp_path)
    words = "--config-dir", "conf", "task=length_class", "task.train=a", "task.limit=0"
    said = ftrun_inprocess(*words, check=False)
    forget(tmp_path)
    assert said.returncode == 2 and "task.limit is at least 1, not 0" in said.stderr
    assert said.stderr.count("\n") == 1
