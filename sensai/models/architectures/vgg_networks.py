"""VGG with batch norm."""

from functools import partial
from typing import TYPE_CHECKING

from sensai.models.architectures import ARCHITECTURES, CIFAR

if TYPE_CHECKING:
    from sensai.models.vgg import VGG


def _vgg(depth: int, num_classes: int, in_channels: int) -> "VGG":
    from sensai.models.vgg import VGG

    return VGG(depth, num_classes, in_channels)


for _depth in (11, 13, 16, 19):
    ARCHITECTURES.register(f"vgg{_depth}_bn", f"VGG-{_depth} with batch norm for 32 x 32", **CIFAR)(
        partial(_vgg, _depth)
    )
