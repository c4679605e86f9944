"""A LoRA's base, what refuses a sum of LoRAs, and what is said and recorded of one; nothing is trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ftrun.errors import ConfigError
from ftrun.experiments.lora import blend, compose, equivalence, lowrank, merge
from ftrun.experiments.lora.compose import Composition
from ftrun.experiments.lora.equivalence import Agreement, agreement, without_measures
from ftrun.experiments.lora.lowrank import Update, refuse_other_bases, refuse_unsummable, weighted_sum


def run_of(place: Path, adapter: dict[str, Any], **settings: Any) -> Any:
    """What of a run's files is asked for."""
    (place / "model").mkdir(parents=True)
    (place / "model/adapter_config.json").write_text(json.dumps(adapter))
    config = {
        "model": {"load": settings.get("load", "full")},
        "train": {"frozen_dtype": settings.get("kept", "fp32")},
    }
    return SimpleNamespace(path=place, model_dir=place / "model", config=config, settings=config)


LORA = {"peft_type": "LORA", "r": 4, "use_dora": False, "base_model_name_or_path": "base", "revision": "v7"}


@pytest.mark.parametrize(
    ("adapter", "settings", "said"),
    [
        ({}, {}, None),
        ({"use_rslora": True}, {}, None),
        ({"peft_type": "IA3"}, {}, "of which no weighted sum exists; compose takes LoRAs"),
        ({"peft_type": "VERA"}, {}, "of which no weighted sum exists; compose takes LoRAs"),
        ({"use_dora": True}, {}, "variant=dora divides by the norm"),
        ({}, {"load": "4bit"}, "rounded by model.load=4bit"),
        ({}, {"load": "8bit"}, "rounded by model.load=8bit"),
        ({}, {"kept": "bf16"}, "rounded by train.frozen_dtype=bf16"),
    ],
)
def test_what_is_no_sum_of_matrices_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: Any, settings: Any, said: str | None
) -> None:
    run = run_of(tmp_path / "run", LORA | adapter, **settings)
    monkeypatch.setattr(lowrank, "low_rank", lambda run, why: LORA | adapter)
    if said is None:
        refuse_unsummable(run)
        return
    with pytest.raises(ConfigError, match=said) as caught:
        refuse_unsummable(run)
    assert str(caught.value).startswith(str(run.path))


@pytest.mark.parametrize(("pooled", "auto"), [("mean", "Headless"), (None, "Own")])
def test_the_base_of_a_lora_is_that_of_its_revision_and_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooled: str | None, auto: str
) -> None:
    """Of a pooled head the backbone without a pooler, else the class of the task; never with lost weights."""
    run, asked = run_of(tmp_path / "run", LORA), {}

    def network(source: Any, revision: Any, kind: Any, config: Any, extra: Any, left: Any) -> str:
        asked.update(source=source, revision=revision, kind=kind, extra=extra, left=left)
        return "a network"

    trust = {"trust_remote_code": True}
    settings: Any = SimpleNamespace(
        model=SimpleNamespace(trust=trust),
        task=SimpleNamespace(spec=lambda source: SimpleNamespace(auto_class="Own")),
    )
    monkeypatch.setattr(
        lowrank, "read_config", lambda place, **words: SimpleNamespace(ftrun_pooling=pooled, **words)
    )
    monkeypatch.setattr(lowrank, "headless", lambda config: "Headless")
    monkeypatch.setattr(lowrank, "without_pooler", lambda config: {"add_pooling_layer": False})
    monkeypatch.setattr(lowrank, "lies", lambda place, name: f"{name} beside {place.name}")
    monkeypatch.setattr(lowrank, "base_network", network)
    assert lowrank.bare(run, settings) == "a network"
    own = {"add_pooling_layer": False} if pooled else {}
    assert asked == {
        "source": "base beside model", "revision": "v7", "kind": auto, "extra": own | trust, "left": set()
    }  # fmt: skip


def update(name: str, base: dict[str, str], *layers: str, **own: Any) -> Update:
    factors = {layer: (torch.ones(2, 3), torch.ones(4, 2)) for layer in layers}
    run = SimpleNamespace(path=Path(name), model_dir=Path(name) / "model")
    settings = SimpleNamespace(model=SimpleNamespace(name="org/base"), seed=5)
    return Update(run, settings, factors, own.get("head", {}), "", base, {})  # type: ignore[arg-type]


def test_loras_are_summed_over_one_base_alone() -> None:
    base = {"a.weight": "1", "b.weight": "2", "c.weight": "3"}
    refuse_other_bases([update("x", base, "a"), update("y", base, "b")])
    refuse_other_bases([update("x", base, "a"), update("y", {"a.weight": "1", "b.weight": "2"}, "a")])
    with pytest.raises(ConfigError, match=r"^y and x have .*\(1 of 3 tensors differ, such as b"):
        refuse_other_bases([update("x", base, "a"), update("y", base | {"b.weight": "9"}, "a")])
    for one, other in ((("a",), ("z",)), (("z",), ("a",))):
        with pytest.raises(ConfigError, match=r"\(layers are missing, such as z\)"):
            refuse_other_bases([update("x", base, *one), update("y", base, *other)])


def test_hashes_are_of_what_a_run_did_not_train() -> None:
    net = nn.Linear(2, 2)
    found = lowrank.hashes(net, {"bias"})
    assert [*found] == ["weight"] and len(found["weight"]) == 64
    with torch.no_grad():
        net.bias += 1
        assert lowrank.hashes(net, {"bias"}) == found
        net.weight += 1
    assert lowrank.hashes(net, {"bias"}) != found


def test_a_composition_is_said_and_recorded_with_its_runs_ranks_and_density(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    both = [update(str(tmp_path / "one"), {}, "a", "b"), update(str(tmp_path / "two"), {}, "a")]
    made = Composition(both, [0.7, -1.0], 1, "linear", None, 0.5)
    assert made.said() == "0.7·one + -1·two" and made.serving is both[1]
    factors = made.factors()
    assert compose.widest(factors) == 4 and {name: len(a) for name, (a, _) in factors.items()} == {
        "a": 4,
        "b": 2,
    }
    expected = weighted_sum([each.factors for each in both], [0.7, -1.0])
    assert all(torch.equal(factors[name][0], expected[name][0]) for name in expected)
    story = compose.story(made, factors)
    assert (
        story.startswith("0.7·one + -1·two: the exact sum of low-rank updates")
        and "of rank 4, with the head of two." in story
    )
    for method, density, found in (
        ("linear", False, None),
        ("svd", False, None),
        ("ties", True, {"tried": 3}),
    ):
        own = Composition(both, [0.7, -1.0], 1, method, 3, 0.5)
        assert method == "linear" or f"peft's {method} of" in compose.story(own, factors)
        compose.write_record(own, factors, tmp_path, found)
        record = json.loads((tmp_path / "compose.json").read_text())
        assert record == {
            "method": method,
            "runs": [{"run": "one", "weight": 0.7, "rank": 2}, {"run": "two", "weight": -1.0, "rank": 2}],
            "head": "two", "rank": 4,
            **({"density": 0.5} if density else {}), **({"search": found} if found else {}),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "rank", "expected"),
    [("svd", None, 3), ("ties", None, 5), ("dare", None, 5), ("svd", 1, 1), ("ties", 2, 2)],
)
def test_what_peft_makes_has_the_widest_rank_or_the_sum_of_ranks(
    method: str, rank: int | None, expected: int
) -> None:
    chance = torch.Generator().manual_seed(0)

    def factors(size: int) -> Any:
        return {"0": (torch.randn(size, 6, generator=chance), torch.randn(6, size, generator=chance))}

    net = nn.Sequential(nn.Linear(6, 6, bias=False))
    found = lowrank.by_peft(net, [factors(2), factors(3)], [0.5, 0.5], method, rank, 0.6, seed=1)
    assert [*found] == ["0"] and len(found["0"][0]) == expected
    again = nn.Sequential(nn.Linear(6, 6, bias=False))
    before = torch.get_rng_state()
    lowrank.by_peft(again, [factors(2)], [1.0], "svd", None, 0.6, seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_the_weights_of_a_blend_are_those_of_its_shares() -> None:
    from transformers.pytorch_utils import Conv1D

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.across = nn.Linear(3, 4), Conv1D(4, 3)

    net = Net()
    start = {name: value.clone() for name, value in net.state_dict().items()}
    a, b = torch.randn(2, 3), torch.randn(4, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blend, "backbone_of", lambda net: net)
        made = blend.Blend(net, [{"plain": (a, b)}, {"plain": (a, b), "across": (a, b)}])
    made.set([0.5, -2.0])
    torch.testing.assert_close(net.plain.weight.detach(), start["plain.weight"] - 1.5 * b @ a)
    torch.testing.assert_close(net.across.weight.detach(), start["across.weight"] - 2.0 * (b @ a).T)
    made.set([0.0, 0.0])
    assert all(torch.equal(value, start[name]) for name, value in net.state_dict().items())


def test_answers_are_compared_without_their_measures() -> None:
    one = {"answer": "a", "p": 0.91, "spans": [(1, 0.5), (2, 0.25)], "count": 3, "known": None}
    assert without_measures(one) == {
        "answer": "a", "p": None, "spans": [[1, None], [2, None]], "count": 3, "known": None
    }  # fmt: skip
    assert without_measures(0.5) is None and without_measures("a") == "a"


@pytest.mark.parametrize(
    ("logits", "largest", "flipped"),
    [
        ([[0.0, 1.0], [2.0, 0.0]], 0.0, 0),
        ([[0.0, 1.0], [2.0, 2.5]], 2.5, 1),
        ([[0.0, 9.0], [2.0, math.nan]], math.nan, 0),
    ],
)
def test_two_networks_differ_by_their_largest_logit_and_their_flipped_rows(
    monkeypatch: pytest.MonkeyPatch, logits: Any, largest: float, flipped: int
) -> None:
    outputs = {"one": torch.tensor([[0.0, 1.0], [2.0, 0.0]]), "two": torch.tensor(logits)}

    def through(net: str, *words: Any) -> Any:
        for row in (1, 0):
            yield outputs[net][row : row + 1], {}, [row]

    monkeypatch.setattr(equivalence, "batches_through", through)
    scorer = SimpleNamespace(
        answers=lambda outputs, batch: [int(row.nan_to_num(-1).argmax()) for row in outputs],
        rows=lambda answers, examples: [SimpleNamespace(answer=each) for each in answers],
    )
    data: Any = SimpleNamespace(dataset=lambda split: SimpleNamespace(examples=[0, 1]), scorer=scorer)
    found = agreement("this", ("one", "two"), data, 8, SimpleNamespace(num_processes=1))  # type: ignore[arg-type]
    assert found.rows == 2 and found.flipped == flipped
    assert found.largest_difference == pytest.approx(largest, nan_ok=True)


def test_agreements_stand_under_their_headings() -> None:
    found = Agreement("folded in fp32", 1234, 2.5e-7, 3)
    heading = equivalence.HEADING
    line = found.line()
    assert len(line) == len(heading) and line.startswith("folded in fp32 ")
    for word, value in (("rows", "1,234"), ("largest logit difference", "2.5e-07"), ("flipped answers", "3")):
        assert line[: heading.index(word) + len(word)].endswith(f" {value}"), word
    table = equivalence.as_markdown([found, found]).splitlines()
    assert len(table) == 4 and table[2] == "| folded in fp32 | 1,234 | 2.5e-07 | 3 |"
    assert all(row.count("|") == table[0].count("|") for row in table)


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        (
            {"peft_type": "LORA", "r": 4},
            "low-rank update (lora, rank 4) was added to the weights of `base`",
        ),
        ({"peft_type": "LORA", "r": 4, "use_dora": True}, "the low-rank update (dora, rank 4) was added to"),
        (
            {"peft_type": "LORA", "r": 4, "use_rslora": True},
            "low-rank update (rslora, rank 4) was added to",
        ),
        ({"peft_type": "IA3"}, "its vectors (ia3) were multiplied into the weights of `base`"),
        ({"peft_type": "VERA", "r": 8}, "the update (vera, rank 8) was added to the weights of `base`"),
    ],
)
@pytest.mark.parametrize("rounded", [False, True])
def test_the_card_of_a_merged_run_says_what_was_folded_and_how(
    monkeypatch: pytest.MonkeyPatch, adapter: dict[str, Any], said: str, rounded: bool
) -> None:
    model = SimpleNamespace(name="base", load="4bit", rounded=rounded)
    settings = SimpleNamespace(model=model, task=SimpleNamespace(name="classify"))
    monkeypatch.setattr(merge, "read", lambda settings: settings)
    monkeypatch.setattr(merge, "low_rank", lambda run, why: adapter)
    monkeypatch.setattr(merge, "update_in", lambda place: "a LoRA of a kind")
    monkeypatch.setattr(merge, "card_of", lambda run, result: ("card", result))
    run: Any = SimpleNamespace(settings=settings, model_dir=Path("m"), read_json=lambda name: None)
    found = merge.of_run(run)
    assert said in found.story and found.title == "base on classify, LoRA of a kind merged"
    assert (", rounded by model.load=4bit," in found.story) is rounded and found.told == ("card", {})  # type: ignore[comparison-overlap]


def test_a_cast_network_has_no_scores_on_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards: list[Any] = []
    monkeypatch.setattr(merge, "write_card", lambda place, settings, card: cards.append(card))
    told = SimpleNamespace(scores=["a score"], sections=[("More", "text")])
    one = Agreement("folded", 3, 0.0, 0)
    for known, found in ((told, [one]), (told, [one, one]), (None, [one])):
        source: Any = SimpleNamespace(settings=None, title="a title", story="a story", told=known)
        merge.write_proof(tmp_path, source, found, "3 rows", "merged")
    assert [card.scores for card in cards] == [["a score"], [], []]
    assert [len(card.sections) for card in cards] == [2, 2, 1] and cards[0].tags == ["merged"]
    assert (
        cards[0].sections[0][1].startswith("a story\n\n| | rows |")
        and "on 3 rows." in cards[0].sections[0][1]
    )


def test_the_last_layer_is_tied_again_where_it_was_read_as_two() -> None:
    def net(same: bool, wrapped: bool) -> Any:
        tokens = nn.Embedding(4, 2)
        out = nn.Linear(2, 4, bias=False)
        out.weight.data = tokens.weight.detach().clone() + (0 if same else 1)
        last: Any = SimpleNamespace(modules_to_save={"default": out}) if wrapped else out
        return (
            SimpleNamespace(get_output_embeddings=lambda: last, get_input_embeddings=lambda: tokens),
            out,
            tokens,
        )

    for wrapped in (False, True):
        whole, out, tokens = net(True, wrapped)
        merge.tie_again(whole)
        assert out.weight is tokens.weight
        whole, out, tokens = net(False, wrapped)
        merge.tie_again(whole)
        assert out.weight is not tokens.weight
    merge.tie_again(SimpleNamespace(get_output_embeddings=lambda: None))
