"""Image folders: splits, formats, sizes, broken files, and decoding once."""

import logging
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensai.data import dataset, folders
from sensai.data.dataset import Dataset, load_dataset
from sensai.data.dataset_names import InputRule
from sensai.errors import InputError

ANY = InputRule(None, None)


def picture(path: Path, value: int, size: tuple[int, int] = (10, 8), mode: str = "RGB") -> None:
    """Write an image (width, height) of one brightness, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, value // 2, 0)).save(path)


def folder(root: Path, splits: dict[str, int], classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write `<split>/<class>/<n>.png`, so many a class; brightness 10 x class + n, and 100 more in each further split."""
    for position, (split, count) in enumerate(splits.items()):
        for label, name in enumerate(classes):
            for number in range(count):
                picture(root / split / name / f"{number}.png", 100 * position + 10 * label + number)
    return root


def load(root: Path, rule: InputRule = ANY, **arguments: Any) -> Dataset:
    return load_dataset("imagefolder", str(root), work_dir=root.parent / "work", rule=rule, **arguments)


def values(split: Any) -> dict[int, list[int]]:
    """Return label -> brightness of its images."""
    return {
        label: sorted(int(split.images[row, 0].max()) for row in split.rows if split.all_labels[row] == label)
        for label in (0, 1)
    }


def test_three_splits(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "set", {"train": 6, "val": 2, "test": 3}))
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (3, 8, 10)
    assert values(data.train) == {0: [0, 1, 2, 3, 4, 5], 1: [10, 11, 12, 13, 14, 15]}
    assert values(data.val) == {0: [100, 101], 1: [110, 111]}
    assert values(data.test) == {0: [200, 201, 202], 1: [210, 211, 212]}


def test_an_only_val_is_the_test_split_and_validation_is_split_off(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "set", {"train": 10, "val": 3}), val_fraction=0.2)
    assert values(data.test) == {0: [100, 101, 102], 1: [110, 111, 112]}
    assert data.val is not None
    assert (len(data.train), len(data.val)) == (16, 4)
    together = {label: sorted(values(data.train)[label] + values(data.val)[label]) for label in (0, 1)}
    assert together == {0: list(range(10)), 1: list(range(10, 20))}
    assert [len(own) for own in values(data.val).values()] == [2, 2]


def test_train_and_test(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "set", {"train": 10, "test": 3}), val_fraction=0.2)
    assert values(data.test) == {0: [100, 101, 102], 1: [110, 111, 112]}
    assert len(data.val) == 4


def test_train_alone(tmp_path: Path) -> None:
    data = load(folder(tmp_path / "set", {"train": 10}), val_fraction=0.2)
    assert data.test is None
    assert (len(data.train), len(data.val)) == (16, 4)


def test_every_format_is_read_as_colour(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {})
    for name, mode in (("a.png", "RGB"), ("b.JPG", "RGB"), ("c.bmp", "RGB"), ("d.png", "L"), ("e.webp", "RGB")):
        picture(root / "train" / "one" / name, 200, mode=mode)
    Image.new("RGBA", (10, 8), (200, 100, 0, 50)).save(root / "train" / "one" / "f.png")
    Image.new("P", (10, 8), 1).save(root / "train" / "one" / "g.gif")
    for name in ("notes.txt", "film.mpeg", "paper.PDF"):
        (root / "train" / "one" / name).write_text("no image")
    picture(root / "train" / "two" / "deeper" / "h.png", 60)
    data = load(root)
    assert data.image_shape == (3, 8, 10)
    assert data.train.all_labels.tolist() == [0] * 7 + [1]
    first = data.train.images[:, :, 4, 4].astype(int)
    for position in (0, 1, 2, 4, 5):
        assert np.abs(first[position] - [200, 100, 0]).max() <= 4, position
    assert first[3].tolist() == [200, 200, 200]
    assert first[7].tolist() == [60, 30, 0]


def test_images_of_many_sizes_are_refused_without_a_size_and_fitted_with_one(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3})
    picture(root / "train" / "dog" / "large.jpg", 80, size=(40, 20))
    with pytest.raises(InputError, match="the images differ in size; give the side in pixels"):
        load(root)
    assert load(root, image_size=12).image_shape == (3, 12, 12)
    assert load(root, InputRule(32, 3)).image_shape == (3, 32, 32)
    large = load(root, image_size=20).train.images[-1]
    assert np.abs(large[0].astype(int) - 80).max() <= 4


def test_a_network_for_grey_images_takes_a_folder_that_holds_no_others(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for label, name in enumerate(("cat", "dog")):
        for number in range(3):
            picture(root / "train" / name / f"{number}.png", 10 * label + number, mode="L")
    # Equal values in three channels are grey too.
    Image.new("RGB", (10, 8), (99, 99, 99)).save(root / "train" / "dog" / "3.png")
    data = load(root, InputRule(None, 1))
    assert data.image_shape == (1, 8, 10)
    assert data.train.images[:, 0, 4, 4].tolist() == [0, 1, 2, 10, 11, 12, 99]
    assert len(data.mean) == 1
    # A network of three channels still takes the same folder.
    assert load(root, InputRule(None, 3)).image_shape == load(root).image_shape == (3, 8, 10)
    picture(root / "train" / "dog" / "4.png", 50)
    with pytest.raises(InputError, match=r"dog/4\.png' is coloured, and the network takes 1 channel"):
        load(root, InputRule(None, 1))


@pytest.mark.parametrize("image_size", [None, 16])
def test_a_broken_image_is_named(tmp_path: Path, image_size: int | None) -> None:
    root = folder(tmp_path / "set", {"train": 3})
    path = root / "train" / "dog" / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(InputError, match=r"dog/1\.png' is broken"):
        load(root, image_size=image_size)
    path.write_text("this is no image")
    with pytest.raises(InputError, match=r"dog/1\.png' is not an image that can be read"):
        load(root, image_size=image_size)
    # No partly decoded copy is left that a later load could use.
    picture(path, 11)
    assert len(load(root, image_size=image_size).train.images) == 6


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (None, "there is no such folder"),
        ({}, "has no folder train/"),
        ({"test": 2}, "has no folder train/"),
        ({"train": 0}, "train/empty' holds no images"),
    ],
)
def test_folders_without_data_are_refused(tmp_path: Path, splits: dict[str, int] | None, message: str) -> None:
    root = tmp_path / "set"
    if splits is not None:
        root.mkdir()
        folder(root, splits)
    for split in splits or {}:
        for name in ("empty", "void"):
            (root / split / name).mkdir(parents=True, exist_ok=True)
    with pytest.raises(InputError, match=message) as caught:
        load(root)
    assert str(root) in str(caught.value)


def test_images_must_lie_in_class_folders(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "train" / "loose.png", 3)
    with pytest.raises(InputError, match="train/ holds no images in class folders"):
        load(tmp_path / "set")


def test_the_folder_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dataset=imagefolder needs the folder that holds train/"):
        load_dataset("imagefolder", "", work_dir=tmp_path, rule=ANY)


def test_a_class_that_only_the_test_split_has_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3, "test": 2})
    picture(root / "test" / "horse" / "0.png", 1)
    with pytest.raises(InputError, match=r"class folder '.*test/horse' has no counterpart in train/"):
        load(root)


def test_a_class_that_the_test_split_lacks_keeps_its_label(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3})
    picture(root / "test" / "dog" / "0.png", 77)
    assert values(load(root).test) == {0: [], 1: [77]}


# ------------------------------------------------------------------------------------------------------- decoding once


def test_the_second_load_does_not_read_the_images(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 6, "test": 1})
    first = load(root)
    path = root / "train" / "cat" / "0.png"
    status = path.stat()
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = load(root)
    assert second.digest == first.digest
    assert np.array_equal(second.train.images, first.train.images)


@pytest.mark.parametrize("change", ["content", "name", "class", "gone", "new"])
def test_a_change_in_the_folder_is_noticed(tmp_path: Path, change: str) -> None:
    root = folder(tmp_path / "set", {"train": 6, "test": 1})
    # The format is uncompressed, so that other content has the same size and only the time differs.
    path = root / "train" / "cat" / "a.bmp"
    picture(path, 33)
    first = load(root)
    match change:
        case "content":
            size = path.stat().st_size
            picture(path, 99)
            assert path.stat().st_size == size
            os.utime(path, ns=(1, 1))
        case "name":
            path.rename(path.with_name("0.bmp"))  # Another place in the order.
        case "class":
            path.rename(root / "train" / "dog" / "zz.bmp")
        case "gone":
            path.unlink()
        case "new":
            picture(path.with_name("more.bmp"), 50)
    second = load(root)
    assert second.digest != first.digest
    assert len(second.train.images) == {"gone": 12, "new": 14}.get(change, 13)
    assert (99 in second.train.images[:, 0, 0, 0]) == (change == "content")


def test_a_copy_of_the_folder_has_the_same_digest(tmp_path: Path) -> None:
    first = load(folder(tmp_path / "one", {"train": 6, "test": 1}))
    second = load(folder(tmp_path / "two", {"train": 6, "test": 1}))
    assert first.digest == second.digest


# ------------------------------------------------------------------------------------------------ what lies in folders


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the warnings since the last call, except those of missing validation splits."""

    def since() -> list[str]:
        found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        caplog.clear()
        return [each for each in found if not each.startswith("no validation split")]

    return since


# Each reason occurs in a skipped entry.
HIDDEN = [
    "train/.ipynb_checkpoints/x.png",
    "train/cat/.ipynb_checkpoints/0-checkpoint.png",
    "train/cat/._0.png",
    "test/cat/.hidden.png",
    "train/__MACOSX/cat/0.png",
    "__MACOSX/train/cat/0.png",
    "train/dog/@eaDir/0.png",
    "train/@eaDir/0.png",
    "train/dog/Thumbs.db",
    "test/desktop.ini",
    "train/dog/DESKTOP.INI",
    "train/.DS_Store",
    "test/dog/#recycle/0.png",
    "lost+found/x.png",
]


def test_hidden_and_system_entries_are_skipped_counted_and_no_part_of_the_digest(
    tmp_path: Path, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "set", {"train": 6, "test": 2})
    before = load(root)
    monkeypatch.setattr(dataset, "DECODED_LIMIT", 0)
    monkeypatch.setattr(folders, "READER_VERSION", folders.READER_VERSION + 1)
    streamed = load(root)
    assert warnings() == []
    for name in HIDDEN:
        picture(tmp_path / "x.png", 77)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "x.png", root / name)
    assert load(root).digest == streamed.digest
    monkeypatch.undo()
    after = load(root)
    assert warnings() == [f"data_dir={str(root)!r}: {len(HIDDEN)} left out: {len(HIDDEN)} hidden or of the system"] * 2
    assert after.digest == before.digest
    assert values(after.test) == values(before.test)
    assert after.class_names == ("cat", "dog")


def test_the_readers_version_is_part_of_what_is_decoded_and_of_what_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "set", {"train": 6})

    def prepared() -> int:
        load(root)
        return len(list((tmp_path / "work" / "data").glob("*/manifest.json")))

    digests = set()
    for expected, version in ((1, 1), (1, 1), (2, 2)):
        monkeypatch.setattr(folders, "READER_VERSION", version)
        assert prepared() == expected
        digests.add(folders.image_folder(root).digest((3, 8, 10)))
    assert len(digests) == 2


def test_what_is_left_out_is_counted_by_reason_in_one_line(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    root = folder(tmp_path / "set", {"train": 6, "dev": 1})
    for number in range(3):
        (root / "train" / "cat" / f"{number}.png").rename(root / "train" / "cat" / f"{number}.png_")
    for name in ("train/dog/noending", "train/dog/a.txt", "train/dog/b.txt", "train/loose.png", "README", "train/.x"):
        (root / name).touch()
    assert len(load(root).train.images) == 9
    assert warnings() == [
        f"data_dir={str(root)!r}: 10 left out: 3 ending in '.png_', 2 ending in '.txt', 1 as the folder 'dev', which is no "
        "split, 1 beside the splits, 1 hidden or of the system, 1 outside the class folders of train/, 1 for other reasons"
    ]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_three_names_are_the_validation_split(tmp_path: Path, name: str) -> None:
    data = load(folder(tmp_path / "set", {"train": 6, name: 2, "test": 3}))
    assert values(data.train) == {0: list(range(6)), 1: list(range(10, 16))}
    assert values(data.val) == {0: [100, 101], 1: [110, 111]}
    assert len(data.test) == 6


def test_two_validation_splits_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 6, "validation": 2, "valid": 2})
    with pytest.raises(InputError, match="valid/ and validation/ are both the validation split; leave one of them"):
        load(root)


def test_a_class_without_images_is_refused_with_what_was_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3, "test": 1})
    (root / "test" / "cat" / "0.png").unlink()
    assert values(load(root).test) == {0: [], 1: [110]}
    for number in range(3):
        (root / "train" / "cat" / f"{number}.png").rename(root / "train" / "cat" / f"{number}.nef")
    with pytest.raises(
        InputError, match=r"class folder '.*train/cat' holds no images \(3 left out: 3 ending in '\.nef'\)"
    ):
        load(root)


def test_one_class_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3}, classes=("only",))
    (root / "train" / "only" / "0.png").write_text("no image")
    with pytest.raises(InputError, match="must have at least two classes, the one class is 'only'"):
        load(root)


# --------------------------------------------------------------------------------------------------- links and devices


def test_links_to_files_classes_splits_and_folders_are_followed(tmp_path: Path) -> None:
    away = folder(tmp_path / "away", {"train": 4, "test": 2})
    root = tmp_path / "set"
    (root / "train" / "dog").mkdir(parents=True)
    (root / "train" / "cat").symlink_to(away / "train" / "cat")
    (root / "test").symlink_to(away / "test")
    (root / "train" / "dog" / "deeper").symlink_to(away / "train" / "dog")
    (root / "train" / "dog" / "a.png").symlink_to(away / "train" / "cat" / "3.png")
    data = load(root)
    assert values(data.train) == {0: [0, 1, 2, 3], 1: [3, 10, 11, 12, 13]}
    assert values(data.test) == {0: [100, 101], 1: [110, 111]}


@pytest.mark.parametrize(
    ("place", "target"), [("train/cat/again", "train/cat"), ("train/cat/a/b", "."), ("train/up", ".")]
)
def test_a_cycle_of_links_is_refused(tmp_path: Path, place: str, target: str) -> None:
    root = folder(tmp_path / "set", {"train": 4})
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).symlink_to(root / target)
    with pytest.raises(
        InputError, match=rf"^data_dir: '{root}/train/.*' is a link to a folder that it lies in, a cycle"
    ):
        load(root)


@pytest.mark.parametrize("place", ["train/cat/x.png", "train/horse", "valid", "train/cat/notes.txt"])
@pytest.mark.parametrize("target", ["gone.png", "itself"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, place: str, target: str) -> None:
    root = folder(tmp_path / "set", {"train": 4})
    link = root / place
    link.symlink_to(link.name if target == "itself" else target)
    with pytest.raises(InputError, match=rf"^data_dir: '{link}' is a link to '.*', which cannot be reached"):
        load(root)


@pytest.mark.parametrize("place", ["train/cat/x.png", "train/x", "x", "train/cat/x.txt"])
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, place: str, kind: str) -> None:
    path = folder(tmp_path / "set", {"train": 4}) / place
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=rf"^data_dir: '{path}' is a {kind}, not an image file$"):
        load(tmp_path / "set")


def test_an_entry_that_became_a_fifo_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "DECODED_LIMIT", 0)
    data = load(folder(tmp_path / "set", {"train": 4}))
    path = tmp_path / "set" / "train" / "cat" / "0.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"cat/0\.png' is a FIFO"):
        data.train.images[np.array([0])]


# --------------------------------------------------------------------------------------------------------------- names

ODD_NAMES = [b"caf\xe9.png", b"a\nb.png", b"\xff\xfe.png", "é ?#%'\"\\.png".encode(), b"\x01\x7f.png", b"-x.png"]


@pytest.mark.parametrize("limit", [0, dataset.DECODED_LIMIT], ids=["streamed", "decoded"])
def test_every_file_name_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(dataset, "DECODED_LIMIT", limit)
    root = folder(tmp_path / "set", {"train": 1})
    for number, name in enumerate(ODD_NAMES):
        picture(tmp_path / "x.png", 20 + number)
        os.rename(tmp_path / "x.png", os.fsencode(root / "train" / "cat") + b"/" + name)
    first = load(root)
    assert sorted(first.train.images[np.arange(len(first.train.images))][:, 0, 0, 0]) == [0, 10, *range(20, 26)]
    os.rename(os.fsencode(root / "train/cat") + b"/\xff\xfe.png", os.fsencode(root / "train/dog") + b"/\xff\xfe.png")
    assert load(root).digest != first.digest


def test_an_odd_name_is_said_in_one_line_that_can_be_printed(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 2})
    (root / "train" / "cat" / os.fsdecode(b"caf\xe9\n.png")).write_text("no image")
    with pytest.raises(InputError, match=r"caf\\udce9\\n\.png' is not an image") as caught:
        load(root)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_class_may_be_called_by_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3, "test": 1}, classes=("dog", os.fsdecode(b"caf\xe9")))
    data = load(root)
    assert data.class_names == (r"caf\xe9", "dog")
    assert values(data.test) == {0: [110], 1: [100]}


# ----------------------------------------------------------------------------------------------- one image, two splits


def test_equal_images_in_two_splits_are_counted(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    root = folder(tmp_path / "set", {"train": 6, "val": 3, "test": 3})
    load(root)
    assert warnings() == []
    # Equal images within one split are not a leak.
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "copy.png")
    load(root)
    assert warnings() == []
    shutil.copy(root / "train" / "cat" / "0.png", root / "test" / "cat" / "9.png")
    said = "more than one split (files of equal bytes), e.g. as 'train/cat/copy.png' and 'test/cat/9.png'"
    # The warning also appears if the copy is decoded already.
    for _ in range(2):
        load(root)
        assert warnings() == [f"1 image lies in {said}"]
    shutil.copy(root / "val" / "dog" / "0.png", root / "test" / "dog" / "9.png")
    shutil.copy(root / "val" / "dog" / "0.png", root / "train" / "dog" / "9.png")
    load(root)
    assert warnings() == [f"2 images lie in {said}"]


def test_equal_images_are_found_across_a_validation_split_that_is_taken_off(
    tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    root = folder(tmp_path / "set", {"train": 10})
    data = load(root, val_fraction=0.2)
    assert data.val is not None
    assert warnings() == []
    names = folders.image_folder(root).files["train"][0]
    held_out, kept = root / names[data.val.rows[0]], root / names[data.train.rows[0]]
    kept.write_bytes(held_out.read_bytes())
    load(root, val_fraction=0.2)
    (warning,) = warnings()
    assert re.match(r"1 image lies in more than one split \(files of equal bytes\), e\.g\. as 'train/", warning)


def test_images_that_begin_alike_or_have_one_size_are_not_equal(
    tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    root = tmp_path / "set"
    for split, last in (("train", 1), ("test", 2)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            pixels = np.zeros((60, 60, 3), np.uint8)
            pixels[0, 0] = last if name == "cat" else 7 * last
            # Rows are stored from the bottom, so only the end of the file differs.
            Image.fromarray(pixels).save(root / split / name / "0.bmp")
    load(root)
    assert warnings() == []
