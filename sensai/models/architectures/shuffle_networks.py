"""ShuffleNetV2 for images of CIFAR."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sensai.models.architectures import ARCHITECTURES, CIFAR

if TYPE_CHECKING:
    from sensai.models.shufflenetv2 import ShuffleNetV2


@ARCHITECTURES.register("shufflenetv2", "ShuffleNetV2 for 32 x 32", **CIFAR, arguments={"width": (0.5, 1, 1.5, 2)})
def shufflenetv2(num_classes: int, in_channels: int, arch_args: Mapping[str, Any]) -> "ShuffleNetV2":
    """Return the form of the common CIFAR training scripts."""
    from sensai.models.shufflenetv2 import ShuffleNetV2

    return ShuffleNetV2(num_classes, in_channels, **arch_args)
