"""A checkpoint is complete or not there, whatever moment a kill comes at."""

import errno
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from ftrun.errors import UserError
from ftrun.training import checkpoint, tensor_files
from ftrun.training.tensor_files import read_tensors
from ftrun.training.updates.moments import moments as moments_of
from ftrun.training.updates.moments import read_moments


def tensors(value):
    return {"weights": {"w": torch.full((100,), float(value))}}


def step_of(place):
    return None if place is None else checkpoint.read_state(place)["step"]


def content(place):
    return read_tensors(place, "weights")["w"][0].item()


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the program handles it."""


class Killer:
    """Has the functions that it is given raise Killed at a moment, counted over all their calls."""

    def __init__(self):
        self.at(None)

    def at(self, moment):
        self.moment, self.calls = moment, 0

    def of(self, function):
        def call(*args, **options):
            self.calls += 1
            if self.calls == self.moment:
                raise Killed
            return function(*args, **options)

        return call


@pytest.mark.parametrize("former", [False, True])
def test_a_kill_at_any_moment_of_a_save_leaves_a_complete_checkpoint(tmp_path, monkeypatch, former):
    """Every file operation of a save is killed once; what is found is the old or the new, never a mixture."""
    place = tmp_path / "last"
    killer = Killer()
    for module, name in (
        (Path, "mkdir"), (Path, "write_text"), (Path, "rename"), (tensor_files, "save_file"),
        (checkpoint, "sync"), (shutil, "rmtree"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, killer.of(getattr(module, name)))
    found = []
    for moment in range(1, 100):
        killer.at(None)
        for leftover in tmp_path.iterdir():
            shutil.rmtree(leftover)
        if former:
            checkpoint.save(place, tensors(1), {"step": 1})
        killer.at(moment)
        try:
            checkpoint.save(place, tensors(2), {"step": 2})
        except Killed:
            survivor, _ = checkpoint.newest(place)
            found.append(step_of(survivor))
            assert former is False or survivor is not None
            if survivor is not None:
                assert content(survivor) == step_of(survivor)
            killer.at(None)
            checkpoint.save(place, tensors(3), {"step": 3})
            assert step_of(checkpoint.newest(place)[0]) == 3
        else:
            break
    assert len(found) > 8
    assert set(found) == ({1, 2} if former else {None, 2})


@pytest.mark.parametrize("found", ["new", "old", "last"])
def test_tidying_leaves_the_newest_alone_and_loses_it_at_no_moment(tmp_path, monkeypatch, found):
    """Of a complete one and a torn one, under each of their names."""
    for moment in range(1, 20):
        place = tmp_path / str(moment) / "last"
        others = [place, place.with_suffix(".new"), place.with_suffix(".old")]
        complete = place if found == "last" else place.with_suffix(f".{found}")
        for number, other in enumerate(others):
            checkpoint.save(tmp_path / "made", tensors(number), {"step": number})
            shutil.copytree(tmp_path / "made", other)
            if other != complete:
                (other / "manifest.json").unlink()
        killer = Killer()
        killer.at(moment)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", killer.of(Path.rename))
            patch.setattr(shutil, "rmtree", killer.of(shutil.rmtree))
            try:
                checkpoint.tidy(place.parent)
            except Killed:
                assert step_of(checkpoint.newest(place)[0]) == others.index(complete)
                killer.at(None)  # and what was begun is finished
                checkpoint.tidy(place.parent)
            else:
                break
        assert [other.name for other in place.parent.iterdir()] == ["last"]
        assert step_of(checkpoint.newest(place)[0]) == others.index(complete)
    assert moment > 2


def test_what_a_save_went_by_is_gone_afterwards(tmp_path):
    for value in (1, 2):
        checkpoint.save(tmp_path / "last", tensors(value), {"step": value})
        assert [path.name for path in tmp_path.iterdir()] == ["last"]
    for leftover in ("last.new", "last.old"):  # of a kill: torn, and one too many
        shutil.copytree(tmp_path / "last", tmp_path / leftover)
    (tmp_path / "last.new" / "manifest.json").unlink()
    (tmp_path / "last.new" / "alien").touch()
    checkpoint.save(tmp_path / "last", tensors(3), {"step": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    names = {path.name for path in (tmp_path / "last").iterdir()}
    assert names == {"manifest.json", "state.json", "weights.safetensors"}


def test_what_another_machine_reads_does_not_stand_in_the_way(tmp_path, monkeypatch):
    """NFS keeps a removed file that is open elsewhere as .nfsN: its directory is not empty."""
    honest, readers = shutil.rmtree, {"last.old"}

    def rmtree(place, ignore_errors=False):
        if any(name in place.name for name in readers):
            (place / "manifest.json").unlink(missing_ok=True)
            if ignore_errors:
                return
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(place))
        honest(place, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    for value in (1, 2, 3):
        checkpoint.save(tmp_path / "last", tensors(value), {"step": value})
        assert step_of(checkpoint.newest(tmp_path / "last")[0]) == value
    assert len([*tmp_path.iterdir()]) == 3  # two that are still read
    readers.clear()
    checkpoint.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


@pytest.fixture
def saved(tmp_path):
    place = tmp_path / "last"
    checkpoint.save(place, tensors(1), {"step": 7})
    return place


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda place: (place / "weights.safetensors").write_bytes(b"torn"), "has 4 bytes instead of"),
        (lambda place: (place / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (lambda place: (place / "manifest.json").unlink(), "no manifest"),
        (lambda place: (place / "manifest.json").write_bytes(b"\xff\xfe{"), "manifest.json is no JSON"),
        (lambda place: (place / "manifest.json").write_text("[" * 100_000), "manifest.json is no JSON"),
        *(
            (lambda place, text=text: (place / "manifest.json").write_text(text), "is no list of files")
            for text in (
                "[]",
                "null",
                "{}",
                '"state.json"',
                '{"state.json": 3}',
                '{"state.json": {"size": 1}}',
            )
        ),
        (
            lambda place: (place / "state.json").write_text('{\n "step": 8\n}'),
            "content of state.json has changed",
        ),
    ],
)
def test_a_torn_checkpoint_is_skipped_and_said(saved, harm, message):
    harm(saved)
    place, skipped = checkpoint.newest(saved)
    assert place is None
    assert len(skipped) == 1 and message in skipped[0]


@pytest.fixture
def kept(tmp_path):
    """Best weights of step 5 and of step 15 of one run, and of step 5 of another."""
    for name, key, step in (("five", "a", 5), ("fifteen", "a", 15), ("other", "b", 5)):
        checkpoint.save(tmp_path / name, tensors(step), {"step": step, "run": key})
    return tmp_path / "run" / "checkpoints" / "best"


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (None, "/best, the weights of step 5, the best one, is missing; put the run's own back, or delete"),
        (
            "torn",
            r"/best, the weights of step 5, the best one, is damaged \(best is incomplete \(it has no man",
        ),
        ("fifteen", "/best has the weights of step 15, not of step 5, the best one; put"),
        ("other", "/best is a checkpoint of another run; put"),
        ("five", None),
    ],
)
def test_only_the_runs_own_best_weights_are_taken_for_them(kept, tmp_path, there, said):
    kept.parent.mkdir(parents=True)
    if there == "torn":
        kept.mkdir()
    elif there is not None:
        (tmp_path / there).rename(kept)
    if said is None:
        assert content(checkpoint.best_weights(kept, "a", 5)) == 5
        checkpoint.refuse_lost_best(kept, "a", 5, 10)
        return
    for check in (checkpoint.best_weights, checkpoint.refuse_lost_best):
        with pytest.raises(UserError, match=said) as caught:
            check(kept, "a", 5, *([20] if check is checkpoint.refuse_lost_best else []))
        assert f"delete {kept.parent} and train from the start: ftrun resume" in str(caught.value)


def test_best_weights_that_are_still_to_come_are_no_loss(kept, tmp_path):
    """A process killed between an evaluation and the next checkpoint has saved them."""
    kept.parent.mkdir(parents=True)
    (tmp_path / "fifteen").rename(kept)
    checkpoint.refuse_lost_best(kept, "a", 5, 10)
    with pytest.raises(UserError, match="has the weights of step 15"):
        checkpoint.refuse_lost_best(kept, "a", 5, 15)


def test_a_checkpoint_of_another_run_is_not_gone_on_from(kept, tmp_path):
    with pytest.raises(UserError, match="other is a checkpoint of another run"):
        checkpoint.newest(tmp_path / "other", "a")
    assert checkpoint.newest(tmp_path / "other", "b")[0] == tmp_path / "other"
    checkpoint.save(tmp_path / "old", tensors(3), {"step": 3})  # of a version that did not say whose it is
    assert checkpoint.newest(tmp_path / "old", "a")[0] == tmp_path / "old"
    (tmp_path / "other").rename(tmp_path / "five.old")
    assert checkpoint.newest(tmp_path / "five", "a")[0] == tmp_path / "five"


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            {"0.weight": [3, 3]},
            r"place is of another network: 0.bias is absent there and of shape \[3\] in this",
        ),
        (
            {"0.weight": [3, 3], "0.bias": [3], "2.weight": [1, 3]},
            r"2.weight is of shape \[1, 3\] there and absent in this one",
        ),
        (
            {"0.weight": [4, 3], "0.bias": [3]},
            r"0.weight is of shape \[4, 3\] there and of shape \[3, 3\] in",
        ),
        ({"0.weight": [3, 3], "0.bias": [3]}, None),
    ],
)
def test_weights_of_another_network_are_refused(weights, said):
    net = torch.nn.Sequential(torch.nn.Linear(3, 3))
    with nullcontext() if said is None else pytest.raises(UserError, match=said):
        checkpoint.refuse_other_network(Path("place"), weights, net, {"0.weight", "0.bias"})


def test_weights_and_moments_go_by_name(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    net[0].requires_grad_(False)
    names = {name: p for name, p in net.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(names.values(), lr=0.1)
    net(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    weights, moments = checkpoint.weights_of(net, names), moments_of(optimizer, names)
    assert "0.weight" not in weights and "1.running_mean" in weights
    checkpoint.save(tmp_path / "last", {"weights": weights, "optimizer": moments}, {"step": 1})

    other = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
    other[0].load_state_dict(net[0].state_dict())
    theirs = {name: p for name, p in other.named_parameters() if name in names}
    again = torch.optim.AdamW(reversed(theirs.values()), lr=0.1)
    place, _ = checkpoint.newest(tmp_path / "last")
    checkpoint.read_weights(place, other, theirs)
    read_moments(place, again, theirs)
    for key, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    for name, parameter in names.items():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(value, again.state[theirs[name]][key])
