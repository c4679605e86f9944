"""Images as people have them: folders of class folders, zips of these, npz, tables of files, data sets."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ftrun.data.content import UNREADABLE, mib
from ftrun.data.hub import hub_rows, named_rows
from ftrun.data.images.digits import embedded
from ftrun.data.images.npz import read_arrays
from ftrun.data.sources import Given, Place, Placed, refuse_missing_source, saved_data, sources_of
from ftrun.data.tables import ENDINGS, read_table, refuse_absent
from ftrun.errors import DataError, counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

PICTURES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".avif"),
    *(".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
LARGEST = 256 << 20  # bytes of an image file
FORMS = (
    "a folder of class folders or a zip of it, a picture, FILE.npz[:SPLIT], a table with a column `file`, "
    "hub:NAME[:CONFIG]:SPLIT, a directory of datasets.save_to_disk[:SPLIT] or embedded:digits:SPLIT"
)
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}  # folders that are no classes


@dataclass
class ImageFile:
    """An image not yet decoded, what names it, and its label."""

    name: str  # for messages
    about: dict[str, Any]  # the columns of its row, or its file, or its number in an array
    content: Any  # bytes, a path or member of a zip, an array (height, width[, channels]) of uint8, or None
    label: Any  # as it was found; None where there is none
    number: int | None = None  # in its table or array, from 1; None of a file
    source: str = ""

    @property
    def place(self) -> Place:
        return Place(self.name, self.source, self.number)

    @property
    def row(self) -> Placed:
        """What names it, as a row."""
        return Placed(self.about, self.source, self.number or 0)

    @cached_property
    def digest(self) -> bytes:
        """A hash of the content as it is stored; what cannot be read counts as empty."""
        return hashlib.sha256(stored(self.content)).digest()


@dataclass(frozen=True)
class Member:
    """A file in a zip."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo

    def open(self, mode: str) -> IO[bytes]:
        return self.archive.open(self.info)


def bytes_in(content: bytes | Path | Member) -> bytes:
    """The bytes of an image file; raises one of UNREADABLE, also for what is larger than any image."""
    if isinstance(content, bytes):
        return content
    with content.open("rb") as file:
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise ValueError(f"more than {mib(LARGEST)}")
    return found


def stored(content: Any) -> bytes:
    if isinstance(content, bytes | Path | Member):
        try:
            return bytes_in(content)
        except UNREADABLE:
            return b""
    return b"" if content is None else str(content.shape).encode() + content.tobytes()


def read_images(
    given: Given, image: str | None, label: str, split: str | None = None
) -> tuple[list[ImageFile], list[str]]:
    """The images of all that a setting names, in order, and notes; DataError where one cannot be read.

    `image` and `label` name the columns of a table or data set; a folder brings labels of its own. `split` is
    whose they are, for a saved data set of several.
    """
    files: list[ImageFile] = []
    notes: list[str] = []
    for source in sources_of(given):
        found, more = of_source(source, image, label, split)
        for file in found:
            file.source = source
        files += found
        notes += more
    return files, notes


def of_source(
    source: str, image: str | None, label: str, split: str | None
) -> tuple[list[ImageFile], list[str]]:
    if source.startswith("embedded:"):
        return numbered(*embedded(source)), []
    if source.startswith("hub:"):
        return of_rows(source, hub_rows(source), image, label, Path()), []
    if (data := saved_data(source, split)) is not None:
        return of_rows(source, named_rows(data), image, label, Path()), []
    refuse_missing_source(source)
    path, part = parted(source)
    ending = path.suffix.lower()
    if path.is_dir():
        return of_folder(source, path)
    if ending in PICTURES:
        return [ImageFile(source, {"file": source}, path, None)], []
    if ending == ".zip":
        return of_zip(source, path)
    if ending == ".npz":
        return of_npz(source, path, part), []
    if ending not in ENDINGS:
        raise DataError(f"{source}: cannot tell what {ending or 'no ending'!r} is; possible: {FORMS}")
    rows, notes = read_table(path)
    return of_rows(source, rows, image, label, path.parent), notes


def parted(source: str) -> tuple[Path, str | None]:
    """The path and the split named behind a colon."""
    path = Path(source).expanduser()
    found = re.fullmatch(r"(.+):(\w+)", source)
    if found and not path.exists():
        return Path(found[1]).expanduser(), found[2]
    return path, None


def of_folder(source: str, path: Path) -> tuple[list[ImageFile], list[str]]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    inner = {file.name for file in path.iterdir() if file.is_dir()}
    return of_files(source, [(file.relative_to(path).as_posix(), file) for file in files], inner)


def of_zip(source: str, path: Path) -> tuple[list[ImageFile], list[str]]:
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    tops = {name.split("/")[0] for name in members}
    shared = f"{tops.pop()}/" if len(tops) == 1 and any(name.count("/") > 1 for name in members) else ""
    named = [(name.removeprefix(shared), Member(archive, members[name])) for name in sorted(members)]
    return of_files(source, named, {name.split("/")[0] for name, _ in named if "/" in name})


def of_files(
    source: str, files: Iterable[tuple[str, Any]], folders: set[str]
) -> tuple[list[ImageFile], list[str]]:
    """An image's label is the first folder of its path; hidden files and folders are none."""
    visible = [(name, content) for name, content in files if not re.search(r"(^|/)[._]", name)]
    found = [
        ImageFile(name, {"file": name}, content, name.split("/")[0] if "/" in name else None)
        for name, content in visible
        if name.lower().endswith(PICTURES)
    ]
    if not found:
        raise DataError(f"{source} holds no images ({', '.join(PICTURES)})")
    classes = {folder for folder in folders if not folder.startswith((".", "_"))}
    if len(classes) > 1 and classes <= SPLITS:
        raise DataError(f"{source} holds the folders {listed(sorted(classes))}: name each as a split")
    empty = sorted(classes - {file.label for file in found})
    if empty:
        raise DataError(f"{source}: the class folder {listed(empty)} holds no images")
    others = [name for name, _ in visible if not name.lower().endswith(PICTURES)]
    return found, [f"{source}: skipped {by_ending(others)}"] if others else []


def by_ending(names: list[str]) -> str:
    """Files whose names do not end as those of images do, by how they end: pictures may be among them."""
    endings = Counter(Path(name).suffix.lower() or "without an ending" for name in names).most_common()
    told = ", ".join(f"{ending} ({number:,})" for ending, number in endings[:6])
    more = f" and {counted(len(endings) - 6, 'other ending')}" if len(endings) > 6 else ""
    return f"{counted(len(names), 'file')} without the ending of an image: {told}{more}"


def of_rows(
    source: str, rows: list[dict[str, Any]], image: str | None, label: str, base: Path
) -> list[ImageFile]:
    """Rows with an image, or with the name of a file relative to the table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    column = image_column(source, rows, columns, image)
    found = []
    for number, row in enumerate(rows, 1):
        value = row.get(column)
        about = {key: kept for key, kept in row.items() if key != column or isinstance(kept, str)}
        if not isinstance(value, str):
            about.setdefault("row", number)
        name = value if isinstance(value, str) and value.strip() else f"row {number}"
        found.append(ImageFile(name, about, content_of(value, base), row.get(label), number))
    return found


def image_column(source: str, rows: list[dict[str, Any]], columns: list[str], image: str | None) -> str:
    if image is not None:
        refuse_absent("image", image, columns, source)
        return image
    values = {name: [row.get(name) for row in rows] for name in columns}
    found = [n for n in columns if any(isinstance(value, dict) and "bytes" in value for value in values[n])]
    found = found or (["file"] if "file" in columns else [])
    if len(found) != 1:
        raise DataError(
            f"{source}: which column holds the images? It has {listed(columns)}; possible: a column "
            "'file' (images, or names of files), or another that task.image=COLUMN named in training"
        )
    return found[0]


def content_of(value: Any, base: Path) -> Any:
    """Bytes or the path of a file; None where a cell has neither, which no image can be made of."""
    if isinstance(value, dict):
        found = value.get("bytes")
        return found if isinstance(found, bytes) and found else content_of(value.get("path"), base)
    if isinstance(value, str) and value.strip():
        try:
            return base / Path(value).expanduser()
        except RuntimeError:  # the home of a user who is not there
            return base / value
    return value if isinstance(value, bytes) else None


def of_npz(source: str, path: Path, part: str | None) -> list[ImageFile]:
    """Labels are None where the file has no array of them."""
    return numbered(*read_arrays(source, path, part))


def numbered(pixels: Iterable[Any], labels: list[Any] | None) -> list[ImageFile]:
    return [
        ImageFile(f"row {row}", {"row": row}, array, None if labels is None else labels[row - 1], row)
        for row, array in enumerate(pixels, 1)
    ]
