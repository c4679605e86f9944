"""Pictures from everywhere: the same pixels and labels whatever they lie in, and what is refused."""

import csv
import hashlib
import io
import json
import zipfile

import numpy
import pytest
from lab import settings
from PIL import Image
from toys_image import LABELS, files, rows, words

from ftrun.data.images import sources
from ftrun.data.images.decoding import decode_all, decoded, in_colours, unreadable_errors
from ftrun.data.images.sources import ImageFile, read_images
from ftrun.errors import ConfigError, DataError
from ftrun.models.load import load
from ftrun.tasks.data import TaskData
from ftrun.tasks.dataset import SPLITS

pytestmark = pytest.mark.images

PIXELS, NAMES = rows(12)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return files(tmp_path_factory.mktemp("pictures"))


def read(source, image=None, label="label"):
    return read_images(str(source), image, label)[0]


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def in_folder(tmp_path):
    for number, (pixels, name) in enumerate(zip(PIXELS, NAMES, strict=True)):
        (tmp_path / "folder" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name / f"{number:02}.png").write_bytes(png(pixels))
    return tmp_path / "folder"


def in_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in in_folder(tmp_path).rglob("*.png"):
            archive.write(file, "shared/" + file.relative_to(tmp_path / "folder").as_posix())
    return tmp_path / "all.zip"


def in_table(tmp_path):
    files = sorted(in_folder(tmp_path).rglob("*.png"))
    lines = [("file", "label"), *((file.relative_to(tmp_path), file.parent.name) for file in files)]
    with (tmp_path / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return tmp_path / "all.csv"


def in_arrays(tmp_path):
    order = numpy.argsort(NAMES, kind="stable")
    numpy.savez(tmp_path / "all.npz", x_train=PIXELS[order], y_train=numpy.array(NAMES)[order])
    return f"{tmp_path}/all.npz:train"


def in_data_set(tmp_path, parts=False):
    import datasets

    kinds = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=[*LABELS])})
    order = numpy.argsort(NAMES, kind="stable")
    data = {
        "img": [{"bytes": png(PIXELS[i]), "path": None} for i in order],
        "label": [NAMES[i] for i in order],
    }
    made = datasets.Dataset.from_dict(data, features=kinds)
    datasets.disable_progress_bars()
    (datasets.DatasetDict({"train": made}) if parts else made).save_to_disk(str(tmp_path / "saved"))
    datasets.enable_progress_bars()
    return f"{tmp_path}/saved:train" if parts else tmp_path / "saved"


@pytest.mark.parametrize("make", [in_folder, in_zip, in_table, in_arrays, in_data_set])
def test_the_same_pictures_whatever_they_lie_in(make, tmp_path):
    found = read(make(tmp_path))
    assert [picture.label for picture in found] == sorted(NAMES)
    expected = [PIXELS[number] for name in LABELS for number in range(12) if NAMES[number] == name]
    for picture, pixels in zip(found, expected, strict=True):
        assert numpy.array_equal(numpy.asarray(decoded(picture.content)), pixels)


def test_a_split_of_a_data_set_is_named(tmp_path):
    source = in_data_set(tmp_path, parts=True)
    assert len(read(source)) == 12
    with pytest.raises(DataError, match="has several splits; possible: .*saved:train"):
        read(tmp_path / "saved")
    assert len(read_images(str(tmp_path / "saved"), None, "label", "train")[0]) == 12


@pytest.mark.parametrize(
    "array",
    [
        PIXELS.transpose(0, 3, 1, 2), PIXELS.astype("int64"), PIXELS.astype("float32"),
        (PIXELS / 255).astype("float32"),
    ],
)  # fmt: skip
def test_arrays_of_other_kinds(array, tmp_path):
    numpy.savez(tmp_path / "a.npz", images=array, labels=numpy.arange(12)[:, None])
    found = read(tmp_path / "a.npz")
    assert numpy.array_equal([picture.content for picture in found], PIXELS)
    assert [picture.label for picture in found] == list(range(12))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": PIXELS}, "has the arrays 'pictures'; images are called images or x"),
        ({"x": PIXELS.astype(float) - 1}, "pixels from -1 to .*; possible: 0 to 255, or fractions 0 to 1"),
        ({"x": PIXELS.reshape(12, -1)}, r"images of shape \(12, 192\), not \(images, height, width"),
        ({"x": PIXELS.astype(str)}, "pixels are numbers"),
        ({"x": PIXELS, "y": numpy.zeros((12, 3))}, r"12 images and labels of shape \(12, 3\)"),
        ({"x": numpy.array([None])}, "cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_arrays_that_are_no_images(arrays, message, tmp_path):
    numpy.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.npz")


def test_the_digits_that_come_with_scikit_learn():
    from sklearn.datasets import load_digits

    whole = load_digits()
    seen = []
    for split, count in (("train", 1213), ("validation", 134), ("test", 450)):
        found = read(f"embedded:digits:{split}")
        assert len(found) == count
        seen += [(picture.content.tobytes(), picture.label) for picture in found]
        assert {picture.content.shape for picture in found} == {(8, 8)} and found[0].content.max() == 255
    of_all = [(numpy.rint(image * 255 / 16).astype("uint8").tobytes(), digit) for image, digit in zip(
        whole.images, whole.target.tolist(), strict=True
    )]  # fmt: skip
    assert sorted(seen) == sorted(of_all)
    with pytest.raises(DataError, match="no split 'tets'; possible: train, validation, test; did you mean"):
        read("embedded:digits:tets")
    with pytest.raises(DataError, match="no embedded images 'digit'; possible: digits; did you mean"):
        read("embedded:digit:test")


def test_places_that_hold_no_pictures(tmp_path, place):
    (tmp_path / "text.npz").write_text("no array")
    (tmp_path / "notes.zip").write_text("no archive")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.doc").touch()
    (tmp_path / "t.csv").write_text("picture,label\na.png,x\n")
    for source, message in [
        (tmp_path / "text.npz", "text.npz cannot be read"),
        (tmp_path / "notes.zip", "notes.zip cannot be read: File is not a zip file"),
        (tmp_path / "empty", "empty holds no images"),
        (tmp_path / "gone", "gone does not exist"),
        (tmp_path / "a.doc", "cannot tell what '.doc' is; possible: a folder of class folders"),
        (
            tmp_path / "t.csv",
            "which column holds the images. It has 'picture', 'label'; possible: a column 'file'",
        ),
        (place, "holds the folders 'test', 'train', 'validation': name each as a split"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            read(source)
        assert "\n" not in str(caught.value)


def test_folders_as_people_have_them(tmp_path):
    folder = in_folder(tmp_path)
    (folder / ".DS_Store").touch()
    (folder / "high" / "notes.txt").touch()
    found, notes = read_images(str(folder), None, "label")
    assert len(found) == 12 and notes == [
        f"{folder}: skipped 1 file without the ending of an image: .txt (1)"
    ]
    (folder / "middle").mkdir()
    with pytest.raises(DataError, match="the class folder 'middle' holds no images"):
        read(folder)


def test_pictures_by_every_ending_are_read_and_what_is_skipped_is_named(tmp_path):
    """Browsers save JPEGs as .jfif; a phone's .heic, which Pillow does not read, is no file to pass over."""
    folder = in_folder(tmp_path)
    jpeg = io.BytesIO()
    Image.fromarray(PIXELS[0]).convert("RGB").save(jpeg, "JPEG")
    for name in ("a.jfif", "b.JFIF", "c.jpe"):
        (folder / "low" / name).write_bytes(jpeg.getvalue())
    for name in ("1.heic", "2.HEIC", "LICENCE"):
        (folder / "high" / name).touch()
    found, notes = read_images(str(folder), None, "label")
    assert len(found) == 15 and sum(file.label == "low" for file in found) == 9
    assert notes == [
        f"{folder}: skipped 3 files without the ending of an image: .heic (2), without an ending (1)"
    ]


def test_what_cannot_be_read_of_a_zip_is_one_picture(tmp_path, monkeypatch):
    """A wrong checksum, names as no folder has them, and more bytes than any picture has."""
    monkeypatch.setattr(sources, "LARGEST", 5000)
    names = ["low/1.png", "low/2.png", "low//3.png", "/root.png", "high/bomb.png"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, pixels in zip(names, PIXELS, strict=False):
            archive.writestr(name, bytes(10_000) if "bomb" in name else png(pixels))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(png(PIXELS[1])) + 40] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    found = {picture.name: picture for picture in read(tmp_path / "a.zip")}
    assert {*found} == {*names}
    for name, said in (("low/2.png", "Bad CRC-32 for file"), ("high/bomb.png", "more than 0 MiB")):
        assert found[name].digest == hashlib.sha256(b"").digest()
        with pytest.raises(unreadable_errors(), match=said):
            decoded(found[name].content)
    assert all(decoded(found[name].content).size for name in ("low/1.png", "low//3.png", "/root.png"))


def test_damage_beside_the_pixels_is_none_of_an_image():
    """Pillow warns of an Exif block that is cut off, which would be two lines on the terminal."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[270] = "a description"
    Image.fromarray(PIXELS[0]).save(buffer, "jpeg", exif=exif)
    whole = buffer.getvalue()
    torn = whole.replace(b"\x01\x0e\x00\x02\x00\x00\x00\x0e", b"\x01\x0e\x00\x02\x00\x00\xff\x0e")
    torn = torn.replace(b"\x0e\x01\x02\x00\x0e\x00\x00\x00", b"\x0e\x01\x02\x00\x0e\xff\x00\x00")
    assert torn != whole and decoded(torn).size == Image.open(io.BytesIO(whole)).size


def test_cells_that_name_no_file(tmp_path):
    """A home that is not there, a NUL, a name beyond 255 bytes, a number: pictures that cannot be read."""
    cells = ["~nobody-here/a.png", "nul\0.png", "n" * 300 + ".png", "gone.png", {"path": 3}, {"bytes": 3}, 3]
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"file": cell, "label": "a"}) + "\n" for cell in cells)
    )
    for picture in read(tmp_path / "t.jsonl", "file"):
        with pytest.raises(unreadable_errors()):
            decoded(picture.content)
        assert picture.digest == hashlib.sha256(b"").digest()


def encoded(words, *more):
    """Notes, lines and data of an experiment that is read but not trained."""
    experiment = settings(*words, *more)
    data = TaskData.read(experiment.task, 0)
    notes = list(data.rows.notes)
    lines = data.encode(load(experiment.model, data.spec, 0).tokenizer, *SPLITS)
    return notes, lines, data


def test_unreadable_pictures_are_counted_named_and_dropped_or_refused(tmp_path):
    own = words(tmp_path)
    folder = tmp_path / "train" / "low"
    (folder / "broken.png").write_bytes((folder / "001.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("no picture")
    (folder / "void.png").touch()
    _, lines, data = encoded(own)
    assert len(data.dataset("train")) == 64
    assert "; 3 dropped that cannot be read: low/broken.png (" in lines[0]
    assert "low/text.jpg (not an image file), low/void.png (not an image file)" in lines[0]
    with pytest.raises(DataError, match="train: 3 of 67 images cannot be read: low/broken.png"):
        encoded(own, "task.unreadable=error")


def test_a_table_may_name_a_file_that_is_gone(tmp_path):
    own = words(tmp_path)
    (tmp_path / "t.csv").write_text("file,label\ntest/low/001.png,low\ngone.png,high\n,high\n")
    _, lines, data = encoded(own, f"task.test={tmp_path}/t.csv")
    assert len(data.dataset("test")) == 1
    assert lines[2].endswith("read: gone.png (No such file or directory), row 3 (no image)")


def test_sizes_and_modes_become_the_network_s_and_are_said(tmp_path):
    own = words(tmp_path)
    image = Image.open(tmp_path / "train" / "low" / "001.png").resize((20, 12))
    image.convert("L").save(tmp_path / "train" / "low" / "grey.png")
    image.convert("RGBA").save(tmp_path / "train" / "low" / "clear.png")
    image.quantize(4).save(tmp_path / "train" / "low" / "few.gif")
    _, lines, data = encoded(own)
    shape = "train: 67 images of 3 x 8 x 8 (0.0 MB); 3 resized from 20 x 12; converted to RGB from "
    assert lines[0].startswith(shape + "L (1), P (1), RGBA (1), scaled to mean 0.5 and deviation 0.5")
    assert all(example.inputs.shape == (3, 8, 8) for example in data.dataset("train").examples)
    _, lines, data = encoded(own, "task.size=6", "task.channels=1", "model.name=embedded:cnn_small")
    assert "67 images of 1 x 6 x 6" in lines[0] and data.dataset("test")[0].inputs.shape == (1, 6, 6)


def test_sixteen_bits_of_grey_and_turned_pictures(tmp_path):
    deep = Image.fromarray(numpy.array([[0, 257 * 7], [65535, 256]], dtype=numpy.uint16))
    assert numpy.asarray(in_colours(deep, 1)).tolist() == [[0, 7], [255, 1]]
    turned = Image.fromarray(PIXELS[0])
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    found = decoded(tmp_path / "turned.png")
    assert numpy.array_equal(numpy.asarray(found), numpy.rot90(PIXELS[0], -1))


def test_equal_images_stay_in_one_split(tmp_path):
    pixels = numpy.repeat(PIXELS, 10, 0)
    pixels[:, 0, 0] = numpy.arange(120).reshape(120, *[1] * (pixels.ndim - 3)) // 2  # each twice
    numpy.savez(tmp_path / "a.npz", x=pixels, y=numpy.arange(120) // 2 % 6)
    notes, _, data = encoded([*words(tmp_path)[4:], "task=image", f"task.train={tmp_path}/a.npz"])
    assert notes[:3] == [
        "test: 6 different images split off train (10% of each class, seed 0)",
        "validation: 6 different images split off train (10% of each class, seed 0)",
        "rows of one image stay in one split: train 96 rows, test 12 rows, validation 12 rows",
    ]
    assert not [note for note in notes if "LEAK" in note] and len(data.dataset("train")) == 96
    given = [
        *words(tmp_path)[4:],
        "task=image",
        f"task.train={tmp_path}/a.npz",
        f"task.validation={tmp_path}/a.npz",
    ]
    assert any("validation images are also in train" in note for note in encoded(given)[0])


def test_labels_in_use_and_what_they_become(tmp_path):
    pixels = numpy.repeat(PIXELS, 10, 0)
    pixels[:, 0, 0] = numpy.arange(120).reshape(120, *[1] * (pixels.ndim - 3))  # none is like another
    numpy.savez(tmp_path / "a.npz", x=pixels, y=numpy.arange(120) % 6)
    own = [*words(tmp_path)[4:], "task=image", f"task.train={tmp_path}/a.npz"]
    notes, _, data = encoded(own, "task.classes=[3,4,5]", "task.modulo=3", "task.subset='4 per class'")
    assert data.spec.labels == ("0", "1", "2") and len(data.dataset("train")) == 12
    assert [len(data.dataset(split)) for split in ("validation", "test")] == [6, 6]
    assert notes[:2] == [
        f"{s}: 6 rows split off train (10% of each class, seed 0)" for s in ("test", "validation")
    ]
    for more, kind, message in [
        ("task.classes=[3,9]", DataError, "task.classes: .*a.npz has no image of '9'; it has '0', '1'"),
        ("task.classes=[3]", ConfigError, "task.classes is a list of two or more different labels"),
        ("task.labels=[0,1,2]", DataError, "label '3' of the train row .* is not in task.labels"),
    ]:
        with pytest.raises(kind, match=message):
            encoded(own, more)
    numpy.savez(tmp_path / "b.npz", x=numpy.repeat(PIXELS, 3, 0), y=numpy.arange(36) / 8)
    with pytest.raises(DataError, match="task.label=label holds numbers with decimals"):
        encoded(own, f"task.train={tmp_path}/b.npz")


def test_labels_that_are_missing(tmp_path):
    own = words(tmp_path)
    (tmp_path / "t.csv").write_text("file,kind\ntest/low/001.png,low\n")
    numpy.savez(tmp_path / "a.npz", x=PIXELS)
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.png").write_bytes(png(PIXELS[0]))
    for test, message in [
        ("t.csv", r"task.test=.*t.csv has no labels \(task.label=label\); it has 'file', 'kind'"),
        ("a.npz", r"task.test=.*a.npz has no labels"),
        ("flat", "task.test=.*flat has no labels: its images are not in class folders"),
    ]:
        with pytest.raises(DataError, match=message):
            encoded(own, f"task.test={tmp_path}/{test}")
    with pytest.raises(
        DataError, match="task.modulo=2 needs labels that are whole numbers; high/000.png is 'high'"
    ):
        encoded(own, "task.modulo=2")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("task.size=0", "task.size is at least 1"),
        ("task.channels=2", "task.channels is 1, 3 or null"),
        ("task.augment=turn", "task.augment is one of none, flip, crop\\+flip, not 'turn'"),
        ("task.unreadable=skip", "task.unreadable is one of drop, error"),
        ("task.train=null", "task.train is not set; it takes a folder of class folders"),
        ("task.permute=-1", "task.permute is a seed of at least 0"),
    ],
)
def test_settings_out_of_range(place, word, message):
    with pytest.raises(ConfigError, match=message):
        settings(*words(place), word)


def test_permuted_pixels_have_no_neighbours(place):
    with pytest.raises(ConfigError, match="task.augment=flip needs the order of the pixels"):
        settings(*words(place), "task.permute=1", "task.augment=flip")


def test_nothing_can_be_read():
    class ImageProcessor:
        channels = 3

    with pytest.raises(DataError, match="train: 1 of 1 images cannot be read: row 0 "):
        decode_all([ImageFile("row 0", {}, b"", None)], ImageProcessor(), "train", "drop")
