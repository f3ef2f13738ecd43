"""Names of data and what networks ask of them, for checks that come before the heavy imports."""

from typing import NamedTuple

FOLDER = "imagefolder"
SPLITS = ("train", "val", "test")


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
