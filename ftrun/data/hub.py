"""Data sets of the Hugging Face Hub, from the local cache or the Hub, and its errors."""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import DataError, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REACH = 5.0  # seconds to wait for the Hub's first answer
PATIENCE = 8.0  # seconds for all of it: a name resolver that hangs knows no limit of its own
LOCAL = "use files instead: task.train=FILE task.validation=FILE task.test=FILE"
COMMIT = re.compile("[0-9a-f]{40}")
FORM = "hub:NAME:SPLIT or hub:NAME[@REVISION][:CONFIG]:SPLIT, for example hub:stanfordnlp/imdb:train"


def unreachable() -> tuple[type[BaseException], ...]:
    """What the Hub's client raises when there is no network, no answer in time, or offline mode.

    The HTTP library below it has changed its name between versions; its base error is found by inheritance.
    """
    from huggingface_hub.errors import HfHubHTTPError

    transport = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return HfHubHTTPError, transport, OSError


def within_patience(call: Callable[[], Any]) -> Any:
    """What the call returns or raises; TimeoutError after PATIENCE seconds, and the call is left behind."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def ask() -> None:
        try:
            outcome.append((call(), None))
        except BaseException as error:  # raised again in the thread that waits
            outcome.append((None, error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not outcome:
        raise TimeoutError(f"no answer within {PATIENCE:.0f} seconds")
    answer, error = outcome[0]
    if error is not None:
        raise error
    return answer


def hub_data(source: str) -> Any:
    """The `datasets.Dataset` of hub:NAME[@REVISION][:CONFIG]:SPLIT, from the local cache when it is there."""
    name, revision, config, split = _parts(source)
    data = cached(source)
    if data is None:
        _ask_for(name, revision)
        with _one_line(source):
            data = _load(name, config, split=split, revision=revision)
    return data


def hub_stream(source: str) -> Iterator[dict[str, Any]]:
    """The same rows one after the other: from the cached files, else as the Hub sends them."""
    name, revision, config, split = _parts(source)
    data = cached(source)
    with _one_line(source):
        if data is None:
            data = _load(name, config, split=split, revision=revision, streaming=True)
        for row in data:
            yield names_in_place_of_numbers(row, data.features or {})


def pinned(source: str) -> str:
    """The source with the commit that the Hub has now, unless its rows are in the local cache.

    What is read several times is then the same every time. Raises DataError where there is no such set.
    """
    name, revision, config, split = _parts(source)
    if cached(source) is not None or (revision and COMMIT.fullmatch(revision)):
        return source
    commit = _ask_for(name, revision)
    return ":".join(part for part in (f"hub:{name}@{commit}", config, split) if part)


def hub_rows(source: str) -> list[dict[str, Any]]:
    """The same as rows."""
    return named_rows(hub_data(source))


def named_rows(data: Any) -> list[dict[str, Any]]:
    """The rows of a data set of `datasets`, labels by their names; an image is its bytes and path."""
    return [names_in_place_of_numbers(row, data.features) for row in data.to_list()]


def names_in_place_of_numbers(row: dict[str, Any], features: Any) -> dict[str, Any]:
    """A row with the names of its labels, None for those it does not tell (-1)."""
    for column, kind in features.items():
        inner: Any = getattr(kind, "feature", None)  # of a list
        if type(inner).__name__ == "ClassLabel":
            row[column] = [inner.names[index] for index in row[column] or []]
        elif type(kind).__name__ == "ClassLabel":
            index = row[column]
            row[column] = None if index is None or index < 0 else kind.names[index]
    return row


def _parts(source: str) -> tuple[str, str | None, str | None, str]:
    """Name, revision, configuration and split."""
    # the colon of train[:10%] is the split's own
    parts = re.split(r":(?![^\[]*\])", source.removeprefix("hub:"))
    name, at, revision = parts[0].partition("@")
    if len(parts) not in (2, 3) or not all(parts) or (at and not revision):
        raise DataError(f"{source} is not {FORM}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise DataError(f"{source}: {name} is not the name of a data set; for a file, omit hub:")
    return name, revision or None, parts[1] if len(parts) == 3 else None, parts[-1]


def cached(source: str) -> Any:
    """The data set as `datasets` keeps it, without asking any server; None when it has none like it."""
    name, revision, config, split = _parts(source)
    needs(source, "hub", "datasets")
    commit = _commit(name, revision) if revision else None
    if revision and commit is None:
        return None
    from datasets.packaged_modules.cache import cache

    logging.getLogger(cache.__name__).setLevel(logging.ERROR)  # it warns of reading the cache: meant here
    try:
        builder = cache.Cache(
            repo_id=name,
            dataset_name=name.split("/")[-1],
            config_name=config,
            version="0.0.0" if commit else "auto",  # what `datasets` calls all that has no loading script
            hash=commit or "auto",
        )
        return builder.as_dataset(split=split)
    except (ValueError, FileNotFoundError):  # not there, several configurations, or no such split
        return None


def _commit(name: str, revision: str) -> str | None:
    """The commit of a revision: itself, or what the local cache of the Hub knows of a branch or tag."""
    from huggingface_hub.constants import HF_HUB_CACHE

    if COMMIT.fullmatch(revision):
        return revision
    place = Path(HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs" / revision
    return place.read_text(encoding="utf-8").strip() if place.is_file() else None


def _ask_for(name: str, revision: str | None) -> str:
    """The commit that the Hub has; DataError in one line when it does not answer or has no such data set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return within_patience(lambda: HfApi().dataset_info(name, revision=revision, timeout=REACH)).sha
    except GatedRepoError as error:
        raise DataError(
            f"the data set {name} requires accepting its terms on the Hub; accept them and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(f"hub:{name}@{revision}: the data set has no such revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise DataError(
            f"there is no data set {name} on the Hub, or it is private (set HF_TOKEN); {LOCAL}"
        ) from error
    except unreachable() as error:
        raise DataError(
            f"the Hub cannot be reached for the data set {name}, and no copy is cached; {LOCAL}"
        ) from error


def _load(name: str, config: str | None, **options: Any) -> Any:
    import datasets

    return datasets.load_dataset(name, config, **options)


@contextmanager
def _one_line(source: str) -> Iterator[None]:
    """What `datasets` refuses, as a DataError: no such configuration or split, a script, no network."""
    refusals = (ValueError, RuntimeError) + unreachable()
    try:
        yield
    except refusals as error:
        raise DataError(f"{source}: {str(error).strip().splitlines()[0]}") from error
