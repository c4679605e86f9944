"""Shards are the rows in order, whatever their size; what was made of them is whole or made again."""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy
import pytest

from ftrun.data.rows import read_rows
from ftrun.data.streamed import shards, store
from ftrun.data.streamed.shards import Shard, in_turn, shards_of
from ftrun.data.streamed.store import Numbers, Stored, opened_all, written
from ftrun.data.streamed.survey import Moments
from ftrun.errors import DataError, DiskFull

ROWS = [{"text": "é" * (number % 97) + f" {number}", "number": number} for number in range(400)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written_as(place: Path, form: str) -> str:
    path = place / f"a{form}"
    if form == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=7)
    else:
        lines = [row["text"] if form == ".txt" else json.dumps(row) for row in ROWS]
        text = "\ufeff" + "\r\n".join(lines) + "\n" * (form == ".jsonl.gz")
        path.write_bytes(gzip.compress(text.encode()) if form.endswith("gz") else text.encode())
    return str(path)


@pytest.mark.parametrize("form", [".jsonl", ".txt", ".parquet", ".jsonl.gz"])
def test_shards_are_the_rows_in_order_whatever_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    source = written_as(tmp_path, form)
    whole = read_rows(source)
    for size in (300, 5000, 1 << 20):
        monkeypatch.setattr(shards, "SIZE", size)
        found = shards_of([source], None)
        parts = [list(shard.rows()) for shard in found]
        assert [row for part in parts for row in part] == whole
        assert [shard.before() for shard in found] == [sum(map(len, parts[:n])) for n in range(len(parts))]
        assert len({shard.content() for shard in found}) == len(found)
        if form != ".jsonl.gz":
            assert (len(found) > 1) == (size < 1 << 20)


def test_parquet_is_read_by_columns(tmp_path: Path) -> None:
    (shard,) = shards_of([written_as(tmp_path, ".parquet")], None)
    assert list(shard.rows(["number"])) == [{"number": row["number"]} for row in ROWS]
    assert list(shard.rows(["number", "missing"])) == ROWS  # so that what there is can be said


def test_a_shard_is_told_by_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file lies elsewhere, and where rows are appended; else it is another."""
    monkeypatch.setattr(shards, "SIZE", 3000)
    path = Path(written_as(tmp_path, ".jsonl"))
    before = [shard.content() for shard in shards_of([str(path)], None)]
    other = tmp_path / "other.jsonl"
    other.write_bytes(path.read_bytes() + b'\n{"text": "more"}')
    more = [shard.content() for shard in shards_of([str(other)], None)]
    assert more[: len(before) - 1] == before[:-1] and more[-1] not in before
    path.write_bytes(path.read_bytes().replace(b" 399", b" 398"))
    assert [shard.content() for shard in shards_of([str(path)], None)][:-1] == before[:-1]


def test_a_digest_is_kept_as_long_as_the_file_has_its_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    os.utime(path, (1, 1))
    first = Shard(str(path)).content()
    path.write_text("two")  # by someone who puts the time of the change back
    os.utime(path, (1, 1))
    assert Shard(str(path)).content() == first
    os.utime(path, (2, 2))
    assert Shard(str(path)).content() != first


@pytest.mark.parametrize(
    ("line", "message"), [(b"{no", "line 301: not JSON"), (b"\xff", "line 301: not valid")]
)
def test_a_wrong_line_of_any_shard_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, message: str
) -> None:
    monkeypatch.setattr(shards, "SIZE", 1000)
    path = Path(written_as(tmp_path, ".jsonl"))
    lines = path.read_bytes().split(b"\r\n")
    path.write_bytes(b"\r\n".join([*lines[:300], line, *lines[300:]]))
    with pytest.raises(DataError, match=f"{path}, {message}"):
        for shard in shards_of([str(path)], None):
            list(shard.rows())


def test_a_damaged_row_group_and_a_torn_gzip_are_named(tmp_path: Path) -> None:
    source = Path(written_as(tmp_path, ".parquet"))
    data = bytearray(source.read_bytes())
    data[len(data) // 2 - 400 : len(data) // 2] = b"\xff" * 400
    source.write_bytes(bytes(data))
    with pytest.raises(DataError, match=rf"{source} cannot be read as parquet \(row group \d+ of 58\)"):
        list(Shard(str(source)).rows())
    torn = Path(written_as(tmp_path, ".jsonl.gz"))
    torn.write_bytes(torn.read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"{torn} is not a complete gzip file \(after line \d+\)"):
        list(Shard(str(torn)).rows())


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_process_comes_to_every_shard_and_begins_elsewhere(
    monkeypatch: pytest.MonkeyPatch, processes: int, count: int
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    orders = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        orders.append(list(in_turn(count)))
        assert sorted(orders[-1]) == list(range(count))
    assert len({order[0] for order in orders}) == min(count, processes)


def stored(name: str, values: Any) -> Stored:
    with written(name, "a") as out:
        for value in values:
            out.add("a", numpy.int32(value).tobytes())
            out.add("b", bytes([value % 256]))
        out.facts = {"many": len(values)}
    return opened_all([name])[0]


def test_numbers_of_several_files_are_one_array() -> None:
    chance = random.Random(0)
    whole = [chance.randrange(1000) for _ in range(50)]
    files = [stored(str(n), whole[a:b]) for n, (a, b) in enumerate([(0, 20), (20, 20), (20, 21), (21, 50)])]
    found = Numbers(files, "a", "int32")
    assert [int(number) for number in found] == whole and len(found) == 50
    for _ in range(100):
        begin, end = chance.randrange(-60, 60), chance.randrange(-60, 60)
        assert found[begin:end].tolist() == whole[begin:end]
    assert numpy.concatenate([piece for _, piece in Numbers(files, "b", "uint8").pieces()]).tolist() == [
        value % 256 for value in whole
    ]


def test_a_file_that_is_not_whole_is_none(tmp_path: Path) -> None:
    place = stored("x", range(9)).place
    data = place.read_bytes()
    for damaged in (data[:-1], data[:10], b"", data[9:]):
        place.write_bytes(damaged)
        assert Stored.open("x") is None
    with pytest.raises(DataError, match=r"was removed while it was needed; start again"):
        opened_all(["x"])


def test_a_file_that_goes_while_it_is_read_is_said(tmp_path: Path) -> None:
    file = stored("y", range(9))
    numbers = Numbers([file], "a", "int32")
    file.place.unlink()
    store.let_go()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        numbers[3]


def test_a_full_disk_is_one_line_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Writer, "close", full)
    with pytest.raises(DiskFull, match="no space left"):
        stored("z", range(9))
    assert not list(shards.directory().glob("*"))


def test_moments_of_parts_are_those_of_all() -> None:
    numbers = numpy.random.default_rng(0).normal(1e3, 1e-2, 1000)
    whole, parts = Moments(), Moments()
    for number in numbers:
        whole.add(Moments(1, float(number), 0.0, float(number), float(number)))
    for part in numpy.split(numbers, [1, 400, 999]):
        parts.add(Moments(len(part), float(part.mean()), float(part.std()), part.min(), part.max()))
    for found in (whole, parts):
        assert found.mean == pytest.approx(numbers.mean(), rel=1e-12)
        assert found.deviation == pytest.approx(numbers.std(), rel=1e-6)
        assert (found.count, found.low, found.high) == (1000, numbers.min(), numbers.max())
