"""Transforms of batches by torchvision: labels, images, random numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sensai.data.batches import Normalization, training_batches
from sensai.data.dataset import Split
from sensai.data.transforms import Mixing, auto_augmented, mix

CPU = torch.device("cpu")
KINDS = pytest.mark.parametrize("kind", ["mixup", "cutmix"])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def constant_images(labels: Tensor, side: int = 12) -> Tensor:
    """Return images whose pixels all equal their label."""
    return labels.float()[:, None, None, None].expand(-1, 3, side, side).clone()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["mixup", "cutmix"]),
    count=st.integers(2, 9),
    num_classes=st.integers(2, 7),
    alpha=st.floats(0.01, 50),
    seed=st.integers(0, 10**6),
)
def test_labels_are_shared_out_as_the_pixels_are(
    kind: str, count: int, num_classes: int, alpha: float, seed: int
) -> None:
    labels = torch.randint(num_classes, (count,), generator=generator(seed))
    images, shares = mix(constant_images(labels), labels, Mixing(kind, alpha, num_classes), generator(seed))
    assert (shares.shape, shares.dtype) == ((count, num_classes), torch.float32)
    torch.testing.assert_close(shares.sum(1), torch.ones(count))
    assert (shares >= 0).all()
    # Pixels are labels, so the mean pixel is the mean label.
    torch.testing.assert_close(images.mean((1, 2, 3)), shares @ torch.arange(num_classes).float(), atol=1e-5, rtol=1e-5)
    # Every image is mixed with the one before it.
    for row, share in enumerate(shares):
        assert set(share.nonzero().flatten().tolist()) <= {int(labels[row]), int(labels[row - 1])}


def test_mixup_blends_and_cutmix_pastes() -> None:
    labels = torch.arange(6)
    blended, shares = mix(constant_images(labels), labels, Mixing("mixup", 1.0, 6), generator(1))
    assert all(len(image.unique()) == 1 for image in blended)
    assert 0 < shares[0, 0] < 1
    pasted, _ = mix(constant_images(labels), labels, Mixing("cutmix", 1.0, 6), generator(1))
    assert all(len(image.unique()) == 2 for image in pasted)
    assert set(pasted.unique().tolist()) <= set(range(6))


@KINDS
def test_mixing_keeps_the_memory_format_and_its_inputs(kind: str) -> None:
    labels = torch.arange(4)
    images = torch.randn(4, 3, 8, 8).to(memory_format=torch.channels_last)
    before = images.clone()
    mixed, _ = mix(images, labels, Mixing(kind, 1.0, 4), generator(0))
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)
    assert torch.equal(labels, torch.arange(4))


# --------------------------------------------------------------------------------------------------------- one operation


def random_images(count: int, channels: int = 3, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_an_operation_of_its_own(channels: int) -> None:
    # Equal images that are changed by one and the same operation would stay equal.
    images = random_images(1, channels).expand(60, -1, -1, -1)
    changed = auto_augmented(images, "trivialaugment", generator(0))
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert len({image.numpy().tobytes() for image in changed}) > 30


def test_without_a_policy_images_stay_as_they_are() -> None:
    images = random_images(3)
    assert auto_augmented(images, "none", torch.Generator()) is images


def test_random_numbers_come_from_the_generator_alone() -> None:
    images, labels = random_images(20), torch.arange(20) % 4
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        changed = auto_augmented(images, "trivialaugment", generator(5))
        mixed, shares = mix(changed.float(), labels, Mixing("cutmix", 1.0, 4), generator(5))
        # Nobody else's random numbers are used up.
        assert torch.equal(torch.rand(3), torch.rand(3, generator=generator(seed)))
        results.append((changed, mixed, shares))
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))
    assert not torch.equal(auto_augmented(images, "trivialaugment", generator(6)), results[0][0])


# ------------------------------------------------------------------------------------------------------------- batches


def epoch(**parameters: object) -> list[tuple[Tensor, Tensor]]:
    images = np.random.default_rng(0).integers(0, 256, (22, 3, 8, 8), dtype=np.uint8)
    split = Split(images, np.arange(22) % 3, np.arange(22))
    normalization = Normalization((0.5,) * 3, (0.25,) * 3)
    given = {"augmentation": "crop_flip", "seed": 4, **parameters}
    return list(training_batches(split, 8, normalization, CPU, 2, **given))


def test_what_is_added_changes_neither_order_nor_crops() -> None:
    plain = epoch()
    mixed = epoch(mixing=Mixing("mixup", 1.0, 3))
    for (images, labels), (blended, shares) in zip(plain, mixed, strict=True):
        own = shares.gather(1, labels[:, None]).flatten()
        others = shares.gather(1, labels.roll(1)[:, None]).flatten()
        differing = labels != labels.roll(1)
        share = own[differing][0]
        torch.testing.assert_close(own[differing] + others[differing], torch.ones(int(differing.sum())))
        torch.testing.assert_close(blended, share * images + (1 - share) * images.roll(1, 0), atol=1e-5, rtol=1e-5)
    for (_, labels), (_, other) in zip(plain, epoch(auto_augment="trivialaugment"), strict=True):
        assert torch.equal(labels, other)


@pytest.mark.parametrize(
    "parameters", [{"auto_augment": "trivialaugment"}, {"mixing": Mixing("cutmix", 1.0, 3)}], ids=["policy", "mixing"]
)
def test_an_epoch_can_be_made_again(parameters: dict[str, object]) -> None:
    torch.manual_seed(1)
    first = epoch(**parameters)
    torch.manual_seed(2)
    again = epoch(**parameters)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, epoch(**parameters, seed=5), strict=True))
