"""Streamed folders give the images of decoded ones, write nothing to disk, decode a limited number ahead, and end their
threads.
"""

import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sensai.data import dataset, streaming
from sensai.data.batches import Normalization, batches, training_batches
from sensai.data.dataset import Dataset, load_dataset
from sensai.data.dataset_names import InputRule
from sensai.data.images.decoding import decode
from sensai.data.images.resizing import fit
from sensai.data.streaming import ImageFiles, in_chunks
from sensai.data.transforms import Mixing
from sensai.errors import InputError
from tests.conftest import SHARED_DATA

ANY = InputRule(None, None)
CPU = torch.device("cpu")
PLAIN = Normalization((0.0,) * 3, (1.0,) * 3)
SAMPLE = SHARED_DATA / "imagenet-sample.tar"


def noise(path: Path, seed: int, size: tuple[int, int] = (20, 14)) -> None:
    """Write an image (width, height) of noise in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def folder(root: Path, splits: dict[str, int], classes: tuple[str, ...] = ("cat", "dog", "fox")) -> Path:
    """Write `<split>/<class>/<n>.<suffix>`, images of many sizes and two formats."""
    seed = 0
    for split, count in splits.items():
        for name in classes:
            for number in range(count):
                suffix = "jpg" if number % 2 else "png"
                noise(root / split / name / f"{number}.{suffix}", seed, (20 + seed % 3, 14 + seed % 5))
                seed += 1
    return root


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the limit so low that every folder is streamed."""
    monkeypatch.setattr(dataset, "DECODED_LIMIT", 0)


def load(root: Path, work_dir: Path, **arguments: Any) -> Dataset:
    return load_dataset("imagefolder", str(root), work_dir=work_dir, rule=ANY, **{"image_size": 12, **arguments})


def both(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, Dataset]:
    """Return a folder decoded, and streamed."""
    decoded = load(root, root.parent / "decoded")
    monkeypatch.setattr(dataset, "DECODED_LIMIT", 0)
    return decoded, load(root, root.parent / "streamed")


def test_what_is_streamed_is_what_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, streamed = both(folder(tmp_path / "set", {"train": 12, "test": 3}), monkeypatch)
    assert isinstance(decoded.train.images, np.memmap)
    assert isinstance(streamed.train.images, ImageFiles)
    for name in ("class_names", "image_shape", "mean", "std"):
        assert getattr(streamed, name) == getattr(decoded, name)
    for one, other in ((decoded.train, streamed.train), (decoded.val, streamed.val), (decoded.test, streamed.test)):
        assert one is not None
        assert other is not None
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.images[one.rows], other.images[other.rows])
        for (images, labels), (others, other_labels) in zip(
            batches(one, 5, PLAIN, CPU), batches(other, 5, PLAIN, CPU), strict=True
        ):
            assert torch.equal(images, others)
            assert torch.equal(labels, other_labels)


@pytest.mark.parametrize(
    "added", [{}, {"auto_augment": "trivialaugment", "mixing": Mixing("cutmix", 1.0, 3)}], ids=["crops", "all"]
)
def test_an_epoch_of_training_is_the_same_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: dict[str, Any]
) -> None:
    decoded, streamed = both(folder(tmp_path / "set", {"train": 7}), monkeypatch)
    one, other = (
        list(training_batches(data.train, 4, PLAIN, CPU, 1, augmentation="crop_flip", seed=3, **added))
        for data in (decoded, streamed)
    )
    assert len(one) == len(other) > 2
    assert all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(one, other, strict=True))


def test_a_folder_is_streamed_above_the_limit_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "set", {"train": 4, "test": 2})
    size = 3 * (4 + 2) * 3 * 12 * 12
    for limit, kind in ((size, np.memmap), (size - 1, ImageFiles)):
        monkeypatch.setattr(dataset, "DECODED_LIMIT", limit)
        assert isinstance(load(root, tmp_path / str(limit)).train.images, kind)
    files = [path for path in (tmp_path / str(size - 1)).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".lock"}
    assert sum(path.stat().st_size for path in files) < 1000


@pytest.mark.usefixtures("streamed")
def test_one_image_a_class_has_no_validation_and_one_size_needs_no_parameter(tmp_path: Path) -> None:
    for number, name in enumerate("abcdef"):
        noise(tmp_path / "set" / "train" / name / "0.png", number)
    for _ in range(2):
        data = load(tmp_path / "set", tmp_path / "work", image_size=None)
        assert (len(data.train), data.val, data.test, data.image_shape) == (6, None, None, (3, 14, 20))
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.usefixtures("streamed")
def test_mean_and_std_come_from_evenly_spaced_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "STATISTICS_SAMPLE", 5)
    data = load(folder(tmp_path / "set", {"train": 7}), tmp_path / "work")
    pixels = data.train.images[np.array([0, 5, 10, 15, 20])] / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert data.std == pytest.approx(pixels.std((0, 2, 3)))


# ------------------------------------------------------------------------------------------------------------- digests


@pytest.mark.usefixtures("streamed")
def test_a_copy_has_the_same_digest_and_another_listing_another(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", {"train": 3, "test": 2})

    def digest(change: Callable[[Path], object] | None = None, **arguments: Any) -> str:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(root, copy, copy_function=shutil.copyfile)
        if change:
            change(copy)
        return load(copy, tmp_path / "work", **arguments).digest

    own = load(root, tmp_path / "work").digest
    assert digest() == own
    one = Path("train", "cat", "1.jpg")
    others = [
        digest(lambda copy: (copy / one).rename(copy / "train" / "cat" / "7.jpg")),
        digest(lambda copy: (copy / one).rename(copy / "train" / "dog" / "7.jpg")),
        digest(lambda copy: (copy / one).unlink()),
        digest(lambda copy: noise(copy / one, 5, (40, 40))),
        digest(lambda copy: (copy / "test").rename(copy / "val")),
        digest(lambda copy: [(copy / split / "cat").rename(copy / split / "ant") for split in ("train", "test")]),
        digest(image_size=13),
    ]
    assert len({own, *others}) == 8


# ------------------------------------------------------------------------------------------------------------- reading


def files(root: Path, count: int) -> ImageFiles:
    for number in range(count):
        noise(root / f"{number}.png", number)
    return ImageFiles(root, [f"{number}.png" for number in range(count)], (3, 8, 8))


def test_only_so_many_batches_are_ahead(tmp_path: Path) -> None:
    images, taken = files(tmp_path, 20), []

    def rows() -> Iterator[np.ndarray]:
        for start in range(0, 20, 2):
            taken.append(start)
            yield np.array([start, start + 1])

    stream = images.read_ahead(rows())
    assert taken == []
    for position in range(10):
        batch = next(stream)
        assert np.array_equal(batch, images[np.array([2 * position, 2 * position + 1])])
        # These are the current batch and two that are being decoded.
        assert len(taken) == min(position + 3, 10)
    assert list(stream) == []


def test_rows_are_the_files_brought_to_the_shape(tmp_path: Path) -> None:
    # Neither square nor grey by itself: width and height, or channels, would show where they are mistaken.
    images = ImageFiles(tmp_path, files(tmp_path, 3).names, (3, 6, 10))
    expected = [fit(decode(tmp_path / name, channels=3)[None], (6, 10), 3)[0] for name in images.names]
    found = images[np.array([2, 0, 2])]
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.stack([expected[2], expected[0], expected[2]]))
    assert (len(images), images.shape) == (3, (3, 3, 6, 10))


def test_for_one_channel_images_are_grey_and_coloured_ones_refused(tmp_path: Path) -> None:
    noise(tmp_path / "colour.png", 0)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "grey.png")
    images = ImageFiles(tmp_path, ["grey.png", "colour.png"], (1, 8, 8))
    assert np.array_equal(images[np.array([0])], np.full((1, 1, 8, 8), 7))
    with pytest.raises(InputError, match=r"colour\.png"):
        images[np.array([1])]


def test_a_batch_waits_for_its_slowest_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path, **more: Any) -> np.ndarray:
        if path.name == "2.png":
            time.sleep(0.2)
        return decode(path, **more)

    images = files(tmp_path, 3)
    expected = images[np.arange(3)]
    monkeypatch.setattr(streaming, "decode", slow)
    assert np.array_equal(images[np.arange(3)], expected)


def test_as_many_threads_decode_as_the_process_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, go, threads = files(tmp_path, 8), threading.Event(), []
    before = set(threading.enumerate())

    def held(path: Path, **more: Any) -> np.ndarray:
        assert go.wait(60)
        return decode(path, **more)

    def rows() -> Iterator[np.ndarray]:
        yield np.arange(8)
        # All that decode are held.
        threads.extend(set(threading.enumerate()) - before)
        go.set()

    monkeypatch.setattr(streaming, "decode", held)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert len(list(images.read_ahead(rows()))) == 1
    assert len(threads) == 3


def test_what_is_left_early_is_not_decoded_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, closing, decoded = files(tmp_path, 12), threading.Event(), []

    def held(path: Path, **more: Any) -> np.ndarray:
        decoded.append(path.name)
        if len(decoded) > 4:
            assert closing.wait(60)
            time.sleep(0.1)
        return decode(path, **more)

    monkeypatch.setattr(streaming, "decode", held)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    stream = images.read_ahead(np.split(np.arange(12), 3))
    next(stream)
    closing.set()
    stream.close()
    assert len(decoded) < 12


@pytest.mark.parametrize(("shape", "most"), [((3, 512, 512), 21), ((3, 4096, 4096), 1), ((1, 1, 1), 2**24)])
def test_chunks_are_of_sixteen_mebibytes_or_one_image(shape: tuple[int, ...], most: int) -> None:
    rows = np.arange(45)[::-1]
    chunks = in_chunks(rows, shape)
    assert np.array_equal(np.concatenate(chunks), rows)
    assert max(map(len, chunks)) == min(most, 45)
    assert all(len(chunk) == len(chunks[0]) for chunk in chunks[:-1])


def _read_all(data: ImageFiles) -> None:
    assert len(list(data.read_ahead(np.split(np.arange(12), 4)))) == 4


def _stop_early(data: ImageFiles) -> None:
    for _ in data.read_ahead(np.split(np.arange(12), 4)):
        break


def _raise(data: ImageFiles) -> None:
    def consume() -> None:
        for _ in data.read_ahead(np.split(np.arange(12), 4)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()


def _meet_a_broken_file(data: ImageFiles) -> None:
    (data.folder / data.names[8]).write_bytes(b"no image")
    stream = data.read_ahead(np.split(np.arange(12), 4))
    assert [len(next(stream)), len(next(stream))] == [3, 3]
    with pytest.raises(InputError, match=r"8\.png' is not an image that can be read"):
        next(stream)


@pytest.mark.parametrize("consume", [_read_all, _stop_early, _raise, _meet_a_broken_file])
def test_no_thread_outlives_the_stream(tmp_path: Path, consume: Callable[[ImageFiles], None]) -> None:
    data = files(tmp_path, 12)
    before = set(threading.enumerate())
    consume(data)
    assert set(threading.enumerate()) == before


def test_batches_that_are_left_early_leave_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, streamed = both(folder(tmp_path / "set", {"train": 8}), monkeypatch)
    before = set(threading.enumerate())
    stream = batches(streamed.train, 2, PLAIN, CPU)
    next(stream)
    assert set(threading.enumerate()) > before
    stream.close()
    assert set(threading.enumerate()) == before


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("content", [b"no image", b"\xff\xd8\xff\xe0 cut off", None])
def test_a_broken_image_is_named_when_its_batch_comes(tmp_path: Path, content: bytes | None) -> None:
    data = load(folder(tmp_path / "set", {"train": 6, "test": 1}), tmp_path / "work")
    path = tmp_path / "set" / "train" / "dog" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(InputError, match=r"train/dog/1\.jpg' is (broken|not an image that can be read)") as caught:
        list(batches(data.train, 4, PLAIN, CPU))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SAMPLE.exists(), reason="the ImageNet sample is not here")
@pytest.mark.usefixtures("streamed")
def test_imagenets_classes_stream_at_its_size(tmp_path: Path) -> None:
    with tarfile.open(SAMPLE) as archive:
        archive.extractall(tmp_path / "set", filter="data")
    data = load(tmp_path / "set", tmp_path / "work", image_size=224)
    assert (len(data.class_names), data.val, data.image_shape) == (1000, None, (3, 224, 224))
    part = np.arange(0, 1000, 50)
    (images,) = data.train.read([part])
    assert images.shape == (20, 3, 224, 224)
    # The images are not black and all differ.
    assert len({image.tobytes() for image in images}) == 20
    assert np.all(images.std((1, 2, 3)) > 10)
