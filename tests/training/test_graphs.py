"""CUDA graphs by a stand-in on the CPU: what is captured, and that no number changes."""

import warnings
from collections import Counter

import pytest
import torch
from lab import EACH_KIND, STEPPING, ran, settings, toy
from replaying import Recalled, recalled
from resuming import same, stopped
from toys_tasks import words_of

from ftrun.errors import ConfigError
from ftrun.experiments import single, start
from ftrun.training import checkpoint
from ftrun.training.gradients import graphs
from ftrun.training.gradients.gradient import Gradient

LONG = "train.epochs=3", "train.eval_every=9", "train.lr=3e-3", "train.checkpoint_every=9", "task.subset=48"
WAYS = "auto", "false"
DRAWN = {"setfit", "distil"}


def words(strategy="full", *more):
    return [f"strategy={strategy}", *STEPPING.get(strategy, []), *LONG, *more]


@pytest.fixture
def stand_in(monkeypatch):
    return recalled(monkeypatch, multiple=8)


@pytest.fixture
def trained(taught, tmp_path, monkeypatch):
    """What a run without preflight and end leaves: the log, the weights and the moments."""
    monkeypatch.setattr(single, "preflight", lambda loop: None)
    monkeypatch.setattr(single, "finish", lambda loop, *others: 0.0)

    def train(experiment):
        place = tmp_path / f"run{len([*tmp_path.iterdir()])}"
        single.run(experiment, place)
        last, _ = checkpoint.newest(place / "checkpoints" / "last")
        files = [place / "metrics.jsonl", last / "weights.safetensors", last / "optimizer.safetensors"]
        return [file.read_bytes() for file in files]

    return train


@pytest.mark.parametrize("strategy", EACH_KIND)
def test_every_strategy_learns_the_same_with_graphs(toy_files, tiny_dir, trained, stand_in, strategy):
    """With dropout, micro-batches of 6, 6 and 4, and stages that open on the way."""
    own = words(strategy, "baselines=false", "train.micro_batch=6")
    ways = [toy(toy_files, tiny_dir("bert"), *own, f"train.graphs={way}") for way in WAYS]
    assert trained(ways[0]) == trained(ways[1])
    if strategy in DRAWN:  # their losses are of what is drawn or answered anew for each batch
        return
    backend = stand_in[0]
    assert backend.recorded > 0 and backend.replayed > 8
    assert (backend.forgotten > 0) == (strategy in ("gradual_unfreeze", "lp_ft"))


@pytest.mark.parametrize("task", ["pairs", "multilabel", "regress", "ner", "qa", "lm", "mlm", "vit"])
def test_every_task_that_can_learns_the_same_with_graphs(tiny_dir, tmp_path, trained, stand_in, task):
    (tmp_path / "data").mkdir()
    own = ["experiment=smoke", *words_of(task, tmp_path / "data", tiny_dir), "baselines=false"]
    own += ["train.batch_size=4", "train.micro_batch=2", "task.subset=16", "train.max_steps=12"]
    own += ["train.eval_every=12", "train.checkpoint_every=12"]
    assert trained(settings(*own)) == trained(settings(*own, "train.graphs=false"))
    assert stand_in[0].replayed > 4


def test_fewer_rows_than_a_batch_are_captured_too(toy_files, tiny_dir, trained, stand_in):
    few = "baselines=false", "task.subset=6", "train.epochs=9"
    ways = [toy(toy_files, tiny_dir("bert"), *words("full", *few), f"train.graphs={way}") for way in WAYS]
    assert trained(ways[0]) == trained(ways[1]) and stand_in[0].replayed == 9 - 2


def test_hidden_tokens_are_rounded_up_by_what_has_no_label(tiny_dir, tmp_path, monkeypatch):
    """Their number is that of few graphs, and loss and accuracy are those of the tokens alone."""
    (tmp_path / "data").mkdir()
    own = ["experiment=smoke", *words_of("mlm", tmp_path / "data", tiny_dir), "baselines=false"]
    experiment = settings(*own, "train.batch_size=4", "train.max_steps=8", "train.lr=1e-3")
    exact = ran(tmp_path / "exact", experiment)
    recalled(monkeypatch, multiple=8)
    seen, honest = [], graphs.Graphs.run
    run = lambda self, work, batch, *own: seen.append(batch) or honest(self, work, batch, *own)  # noqa: E731
    monkeypatch.setattr(graphs.Graphs, "run", run)
    rounded = ran(tmp_path / "rounded", experiment)
    for batch in seen:
        labels = batch["labels"].flatten()[batch["positions"]]
        hidden = int((batch["labels"] != -100).sum())
        assert len(labels) % 32 == 0 and hidden <= len(labels) < hidden + 32
        assert int((labels != -100).sum()) == hidden
    assert len({len(batch["positions"]) for batch in seen}) == 1
    for one, other in zip(exact.metrics(), rounded.metrics(), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (["mlm", "task.next=nsp"], "the losses of tokens and of pairs"),
        (["moco"], "the loss of task=moco"),
        (["resnet"], "batch norm"),
    ],
)
def test_what_cannot_be_captured_is_said(tiny_dir, tmp_path, stand_in, capsys, task, why):
    (tmp_path / "data").mkdir()
    own = ["experiment=smoke", *words_of(task[0], tmp_path / "data", tiny_dir), *task[1:], "baselines=false"]
    ran(tmp_path / "run", settings(*own, "train.batch_size=8", "task.subset=16", "train.max_steps=1"))
    assert f"CUDA graphs: none: {why}" in capsys.readouterr().out and stand_in[0].recorded == 0


def test_lengths_are_rounded_up_but_never_beyond_the_longest_row(toy_files, still_dir, tmp_path, monkeypatch):
    """Rows of up to 23 tokens: 8, 16 and 23; what is padded more gives the same numbers up to rounding."""
    made, shapes, honest = recalled(monkeypatch, multiple=8), Counter(), graphs.Graphs.run

    def run(self, work, batch, weight, whole):
        shapes[tuple(batch["inputs"]["input_ids"].shape)] += 1
        return honest(self, work, batch, weight, whole)

    monkeypatch.setattr(graphs.Graphs, "run", run)
    more = "baselines=false", "train.batch_size=8", "task.subset=null", "train.epochs=1"
    rounded = ran(tmp_path / "rounded", toy(toy_files, still_dir, *words("full", *more)))
    assert {length for _, length in shapes} <= {8, 16, 23} and made[0].recorded > 1
    monkeypatch.undo()
    exact = ran(tmp_path / "exact", toy(toy_files, still_dir, *words("full", *more)))
    first, second = (run.read_json("cost.json")["padded_tokens"] for run in (rounded, exact))
    assert first > second
    for one, other in zip(rounded.metrics(), exact.metrics(), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-3)


def test_a_key_is_captured_the_third_time_and_a_smaller_batch_never():
    """A pass is a function of the batch's tensors and of its weight; it adds to the gradient."""
    parameter = torch.nn.Parameter(torch.ones(2))
    backend = Recalled()
    backend.parameters = [parameter]
    own = graphs.Graphs(backend, [parameter])

    def work(batch, weight):
        loss = (batch["inputs"]["x"] @ parameter).sum() * batch["labels"].sum()
        (loss * weight).backward()
        return loss.detach()

    expected = torch.zeros(2)
    for turn in range(6):
        for rows, whole in ((2, True), (1, False), (3, True)):
            x = torch.randn(rows, 2)
            weight = 1.0 + turn
            loss = own.run(work, {"inputs": {"x": x}, "labels": torch.tensor([2.0, turn])}, weight, whole)
            expected += x.sum(0) * (2 + turn) * weight
            assert torch.allclose(loss, x.sum() * (2 + turn))
            assert torch.allclose(parameter.grad, expected, atol=1e-4)
    assert own.counts == {"captured": 2, "replayed": 8, "eager": 4 + 6}
    parameter.grad = None  # what something else does to it is undone
    own.run(work, {"inputs": {"x": torch.ones(2, 2)}, "labels": torch.ones(2)}, 1.0, True)
    assert torch.equal(parameter.grad, torch.full((2,), 4.0))


def test_there_are_no_more_graphs_than_fit(monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    parameter = torch.nn.Parameter(torch.ones(1))
    own = graphs.Graphs(Recalled(), [parameter])

    def work(batch, weight):
        loss = batch["inputs"]["x"].sum() * parameter.sum()
        (loss * weight).backward()
        return loss.detach()

    for _ in range(5):
        for rows in (1, 2, 3):
            own.run(work, {"inputs": {"x": torch.ones(rows)}}, 1.0, True)
    assert own.counts == {"captured": 2, "replayed": 6, "eager": 9} and float(parameter.grad) == 30


class Failing(Recalled):
    """Its second recording fails, in the middle of a pass."""

    error: Exception = RuntimeError("operation not permitted when stream is capturing\nmore")

    def record(self, work):
        if self.recorded == 1 and not self.forgotten:
            raise self.error
        return super().record(work)


def test_what_fails_to_be_captured_goes_on_without_graphs(toy_files, tiny_dir, tmp_path, monkeypatch, capsys):
    plain = ran(tmp_path / "plain", toy(toy_files, tiny_dir("bert"), *words("full", "baselines=false")))
    made = recalled(monkeypatch, Failing)
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words("full", "baselines=false")))
    assert made[0].recorded == 1 and run.read_json("cost.json")["graphs"]["captured"] == 1
    assert "graphs" not in plain.read_json("cost.json")
    said = capsys.readouterr().out
    assert (
        said.count("cannot be captured: RuntimeError: operation not permitted when stream is capturing\n")
        == 1
    )
    same(run.path, plain.path)


def test_memory_that_runs_out_in_a_capture_halves_the_micro_batch(
    toy_files, tiny_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Failing, "error", torch.OutOfMemoryError("planted"))
    made = recalled(monkeypatch, Failing, multiple=8)
    halves = "baselines=false", "train.batch_size=8", "train.checkpoint_layers=false"
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words("full", *halves)))
    assert run.read_json("cost.json")["micro_batch"] == 4
    assert made[0].forgotten == 1 and made[0].recorded > 1, "graphs of half the size"
    assert "train.micro_batch 8 → 4" in capsys.readouterr().out


@pytest.mark.parametrize("step", [2, 7])
def test_a_run_with_graphs_is_resumed_at_any_step(toy_files, tiny_dir, tmp_path, stand_in, step):
    """After a resume other steps are captured than without it."""
    experiment = toy(toy_files, tiny_dir("bert"), *words("gradual_unfreeze", "train.checkpoint_every=1"))
    ran(tmp_path / "whole", experiment)
    stopped(tmp_path / "again", experiment, step)
    start.resume(tmp_path / "again")
    same(tmp_path / "whole", tmp_path / "again")
    assert stand_in[0].recorded > 0


def test_a_step_that_is_not_finite_leaves_nothing_behind(toy_files, tiny_dir, tmp_path, monkeypatch):
    """Gradients stay in place, and NaN in them must not."""
    honest = Gradient.accumulate

    def accumulate(self, rows, state):
        found = honest(self, rows, state)
        if state.step in (3, 7, 8):
            for parameter in self.model.trained().values():
                parameter.grad *= torch.nan
        return found

    monkeypatch.setattr(Gradient, "accumulate", accumulate)
    experiment = toy(toy_files, tiny_dir("bert"), *words("full", "baselines=false"))
    plain = ran(tmp_path / "plain", experiment)
    made = recalled(monkeypatch)
    same(ran(tmp_path / "run", experiment).path, plain.path)
    assert made[0].replayed > 2


def test_graphs_are_auto_or_false(toy_files, tiny_dir):
    with pytest.raises(ConfigError, match="train.graphs is auto or false, not 'yes'"):
        toy(toy_files, tiny_dir("bert"), "train.graphs='yes'")


def test_only_waits_of_the_host_are_noticed(monkeypatch):
    """Torch warns too that it does not notice every wait, as soon as it is asked to notice any."""

    def asked(mode):
        if mode == "warn":
            warnings.warn(
                "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing"
                " operations",
                stacklevel=2,
            )

    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", asked)
    with graphs.waits_noticed() as noticed:
        pass
    assert noticed == []
    with graphs.waits_noticed() as noticed:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    assert noticed == ["called a synchronizing CUDA operation"]
