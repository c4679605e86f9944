"""Where a row stands in its file survives whatever is done to it between there and the predictions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ftrun.data.images.sources import read_images
from ftrun.data.rows import load_splits, read_rows

COUNT = 40
BLANK = {3, 17}  # rows without a text, which are dropped


def rows_in(name: str) -> list[dict[str, Any]]:
    """The text of each row is its file's name and its number there."""
    return [
        {"text": "" if number in BLANK else f"{name} {number}", "label": "ab"[number % 2]}
        for number in range(1, COUNT + 1)
    ]


def written(path: Path) -> str:
    rows = rows_in(path.name)
    form = path.name.partition(".")[2]
    if form == "parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return str(path)
    if form.startswith("jsonl"):
        lines = [json.dumps(row) for row in rows]
        lines.insert(5, "")  # a blank line is no row
    else:
        lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
        lines.insert(5, "")
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if form.endswith(".gz") else content)
    return str(path)


@pytest.mark.parametrize(
    "names", [["a.csv"], ["a.csv.gz"], ["a.jsonl"], ["a.parquet"], ["a.csv", "b.jsonl.gz"]]
)
def test_a_row_keeps_its_place(tmp_path: Path, names: list[str]) -> None:
    """Through dropped rows, carved splits, a subset, and several files."""
    files = [written(tmp_path / name) for name in names]
    given: dict[str, Any] = {"validation": None, "test": None, "text": "text", "label": "label", "seed": 0}
    splits = load_splits(train=files, subset=20, **given)
    whole = [*splits.train, *splits.validation, *splits.test]
    assert len(splits.train) == 20 and splits.test and {row.file for row in whole} <= {*files}
    for row in whole:
        place = row.place("text")
        assert place.text == f"{Path(place.file).name} {place.file_row}"
    assert whole[0].place(["text", "label"]).text == [whole[0]["text"], whole[0]["label"]]


def test_rows_to_be_answered_keep_theirs(tmp_path: Path) -> None:
    files = [written(tmp_path / name) for name in ("b.csv", "a.jsonl")]
    assert [(row.file, row.number) for row in read_rows(files)] == [
        (file, number) for file in files for number in range(1, COUNT + 1)
    ]


def test_an_image_is_named_by_its_path_or_its_number_in_an_array(tmp_path: Path) -> None:
    import numpy
    from PIL import Image

    pixels = numpy.zeros((3, 4, 4), numpy.uint8)
    numpy.savez(tmp_path / "a.npz", images=pixels, labels=[5, 6, 7])
    for label in ("high", "low"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.fromarray(pixels[0]).save(tmp_path / "photos" / label / "one.png")
    (tmp_path / "t.csv").write_text("file,label\nphotos/low/one.png,low\n")
    npz, photos, table = (str(tmp_path / name) for name in ("a.npz", "photos", "t.csv"))
    found, _ = read_images([npz, photos, table], None, "label")
    assert [(*file.place, file.label) for file in found] == [
        *((f"row {number}", npz, number, 4 + number) for number in (1, 2, 3)),
        ("high/one.png", photos, None, "high"),
        ("low/one.png", photos, None, "low"),
        ("photos/low/one.png", table, 1, "low"),
    ]
