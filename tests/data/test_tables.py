from __future__ import annotations

import gzip
import json
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ftrun.data import content as content_of_files
from ftrun.data.documents import files_of
from ftrun.data.rows import read_rows
from ftrun.data.sources import look
from ftrun.data.streaming import stream_rows
from ftrun.data.tables import check_writable, read_table, write_table
from ftrun.errors import ConfigError, DataError

EXPECTED = [{"text": "good, really", "label": "1"}, {"text": "bad", "label": "0"}]


compress = partial(gzip.compress, mtime=0)  # its bytes are in the names of tests
DAMAGED = bytearray(compress(b"text,label\na,1\n" * 99))
DAMAGED[20] ^= 0xFF


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good, really",1\nbad,0\n'),
        ("a.CSV", '\ufefftext,label\r\n"good, really",1\r\nbad,0\r\n'),
        ("mac.csv", 'text,label\r"good, really",1\rbad,0\r'),
        ("a.tsv", "text\tlabel\ngood, really\t1\n\nbad\t0"),
        ("a.jsonl", '{"text": "good, really", "label": "1"}\n\n{"text": "bad", "label": "0"}\n'),
        ("a.json", '[{"text": "good, really", "label": "1"},\n {"text": "bad", "label": "0"}]'),
        ("a.csv.gz", compress(b'text,label\n"good, really",1\nbad,0\n')),
        ("a.TSV.GZ", compress(b"text\tlabel\ngood, really\t1\nbad\t0")),
        ("a.jsonl.gz", compress("\n".join(map(json.dumps, EXPECTED)).encode())),
    ],
)
def test_the_same_rows_from_every_format(tmp_path: Path, name: str, content: str) -> None:
    assert read_table(written(tmp_path, name, content)) == (EXPECTED, [])


def test_a_text_file_is_a_row_per_line(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": ""}, {"text": '"two", three'}]
    assert read_table(written(tmp_path, "a.txt", 'one\n\n"two", three\n')) == (rows, [])
    assert read_table(written(tmp_path, "a.txt.gz", compress(b'one\n\n"two", three'))) == (rows, [])


def both_ways(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows and the notes, the same rows being streamed."""
    rows, notes = read_table(path)
    assert list(stream_rows(str(path))) == rows
    return rows, notes


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('text;label\n"good, really";1\nbad;0\n', "semicolons"),
        ("text;label\ngood, really;1\nbad;0\n", "semicolons"),
        ('sep=;\ntext;label\n"good, really";1\nbad;0\n', "semicolons"),
        ('"sep=;"\r\ntext;label\r\n"good, really";1\r\nbad;0\r\n', "semicolons"),
        ('sep=^\n"text"^label\ngood, really^1\nbad^0\n', "'^'"),
        ("text\tlabel\ngood, really\t1\nbad\t0\n", "tabs"),
        ("text|label\ngood, really|1\nbad|0\n", "vertical bars"),
    ],
)
def test_what_separates_the_fields_is_told_and_said(tmp_path: Path, content: str, word: str) -> None:
    path = written(tmp_path, "a.csv", content)
    assert both_ways(path) == (EXPECTED, [f"a.csv: its fields are separated by {word}"])


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ('"text, long";label\n"a, b";1\n', ["text, long", "label"]),  # a comma in quotes parts nothing
        ("text,a;b\nx,y\n", ["text", "a;b"]),  # both do, but one has as many in every line
        ("a,b;c\nx;1\ny, z;2\n", ["a,b", "c"]),
        ("question | answer\nyes\n", ["question | answer"]),  # a bar that parts one line only
        ("sep=,\ntext,label\na,1\n", ["text", "label"]),
        ("sep=1,label\na,1\n", ["sep=1", "label"]),
    ],
)
def test_the_separator_is_what_fits_every_line(tmp_path: Path, content: str, header: list[str]) -> None:
    assert list(both_ways(written(tmp_path, "a.csv", content))[0][0]) == header


@pytest.mark.parametrize(
    "content",
    [
        'text,label\n"good, really", "1"\nbad, "0"\n',
        'text, label\n"good, really", 1\nbad, 0\n',
        'text,   "label"\n"good, really",  "1"\n"bad",0\n',
    ],
)
def test_blanks_behind_separators_are_left_out_and_said(tmp_path: Path, content: str) -> None:
    """Where quotes follow them or all fields have one; elsewhere they are part of the field."""
    found = both_ways(written(tmp_path, "a.csv", content))
    assert found == (EXPECTED, ["a.csv: blanks behind commas were left out"])


@pytest.mark.parametrize(("label", "value"), [(" 1", " 1"), ('" ""1"""', ' "1"')])
def test_a_blank_of_its_own_stays(tmp_path: Path, label: str, value: str) -> None:
    rows, notes = both_ways(written(tmp_path, "a.csv", f'text,label\n"good, ""so"" it",{label}\nbad,0\n'))
    assert rows[0]["label"] == value and notes == []


@pytest.mark.parametrize(
    "content",
    [
        "text,label,\na,1,\nb,0,\n",
        "text,label,,\na,1,,\nb,0,,\n",
        "text,label\na,1,\nb,0,\n",
        "text,label, \na,1\nb,0,\n",
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_empty_columns_without_a_name_are_left_out(tmp_path: Path, content: str, ending: str) -> None:
    content = content if ending == ".csv" else content.replace(",", "\t")
    rows, notes = both_ways(written(tmp_path, f"a{ending}", content))
    assert rows == [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]
    assert notes == [f"a{ending}: what stands behind the last column that has a name is empty, and left out"]


def test_a_comma_at_the_end_of_some_lines_is_a_missing_label(tmp_path: Path) -> None:
    """`good,really,` has a comma in its text, and no label."""
    with pytest.raises(DataError, match="line 3: 3 fields, the header has 2"):
        read_table(written(tmp_path, "a.csv", "text,label\na,1\ngood,really,\n"))
    rows, _ = both_ways(written(tmp_path, "a.csv", "text,label,\na,1,\nb,0,x\n"))
    assert rows[1] == {"text": "b", "label": "0", "": "x"}  # a column all the same


def test_a_csv_without_quoting_is_recognised_and_said(tmp_path: Path) -> None:
    rows, notes = read_table(written(tmp_path, "a.csv", 'text,label\n"Heat" is good,1\n"half,0\n'))
    assert [row["text"] for row in rows] == ['"Heat" is good', '"half']
    assert notes == ['a.csv: read without quoting, a " is an ordinary character']


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", None], "label": [1.0, 0.0]}), path)
    assert read_table(path)[0] == [{"text": "a", "label": 1.0}, {"text": None, "label": 0.0}]
    packed = written(tmp_path, "a.parquet.gz", compress(path.read_bytes()))
    assert read_table(packed) == read_table(path)


def test_line_separators_of_unicode_stay_inside_a_field(tmp_path: Path) -> None:
    path = written(tmp_path, "a.tsv", "text\tlabel\none\u2028two\x85three\t1\n")
    assert read_table(path)[0] == [{"text": "one\u2028two\x85three", "label": "1"}]


def test_csv_fields_may_hold_line_ends_and_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'text,label\n"one\n""two""",1\n')
    assert read_table(path)[0] == [{"text": 'one\n"two"', "label": "1"}]


def test_csv_fields_may_be_very_long(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text,label\n" + "x" * 200_000 + ",1\n")
    assert len(read_table(path)[0][0]["text"]) == 200_000


@pytest.mark.parametrize(
    "field", ['"Great film', 'say "yes"', '"', '"quoted" and not', 'ends with "', '"a" "b"', "5'11\""]
)
def test_a_lone_quote_in_a_tsv_is_an_ordinary_character(tmp_path: Path, field: str) -> None:
    path = written(tmp_path, "a.tsv", f'text\tlabel\n{field}\t1\nand bye"\t0\n')
    rows, notes = read_table(path)
    assert [row["text"] for row in rows] == [field, 'and bye"']
    assert notes == (['a.tsv: read without quoting, a " is an ordinary character'] if field[0] == '"' else [])


@pytest.mark.parametrize("field", ['"one\ttwo"', '"one\ntwo"', '"say ""yes"""', '"plain"'])
def test_balanced_quotes_in_a_tsv_are_quoting(tmp_path: Path, field: str) -> None:
    rows, notes = read_table(written(tmp_path, "a.tsv", f"text\tlabel\n{field}\t1\nbye\t0\n"))
    assert [row["text"] for row in rows] == [field[1:-1].replace('""', '"'), "bye"]
    assert notes == ["a.tsv: fields in double quotes were unquoted"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.jsonl", "\n \n", "is empty"),
        ("a.csv", "text,label\n", "has no rows, only a header line"),
        ("a.csv", "text,text\na,b\n", "the header names the column 'text' twice"),
        ("a.csv", "text,label\na,1\nb,c,1\n", "line 3: 3 fields, the header has 2"),
        ("a.csv", 'text,label\n"a\nb",1\nb\n', "line 4: 1 field, the header has 2"),
        ("a.csv", 'text,label\na,1\n"b,x,1\nc,0\n', "line 3: a quoted field is never closed"),
        ("a.csv", 'text,label\n"b"c,x,1\n', "line 2: "),
        ("a.tsv", "text\tlabel\na\t1\nb\n", "line 3: 1 field, the header has 2"),
        ("a.tsv", 'text\tlabel\n"a\t1\nb\n', "line 3: 1 field, the header has 2"),
        ("a.csv", b"text,label\nok,1\ncaf\xe9,1\n", "line 3: not valid UTF-8 (byte 0xe9)"),
        ("a.tsv", b"text\tlabel\n\x00\x01\t1\n", "is a binary file, not text (a NUL byte in line 2)"),
        ("a.csv", "text,label\na,1\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2: not JSON (Expecting value at column 10)"),
        ("a.jsonl", '["a", 1]\n', "line 1: a list; each line is one JSON object"),
        ("a.jsonl", '{"text": "\\ud83d"}\n', "line 1: half of a surrogate pair"),
        ("a.parquet", "no such thing", "cannot be read as parquet"),
        ("a.xlsx", "x", "cannot tell the format from '.xlsx'; possible: .csv, .tsv, .jsonl, .json, .txt"),
        ("a.json", '{"text": "a"}', "a table in JSON is one list of objects"),
        ("a.json", "[" * 100_000, "lists and objects stand too deep in each other"),
        ("a.jsonl", '{"a":' * 100_000, "line 1: lists and objects stand too deep in each other"),
        ("a.json", '[{"a": "\\udc00"}]', "half of a surrogate pair"),
        ("a.jsonl", '{"a": 1' + "0" * 5000 + "}", "line 1: a number has more digits than can be read"),
        ("a.csv", "sep=;\n", "has no header"),
        ("a.csv", "a,b\n1,2\r3\n", "line 3: 1 field, the header has 2"),
        ("a.parquet.gz", compress(b"no such thing"), "cannot be read as parquet"),
        ("a.json", '[{"text": "a"},\n}', "line 2: not JSON"),
        ("a.json", '{"text": "a"}\n{"text": "b"}\n', "such a file ends in .jsonl"),
        ("a.csv.gz", "text,label\na,1\n", "is not a complete gzip file: Not a gzipped file"),
        ("a.csv.gz", compress(b"text,label\na,1\n" * 99)[:-20], "is not a complete gzip file"),
        ("a.csv.gz", DAMAGED, "is not a complete gzip file"),
        ("a.csv.gz", compress(b"text,label\na,1\nb\n"), "line 3: 1 field, the header has 2"),
        ("a.gz", "x", "cannot tell the format from 'no ending'"),
        ("a", "x", "cannot tell the format from 'no ending'"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".txt", ".tsv"])
def test_a_line_without_measure_is_refused_before_it_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(content_of_files, "LINE", 200_000)
    lines = "text\n" + "x" * 190_000 + "\n"
    for name, pack in ((f"a{ending}", bytes), (f"a{ending}.gz", compress)):
        path = written(tmp_path, name, pack((lines + "y" * 210_000).encode()))
        with pytest.raises(DataError, match="line 3 has more than 0 MiB; split it into several"):
            read_table(path)


def test_a_gzip_of_nothing_but_zeros_is_told_by_its_beginning(tmp_path: Path) -> None:
    """Whatever it would unpack to."""
    path = written(tmp_path, "a.csv.gz", compress(bytes(1 << 24)))
    tracemalloc.start()
    with pytest.raises(DataError, match="is a binary file, not text .a NUL byte in line 1."):
        read_table(path)
    with pytest.raises(DataError, match="is a binary file"):
        list(stream_rows(str(path)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 26


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loop.csv", "loop.csv is a symbolic link to itself"),
        ("hanging.csv", "hanging.csv is a symbolic link to gone.csv, which does not exist"),
        ("n" * 300 + ".csv", "cannot be read: file name too long"),
        ("nul\0.csv", "is no name of a file: it holds a NUL character"),
        ("loop.csv/a.csv", "cannot be read: too many levels of symbolic links"),
    ],
)
def test_a_path_that_leads_nowhere(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "hanging.csv").symlink_to("gone.csv")
    for ask in (read_rows, lambda source: look({"kind": "image", "train": source}), read_given):
        with pytest.raises(DataError, match=said):
            ask(str(tmp_path / name))
    with pytest.raises(DataError, match="there is no user 'nobody-here'"):
        look({"kind": "lm", "test": ["~nobody-here/a.csv"]})


def read_given(source: str) -> None:
    files_of("task.train", source)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, "train.csv", "x")
    with pytest.raises(DataError, match=r"trian\.csv does not exist; did you mean 'train\.csv'\?"):
        read_table(tmp_path / "trian.csv")
    with pytest.raises(DataError, match="there is no directory"):
        read_table(tmp_path / "nowhere" / "train.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="is a directory"):
        read_table(tmp_path / "folder.csv")


@pytest.mark.parametrize("name", ["b.csv", "b.tsv", "b.jsonl"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    rows: list[dict[str, Any]] = [
        {"text": 'one\ttwo\n"three", four', "answer": "é"},
        {"text": "five", "answer": "no", "extra": "x"},
    ]
    write_table(tmp_path / name, rows)
    back = read_table(tmp_path / name)[0]
    assert [{key: value for key, value in row.items() if value} for row in back] == rows


def test_numbers_and_missing_values_are_json(tmp_path: Path) -> None:
    write_table(tmp_path / "a.jsonl", [{"answer": None, "probability": 0.5}])
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"answer": None, "probability": 0.5}


def test_where_nothing_can_be_written_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"possible: \.csv, \.tsv, \.jsonl"):
        check_writable(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="there is no directory"):
        check_writable(tmp_path / "nowhere" / "a.csv")
    with pytest.raises(ConfigError, match="n…: the name of a file that is written has 230 bytes at most"):
        check_writable(tmp_path / ("n" * 250 + ".csv"))
    check_writable(tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
    write_table(tmp_path / ("n" * 226 + ".csv"), [{"a": 1}])
