"""The names of the data sets, for checks that come before the heavy imports."""

from typing import NamedTuple

BUILT_IN = ("digits",)
TORCHVISION = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
FOLDER = "imagefolder"
DATASETS = (*BUILT_IN, *TORCHVISION, FOLDER)

SPLITS = ("train", "val", "test")

# Mirroring a digit or a house number makes another symbol of it.
NOT_MIRRORED = ("digits", "mnist", "svhn")


class InputRule(NamedTuple):
    """What a network asks of its input.

    Attributes:
        image_size: side in pixels where none is asked for; None: the images' own.
        channels: None: those of the images.
        smallest: the least side that it takes; None: any.
    """

    image_size: int | None
    channels: int | None
    smallest: int | None = None
