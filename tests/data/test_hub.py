from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from huggingface_hub.errors import RevisionNotFoundError

from ftrun.data import hub
from ftrun.data.rows import read_rows
from ftrun.errors import DataError


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path


@pytest.fixture
def toy() -> Any:
    import datasets

    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    return datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features)


def fill(cache: Path, toy: Any, commit: str = "abc") -> None:
    """What `datasets` leaves in its cache after loading someone/toy once."""
    import datasets

    class Toy(datasets.GeneratorBasedBuilder):
        VERSION = datasets.Version("0.0.0")

        def _info(self) -> Any:
            return datasets.DatasetInfo(features=toy.features)

        def _split_generators(self, manager: Any) -> Any:
            return [datasets.SplitGenerator(name="train", gen_kwargs={})]

        def _generate_examples(self) -> Any:
            yield from enumerate(toy)

    datasets.disable_progress_bars()
    try:
        builder = Toy(cache_dir=str(cache), dataset_name="toy", repo_id="someone/toy", hash=commit)
        builder.download_and_prepare()
    finally:
        datasets.enable_progress_bars()


def test_a_cached_data_set_needs_no_network(empty_cache: Path, toy: Any) -> None:
    fill(empty_cache, toy)
    expected = [{"text": "a", "label": "good"}, {"text": "b", "label": "bad"}, {"text": "c", "label": None}]
    assert read_rows("hub:someone/toy:train") == expected
    assert read_rows("hub:someone/toy:default:train[:2]") == expected[:2]


def test_a_cached_revision_needs_no_network_and_another_is_asked_for(
    empty_cache: Path, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    fill(empty_cache, toy, commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(empty_cache))
    refs = empty_cache / "datasets--someone--toy" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    assert [row["text"] for row in read_rows(f"hub:someone/toy@{commit}:train")] == ["a", "b", "c"]
    assert [row["text"] for row in read_rows("hub:someone/toy@main:train")] == ["a", "b", "c"]

    def none_like_it(*_: Any, revision: str, **__: Any) -> None:
        raise RevisionNotFoundError(f"no {revision}", response=Mock(headers={}))

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", none_like_it)
    for revision in ("v2", "f" * 40):
        with pytest.raises(DataError, match=f"hub:someone/toy@{revision}: .* no such revision"):
            read_rows(f"hub:someone/toy@{revision}:train")


def test_out_of_reach_is_one_line_with_the_local_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    before = time.monotonic()
    with pytest.raises(DataError) as caught:
        read_rows("hub:someone/toy:train")
    assert time.monotonic() - before < 10
    assert str(caught.value) == (
        "the Hub cannot be reached for the data set someone/toy, and no copy is cached; "
        "use files instead: task.train=FILE task.validation=FILE task.test=FILE"
    )


def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    def offline(*_: Any, **__: Any) -> None:
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", offline)
    with pytest.raises(DataError, match="the Hub cannot be reached for the data set someone/toy"):
        read_rows("hub:someone/toy:train")


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: time.sleep(2))
    monkeypatch.setattr(hub, "PATIENCE", 0.05)
    with pytest.raises(DataError, match="cannot be reached"):
        read_rows("hub:someone/toy:train")


def test_a_reachable_data_set_is_loaded_by_name_configuration_and_split(
    monkeypatch: pytest.MonkeyPatch, toy: Any
) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, *, split: str, revision: str | None) -> Any:
        asked.append((name, revision, config, split))
        return toy

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: Mock())
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert [row["label"] for row in read_rows("hub:someone/toy:de:test")] == ["good", "bad", None]
    read_rows("hub:toy:train[:10%]")
    read_rows("hub:someone/toy@v1.0:de:test")
    assert asked == [
        ("someone/toy", None, "de", "test"),
        ("toy", None, None, "train[:10%]"),
        ("someone/toy", "v1.0", "de", "test"),
    ]


def test_a_stream_is_the_rows_that_the_hub_sends_and_its_commit_is_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    from ftrun.data.streaming import stream_rows

    whole, commit, asked = datasets.load_dataset, "0123456789" * 4, []
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')

    def from_disk(name: str, config: str | None, **options: Any) -> Any:
        asked.append((name, config, options.pop("revision")))
        return whole(str(tmp_path / (config or "en")), **options)

    monkeypatch.setattr("datasets.load_dataset", from_disk)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: Mock(sha=commit))
    source = hub.pinned("hub:someone/toy:de:train")
    assert source == hub.pinned(source) == f"hub:someone/toy@{commit}:de:train"
    assert list(stream_rows(source)) == [{"text": "a"}, {"text": "b"}]
    assert asked == [("someone/toy", "de", commit)]
    with pytest.raises(DataError, match="^hub:someone/toy:en:train: "):
        list(stream_rows("hub:someone/toy:en:train"))


def test_a_cached_data_set_is_streamed_from_its_files(empty_cache: Path, toy: Any) -> None:
    from ftrun.data.streaming import files_behind, stream_rows

    fill(empty_cache, toy)
    source = "hub:someone/toy:train"
    assert hub.pinned(source) == source and list(stream_rows(source)) == read_rows(source)
    name, files = files_behind(source, "train")
    assert name == source and [file.suffix for file in files] == [".arrow"] and files[0].is_file()


def test_what_the_hub_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ValueError('Unknown split "tset".\nShould be one of [...]')

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: Mock())
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError, match=r'^hub:someone/toy:tset: Unknown split "tset"\.$'):
        read_rows("hub:someone/toy:tset")


def test_a_bug_behind_the_hub_stays_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", broken)
    with pytest.raises(KeyError, match="bug"):
        read_rows("hub:someone/toy:train")


@pytest.mark.parametrize(
    "source",
    ["hub:toy", "hub::train", "hub:a:b:c:d", "hub:/data/toy:train", "hub:a/b/c:train", "hub:a@:train"],
)
def test_the_form_is_said(source: str) -> None:
    with pytest.raises(DataError, match="is not hub:NAME:SPLIT|is not the name of a data set"):
        read_rows(source)
