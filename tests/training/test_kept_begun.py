"""Kept features before they are kept: what forbids them, how they are begun, and what their key is of."""

from __future__ import annotations

import re
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertConfig

from ftrun.data.batching import pad
from ftrun.errors import ConfigError
from ftrun.models.features.store import LARGEST
from ftrun.strategies.base import Strategy
from ftrun.strategies.replay import Replay
from ftrun.tasks.dataset import Dataset, Example, MadeExamples
from ftrun.tasks.objective import Objective
from ftrun.training.kept import check, features, kept
from ftrun.training.kept.kept import Kept
from ftrun.training.kept.rows import KeptRows
from ftrun.training.state import State

CPU = torch.device("cpu")


class Texts(Dataset):
    """Texts of these lengths, padded with 7."""

    def __init__(self, *lengths: int, drawn: bool = False) -> None:
        super().__init__([Example([*range(1, n + 1)], 0, row) for row, n in enumerate(lengths)], "")
        self.drawn = drawn

    def collate(self, examples: Any, draw: Any = None) -> Any:
        ids, mask = pad([example.inputs for example in examples], 7)
        batch = {"inputs": {"input_ids": ids, "attention_mask": mask}, "labels": torch.zeros(len(examples))}
        return batch | ({"draw": draw} if self.drawn else {})


class Plain:
    """What of a run decides whether features are kept."""

    def __init__(self, **train: Any) -> None:
        known = {"keep": "auto", "shard": False, "batch_size": 4, "micro_batch": None}
        self.train = SimpleNamespace(**known | train)
        self.strategy, self.guard, self.strategy_name = Strategy(), Strategy(), "this"


def made(texts: Dataset, settings: Any, cut: int | None = 3, **own: Any) -> Any:
    one: Any = Kept.__new__(Kept)
    data = SimpleNamespace(dataset=lambda split: texts, objective=Objective(None))  # type: ignore[arg-type]
    accelerator = SimpleNamespace(device=CPU, mixed_precision="no", autocast=nullcontext, num_processes=1)
    vars(one).update(
        cut=cut, rows=None, data=data, settings=settings, model=SimpleNamespace(depth=4),
        accelerator=accelerator, course=SimpleNamespace(), **own
    )  # fmt: skip
    return one


class Asked(Objective):
    """Makes what goes in of what it keeps."""

    def inputs(self, inputs: Any, batch: Any) -> Any:
        return inputs


class Streamed(MadeExamples):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: Any) -> Any:
        return Example([1], 0, 0)

    @property
    def sizes(self) -> Any:
        return [1]


def test_each_thing_that_forbids_kept_features_is_named() -> None:
    texts = Texts(3, 4)
    assert made(texts, Plain()).hindrance() is None
    assert "train.shard=true" in made(texts, Plain(shard=True)).hindrance()
    assert made(texts, Plain(), cut=2).hindrance() is None
    assert "strategy=this trains the network from its lowest" in made(texts, Plain(), cut=1).hindrance()
    assert "drawn anew" in made(Texts(3, drawn=True), Plain()).hindrance()
    streamed = Texts(3)
    streamed.examples = Streamed()
    assert "made when they are read" in made(streamed, Plain()).hindrance()
    one = made(texts, Plain())
    one.data.objective = Asked(None)  # type: ignore[arg-type]
    assert "depend on the objective" in one.hindrance()
    replaying = Plain()
    replaying.guard = Replay(0.5, 8, "reservoir")
    assert "earlier examples are replayed" in made(texts, replaying).hindrance()


@pytest.mark.parametrize(
    ("keep", "solved", "hindrance", "pays", "known", "begins", "compared", "said"),
    [
        ("auto", False, None, True, {}, True, True, None),
        ("auto", False, None, False, {}, False, None, None),
        ("auto", False, "why", True, {}, False, None, "features are not kept: why"),
        ("auto", False, None, False, {"3": True}, True, False, None),  # as it was decided before the resume
        ("auto", False, None, True, {"3": False}, False, None, None),
        (False, False, None, True, {}, False, None, None),
        ("auto", True, None, True, {}, False, None, None),  # what is solved for keeps its own
        (True, False, None, False, {}, True, True, None),
        (True, False, None, False, {"5": True}, False, None, None),  # only at first: later where it pays
    ],
)
def test_features_are_begun_where_they_pay_or_are_insisted_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep: Any, solved: bool,
    hindrance: str | None, pays: bool, known: dict[str, bool], begins: bool, compared: bool | None,
    said: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(kept, "lowest", lambda model: 3)
    settings = Plain(keep=keep)
    settings.strategy = SimpleNamespace(solved=solved)  # type: ignore[assignment]
    one, asked = made(Texts(3), settings, cut=None), []
    one.hindrance, one.pays = lambda: hindrance, lambda state: pays

    def begun(compared: bool) -> None:
        asked.append(compared)
        one.rows = object()

    one.begun = begun
    state = State(kept=dict(known))
    one.follow(state)
    one.follow(state)  # of the same cut once
    assert asked == ([compared] if begins else []) and one.cut == 3
    assert (said or "") in capsys.readouterr().out
    if keep != "auto" or solved:
        return
    assert state.kept.get("3") is begins


def test_insisting_where_it_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "lowest", lambda model: 3)
    one = made(Texts(3), Plain(keep=True), cut=None)
    one.hindrance, one.pays = lambda: "why", lambda state: False
    with pytest.raises(ConfigError, match="^train.keep=true: why; possible: train.keep=auto$"):
        one.follow(State())
    again = made(Texts(3), Plain(keep=True), cut=None)
    again.hindrance, again.pays = lambda: "why", lambda state: False
    again.follow(state := State(kept={"4": True}))  # a later stage, of a run that had them
    assert state.kept == {"4": True, "3": False}


class Stored:
    """A store that holds what it is given."""

    def __init__(self, key: str, parts: Any) -> None:
        self.places: dict[Any, Any] = {}
        self.parts = parts

    def size(self, sizes: Any) -> int:
        return 1000 * sum(sizes)


@pytest.fixture
def beginning(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that begins to keep features of six texts: what it returns, and what was asked for."""

    def begin(differ: float = 0.0, compared: bool = True, why: str | None = None, **own: Any) -> Any:
        asked: dict[str, Any] = {}

        class Prefix:
            parts: Any = {}

            def __init__(self, model: Any) -> None: ...

            def learn(self, probe: Any) -> str | None:
                asked["probe"] = probe["attention_mask"].sum(1).tolist()
                return why

        class Rows(KeptRows):
            def cover(self, dataset: Any) -> None:
                asked.setdefault("covered", []).append(len(dataset))
                self.failed = own.get("failed", False)

            def measure(self, inputs: Any, sizes: Any) -> None:
                asked["measured"] = inputs["attention_mask"].shape, sizes

        def difference(rows: Any, model: Any, data: Any, size: int) -> float:
            asked["size"] = size
            return differ

        monkeypatch.setattr(kept, "Prefix", Prefix)
        monkeypatch.setattr(kept, "Store", Stored)
        monkeypatch.setattr(kept, "KeptRows", Rows)
        monkeypatch.setattr(kept, "key_of", lambda *words: "key")
        monkeypatch.setattr(kept, "evaluating", lambda *words: nullcontext())
        monkeypatch.setattr(kept, "difference", difference)
        one = made(Texts(3, 9, 5, 2, 7, 4), Plain(**own.get("train", {})))
        if own.get("gpu"):
            one.accelerator.device, one.accelerator.mixed_precision = torch.device("cuda"), own["gpu"]
            monkeypatch.setattr(kept, "on_device", lambda inputs, accelerator: inputs)
        return one.begun(compared), asked, one

    return begin


def test_features_are_begun_with_the_longest_and_the_shortest_text(beginning: Any, capsys: Any) -> None:
    reason, asked, _ = beginning()
    assert reason is None and asked["probe"] == [9, 2] and asked["covered"] == [6, 6]
    assert asked["measured"] == ((1, 9), [2, 3, 4, 5, 7, 9]) and asked["size"] == 4
    assert "features of 12 rows kept: 60 kB, layers 0–1 computed once" in capsys.readouterr().out
    assert beginning(train={"micro_batch": 2})[1]["size"] == 2
    assert "size" not in beginning(compared=False)[1]


@pytest.mark.parametrize(
    ("differ", "gpu", "kept_at_all"),
    [
        (0.0, None, True), (1e-12, None, False),  # on a CPU nothing may differ
        (9e-7, "no", True), (2e-6, "no", False), (9e-3, "bf16", True), (2e-2, "bf16", False),
        (9e-3, "fp16", True), (2e-2, "fp16", False),
    ],
)  # fmt: skip
def test_features_that_differ_are_not_kept(
    beginning: Any, monkeypatch: pytest.MonkeyPatch, differ: float, gpu: str | None, kept_at_all: bool
) -> None:
    reason, _, _ = beginning(differ, gpu=gpu)
    expected = None if kept_at_all else f"they differ by {differ:.1e} from those of a plain batch"
    assert reason == expected


def test_what_cannot_be_learned_or_computed_is_said(beginning: Any) -> None:
    assert beginning(why="no place to stop")[0] == "no place to stop"
    assert beginning(failed=True)[0] == "they cannot be computed"


@pytest.mark.parametrize(
    ("cut", "before", "said"),
    [
        (2, False, "layer 0 computed once"),
        (3, True, "layers 0–1 computed before"),
        (5, False, "every layer computed once"),
    ],
)
def test_what_is_kept_is_said_by_its_layers(
    beginning: Any, capsys: Any, cut: int, before: bool, said: str
) -> None:
    _, _, one = beginning()
    one.cut = cut
    capsys.readouterr()
    one.tell(one.rows, before)
    assert capsys.readouterr().out.strip().endswith(said)


def test_features_take_at_most_half_of_what_is_free_and_no_more_than_a_cache_may(
    beginning: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three splits have to have room; each here has 30 tokens of a thousand bytes."""
    _, _, one = beginning()
    for free, enough in ((180_000, True), (179_999, False)):
        monkeypatch.setattr(kept.shutil, "disk_usage", lambda place, free=free: SimpleNamespace(free=free))
        reason = one.too_large(one.rows)
        assert (reason is None) is enough
    assert re.match(r"they take 90 kB, of at most .* and half of the 180 kB free in ", reason)
    monkeypatch.setattr(kept.shutil, "disk_usage", lambda place: SimpleNamespace(free=10**15))
    for size, enough in ((LARGEST, True), (LARGEST + 1, False)):
        monkeypatch.setattr(Stored, "size", lambda self, sizes, size=size: size)
        assert (one.too_large(one.rows) is None) is enough


class Other(SimpleNamespace):
    """Another class of networks."""


def test_each_thing_that_can_change_features_changes_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that says something of labels alone does."""
    import transformers  # as it is now: its processing_utils puts another module in its place

    plain = SimpleNamespace(device=CPU, mixed_precision="no")
    weight = ("a", torch.arange(4.0))

    def key(kind: Any = SimpleNamespace, **changes: Any) -> str:
        config = BertConfig(**changes)
        site: Any = SimpleNamespace(cut=2, parts={"hidden": "states"}, frozen=lambda: [weight])
        return features.key_of(site, SimpleNamespace(net=kind(config=config)), plain)  # type: ignore[arg-type]

    known = {key()}
    for about in (
        {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}, {"problem_type": "regression"},
        {"architectures": ["Other"]}, {"name_or_path": "elsewhere"}, {"ftrun_pooling": "mean"},
    ):  # fmt: skip
        assert {key(**about)} == known, about
    changed = [key(Other), key(hidden_act="relu"), key(layer_norm_eps=1e-5), key(attn_implementation="eager")]
    for module, name, value in (
        (torch, "__version__", "0"), (transformers, "__version__", "0"), (features, "VERSION", -1),
        (features, "ROWS_CPU", 4), (features, "TOKENS", 4), (features, "STEP", 4),
        (torch, "get_num_threads", lambda: 999),
        (torch.backends.cpu, "get_cpu_capability", lambda: "another"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            changed.append(key())
    assert len({*changed}) == len(changed) and not known & {*changed}
    monkeypatch.setattr(features, "ROWS", 4)
    assert {key()} == known  # of a GPU
    gpu = SimpleNamespace(device=torch.device("cuda"), mixed_precision="no")
    names = iter(["one card", "one card", "another"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: next(names))
    site: Any = SimpleNamespace(cut=2, parts={}, frozen=lambda: [weight])
    net: Any = SimpleNamespace(net=SimpleNamespace(config=BertConfig()))
    first, same, other = (features.key_of(site, net, gpu) for _ in range(3))  # type: ignore[arg-type]
    assert first == same != other


def test_what_cannot_be_written_or_held_ends_keeping_and_not_the_run(capsys: Any) -> None:
    for error, said in (
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "out of memory"), (RuntimeError("CUDA out of memory"), "out of memory"),
    ):  # fmt: skip
        rows: Any = KeptRows.__new__(KeptRows)
        rows.failed = False
        with rows.guarded():
            raise error
        assert rows.failed and "features are not kept: " in (out := capsys.readouterr().out) and said in out
    with pytest.raises(RuntimeError, match="a bug"), rows.guarded():
        raise RuntimeError("a bug")


def test_rows_of_a_check_are_computed_by_themselves_in_their_own_width() -> None:
    """On a CPU, each as a batch of eight alike; one value is taken of these."""
    texts, asked = Texts(5, 3, 4), []

    def run(inputs: Any) -> Any:
        asked.append(tuple(inputs["input_ids"].shape))
        return {"hidden": inputs["input_ids"].float(), "once": inputs["input_ids"].sum(1)}

    rows: Any = KeptRows.__new__(KeptRows)
    accelerator = SimpleNamespace(device=CPU, autocast=nullcontext, num_processes=1, mixed_precision="no")
    vars(rows).update(
        cpu=True, rule=2, accelerator=accelerator, prefix=SimpleNamespace(run=run),
        store=SimpleNamespace(
            parts={name: SimpleNamespace(ragged=name == "hidden") for name in ("hidden", "once")}
        ),
    )  # fmt: skip
    batch = texts.collate(texts.examples)
    found = check.otherwise(rows, torch.nn.Identity(), range(0, 3, 2), texts.examples, batch["inputs"])  # type: ignore[arg-type]
    assert asked == [(8, 5), (8, 5)]  # by the exact rule the width of the batch
    assert found["hidden"].tolist() == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 7]] and found["once"].tolist() == [
        15,
        17,
    ]
    rows.rule, asked[:] = 0, []
    check.otherwise(rows, torch.nn.Identity(), range(1), texts.examples, batch["inputs"])  # type: ignore[arg-type]
    assert asked == [(8, 5)]
    rows.cpu, rows.contents = False, {id(example): bytes([row]) for row, example in enumerate(texts.examples)}
    rows.values = lambda addresses, inputs: {"hidden": (addresses, inputs["input_ids"].tolist())}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "on_device", lambda values, accelerator: values)
        kept_ones = check.otherwise(rows, None, range(0, 3, 2), texts.examples, batch["inputs"])  # type: ignore[arg-type]
    assert kept_ones["hidden"] == ([b"\x00", b"\x02"], [[1, 2, 3, 4, 5], [1, 2, 3, 4, 7]])
