"""Streamed rows are those that are read at once, in bounded memory; what is wrong is said where it is."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ftrun.data.rows import read_rows
from ftrun.data.streaming import stream_rows
from ftrun.errors import DataError

CONTENTS = {
    "a.csv": '\ufefftext,label\r\n"good, ""really""\nso",1\r\n\r\nbad,0\r\n',
    "b.csv": "text;label\ngood;1\n",
    "c.tsv": 'text\tlabel\n"plain"\t1\n"with ""two"""\t0\n',
    "d.tsv": 'text\tlabel\n"half\t1\nline\u2028separator\t0\n',
    "e.jsonl": '{"text": "é", "label": 1}\n\n{"text": "b", "label": null}',
    "g.json": '\ufeff [{"text": "é] ,{"}\n,{"text": "' + "b" * 200_000 + '"} , {"text": null}] \n',
    "f.txt": "one\n\ntwo\r\nthree",
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", CONTENTS)
def test_the_rows_are_those_read_at_once(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / (name + ".gz" if packed else name)
    data = CONTENTS[name].encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(stream_rows(str(path))) == read_rows(str(path))


def test_parquet_saved_sets_lists_and_patterns(tmp_path: Path) -> None:
    import datasets
    from datasets import ClassLabel, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    rows = {"text": [f"t{number}" for number in range(2500)], "label": [number % 2 for number in range(2500)]}
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(str(tmp_path / "a.parquet"))
    datasets.DatasetDict({"train": data}).save_to_disk(str(tmp_path / "saved"))
    datasets.enable_progress_bars()
    (tmp_path / "b.txt").write_text("one\n")
    (tmp_path / "c.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for given in (
        str(tmp_path / "a.parquet"),
        str(tmp_path / "c.parquet.gz"),
        f"{tmp_path}/saved:train",
        [str(tmp_path / "b.txt"), str(tmp_path / "*.parquet")],
    ):
        assert list(stream_rows(given)) == read_rows(given)
    assert next(stream_rows(str(tmp_path / "saved"), "train")) == {"text": "t0", "label": "no"}


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv.gz", "a.txt", "a.json", "a.parquet"]
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    path, text = tmp_path / name, "x" * 500
    if name == "a.parquet":
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({"text": [f"{number} {text}" for number in range(20_000)]})
        parquet.write_table(table, path, row_group_size=1000)
    else:
        line = json.dumps({"text": text}) if "jsonl" in name else text
        content = "text\n" + f"{line}\n" * 20_000 if "jsonl" not in name else f"{line}\n" * 20_000
        if name == "a.json":
            content = json.dumps([{"text": text}] * 20_000)
        path.write_bytes(gzip.compress(content.encode(), 1) if name.endswith("gz") else content.encode())
    next(stream_rows(str(path)))  # what is imported or made once
    tracemalloc.start()
    try:
        assert sum(1 for _ in stream_rows(str(path))) >= 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_500_000  # of 10 MB
    finally:
        tracemalloc.stop()


def test_a_wrong_line_is_said_when_it_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "b"}\n{"text": \n')
    rows = stream_rows(str(path))
    assert len(list(islice(rows, 2))) == 2
    with pytest.raises(DataError, match="line 3: not JSON"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,1\nb\n", "line 3: 1 field, the header has 2"),
        ("a.csv", b'text,label\n"a,1\n', "a quoted field is never closed"),
        ("a.txt", b"", "is empty"),
        ("a.txt", b"ok\ncaf\xe9\n", r"line 2: not valid UTF-8 \(byte 0xe9\)"),
        ("a.txt", b"ok\n\0\n", "a NUL byte in line 2"),
        ("a.txt", "x".encode("utf-16"), "is UTF-16"),
        ("a.txt.gz", gzip.compress(b"text\n" * 999, mtime=0)[:-12], "is not a complete gzip file"),
        ("a.tsv", b"text\tlabel\n", "has no rows"),
        ("a.parquet", b"no such thing", "cannot be read as parquet"),
        ("a.json", b"", "is empty"),
        ("a.json", b"[]", "has no rows"),
        ("a.json", b'{"text": "a"}', "one list of objects"),
        ("a.json", b'[{"text": "a"}, 7]', "one list of objects"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', "no comma behind object 1"),
        ("a.json", b'[{"text": "a"}, {"text" "b"}]', "object 2: Expecting ':' delimiter"),
        ("a.json", b'[{"text": "a"}', "its list does not end"),
        ("a.json", b'[\n{"text": "caf\xe9"}]', r"line 2: not valid UTF-8 \(byte 0xe9\)"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(stream_rows(str(path)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_name_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("[]")
    given: list[tuple[Any, str]] = [
        (str(tmp_path / "nothing.txt"), "does not exist"),
        (str(tmp_path / "*.txt"), "matches no file"),
        (str(tmp_path / "a.npz"), r"cannot tell the format from '.npz'; possible: \.csv"),
        (str(tmp_path), "is a directory"),
    ]
    for source, message in given:
        with pytest.raises(DataError, match=message):
            stream_rows(source)
