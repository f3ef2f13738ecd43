"""Batches, augmentation and the labels of members."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sensai.data.batches import (
    Normalization,
    augment,
    batches,
    default_augmentation,
    member_targets,
    steps_per_epoch,
    training_batches,
)
from sensai.data.dataset import Split

CPU = torch.device("cpu")
PLAIN = Normalization((0.0,), (1.0,))


def numbered(count: int, total: int = 40, side: int = 4) -> Split:
    """Return some rows of images whose pixels all equal the image's number; label = number modulo 7."""
    numbers = np.arange(total)
    images = np.broadcast_to(numbers[:, None, None, None], (total, 1, side, side)).astype(np.uint8)
    rows = np.random.default_rng(0).permutation(total)[:count]
    return Split(images, numbers % 7, rows)


def numbers_in(images: Tensor) -> list[int]:
    return [round(float(image.max()) * 255) for image in images]


def test_all_images_come_once_in_order_with_an_uneven_last_batch() -> None:
    split = numbered(11)
    pairs = list(batches(split, 4, PLAIN, CPU))
    assert [len(images) for images, _ in pairs] == [4, 4, 3]
    assert [n for images, _ in pairs for n in numbers_in(images)] == split.rows.tolist()
    assert torch.cat([labels for _, labels in pairs]).tolist() == (split.rows % 7).tolist()
    images, labels = pairs[0]
    assert (images.dtype, images.shape, labels.dtype) == (torch.float32, (4, 1, 4, 4), torch.int64)


def test_normalisation_is_per_channel() -> None:
    images = torch.randint(0, 256, (3, 2, 4, 5), dtype=torch.uint8)
    before = images.clone()
    got = Normalization((0.25, 0.5), (0.5, 2.0))(images)
    expected = (images.numpy() / 255 - np.array([0.25, 0.5])[:, None, None]) / np.array([0.5, 2.0])[:, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.dtype == torch.float32
    assert torch.equal(images, before)


# ------------------------------------------------------------------------------------------------------------- training


class _Normalized(torch.nn.Module):
    def __init__(self, normalization: Normalization) -> None:
        super().__init__()
        self.normalization = normalization

    def forward(self, images: Tensor) -> Tensor:
        return self.normalization(images)


def test_a_normalization_computes_also_where_an_export_has_traced_it_first() -> None:
    # The first image that a process normalises may be inside an export, where tensors have no values.
    normalization = Normalization((0.3125,), (0.4375,))
    images = torch.arange(2 * 9, dtype=torch.uint8).view(2, 1, 3, 3)
    program = torch.export.export(_Normalized(normalization), (images,))
    expected = (images.numpy() / 255 - 0.3125) / 0.4375
    for got in (normalization(images), program.module()(images)):
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("count", "left_out"), [(12, 0), (11, 0), (13, 1), (5, 1)])
def test_an_epoch_covers_each_image_once_but_a_last_one_alone(count: int, left_out: int) -> None:
    split = numbered(count)
    for epoch in range(3):
        pairs = list(training_batches(split, 4, PLAIN, CPU, epoch, augmentation="none", seed=0))
        seen = [n for images, _ in pairs for n in numbers_in(images)]
        assert len(seen) == len(set(seen)) == count - left_out
        assert set(seen) <= set(split.rows.tolist())
        assert all(len(images) >= 2 for images, _ in pairs)
        assert len(pairs) == steps_per_epoch(split, 4)
        labels = [int(label) for _, own in pairs for label in own]
        assert labels == [number % 7 for number in seen]


def _epoch(epoch: int, seed: int, split: Split) -> list[tuple[Tensor, Tensor]]:
    return list(training_batches(split, 8, PLAIN, CPU, epoch, augmentation="crop_flip", seed=seed))


def test_an_epoch_follows_from_seed_and_number() -> None:
    generator = np.random.default_rng(0)
    split = Split(generator.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8), np.arange(30) % 3, np.arange(30))
    torch.manual_seed(1)
    first = _epoch(4, 7, split)
    torch.manual_seed(2)
    again = _epoch(4, 7, split)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    for epoch, seed in ((5, 7), (4, 8)):
        other = _epoch(epoch, seed, split)
        assert not all(torch.equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


def test_augmentation_differs_from_epoch_to_epoch_for_one_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 16, 16), dtype=np.uint8)
    split = Split(np.repeat(image, 2, axis=0), np.zeros(2, np.int64), np.arange(2))
    views = {
        images.numpy().tobytes()
        for epoch in range(6)
        for images, _ in training_batches(split, 2, PLAIN, CPU, epoch, augmentation="crop", seed=0)
    }
    assert len(views) > 3


# --------------------------------------------------------------------------------------------------------- augmentation


def random_images(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def views_of(image: np.ndarray) -> dict[tuple[int, int, bool], np.ndarray]:
    """Return every possible view of one image (C, H, W): (rows down, columns right, mirrored) -> a slice of it, padded."""
    _, height, width = image.shape
    padding = max(height // 8, 1)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    views = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            view = padded[:, top : top + height, left : left + width]
            views[top, left, False] = view
            views[top, left, True] = view[:, :, ::-1]
    return views


def found_views(images: Tensor, augmented: Tensor) -> list[tuple[int, int, bool]]:
    found = []
    for image, result in zip(images.numpy(), augmented.numpy(), strict=True):
        matching = [key for key, view in views_of(image).items() if np.array_equal(view, result)]
        assert len(matching) == 1
        found += matching
    return found


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 32, 32), (3, 16, 24), (2, 5, 7)])
@pytest.mark.parametrize("augmentation", ["crop", "crop_flip"])
def test_every_image_is_shifted_by_itself(augmentation: str, channels: int, height: int, width: int) -> None:
    images = random_images(120, channels, height, width)
    before = images.clone()
    result = augment(images, augmentation, torch.Generator().manual_seed(3))
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    views = found_views(images, result)
    reach = 2 * max(height // 8, 1)
    for axis in (0, 1):
        shifts = {view[axis] for view in views}
        assert {0, reach} <= shifts <= set(range(reach + 1))
    assert len({view[:2] for view in views}) > len({view[0] for view in views})
    mirrored = sum(view[2] for view in views)
    assert mirrored == 0 if augmentation == "crop" else 30 < mirrored < 90


def test_augmentation_follows_its_generator_only() -> None:
    images = random_images(20, 3, 16, 16)
    torch.manual_seed(0)
    first = augment(images, "crop_flip", torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    assert torch.equal(augment(images, "crop_flip", torch.Generator().manual_seed(5)), first)
    assert not torch.equal(augment(images, "crop_flip", torch.Generator().manual_seed(6)), first)
    assert augment(images, "none", torch.Generator()) is images


def test_symbols_are_not_mirrored_by_default() -> None:
    assert [default_augmentation(name) for name in ("digits", "mnist", "svhn")] == ["crop"] * 3
    assert [default_augmentation(name) for name in ("cifar10", "fashion_mnist", "imagefolder", "a.py:f")] == [
        "crop_flip"
    ] * 4


# --------------------------------------------------------------------------------------------------------------- labels


def test_labels_of_each_kind_of_member_by_hand() -> None:
    labels = torch.tensor([0, 1, 2, 3, 4, 2])
    assert member_targets(labels, (2,), 5).tolist() == [0, 0, 1, 0, 0, 1]
    assert member_targets(labels, (1, 3), 5).tolist() == [0, 1, 0, 2, 0, 0]
    assert member_targets(labels, (3, 1), 5).tolist() == [0, 2, 0, 1, 0, 0]
    assert member_targets(labels, (0, 1, 2, 3, 4), 5).tolist() == labels.tolist()
    assert member_targets(labels, (4, 3, 2, 1, 0), 5).tolist() == [4, 3, 2, 1, 0, 2]
    assert member_targets(labels, (2,), 5).dtype == torch.int64


@settings(max_examples=80, deadline=None, derandomize=True)
@given(num_classes=st.integers(2, 12), data=st.data())
def test_labels_equal_a_loop(num_classes: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(num_classes)))
    classes = tuple(order[: data.draw(st.integers(1, num_classes))])
    labels = data.draw(st.lists(st.integers(0, num_classes - 1), min_size=1, max_size=20))
    first = 0 if len(classes) == num_classes else 1
    expected = [first + classes.index(label) if label in classes else 0 for label in labels]
    assert member_targets(torch.tensor(labels), classes, num_classes).tolist() == expected
