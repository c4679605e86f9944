"""Numbers are read a step late, and nothing that a run leaves behind shows it."""

import json
import math
from pathlib import Path

import pytest
import torch
from lab import EACH_KIND, STEPPING, STRATEGIES, kept, ran, toy
from toys_tasks import words_of

from ftrun.data.batching import batches_by_tokens, sorted_batches
from ftrun.errors import Diverged
from ftrun.experiments import single
from ftrun.settings import schedules
from ftrun.training import checkpoint, evaluate, loop, step
from ftrun.training.agreement import ASKED_EVERY, Agreement
from ftrun.training.gradients.gradient import Gradient, share_of
from ftrun.training.late import Numbers, one_late
from ftrun.training.loop import Loop
from ftrun.training.state import State
from ftrun.training.step import Step

CPU = torch.device("cpu")
WORDS = (
    "task.subset=16", "train.batch_size=4", "train.max_steps=12", "train.eval_every=6", "train.lr=3e-3",
    "train.checkpoint_every=5", "baselines=false",
)  # fmt: skip
TASKS = ("pairs", "multilabel", "regress", "ner", "qa", "lm", "mlm", "vit", "resnet", "simclr", "moco")
WAITS = {"l2sp", "ewc"}  # they pull after a step, so that the host must know at once that it was taken


def spoilt(monkeypatch, steps):
    """At these steps loss and gradient are not numbers, only the gradient, or only the loss, in turn."""
    honest = Gradient.of

    def of(self, rows, state, clear):
        loss, count = honest(self, rows, state, clear)
        kind = steps.index(state.step) % 3 if state.step in steps else None
        if kind in (0, 1):
            for parameter in self.model.trained().values():
                if parameter.grad is not None:
                    parameter.grad *= math.nan
        return loss * (math.inf if kind in (0, 2) else 1), count

    monkeypatch.setattr(Gradient, "of", of)


def left_behind(path: Path) -> dict[str, bytes]:
    """What a run leaves behind, but for its times."""
    found = {"metrics.jsonl": (path / "metrics.jsonl").read_bytes()}
    for which in ("last", "best"):
        place, _ = checkpoint.newest(path / "checkpoints" / which)
        for file in place.glob("*.safetensors"):
            found[f"{which}/{file.name}"] = file.read_bytes()
        state = checkpoint.read_state(place)
        tokens = state.pop("cost", {}).get("tokens")
        found[which] = json.dumps([state, tokens]).encode()
    return found


@pytest.fixture
def short(taught, monkeypatch):
    """A run is its loop alone: no check before it, no test and no saved model after it."""
    monkeypatch.setattr(single, "preflight", lambda loop: None)
    monkeypatch.setattr(single, "finish", lambda loop, *others: 0.0)


@pytest.fixture
def both_ways(toy_files, tiny_dir, tmp_path, monkeypatch, short):
    """A function that trains with numbers read late and at once: both runs, and the steps read late."""
    late = {}
    honest = Step.take

    def take(self, rows):
        honest(self, rows)
        if self.pending is not None:
            late.setdefault(self.run_directory.path, []).append(self.pending.step)

    monkeypatch.setattr(Step, "take", take)
    monkeypatch.setattr(schedules, "LOG_POINTS", 3)

    def run(*words):
        paths = tmp_path / "late", tmp_path / "at_once"
        for path in paths:
            with monkeypatch.context() as patch:
                if path.name == "at_once":
                    patch.setattr(Step, "known_at_once", lambda self: True)
                try:
                    ran(path, toy(toy_files, tiny_dir("bert"), *WORDS, *words))
                except Diverged as error:
                    (path / "says").write_text(str(error))
        return paths, late

    return run


@pytest.mark.parametrize("strategy", EACH_KIND)
def test_a_step_that_is_read_late_is_the_step_that_is_read_at_once(both_ways, monkeypatch, strategy):
    """Steps 3, 7 and 8 are not finite: they are skipped on the device, or not taken by the host."""
    spoilt(monkeypatch, [3, 7, 8])
    (late, at_once), pending = both_ways(f"strategy={strategy}", *STEPPING.get(strategy, []))
    assert at_once not in pending
    assert (late in pending) == (strategy not in WAITS)
    if strategy not in WAITS:
        assert {3, 7} & {*pending[late]}
    ours, theirs = left_behind(late), left_behind(at_once)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    place, _ = checkpoint.newest(late / "checkpoints" / "last")
    assert checkpoint.read_state(place)["updates"] == 12 - 3


@pytest.mark.parametrize("words", [["train.optimizer=sgd"], ["train.micro_batch=3", "train.layer_decay=0.9"]])
def test_so_it_is_with_other_settings(both_ways, monkeypatch, words):
    spoilt(monkeypatch, [0, 3, 7])  # without a first step SGD has no momentum yet
    (late, at_once), pending = both_ways(*words)
    assert late in pending and left_behind(late) == left_behind(at_once)


def test_three_in_a_row_end_the_run_with_the_same_report(both_ways, monkeypatch):
    """Steps 5, 6 and 7, of which the last is read when step 8 is under way."""
    spoilt(monkeypatch, [5, 6, 7])
    (late, at_once), pending = both_ways("train.checkpoint_every=12", "train.eval_every=12")
    assert 7 in pending[late]
    for file in ("divergence.json", "says", "metrics.jsonl"):
        assert (late / file).read_bytes() == (at_once / file).read_bytes()
    report = json.loads((late / "divergence.json").read_text())
    assert (report["step"], report["non_finite_steps"]) == (7, 3) and len(
        report["rows_of_the_last_batch"]
    ) == 4


@pytest.mark.parametrize("words", [[], ["strategy=lp_ft", "probe=0.5"]])
def test_a_weight_is_updated_the_same_in_whatever_group(
    toy_files, tiny_dir, tmp_path, monkeypatch, short, words
):
    found = {}
    for name, merge in (("merged", step.merged), ("apart", lambda found, course: found)):
        kept = []
        monkeypatch.setattr(
            step, "merged", lambda *all, merge=merge, kept=kept: kept.append(merge(*all)) or kept[0]
        )
        run = ran(tmp_path / name, toy(toy_files, tiny_dir("bert"), *WORDS, *words))
        found[name] = left_behind(run.path), len(kept[0])
    assert found["merged"][0] == found["apart"][0]
    assert found["merged"][1] < found["apart"][1]


@pytest.mark.parametrize(("seconds", "expected"), [(1e9, [8, 12]), (0.0, [3, 6, 8, 9, 12])])
def test_a_checkpoint_follows_an_evaluation_only_if_the_last_one_is_old(
    toy_files, tiny_dir, tmp_path, monkeypatch, short, seconds, expected
):
    honest, saved = Loop.save, []
    monkeypatch.setattr(Loop, "save", lambda self: saved.append(self.state.step) or honest(self))
    monkeypatch.setattr(loop, "BETWEEN_SAVES", seconds)
    words = *WORDS, "train.eval_every=3", "train.checkpoint_every=8", "train.patience=null"
    ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    assert saved == expected


def waits_in_a_step(words, place):
    """Where the host would wait for a GPU, and kernels."""
    import syncs

    found = syncs.measured([*words, "train.batch_size=4"], place, "cpu")
    return list(found["places"]), found["kernels_per_step"]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts/bench"))


@pytest.mark.parametrize("strategy", kept(STRATEGIES, ("full", "lora", "replay")))
def test_an_ordinary_step_waits_for_nothing(toy_files, tiny_dir, taught, tmp_path, short, bench, strategy):
    words = [f"task.{split}={toy_files}/{split}.csv" for split in ("train", "validation", "test")]
    words += ["task=classify", f"model.name={tiny_dir('bert')}", "task.max_length=32", f"strategy={strategy}"]
    words += [word.format(files=toy_files) for word in STEPPING.get(strategy, [])]
    places, kernels = waits_in_a_step(words, tmp_path / "run")
    assert places == [] and kernels < (900 if strategy == "replay" else 450)


@pytest.mark.parametrize("task", kept(TASKS, ("mlm",)))
def test_an_ordinary_step_of_every_task_waits_for_nothing(tiny_dir, tmp_path, short, bench, task):
    (tmp_path / "data").mkdir()
    own = [word for word in words_of(task, tmp_path / "data", tiny_dir) if word != "device=cpu"]
    places, _ = waits_in_a_step(["experiment=smoke", *own], tmp_path / "run")
    allowed = {  # kornia looks at the width of a blur; the queue's pointer is on the host
        "simclr": ["filters/gaussian.py"],
        "moco": ["filters/gaussian.py", "contrastive/momentum_encoder.py"],
    }
    assert [one for one in places if not any(f" {name}:" in one for name in allowed.get(task, []))] == []


def test_counting_finds_what_is_read(bench):
    import syncs

    values = torch.arange(3.0)
    with syncs.Counts() as counts:
        float(values.sum())
        values[values > 1]
        bool(values.all())
    assert sum(counts.waits.values()) == 3 and all("test_late.py" in place for place in counts.waits)


def test_numbers_come_in_their_order():
    values = [torch.tensor(0.1), 3.0, torch.tensor(7), torch.tensor(1.5, dtype=torch.float64)]
    assert Numbers(values, CPU).read() == [float(torch.tensor(0.1)), 3.0, 7.0, 1.5]


def test_a_count_of_all_processes_weighs_a_loss_as_the_number_does():
    losses = torch.rand(1000)
    for count in (1.0, 7.0, 1234.0, 0.0):
        on_device = share_of(2 * 0.9, torch.tensor(count, dtype=torch.float64))
        assert torch.equal(losses * on_device, losses * share_of(2 * 0.9, count))


def test_what_was_launched_is_handed_on_when_the_next_is_launched_too():
    order = []
    launches = (order.append(f"launch {n}") or n for n in range(3))
    for number, _ in one_late(launches, CPU):
        order.append(f"read {number}")
    assert order == ["launch 0", "launch 1", "read 0", "launch 2", "read 1", "read 2"]


def test_batches_by_tokens_grow_as_their_examples_shrink():
    lengths = [100, 1, 50, 50, 25, 25, 25, 25, 1, 1]
    assert batches_by_tokens(lengths, 1) == [[0], [2, 3], [4, 5, 6, 7], [1, 8, 9]]
    assert batches_by_tokens([5] * 7, 3) == sorted_batches([5] * 7, 3)
    assert max(map(len, batches_by_tokens([1000, *[1] * 100], 1))) == 16
    assert batches_by_tokens([], 4) == []


def test_batches_by_tokens_score_the_same(toy_files, still_dir, tmp_path, monkeypatch, short):
    found = []
    monkeypatch.setattr(evaluate, "SMALLEST", 4)
    for name, cut in (("rows", sorted_batches), ("tokens", batches_by_tokens)):
        monkeypatch.setattr(evaluate, "sorted_batches", cut)
        run = ran(tmp_path / name, toy(toy_files, still_dir, *WORDS, "train.micro_batch=1"))
        found.append([line for line in run.metrics() if "eval_loss" in line])
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


class Two:
    """Two processes that always say the same, and count how often they are asked."""

    num_processes, device = 2, CPU

    def __init__(self):
        self.asked = 0

    def gather(self, mine):
        self.asked += 1
        return torch.cat([mine, mine])


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, ASKED_EVERY), (0.25, 4), (30.0, 1)])
def test_processes_ask_each_other_every_16_steps_or_every_second(seconds, steps):
    agreement = Agreement(two := Two())
    state, heard = State(), []
    for number in range(1, 3 * steps + 1):
        state.step, state.cost["train_seconds"] = number, number * seconds
        if agreement.due(number):
            heard.append((number, agreement.signal([15] if number > steps else [], state)))
    assert heard == [(1, 0), *((1 + n * steps, 15) for n in (1, 2) if 1 + n * steps <= 3 * steps)]
    assert two.asked == len(heard)
