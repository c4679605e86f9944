"""Token ids are kept by content: taken again when all is the same, and never when anything is not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftrun.data.text import token_cache as tokens
from ftrun.data.text.encoding import encode
from ftrun.data.text.token_cache import directory, token_ids
from ftrun.data.text.windows import windows

TEXTS = ["good film", "", "a very bad story of this scene", "é"] * 5


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tokens, "PAYS", 100)
    return tmp_path / "cache"


@pytest.fixture
def tokenizer(tiny_dir: Callable[[str], Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_dir("bert"))


def files() -> list[Path]:
    return sorted(directory().iterdir()) if directory().exists() else []


def test_the_second_time_they_are_taken_and_the_same(tokenizer: Any) -> None:
    first, kept = token_ids(tokenizer, TEXTS, truncation=False)
    assert first == tokenizer(TEXTS)["input_ids"] and not kept
    assert token_ids(tokenizer, TEXTS, truncation=False) == (first, True)
    assert len(files()) == 1


def test_a_report_says_it_and_truncation_has_its_own(tokenizer: Any) -> None:
    given = {"split": "train", "max_length": 6, "long": "truncate"}
    first, second = encode(tokenizer, TEXTS, **given), encode(tokenizer, TEXTS, **given)
    assert first[:2] == second[:2]
    assert "rows, tokens from the cache, " in second[2].line() and "cache" not in first[2].line()
    other = encode(tokenizer, TEXTS, **(given | {"max_length": 5}))
    assert max(map(len, other[0])) == 5 and max(map(len, first[0])) == 6


@pytest.mark.parametrize("asked", [False, True])
def test_windows_are_taken_again_with_all_their_places(tokenizer: Any, asked: bool) -> None:
    questions = ["film"] * len(TEXTS) if asked else None
    given: Any = tokenizer, [f"{text} " * 9 for text in TEXTS], 16, 2, questions
    (first, kept), (second, again) = windows(*given), windows(*given)
    assert (kept, again) == (False, True) and len(first) > len(TEXTS)
    for one, other in zip(first, second, strict=True):
        assert vars(one) | {"spans": one.spans.tolist()} == vars(other) | {"spans": other.spans.tolist()}
    assert not windows(tokenizer, given[1], 16, 3, questions)[1]
    assert not windows(tokenizer, given[1], 17, 2, questions)[1]


def test_another_text_order_option_or_tokenizer_is_another_content(tokenizer: Any) -> None:
    token_ids(tokenizer, TEXTS, truncation=False)
    for texts, options in (
        ([*TEXTS[:-1], "e"], {"truncation": False}),
        (TEXTS[::-1], {"truncation": False}),
        (["".join(TEXTS[:2]), *TEXTS[2:], ""], {"truncation": False}),
        (TEXTS, {"truncation": True, "max_length": 4}),
        (TEXTS, {"truncation": True, "max_length": 5}),
    ):
        found, kept = token_ids(tokenizer, texts, **options)
        assert not kept and found == tokenizer(texts, **options)["input_ids"]
    tokenizer.add_tokens(["film"])
    assert not token_ids(tokenizer, TEXTS, truncation=False)[1]
    tokenizer.truncation_side = "left"
    assert not token_ids(tokenizer, TEXTS, truncation=True, max_length=4)[1]


def test_few_texts_leave_nothing_behind(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "PAYS", 1_000_000)
    for _ in range(2):
        assert not token_ids(tokenizer, TEXTS, truncation=False)[1]
    assert files() == []


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_file_is_ignored_and_written_again(tokenizer: Any, damage: bytes | None) -> None:
    first, _ = token_ids(tokenizer, TEXTS, truncation=False)
    [file] = files()
    whole = file.read_bytes()
    flipped = whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    file.write_bytes(flipped if damage is None else damage)
    assert token_ids(tokenizer, TEXTS, truncation=False) == (first, False)
    assert files() == [file] and file.read_bytes() == whole


def test_writers_at_once_leave_one_whole_file(empty_cache: Path) -> None:
    place = directory() / "same.ids"
    ids = [[number] * 50 for number in range(500)]
    writers = [threading.Thread(target=tokens.write, args=(place, ids)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = tokens.read(place)
    assert files() == [place] and found is not None and [each.tolist() for each in found] == ids


def test_room_is_made_for_the_newest(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "LARGEST", 1300)  # three files
    for number, name in enumerate("abc"):
        tokens.write(directory() / f"{name}.ids", [[1] * 90])
        os.utime(directory() / f"{name}.ids", (number, number))
    assert tokens.read(directory() / "a.ids") is not None  # used just now
    tokens.write(directory() / "d.ids", [[1] * 90])
    assert [file.stem for file in files()] == ["a", "c", "d"]


def test_where_nothing_can_be_kept_it_is_said_and_the_run_goes_on(
    tokenizer: Any, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_cache.write_text("a file where the directory should be")
    found, kept = token_ids(tokenizer, TEXTS, truncation=False)
    assert found == tokenizer(TEXTS)["input_ids"] and not kept
    assert "the token ids are not kept for the next run" in capsys.readouterr().out
