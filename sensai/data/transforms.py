"""Random transforms of training batches, made by torchvision. N images, C channels, K classes.

Every random number comes from a given generator, so an epoch can be made again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

AutoAugment = Literal["none", "trivialaugment"]
Mix = Literal["mixup", "cutmix"]

# The colour operations of torchvision know grey and RGB images.
CHANNELS_OF_AUTO_AUGMENT = (1, 3)


@dataclass(frozen=True)
class Mixing:
    """The mixing of the images of a batch with each other.

    Attributes:
        kind: `mixup` blends two images (Zhang et al., ICLR 2018), `cutmix` pastes a box of one into the other (Yun et al., ICCV
            2019).
        alpha: the share of the first image is drawn from Beta(alpha, alpha).
        num_classes: K.
    """

    kind: Mix
    alpha: float
    num_classes: int


def auto_augmented(images: Tensor, policy: AutoAugment, generator: torch.Generator) -> Tensor:
    """Return the images, each after one random operation of random strength (TrivialAugment, Müller & Hutter, ICCV 2021).

    torchvision draws one operation a call, so every image is a call of its own.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3.
        policy: `none` or `trivialaugment`.
        generator: on the CPU.

    Returns:
        uint8 (N, C, H, W).
    """
    if policy == "none":
        return images
    # The import takes a second, which most trainings need not wait for.
    from torchvision.transforms.v2 import TrivialAugmentWide

    transform = TrivialAugmentWide()
    with _random_numbers_of(generator):
        return torch.stack([transform(image) for image in images])


def mix(images: Tensor, labels: Tensor, mixing: Mixing, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a batch in which every image is mixed with the one before it, all in the same shares.

    Args:
        images: float32 (N, C, H, W), N at least 2, in random order.
        labels: int64 (N,), in [0, K).
        mixing: of the batch.
        generator: on the CPU.

    Returns:
        Images float32 (N, C, H, W) in the same memory format, and labels float32 (N, K): the share of each class; a row's sum
        is 1.
    """
    # See `auto_augmented`.
    from torchvision.transforms import v2

    transform = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[mixing.kind]
    with _random_numbers_of(generator):
        mixed, shares = transform(alpha=mixing.alpha, num_classes=mixing.num_classes)(images, labels)
    return mixed, shares


@contextmanager
def _random_numbers_of(generator: torch.Generator) -> Iterator[None]:
    """Let the block, which knows only torch's own generator, draw what this generator decides."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        yield
