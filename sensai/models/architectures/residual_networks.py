"""ResNet for images of CIFAR."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sensai.models.architectures import ARCHITECTURES, CIFAR

if TYPE_CHECKING:
    from sensai.models.resnet import ResNet

_DEPTHS = {"basic": (20, 32, 44, 56), "bottleneck": (110, 164)}
_ARGUMENTS = {"block": ("basic", "bottleneck"), "shortcut": ("projection", "parameter_free")}


def _resnet(depth: int, block: str, num_classes: int, in_channels: int, arch_args: Mapping[str, Any]) -> "ResNet":
    from sensai.models.resnet import resnet

    arguments = {"block": block, **arch_args}
    return resnet(depth, num_classes=num_classes, in_channels=in_channels, **arguments)


for _block, _depths in _DEPTHS.items():
    for _depth in _depths:
        ARCHITECTURES.register(
            f"resnet{_depth}", f"ResNet-{_depth} of {_block} blocks for 32 x 32", **CIFAR, arguments=_ARGUMENTS
        )(partial(_resnet, _depth, _block))
