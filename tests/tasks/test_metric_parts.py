"""Metrics and masks part by part: against seqeval and other implementations, and at their edges."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch.nn import functional

from ftrun.data.text.masking import IGNORED, by_group, continuing, hide, masking_tokens
from ftrun.errors import ConfigError
from ftrun.tasks.metrics import contrastive, entities, knn, regression, rescoring, spans, tokens
from ftrun.tasks.metrics.classification import multilabel_scores, single_label_scores
from ftrun.tasks.metrics.metric import Metric, known, lookup
from ftrun.tasks.metrics.rescoring import scored

CHANCE = numpy.random.default_rng(3)
WORDS = ["a", "the", "Film", "good!", "plot", "of"]


def sentence(chance: random.Random, most: int = 4) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(0, most)))


@pytest.mark.parametrize("seed", range(4))
def test_single_labels_score_as_scikit_learn_has_it(seed: int) -> None:
    chance = random.Random(seed)
    labels, answers = ([*chance.choices("abcd", k=30)] for _ in range(2))
    found = single_label_scores(labels, answers)
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    expected = {
        "accuracy": accuracy_score(labels, answers), "f1": f1_score(labels, answers, **macro),
        "f1_weighted": f1_score(labels, answers, average="weighted", zero_division=0),
        "precision": precision_score(labels, answers, **macro),
        "recall": recall_score(labels, answers, **macro),
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
        assert scored(name, labels, answers).score == pytest.approx(value), name  # type: ignore[union-attr]
    assert single_label_scores(["a", "a"], ["a", "a"])["matthews_correlation"] == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_several_labels_score_as_scikit_learn_has_it(seed: int) -> None:
    true, answered = numpy.random.default_rng(seed).integers(0, 2, (2, 20, 4))
    found = multilabel_scores(true, answered)
    assert found["subset_accuracy"] == accuracy_score(true, answered)
    names = [[[str(n) for n in range(4) if row[n]] for row in table] for table in (true, answered)]
    for average in ("micro", "macro"):
        value = f1_score(true, answered, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(value)
        assert scored(f"{average}_f1", *names).score == pytest.approx(value)  # type: ignore[union-attr]
    assert scored("subset_accuracy", *names).score == found["subset_accuracy"]  # type: ignore[union-attr]
    assert scored("subset_accuracy", [["a", "b"]], [["b", "a"]]).score == 1.0  # type: ignore[union-attr]


def tagged(chance: random.Random) -> list[str]:
    """Six tags at least, in which an entity begins with B."""
    found: list[str] = []
    while len(found) < 6:
        kind, more = chance.choice(["P", "L"]), chance.randint(0, 2)
        found += chance.choice([["O"], [f"B-{kind}", *[f"I-{kind}"] * more]])
    return found[:6]


@pytest.mark.parametrize("seed", range(4))
def test_entities_score_as_seqeval_has_it(seed: int) -> None:
    from seqeval.metrics import f1_score as theirs
    from seqeval.metrics import precision_score as precision
    from seqeval.metrics import recall_score as recall

    chance = random.Random(seed)
    valid = [[tagged(chance) for _ in range(20)] for _ in range(2)]
    found = entities.tag_scores(*valid)
    assert found["f1"] == pytest.approx(theirs(*valid, zero_division=0))
    assert found["precision"] == pytest.approx(precision(*valid, zero_division=0))
    assert found["recall"] == pytest.approx(recall(*valid, zero_division=0))
    flat = [[tag for row in rows for tag in row] for rows in valid]
    assert found["accuracy"] == pytest.approx(accuracy_score(*flat))
    for name in ("f1", "precision", "recall"):
        assert scored(name, *valid).score == pytest.approx(found[name])  # type: ignore[union-attr]
    for kind in "PL":
        own = [[[tag if tag.endswith(kind) else "O" for tag in row] for row in rows] for rows in valid]
        assert found[f"f1_{kind}"] == pytest.approx(theirs(*own, zero_division=0))


def test_without_entities_there_is_nothing_to_divide_by() -> None:
    assert entities.scores(0, 0, 0) == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "entities": 0}
    assert entities.scores(1, 4, 2) == {
        "precision": 0.5,
        "recall": 0.25,
        "f1": pytest.approx(1 / 3),
        "entities": 4,
    }
    assert entities.tag_scores([], [])["accuracy"] == 0.0
    assert entities.tag_scores([["O"]], [["O"]]) == {"f1": 0, "precision": 0, "recall": 0, "accuracy": 1.0}


@pytest.mark.parametrize("seed", range(3))
def test_numbers_score_as_scipy_has_it(seed: int) -> None:
    x = numpy.random.default_rng(seed).integers(0, 8, 40).astype(float)  # with ties
    y = x + numpy.random.default_rng(seed + 9).normal(size=40)
    found = regression.scores(x, y, constant=False)
    assert found["pearson"] == pytest.approx(stats.pearsonr(x, y)[0])
    assert found["spearmanr"] == pytest.approx(stats.spearmanr(x, y)[0])
    assert found["rmse"] == pytest.approx(math.sqrt(((x - y) ** 2).mean()))
    assert found["mae"] == pytest.approx(abs(x - y).mean())
    assert regression.ranks(x).tolist() == stats.rankdata(x).tolist()
    constant = regression.scores(x, y, constant=True)
    assert constant["pearson"] == constant["spearmanr"] == 0.0 and constant["rmse"] == found["rmse"]
    for name in found:
        assert scored(name, x.tolist(), y.tolist()).score == pytest.approx(found[name])  # type: ignore[union-attr]
    assert scored("accuracy", x.tolist(), x.tolist()).score == 1.0  # type: ignore[union-attr]
    assert scored("f1", [1.0], [2.0]) is None and scored("pearson", ["a"], ["b"]) is None


@pytest.mark.parametrize("seed", range(4))
def test_answers_score_by_their_words_as_bags(seed: int) -> None:
    """Precision and recall of the words that are shared, of the gold answer that suits best."""
    chance = random.Random(seed)
    for _ in range(50):
        answer, golds = sentence(chance), [sentence(chance) for _ in range(chance.randint(0, 2))]
        options = [spans.normalised(gold).split() for gold in golds if spans.normalised(gold)] or [[]]
        ours = spans.normalised(answer).split()
        best = 0.0
        for theirs in options:
            rest, same = list(theirs), 0
            for word in ours:
                if word in rest:
                    rest.remove(word)
                    same += 1
            if not ours or not theirs:
                best = max(best, float(ours == theirs))
            elif same:
                precision, recall = same / len(ours), same / len(theirs)
                best = max(best, 2 * precision * recall / (precision + recall))
        ((exact, f1),) = spans.squad_scores([answer], [golds])
        assert f1 == pytest.approx(best) and exact == float(ours in options)
    assert spans.normalised(" The  GOOD, (film)! ") == "good film" and spans.normalised("an a the") == ""


def test_questions_with_and_without_an_answer_are_averaged_apart() -> None:
    answers, gold = ["film", "plot", ""], [["film"], ["film"], []]
    assert spans.scores(answers, gold, no_answer=False) == {
        "f1": pytest.approx(2 / 3),
        "exact_match": pytest.approx(2 / 3),
    }
    found = spans.scores(answers, gold, no_answer=True)
    assert (found["f1_answerable"], found["exact_match_impossible"]) == (0.5, 1.0)
    assert "f1_impossible" not in spans.scores(answers[:2], gold[:2], no_answer=True)


def answer(nats: float, guessed: int, right: int, *kinds: int, **more: float) -> dict[str, float]:
    named = dict(zip(tokens.KINDS, kinds, strict=False)) | {f"right_{kind}": 1 for kind in tokens.KINDS}
    return {
        "nats": nats,
        "guessed": guessed,
        "right": right,
        **{kind: 0 for kind in tokens.KINDS},
        **named,
        **more,
    }


def test_token_scores_are_means_over_tokens_and_kinds_that_occur() -> None:
    found = tokens.scores([answer(6.0, 3, 2, 2, 1, 0), answer(2.0, 1, 1, 2, 0, 0)])
    assert found == {
        "perplexity": pytest.approx(math.exp(2.0)), "accuracy": 0.75, "accuracy_masked": 0.5,
        "accuracy_random": 2.0,
    }  # fmt: skip
    assert tokens.scores([answer(1e6, 1, 0)])["perplexity"] == math.exp(700)
    assert tokens.scores([answer(0.0, 0, 0)]) == {"perplexity": 1.0, "accuracy": 0.0}
    pairs = tokens.scores([answer(6.0, 3, 2, order=1.5, ordered=1), answer(2.0, 1, 1, order=0.5, ordered=0)])
    assert (pairs["mlm_loss"], pairs["next_loss"], pairs["next_accuracy"]) == (2.0, 0.5, 0.5)
    assert tokens.bits_per_byte(math.log(2) * 12, 4) == pytest.approx(3.0)
    assert tokens.bits_per_byte(math.log(2), 0) == pytest.approx(1.0)


@pytest.mark.parametrize("neighbours", [1, 3, 50])
def test_votes_of_neighbours_are_weighed_by_their_cosine(
    monkeypatch: pytest.MonkeyPatch, neighbours: int
) -> None:
    chance = torch.Generator().manual_seed(neighbours)
    features, bank = torch.randn(9, 4, generator=chance), torch.randn(12, 4, generator=chance)
    labels = torch.randint(0, 3, (12,), generator=chance)
    cosines = functional.cosine_similarity(features[:, None], bank[None], dim=-1)
    own = [3, *[-1] * 8]
    cosines[0, 3] = -math.inf
    expected = torch.zeros(9, 3)
    for row in range(9):
        near = cosines[row].argsort(descending=True)[: min(neighbours, 12)]
        weights = (cosines[row][near] / 0.07).exp()
        for place, weight in zip(near.tolist(), weights.tolist(), strict=True):
            expected[row, labels[place]] += weight / float(weights.sum())
    whole = knn.votes(features, bank, labels, 3, neighbours, own)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(knn, "CHUNK", 4)  # however many are compared at once
    torch.testing.assert_close(knn.votes(features, bank, labels, 3, neighbours, own), whole)
    names = [f"{label + 8}" for label in labels.tolist()]  # 8, 9 and 10: in their natural order
    found = knn.Bank(bank, names, [*range(100, 112)])
    answers, shares = found.answers(features, neighbours, [103, None, *[7] * 7])
    assert answers == [f"{label + 8}" for label in expected.argmax(1).tolist()]
    assert shares == pytest.approx(expected.max(1).values.tolist(), abs=1e-5)


def test_embeddings_that_are_none_have_no_rank_and_equal_ones_have_one() -> None:
    assert contrastive.effective_rank(torch.ones(5, 3)) == pytest.approx(1.0, abs=1e-4)
    assert contrastive.effective_rank(torch.eye(4)) == pytest.approx(4.0)
    assert math.isnan(contrastive.effective_rank(torch.tensor([[1.0, math.nan], [1.0, 0.0]])))
    one = contrastive.figures(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    assert one == {"positive_similarity": pytest.approx(0.0), "alignment": pytest.approx(2.0)}
    first, second = torch.eye(2), torch.eye(2) * 3
    two = contrastive.figures(first, second)
    assert two["contrastive_accuracy"] == 1.0 and two["negative_similarity"] == pytest.approx(0.0)
    assert two["uniformity"] == pytest.approx(-4.0) and two["alignment"] == pytest.approx(0.0)


def test_a_column_of_results_is_ranked_by_the_metric_that_its_name_begins_with() -> None:
    for name, direction in (
        ("my_loss", "min"), ("my_perplexity", "min"), ("word_error", "min"), ("my_mae", "min"),
        ("my_rmse", "min"), ("my_bits_per_byte", "min"), ("luck", "max"), (None, "max"),
    ):  # fmt: skip
        assert lookup(name) == Metric((name or ""), direction), name  # type: ignore[arg-type]
    assert lookup("source12_f1_person").name == "f1" and lookup("train_loss").name == "loss"
    assert lookup("eval_eval_f1").name == "eval_f1"  # one prefix
    share, plain = known()["accuracy"], known()["rmse"]
    assert (share.sign, share.is_share, share.factor) == (1, True, 100)
    assert (plain.sign, plain.is_share, plain.factor) == (-1, False, 1)


def test_what_is_left_out_changes_a_score_as_if_it_had_not_been_there() -> None:
    labels, answers = ["a", "b", "a", "c"], ["a", "a", "b", "c"]
    found = scored("f1", labels, answers)
    for row in range(4):
        rest = scored("f1", labels[:row] + labels[row + 1 :], answers[:row] + answers[row + 1 :])
        assert found.left_out[row] == pytest.approx(rest.score)  # type: ignore[union-attr]
    assert rescoring.scored("unknown", labels, answers) is None


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_of_what_is_hidden_each_has_the_fate_that_was_drawn() -> None:
    """Masked, random or kept by their shares; labels are the tokens, and -1 is the kind of the rest."""
    ids, special = torch.arange(10, 5010), torch.zeros(5000, dtype=torch.bool)
    special[:3] = True
    known: dict[str, Any] = {"words": None, "spans": False, "mask_id": 4, "ordinary": torch.tensor([6, 7])}
    inputs, labels, kinds = hide(
        ids, special, share=0.4, split=[0.5, 0.3, 0.2], generator=generator(), **known
    )
    chosen = labels != IGNORED
    assert not chosen[:3].any() and float(chosen[3:].float().mean()) == pytest.approx(0.4, abs=0.03)
    assert torch.equal(labels[chosen], ids[chosen]) and (kinds[~chosen] == -1).all()
    for kind, share in ((0, 0.5), (1, 0.3), (2, 0.2)):
        assert float((kinds[chosen] == kind).float().mean()) == pytest.approx(share, abs=0.04)
    assert (inputs[kinds == 0] == 4).all() and torch.isin(inputs[kinds == 1], known["ordinary"]).all()
    rest = (kinds == 2) | ~chosen
    assert torch.equal(inputs[rest], ids[rest])
    for split, kind in (([1.0, 0.0, 0.0], 0), ([0.0, 1.0, 0.0], 1), ([0.0, 0.0, 1.0], 2)):
        _, _, all_kinds = hide(ids, special, share=0.4, split=split, generator=generator(1), **known)
        assert set(all_kinds.unique().tolist()) == {-1, kind}


def test_a_span_has_one_fate_and_a_word_is_hidden_whole() -> None:
    ids, special = torch.arange(10, 410), torch.zeros(400, dtype=torch.bool)
    special[0] = special[-1] = True
    known: dict[str, Any] = {
        "mask_id": 4,
        "ordinary": torch.tensor([6]),
        "share": 0.3,
        "split": [0.5, 0.25, 0.25],
    }
    words = torch.arange(400) % 3 != 1  # words of three tokens: 1 2 3, 4 5 6, …
    _, labels, _ = hide(ids, special, words=words, spans=False, generator=generator(2), **known)
    chosen = (labels != IGNORED)[1:-1]
    whole = chosen[: len(chosen) // 3 * 3].view(-1, 3)
    assert (whole.all(1) | ~whole.any(1)).all() and whole.any()
    with pytest.MonkeyPatch.context() as patch:
        groups = torch.arange(400) // 20
        patch.setattr("ftrun.data.text.masking.spanned", lambda special, share, generator: (~special, groups))
        _, _, kinds = hide(ids, special, words=None, spans=True, generator=generator(3), **known)
    assert all(len(kinds[1:-1][groups[1:-1] == number].unique()) == 1 for number in range(20))
    assert len(kinds[1:-1].unique()) == 3


def test_a_group_is_chosen_whole_but_for_what_is_special() -> None:
    groups, special = torch.tensor([0, 1, 1, 1, 2]), torch.tensor([True, False, True, False, False])
    found = [by_group(groups, special, 0.5, generator(seed)).tolist() for seed in range(20)]
    assert all(row[1] == row[3] and not row[0] and not row[2] and any(row) for row in found)
    assert [False, True, False, True, False] in found and [False, False, False, False, True] in found


def tokenizer(names: list[str], **special: Any) -> Any:
    ids = {"cls_token_id": 0, "sep_token_id": 1, "mask_token_id": 2, "pad_token_id": 3} | special
    made = SimpleNamespace(
        all_special_ids=[0, 1, 2, 3, 3], convert_ids_to_tokens=lambda ids: [names[n] for n in ids], **ids
    )

    class Sized:
        def __len__(self) -> int:
            return len(names)

        def __getattr__(self, name: str) -> Any:
            return getattr(made, name)

    return Sized()


@pytest.mark.parametrize(
    ("names", "continues"),
    [
        (["x", "##y", "z"], [False, True, False]),
        (["x", "Ġy", "z"], [True, False, True]),
        (["x", "▁y", "z"], [True, False, True]),
        (["x", "y", "z"], [False, False, False]),
    ],
)
def test_what_continues_a_word_is_told_by_the_marks_of_its_tokenizer(
    names: list[str], continues: list[bool]
) -> None:
    assert continuing(tokenizer(names)).tolist() == continues
    special = ["[CLS]", "[SEP]", "[MASK]", "[PAD]"]
    found = masking_tokens(tokenizer([*special, *names]), words=True)
    assert (found.cls, found.sep, found.mask_id, found.pad) == (0, 1, 2, 3)
    assert found.special.tolist() == [True] * 4 + [False] * 3 and found.ordinary.tolist() == [4, 5, 6]
    assert (
        found.continues_word is not None
        and found.continues_word[4:].tolist() == continues[:3]
        or not any(continues)
    )
    assert masking_tokens(tokenizer([*special, *names]), words=False).continues_word is None
    for name in ("cls_token_id", "sep_token_id", "mask_token_id"):
        with pytest.raises(ConfigError, match="no mask, .CLS. or .SEP. token"):
            masking_tokens(tokenizer([*special, *names], **{name: None}), words=False)
