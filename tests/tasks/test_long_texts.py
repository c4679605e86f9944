"""task.long=windows: a row is read in windows, counts once in the loss, and has one answer."""

import csv
import json
import random

import pytest
import torch
import toys_text
from lab import ran, settings
from toys import PLAIN, TELLING

from ftrun.errors import ConfigError
from ftrun.experiments.probing import answered_out_of_fold
from ftrun.models.load import load
from ftrun.settings.seeds import stream
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import Draw, windows_of
from ftrun.tasks.objective import outputs_of
from ftrun.tasks.parts.long_texts import LongText
from ftrun.training.gradients.prepared import Batches
from ftrun.training.kept.kept import Kept

SPLIT = "task.long=windows", "task.max_length=12", "task.stride=2"
QUICK = "train.batch_size=16", "device=cpu", "train.epochs=1", "baselines=false"
PLAIN_KEPT = Kept.__new__(Kept)  # keeps nothing
PLAIN_KEPT.rows = None


def words_of(kind, place, model):
    own = {"multilabel": toys_text.multilabel, "regress": toys_text.regress}[kind](place)
    return [*own, f"model.name={model}", "device=cpu"]


def far(place):
    """Texts of 20 words, of which one of the last four tells the label; every eighth has 4 words."""
    chance = random.Random(0)
    for split, count in {"train": 96, "validation": 32, "test": 32}.items():
        with (place / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["text", "label"])
            for number in range(count):
                label = ("negative", "positive")[number % 2]
                text = chance.choices(PLAIN, k=20 if number % 8 else 4)
                text[-chance.randint(1, 4)] = chance.choice(TELLING[label])
                writer.writerow([" ".join(text), label])
    return [
        "task=classify",
        *(f"task.{split}={place / split}.csv" for split in ("train", "validation", "test")),
    ]


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_model_dir):
    """A run that read all of its texts, and one that read their beginnings."""
    place = tmp_path_factory.mktemp("far")
    steps = "train.lr=1e-2", "train.epochs=10", "train.warmup=0", "train.eval_every=30", "train.patience=null"
    own = f"model.name={tiny_model_dir}", "model.pooling=mean", "train.batch_size=16", "device=cpu"
    base = [*far(place), *own, *steps, "baselines=false"]
    return {
        long: ran(place / long, settings(*base, *SPLIT, f"task.long={long}"))
        for long in ("windows", "truncate")
    }


def test_a_word_behind_the_length_is_learned_in_windows_alone(learned):
    scores = {long: run.read_json("result.json")["test_accuracy"] for long, run in learned.items()}
    assert scores["windows"] > 0.9 and scores["truncate"] < 0.8, scores
    lengths = learned["windows"].read_json("data.json")["lengths"]["test"]
    assert lengths["rows"] == 32 and lengths["long"] == 28 and lengths["windows"] == 84
    assert len(learned["windows"].read_json("result.json")["rows"]) == 3
    lines = (learned["windows"].path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(32))


def test_what_has_learned_it_answers_alike_everywhere(learned, ftrun_inprocess, tmp_path):
    run = learned["windows"]
    score = run.read_json("result.json")["test_accuracy"]
    assert f"{score:.6f}" in ftrun_inprocess("evaluate", str(run.path)).stdout
    file = run.config["task"]["test"]
    ftrun_inprocess("predict", str(run.path), "--input", file, "--output", "out.jsonl")
    own = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text().splitlines()]
    theirs = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for one, other in zip(own, theirs, strict=True):
        assert one["answer"] == other["answer"] and one["probability"] == pytest.approx(other["probability"])
    new = [{"text": " ".join([*PLAIN, *PLAIN, word])} for word in ("good", "bad", "dull")]
    toys_text.write(tmp_path / "new.csv", new)
    found = ftrun_inprocess("suggest", str(run.path), "--input", "new.csv", "--rows", "2").stdout
    assert "2 rows chosen out of 3" in found
    assert "calibrat" in ftrun_inprocess("calibrate", str(run.path), check=False).stdout.lower()
    card = (run.model_dir / "README.md").read_text()
    assert "task.long=windows" in card and "12 tokens" in card


def test_a_text_in_windows_is_as_long_as_in_one_piece(tmp_path, tiny_model_dir):
    """What its windows share counts once: in the slices by length, as in the data card."""
    words = [*far(tmp_path), f"model.name={tiny_model_dir}"]
    found = {}
    for name, more in {"windows": SPLIT, "whole": ["task.max_length=64"]}.items():
        data, _ = opened([*words, *more])
        found[name] = data.rows.lengths(data.dataset("train").examples)
        assert data.dataset("train").lengths["longest"] == max(found[name].values())
    assert found["windows"] == found["whole"] and max(found["whole"].values()) > 12


@pytest.mark.parametrize("words", [[], ["task.balance=weights"], ["strategy=linear_probe"]])
def test_short_texts_are_learned_to_the_byte_as_without(toy_words, tmp_path, words):
    one, other = (
        ran(tmp_path / long, settings(*toy_words, *QUICK, *words, f"task.long={long}", "train.max_steps=3"))
        for long in ("truncate", "windows")
    )
    for name in ("metrics.jsonl", "predictions.jsonl", "result.json"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name


def opened(words):
    """The data of an experiment, encoded, and its network."""
    experiment = settings(*words)
    data = TaskData.read(experiment.task, 0)
    model = load(experiment.model, data.spec, stream(0, "init")).eval()
    data.encode(model.tokenizer, "train", "validation")
    return data, model


@pytest.mark.parametrize("how", ["mean", "max"])
def test_an_answer_is_the_mean_or_maximum_of_its_windows_alone(tiny_model_dir, tmp_path, how):
    words = [*far(tmp_path), f"model.name={tiny_model_dir}", "device=cpu"]
    data, model = opened([*words, *SPLIT, f"task.aggregate={how}"])
    train = data.dataset("train")
    long, short = train[1], train[0]
    assert isinstance(long, LongText) and len(long.windows) == 3 and len(short.windows) == 1
    texts = [window.inputs for window in long.windows]
    assert [len(ids) for ids in texts] == [12, 12, 6]  # 20 words, of which neighbours share two
    assert texts[0][-3:-1] == texts[1][1:3] and texts[1][-3:-1] == texts[2][1:3]
    with torch.no_grad():
        together = outputs_of(model, data.objective, train.collate([short, long]))
        alone = [outputs_of(model, data.objective, train.collate([each])) for each in long.windows]
        mine = torch.cat(alone)
        wanted = mine.mean(0) if how == "mean" else mine.max(0).values
        exactly = outputs_of(model, data.objective, train.collate([long]))
    torch.testing.assert_close(exactly[0], wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(together[1], wanted, rtol=0, atol=1e-6)
    assert together.shape == (2, 2)


def losses(kind, outputs, label):
    if kind == "regress":
        return (outputs[:, 0] - label).square().mean()
    probability = outputs.sigmoid()
    return -(label * probability.log() + (1 - label) * (1 - probability).log()).sum(-1).mean()


@pytest.mark.parametrize("kind", ["multilabel", "regress"])
@pytest.mark.parametrize("size", [16, 2])
def test_the_gradient_is_that_of_the_mean_over_windows_then_over_rows(tiny_model_dir, tmp_path, kind, size):
    """Whatever the micro-batch: (mean over the windows of the long row + the loss of the short one) / 2."""
    data, model = opened([*words_of(kind, tmp_path, tiny_model_dir), "task.long=windows", "task.max_length=6",
                          "task.stride=1"])  # fmt: skip
    train = data.dataset("train")
    long = max(range(len(train)), key=lambda place: len(train[place].windows))
    short = min(range(len(train)), key=lambda place: len(train[place].windows))
    assert len(train[long].windows) > 2 and len(train[short].windows) < len(train[long].windows)
    objective = data.objective.train()
    ready = Batches(train, PLAIN_KEPT, torch.device("cpu")).of([long, short], Draw(0, 0, 0), size)
    assert all(len(batch["labels"]) <= size for batch in ready.host)
    count = objective.count(ready.host)
    assert count == pytest.approx(2)
    for batch in ready.batches:
        (objective.loss(outputs_of(model, objective, batch), batch).sum / count).backward()
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    whole = 0.0
    for place in (long, short):
        labels = train.collate([train[place]])["labels"][0].float()
        outputs = [outputs_of(model, objective, train.collate([each])) for each in train[place].windows]
        whole = whole + losses(kind, torch.cat(outputs), labels)
    (whole / 2).backward()
    assert found
    for name, value in model.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)


def test_frozen_parts_are_kept_window_by_window(tiny_model_dir, tmp_path, capsys):
    words = [*far(tmp_path), f"model.name={tiny_model_dir}", *QUICK, *SPLIT]
    both = [
        ran(tmp_path / keep, settings(*words, "strategy=freeze", "bottom=1", f"train.keep={keep}"))
        for keep in ("true", "false")
    ]
    assert "features of 352 rows kept" in capsys.readouterr().out  # 112 long rows of 3 windows and 16 others
    one, other = ((run.path / "predictions.jsonl").read_bytes() for run in both)
    assert one == other


def test_evaluation_batches_have_at_most_so_many_windows(tiny_model_dir, tmp_path):
    from accelerate import Accelerator

    from ftrun.training.evaluate import batches_of

    data, _ = opened([*far(tmp_path), f"model.name={tiny_model_dir}", "device=cpu", *SPLIT])
    train = data.dataset("train")
    batches = batches_of(train, 1, Accelerator(cpu=True))
    assert sorted(place for batch in batches for place in batch) == list(range(96))
    sizes = [len(windows_of([train[place] for place in batch])) for batch in batches]
    assert max(sizes) <= 32 and sum(sizes) == 84 * 3 + 12


@pytest.mark.parametrize(
    "words, message",
    [
        (["task.stride=8"], "task.stride is at most 7, not 8: the 12 tokens of task.max_length also hold"),
        (["task.stride=-1"], "task.stride is at least 0, not -1"),
        (["task.aggregate=sum"], "task.aggregate is one of mean, max, not 'sum'"),
        (["task.stream=true"], "task.long=windows: task.stream=true keeps .*; possible: task.long=truncate"),
        (["task.text=[text,other]"], "task.long=windows: task.text has two columns"),
        (["train.shard=true"], "train.shard=true needs as many in each process; possible: train.shard=false"),
        (["strategy=setfit"], "strategy=setfit .* task.long=windows does not allow"),
        (["strategy=distil"], "strategy=distil learns one answer for a row, and task.long=windows"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_windows(toy_words, words, message):
    with pytest.raises(ConfigError, match=message):
        settings(*toy_words, *SPLIT, *words)


def test_a_head_is_solved_for_on_the_mean_of_a_rows_windows(tiny_model_dir, tmp_path):
    """Whose logits are the mean of theirs, as is proved at first; a maximum has no such vector."""
    own = f"model.name={tiny_model_dir}", "model.pooling=mean", "strategy=linear_probe"
    words = *far(tmp_path), *own, *QUICK, *SPLIT
    run = ran(tmp_path / "run", settings(*words))
    assert run.config["solver"] == "lbfgs" and run.read_json("result.json")["reload_difference"] < 1e-6
    rows, said = answered_out_of_fold(run)
    assert len(rows) == 96 and "frozen features" in said
    assert not settings(*words, "task.aggregate=max").task.spec(None).regression
