"""Every strategy on every task: it runs, what it saved answers the same, and what makes no sense says so."""

import re
from functools import cache

import pytest
from lab import EACH, ran, sampled, settings
from toys_tasks import BERT, CONTRASTIVE, words_of

from ftrun.errors import ConfigError, DataError
from ftrun.experiments.probing import answered_out_of_fold
from ftrun.models.load import load, outline
from ftrun.reports.mistakes.showing import answered_in, judged, sections_of, table_of
from ftrun.tasks.data import TaskData, learned
from ftrun.tasks.dataset import SPLITS
from ftrun.tasks.scorer import PROBABILITIES, prediction_lines

TASKS = [*sorted(BERT), "lm", "mlm", "vit", "resnet", *CONTRASTIVE]
SMALL = ["train.max_steps=2", "train.batch_size=8", "task.subset=16"]
SOURCE = ["source=pretraining", "source.rows=8", "source.max_length=16"]
NO_HEAD = "trains a new head, which task=.* does not have"
ADAPTED = "strategy=adapter keeps a pretrained network, but model.init=random"  # test_image.py has one
REFUSED = {  # strategy, task → why
    ("linear_probe", "lm"): NO_HEAD, ("lp_ft", "lm"): NO_HEAD,
    ("linear_probe", "mlm"): NO_HEAD, ("lp_ft", "mlm"): NO_HEAD,
    ("adapter", "vit"): ADAPTED,
    ("adapter", "resnet"): ADAPTED,
    ("linear_probe", "simclr"): NO_HEAD, ("lp_ft", "simclr"): NO_HEAD,
    ("linear_probe", "moco"): NO_HEAD, ("lp_ft", "moco"): NO_HEAD,
    ("adapter", "simclr"): ADAPTED,
    ("adapter", "moco"): ADAPTED,
}  # fmt: skip
for kind in ("lm", "mlm", "vit", "resnet", *CONTRASTIVE):
    REFUSED["prompt", kind] = "strategy=prompt puts vectors in front of a text that gets an answer, and task="
for kind in ("vit", "resnet", *CONTRASTIVE):
    REFUSED["prefix", kind] = ADAPTED.replace("adapter", "prefix")
for kind in ("ner", "qa", "lm", "mlm", *CONTRASTIVE):
    REFUSED["setfit", kind] = "strategy=setfit pairs rows that have labels, and task=.* gives rows none"
    REFUSED["distil", kind] = "strategy=distil learns one answer for each row, and task=.* gives others"
REFUSED["setfit", "regress"] = REFUSED["setfit", "ner"]
for kind in ("resnet", "moco"):
    REFUSED["ia3", kind] = "strategy=ia3 scales the linear layers of a block, and in .* none is known"
    REFUSED["vera", kind] = "strategy=vera adapts linear layers, and the layers of .* have none"


def extra(strategy, task, place):
    """What a strategy needs to be told on networks as small as these."""
    found = {"freeze": ["bottom=1"], "gradual_unfreeze": ["every=0.2"]}.get(strategy, [])
    if strategy in ("ewc", "replay"):
        text = place / "text.txt"
        text.write_text("\n".join(f"a film of {letter} music and a story" for letter in "abcdefghijklmnop"))
        found = [*SOURCE, f"source.text={text}", *(["samples=8"] if strategy == "ewc" else ["buffer=16"])]
    if strategy == "distil":
        found = [f"teacher={place}/teacher"]
    return found


@pytest.fixture(scope="module")
def given(tiny_dir, tmp_path_factory):
    """`given(task)`: its settings, of files and networks that are made once."""
    return cache(lambda task: words_of(task, tmp_path_factory.mktemp(task), tiny_dir))


@pytest.mark.parametrize(("strategy", "task"), sampled(EACH, TASKS, 4))
def test_every_strategy_on_every_task(strategy, task, given, tmp_path):
    words = ["experiment=smoke", f"strategy={strategy}", *given(task), *SMALL]
    if strategy in ("ewc", "replay") and task in ("vit", "resnet", *CONTRASTIVE):
        pytest.skip("its source would be another run of images; see test_image.py")
    words += extra(strategy, task, tmp_path)
    why = REFUSED.get((strategy, task))
    if why:
        with pytest.raises(ConfigError, match=why):
            ran(tmp_path / "run", settings(*words))
        assert not (tmp_path / "run").exists()
        return
    run = ran(tmp_path / "run", settings(*words))
    result, card = run.read_json("result.json"), run.read_json("data.json")
    assert result["strategy"] == strategy and 0 < result["trained_parameters"] <= result["total_parameters"]
    assert result["reload_difference"] < 1e-4
    assert {*card["rows"]} == {*card["duplicates"]} == {*SPLITS} and "leaks" in card and card["notes"]
    if strategy == "full":
        tells_its_mistakes(run, task)


def tells_its_mistakes(run, task):
    """`ftrun errors`, and every line of predictions.jsonl has its place in a file."""
    lines = answered_in(run)
    if task in ("lm", "mlm"):
        with pytest.raises(ConfigError, match="its rows have no labels, so no answer can be wrong"):
            judged(lines, "here")
        return
    assert all({"text", "file", "file_row"} <= line.keys() for line in lines)
    found = judged(lines, "here")
    sections = sections_of(found, "test", 3, 90)
    assert f"{len(lines)} test row" in sections[0].title and all(len(s.rows) <= 3 for s in sections)
    assert len(table_of(found)) >= len(found.wrong)
    if PROBABILITIES in lines[0]:
        rows, how = answered_out_of_fold(run)
        assert len(rows) == 16 and "on the frozen features of" in how
        assert judged(prediction_lines(rows), "here").lines[0]["text"]
    else:
        with pytest.raises(ConfigError, match="--split train: out-of-fold probabilities are those of labels"):
            answered_out_of_fold(run)


@pytest.mark.parametrize("task", TASKS)
def test_what_train_shares_with_another_split_is_a_leak(task, given):
    words = given(task)
    source = next(word for word in words if word.startswith("task.train=")).partition("=")[2]
    words = [*words, f"task.test={source}", "task.validation=null", "task.subset=null"]
    notes = settings(*words).task.load(0).notes
    assert any(
        re.match(r"warning: LEAK: \d+ of \d+ test \w+ (is|are) also in train \('", note) for note in notes
    )
    chosen = settings(*words)
    data = TaskData.read(chosen.task, 0)  # as of a finished run, of whose file some rows are scored again
    other = TaskData(chosen.task, chosen.task.load_file(source, True, data.spec), data.spec)
    (leak,) = learned(data, other, ["test"], "what it knows")
    assert leak.line().startswith(f"{leak.count()} ('") and leak.count().endswith(" among what it knows")
    assert 0 < leak.rows <= leak.of
    for way, message in (("error", "task.leaks=error: .* test"), ("drop", "leaves no training row")):
        with pytest.raises(DataError, match=message):
            settings(*words, f"task.leaks={way}").task.load(0)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_s_outline_has_its_parts_and_no_weights(task, given):
    chosen = settings(*given(task))
    spec = TaskData.read(chosen.task, 0).spec
    found, whole = outline(chosen.model, chosen.task.spec(None)), load(chosen.model, spec, 0)
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in whole.named_parameters()]
    assert all(parameter.is_meta for parameter in found.parameters()) and found.source == whole.source
