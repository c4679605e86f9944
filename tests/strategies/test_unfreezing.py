"""Stages that open as the run goes: counts, rates, bits and moments."""

from itertools import pairwise

import pytest
import torch
from lab import ran, settings, toy
from transformers import BertConfig, BertForSequenceClassification

from ftrun.errors import ConfigError
from ftrun.models.model import Model
from ftrun.settings.schedules import Constant, Course, Length, Linear
from ftrun.strategies.gradual_unfreeze import GradualUnfreeze
from ftrun.strategies.lp_ft import LpFt
from ftrun.training.step import Step

LENGTH = Length(per_epoch=10, total=200, warmup=0, eval_every=10, checkpoint_every=10, log_every=4)


def course(depth, schedule=None):
    return Course(1e-3, schedule or Constant(), LENGTH, depth)


def load_plain(directory):
    net = BertForSequenceClassification.from_pretrained(directory)
    return Model(net, None, str(directory), set())


def test_each_epoch_opens_one_more_layer_of_bert_base():
    with torch.device("meta"):
        net = BertForSequenceClassification(BertConfig())
    model = Model(net, None, "bert-base", {"classifier.weight", "classifier.bias"})
    strategy, plan = GradualUnfreeze(every=1, from_="top"), course(12)
    counts = []
    for epoch in range(15):
        opened = {stage for stage in range(14) if epoch * 10 >= strategy.opens(stage, plan)}
        counts.append(sum(p.numel() for n, p in model.named_parameters() if model.stage_of(n) in opened))
    expected = [592_130 + 7_087_872 * layers for layers in range(13)] + [109_483_778] * 2
    assert counts == expected


def test_from_the_bottom_the_embeddings_follow_the_head():
    opens = [GradualUnfreeze(every=0.1, from_="bottom").opens(stage, course(2)) for stage in range(4)]
    assert opens == [20, 40, 60, 0]


def test_an_opened_stage_comes_to_its_rate_in_a_few_steps():
    strategy, plan = GradualUnfreeze(every=1, from_="top"), course(12)
    rates = [strategy.rate(12, step, plan) for step in range(10, 25)]
    assert rates[0] == pytest.approx(1e-3 / 11)
    assert all(later > earlier for earlier, later in zip(rates[:10], rates[1:11], strict=True))
    assert rates[10:] == [1e-3] * 5
    assert strategy.rate(13, 0, plan) == 1e-3  # the head


def test_the_probe_has_its_own_rate_and_schedule_and_the_rest_starts_anew():
    strategy, plan = LpFt(probe=0.25, probe_lr=1e-2), course(2, Linear())
    assert [strategy.opens(stage, plan) for stage in range(4)] == [50, 50, 50, 0]
    assert strategy.rate(3, 0, plan) == 1e-2
    assert strategy.rate(3, 49, plan) == pytest.approx(1e-2 / 50)
    assert strategy.rate(3, 50, plan) == strategy.rate(1, 50, plan) == 1e-3
    assert strategy.rate(1, 199, plan) == pytest.approx(1e-3 / 150)


@pytest.mark.parametrize(
    "words", [("strategy=gradual_unfreeze", "every=2"), ("strategy=lp_ft", "probe=0.4")], ids=lambda w: w[0]
)
def test_a_stage_keeps_its_bits_until_it_opens_and_moments_are_kept(
    toy_files, tiny_dir, tmp_path, monkeypatch, words
):
    history = []
    honest = Step.take

    def take(self, rows):
        norm = honest(self, rows)
        history.append(
            (
                {name: value.detach().clone() for name, value in self.parameters.items()},
                {
                    name: self.plain_optimizer().state[value]["exp_avg"].clone()
                    for name, value in self.parameters.items()
                    if value in self.plain_optimizer().state
                },
                set(self.open),
            )
        )
        return norm

    monkeypatch.setattr(Step, "take", take)
    words = *words, "schedule=constant", "train.warmup=0", "train.epochs=8", "task.subset=32"
    ran(tmp_path / "run", toy(toy_files, tiny_dir("bert"), *words))
    model = load_plain(tiny_dir("bert"))
    assert history[0][2] == {model.depth + 1} and history[-1][2] == set(range(model.depth + 2))
    for (before, early, was), (after, late, now) in pairwise(history):
        for name, value in after.items():
            stage = model.stage_of(name)
            assert (name in late) == (stage in now)
            if stage not in now:
                assert torch.equal(value, before[name])
            elif stage not in was and "token_type" not in name and "key.bias" not in name:
                assert not torch.equal(value, before[name])
        for name, value in early.items():  # what was open goes on from its moments
            assert name in late and not torch.equal(late[name], torch.zeros_like(value))


@pytest.mark.parametrize("probe, lr", [(0.0, 1.0), (1.0, 1.0), (0.5, 0.0)])
def test_a_probe_is_a_part_of_the_run_and_learns(probe, lr):
    assert LpFt(probe=0.01, probe_lr=1e-9).probing(course(2)) == 2
    with pytest.raises(ConfigError, match="probe is a share of the run|probe_lr is above 0"):
        LpFt(probe=probe, probe_lr=lr)


def test_both_parts_have_their_share_of_the_warmup():
    warm = Length(per_epoch=10, total=200, warmup=22, eval_every=10, checkpoint_every=10, log_every=4)
    strategy, plan = LpFt(probe=0.25, probe_lr=1e-2), Course(1e-3, Linear(), warm, 2)
    rates = [strategy.rate(3, step, plan) for step in range(200)]
    assert rates[6] == 1e-2 and rates[:6] == sorted(rates[:6])  # 22 · 0.25 = 5.5, six of the first 50 steps
    assert max(rates[50:]) == rates[66] == 1e-3 and rates[50] == pytest.approx(1e-3 / 17)


def test_an_interval_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match="every=20 opens nothing but the head in a run of 200 steps"):
        GradualUnfreeze(every=20, from_="top").opens(1, course(2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=gradual_unfreeze", "every=0"], "every is above 0, not 0"),
        (["strategy=gradual_unfreeze", "from=middle"], "from is one of top, bottom, not 'middle'"),
        (["strategy=lp_ft", "probe=1"], "probe is a share of the run above 0 and below 1, not 1"),
        (["strategy=lp_ft", "probe_lr=-1"], "probe_lr is above 0, not -1"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(words, message):
    with pytest.raises(ConfigError, match=message):
        settings(*words)
