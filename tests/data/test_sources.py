"""Several files, patterns, saved data sets: what task.train= may name, and what is said when it cannot."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftrun.data.rows import load_splits, read_rows
from ftrun.errors import DataError


def table(path: Path, texts: list[str], header: str = "text,label") -> str:
    content = "\n".join([header, *(f"{text},{number % 2}" for number, text in enumerate(texts))])
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return str(path)


def texts(source: Any) -> list[str]:
    return [row["text"] for row in read_rows(source)]


def load(**given: Any) -> Any:
    common = {"validation": None, "test": None, "text": "text", "label": "label", "subset": None, "seed": 0}
    return load_splits(**(common | given))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    import datasets

    def save(*splits: str) -> Path:
        names = datasets.ClassLabel(names=["bad", "good"])
        features = datasets.Features({"text": datasets.Value("string"), "label": names})

        def data(name: str) -> Any:
            rows = {"text": [f"{name} {number}" for number in range(6)], "label": [0, 1, 0, 1, 0, -1]}
            return datasets.Dataset.from_dict(rows, features=features)

        datasets.disable_progress_bars()
        whole = datasets.DatasetDict({split: data(split) for split in splits}) if splits else data("one")
        whole.save_to_disk(str(tmp_path / "saved"))
        datasets.enable_progress_bars()
        return tmp_path / "saved"

    return save


def test_files_of_a_list_and_of_a_pattern_are_one_after_the_other(tmp_path: Path) -> None:
    files = [table(tmp_path / name, [name + "1", name + "2"]) for name in ("b.csv", "a.csv.gz")]
    assert texts(files) == ["b.csv1", "b.csv2", "a.csv.gz1", "a.csv.gz2"]
    assert texts(str(tmp_path / "*.csv*")) == ["a.csv.gz1", "a.csv.gz2", "b.csv1", "b.csv2"]
    assert texts([str(tmp_path / "?.csv"), files[1]]) == texts(files)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    assert texts(table(tmp_path / "a[1].csv", ["x"])) == ["x"]


def test_a_dropped_row_is_named_with_its_file(tmp_path: Path) -> None:
    files = [table(tmp_path / "a.csv", [str(i) for i in range(20)]), table(tmp_path / "b.csv", ["x", " "])]
    assert load(train=files).notes[:2] == [
        "train: 1 of 22 rows dropped, an empty text (row 2 of b.csv)",
        "train: 21 rows of 2 files",
    ]


def test_a_column_that_one_file_lacks_names_the_file(tmp_path: Path) -> None:
    files = [table(tmp_path / "a.csv", ["x"]), table(tmp_path / "b.csv", ["y"], "text,lable")]
    with pytest.raises(DataError, match=r"task.label=label: .*b\.csv has no such column.*'lable'"):
        load(train=files)


def test_what_is_missing_is_said_before_anything_is_read(tmp_path: Path) -> None:
    broken = tmp_path / "train.csv"
    broken.write_text("text,label\na\n")
    with pytest.raises(DataError, match=r"tset\.csv, one of 2 files, does not exist") as caught:
        read_rows([str(broken), str(tmp_path / "tset.csv")])
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"\*\.tsv matches no file; .* holds 'train\.csv'"):
        read_rows(str(tmp_path / "*.tsv"))
    with pytest.raises(DataError, match="matches no file; no .*nowhere exists"):
        read_rows(str(tmp_path / "nowhere" / "*.tsv"))
    with pytest.raises(DataError, match=r"the list \[\] is empty"):
        read_rows([])


def test_a_saved_data_set_is_read_with_the_names_of_its_labels(saved: Callable[..., Path]) -> None:
    rows = read_rows(str(saved()))
    assert [row["label"] for row in rows] == ["bad", "good", "bad", "good", "bad", None]
    with pytest.raises(DataError, match="one data set without splits; leave ':train' out"):
        read_rows(f"{saved()}:train")


def test_of_several_splits_each_role_takes_its_own(saved: Callable[..., Path]) -> None:
    place = str(saved("train", "test", "dev"))
    splits = load(train=place, validation=f"{place}:dev", test=place)
    found = [rows[0]["text"] for rows in (splits.train, splits.validation, splits.test)]
    assert found == ["train 0", "dev 0", "test 0"]
    with pytest.raises(DataError, match=r"has no split 'validation'; possible: .*saved:train, .*saved:dev"):
        load(train=place, validation=place)
    with pytest.raises(DataError, match="has several splits; possible: .*saved:train"):
        read_rows(place)
    with pytest.raises(DataError, match="no split 'tset'.*did you mean 'test'"):
        read_rows(f"{place}:tset")


def test_another_directory_and_a_damaged_one_are_one_line(tmp_path: Path, saved: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="is a directory; a data file is one of"):
        read_rows(str(tmp_path))
    with pytest.raises(DataError, match="is not a directory of datasets.save_to_disk"):
        read_rows(f"{tmp_path}:train")
    place = saved()
    next(place.glob("*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(DataError, match="saved is damaged: ") as caught:
        read_rows(str(place))
    assert "\n" not in str(caught.value)
