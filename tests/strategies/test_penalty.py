"""The pull: exact where it can be, stable where a gradient is not, and nothing at strength zero."""

import json

import pytest
import torch
from lab import SMALL_SOURCE, ran, sampled, toy
from torch import nn

from ftrun.errors import ConfigError
from ftrun.strategies.ewc import fisher
from ftrun.strategies.l2sp import L2sp
from ftrun.strategies.penalty import Anchor, Update, UpdateAnchor
from ftrun.training.checkpoint import newest, read_tensors

EWC = ("strategy=ewc", "samples=8", *SMALL_SOURCE)
DECAY = "train.weight_decay=0.01"


def anchored(value, target, strength):
    weight = nn.Parameter(torch.tensor(value, dtype=torch.float64))
    goal = torch.tensor(target, dtype=torch.float64)
    if isinstance(strength, list):
        strength = torch.tensor(strength, dtype=torch.float64)
    return weight, Anchor({"w": weight}, {"w": goal}, {"w": strength})


def test_the_proximal_step_is_its_closed_form():
    weight, anchor = anchored([3.0, -1.0], [1.0, 1.0], [4.0, 0.0])
    anchor.pull({"w": 0.5})  # k = 2 and 0
    torch.testing.assert_close(weight.detach(), torch.tensor([5 / 3, -1.0], dtype=torch.float64))


def test_the_proximal_step_minimises_the_penalty_plus_the_distance():
    """θ' = argmin ½ s (θ' − θ*)² + (θ' − θ)² / (2 lr)."""
    weight, anchor = anchored([3.0], [1.0], 7.0)
    before = weight.detach().clone()
    anchor.pull({"w": 0.1})
    place = weight.detach().clone().requires_grad_(True)
    (0.5 * 7.0 * (place - 1.0) ** 2 + (place - before) ** 2 / 0.2).sum().backward()
    assert place.grad.abs().max() < 1e-12


def test_the_proximal_step_is_stable_where_the_gradient_diverges():
    weight, anchor = anchored([2.0], [1.0], 1e5)
    for _ in range(20):
        anchor.pull({"w": 0.05})
    assert abs(weight.item() - 1.0) < 1e-9
    other, same = anchored([2.0], [1.0], 1e5)
    for _ in range(20):
        other.grad = torch.zeros(1, dtype=torch.float64)
        same.add_gradient()
        other.data -= 0.05 * other.grad
    assert abs(other.item()) > 1e60


@pytest.mark.parametrize("strength", [[4.0, 0.5, 0.0], 2.0])
def test_what_a_run_takes_back_of_a_move_is_foretold(strength):
    """A thousand proximal steps, and nothing else, from one step away of the anchor."""
    weight, anchor = anchored([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], strength)
    rates = [1e-3 * (1 - step / 1000) for step in range(1000)]
    for rate in rates:
        anchor.pull({"w": rate})
    torch.testing.assert_close(anchor.share_undone(sum(rates)), 2.0 - weight.detach(), rtol=2e-3, atol=1e-12)


def test_a_hold_that_does_nothing_is_said_with_the_strength_that_would():
    """alpha=0.01 over 0.01 of learning rates undoes 1e-4; half of it needs ln 2 / 0.01."""
    strategy = L2sp(apply="proximal", alpha=0.01, beta=0.0)
    anchor = anchored([2.0] * 3, [1.0] * 3, 0.01)[1]
    assert strategy.strength_note(anchor, 0.01) == (
        "hold: the run undoes 0.01% of a move for every weight, almost nothing; alpha=7e+01 would undo half"
    )
    assert strategy.strength_note(anchor, 100.0) == "hold: the run undoes 63.21% of a move for every weight"
    anchor = anchored([2.0] * 20, [1.0] * 20, [0.0] * 15 + [1.0] * 5)[1]
    assert strategy.strength_note(anchor, 1.0) == (
        "hold: the run undoes 63.21% of a move for the tenth of the weights held most strongly"
    )


def test_the_gradient_is_that_of_the_penalty():
    weight, anchor = anchored([3.0, -1.0], [1.0, 1.0], [4.0, 0.5])
    weight.grad = torch.zeros(2, dtype=torch.float64)
    anchor.add_gradient()
    torch.testing.assert_close(weight.grad, torch.tensor([8.0, -1.0], dtype=torch.float64))
    assert anchor.penalty() == pytest.approx(0.5 * (4 * 4 + 0.5 * 4))


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, 4.0])
def test_one_strength_for_all_weights_does_what_as_many_equal_ones_do(strength):
    found = []
    for given in (strength, [strength, strength]):
        weight, anchor = anchored([3.0, -1.0], [1.0, 1.0], given)
        weight.grad = torch.ones(2, dtype=torch.float64)
        anchor.add_gradient()
        penalty, undone = anchor.penalty(), anchor.share_undone(0.5)
        anchor.pull({"w": 0.5})
        found.append([weight.detach(), weight.grad, undone, torch.tensor(penalty)])
    torch.testing.assert_close(found[0], found[1])
    moved = torch.tensor([2.0, -2.0], dtype=torch.float64) / (1 + 0.5 * strength)
    torch.testing.assert_close(found[0][0], 1 + moved)


def test_the_update_of_a_convolution_is_peft_s():
    from peft import LoraConfig, inject_adapter_in_model

    net = inject_adapter_in_model(
        LoraConfig(r=2, lora_alpha=3, target_modules=["0"]), nn.Sequential(nn.Conv2d(5, 3, (3, 2)))
    )
    layer = net[0]
    nn.init.normal_(layer.lora_B["default"].weight)
    down, up = (part["default"].weight for part in (layer.lora_A, layer.lora_B))
    update = Update(down, up, 1.5, False)
    torch.testing.assert_close(update.first, layer.get_delta_weight("default"))
    before = update.delta().detach()
    with torch.no_grad():
        down += 0.1
    assert not before.any() and update.delta().shape == (3, 5, 3, 2)
    torch.testing.assert_close(update.delta() + update.first, layer.get_delta_weight("default"))


def test_a_closed_stage_is_not_pulled():
    weight, anchor = anchored([3.0], [1.0], 4.0)
    anchor.pull({"w": 0.0})
    assert weight.item() == 3.0


@pytest.mark.parametrize("transposed", [False, True])
def test_the_anchor_of_an_update_is_the_penalty_on_the_weight_it_moves(transposed):
    torch.manual_seed(0)
    down, up = (nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in ((2, 5), (3, 2)))
    update = Update(down, up, 0.5, transposed)
    with torch.no_grad():
        down += 0.3
        up -= 0.2
    shape = (5, 3) if transposed else (3, 5)
    strength = torch.rand(shape, dtype=torch.float64)
    anchor = UpdateAnchor({"w": update}, {"w": strength})
    down.grad, up.grad = torch.zeros_like(down), torch.zeros_like(up)
    anchor.add_gradient()

    def penalty():
        moved = 0.5 * up @ down
        return 0.5 * (strength * ((moved.T if transposed else moved) - update.first) ** 2).sum()

    assert anchor.penalty() == pytest.approx(penalty().item())
    wanted = torch.autograd.grad(penalty(), [down, up])
    torch.testing.assert_close([down.grad, up.grad], list(wanted))


def test_the_pace_of_an_update_is_how_fast_its_gradient_undoes_it():
    """A step of rate r on B takes ΔW to ΔW(1 − r·scale²·AᵀA): of one row of length |a|, scale²·|a|² of it."""
    down, up = (nn.Parameter(torch.rand(s, dtype=torch.float64)) for s in ((1, 5), (3, 1)))
    update = Update(down, up, 3.0, False)
    update.first = torch.zeros(3, 5, dtype=torch.float64)
    before = update.delta().detach()
    (gradient,) = torch.autograd.grad(0.5 * (update.delta() ** 2).sum(), [up])
    up.data -= 1e-3 * gradient
    torch.testing.assert_close(update.delta().detach(), before * (1 - 1e-3 * update.pace()))
    two = Update(
        nn.Parameter(torch.tensor([[3.0, 4.0], [1.0, 0.0]])), nn.Parameter(torch.rand(3, 2)), 2.0, False
    )
    assert two.pace() == pytest.approx(4 * (25 + 1) / 2)


def last_weights(run):
    return read_tensors(newest(run.checkpoints / "last")[0], "weights")


def same(one, other):
    first, second = last_weights(one), last_weights(other)
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def plain(toy_files, tiny_dir, tmp_path_factory):
    """Full fine-tuning that nothing holds."""
    return ran(tmp_path_factory.mktemp("plain") / "run", toy(toy_files, tiny_dir("bert"), DECAY))


@pytest.mark.parametrize(
    "words",
    [
        ("strategy=l2sp", "alpha=0", "beta=0"),
        (*EWC, "pull=0"),
        ("strategy=l2sp", "alpha=0", "beta=0", "apply=loss"),
    ],
    ids=["l2sp", "ewc", "l2sp in the loss"],
)
def test_at_strength_zero_it_is_full_fine_tuning_bit_for_bit(plain, toy_files, tiny_dir, tmp_path, words):
    assert same(plain, ran(tmp_path / "held", toy(toy_files, tiny_dir("bert"), *words, DECAY)))


@pytest.mark.parametrize(
    "words", [("strategy=l2sp", "alpha=1e12", "beta=0"), (*EWC, "pull=1e12", "floor=1")], ids=["l2sp", "ewc"]
)
def test_held_infinitely_it_stays_where_it_was_but_the_new_head_learns(toy_files, tiny_dir, tmp_path, words):
    plain = ran(tmp_path / "plain", toy(toy_files, tiny_dir("bert"), "train.max_steps=1", "train.lr=1e-30"))
    held = ran(tmp_path / "held", toy(toy_files, tiny_dir("bert"), *words, "train.lr=1e-3"))
    start, now = last_weights(plain), last_weights(held)
    for name, value in now.items():
        moved = float((value - start[name]).abs().max())
        assert moved > 1e-4 if "classifier" in name else moved < 1e-6, name


def test_the_penalty_is_logged_and_grows_from_nothing(toy_files, tiny_dir, tmp_path):
    run = ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), "strategy=l2sp", "beta=0", "alpha=1"))
    penalties = [line["penalty"] for line in run.metrics() if "penalty" in line]
    assert penalties and all(value > 0 for value in penalties)


@pytest.mark.parametrize(
    ("strategy", "apply"), sampled(["lora", "freeze", "gradual_unfreeze"], ["proximal", "loss"], 2)
)
def test_it_holds_whatever_a_strategy_trains(toy_files, tiny_dir, tmp_path, strategy, apply):
    """The stronger the pull, the less of the network's own weights has moved."""
    extra = {"freeze": ["bottom=1"], "gradual_unfreeze": ["every=0.2"]}.get(strategy, [])
    words = f"strategy={strategy}", *extra, "protect=l2sp", f"protect.apply={apply}", "protect.beta=0"
    penalties = []
    for alpha in ("0.001", "1000"):
        run = ran(
            tmp_path / alpha,
            toy(toy_files, tiny_dir("bert"), *words, f"protect.alpha={alpha}", "train.lr=3e-3"),
        )
        penalties.append([line["penalty"] for line in run.metrics() if "penalty" in line][-1] / float(alpha))
    assert penalties[1] < 0.3 * penalties[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["strategy=linear_probe", "protect=l2sp"],
            "nothing to hold: this strategy trains no pretrained weight",
        ),
        (["strategy=lora", "variant=dora", "protect=l2sp"], "variant=dora rescale them"),
        (["strategy=ewc", "protect=l2sp"], "strategy=ewc already protects earlier knowledge"),
        (["strategy=ewc", "pull=-1"], "pull is at least 0, not -1"),
        (["strategy=ewc", "fisher=exakt"], "fisher is one of auto, exact, sampled, empirical, not 'exakt'"),
        (["strategy=ewc", "gamma=2"], "gamma is between 0 and 1, not 2"),
        (["strategy=ewc", "source_fisher=gone.safetensors"], "source_fisher=gone.safetensors: no such file"),
        (["strategy=l2sp", "alpha=-1"], "alpha is at least 0, not -1"),
        (["protect=ewc", "protect.pull=-3"], "protect=ewc: pull is at least 0, not -3"),
        (["strategy=replay", "share=1.5"], "share is above 0 and below 1, not 1.5"),
        (["strategy=replay", "buffer=0"], "buffer is at least 1, not 0"),
    ],
)
def test_what_cannot_be_held_is_one_line(toy_files, tiny_dir, tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))


def test_the_fisher_information_is_kept_and_can_be_used_again(toy_files, tiny_dir, tmp_path):
    first = ran(tmp_path / "first", toy(toy_files, tiny_dir("bert"), *EWC, "pull=5"))
    file = first.path / "fisher.safetensors"
    _, about = fisher.load(file)
    assert about["kind"] == "auto" and int(about["rows"]) > 0 and about["source"]
    again = toy(toy_files, tiny_dir("bert"), *EWC, "pull=5", f"source_fisher={file}", "samples=1")
    second = ran(tmp_path / "second", again)
    assert same(first, second)  # and it is there for the runs that will have this one as their source
    assert (second.path / "fisher.safetensors").read_bytes() == file.read_bytes()
    assert (
        json.loads(json.dumps(first.read_json("result.json")["sources"]))
        == second.read_json("result.json")["sources"]
    )
    with pytest.raises(ConfigError, match="belongs to other weights than this strategy trains"):
        ran(
            tmp_path / "other",
            toy(
                toy_files,
                tiny_dir("bert"),
                "strategy=freeze",
                "bottom=1",
                "protect=ewc",
                f"protect.source_fisher={file}",
                *SMALL_SOURCE,
            ),
        )
