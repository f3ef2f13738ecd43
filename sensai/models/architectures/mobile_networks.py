"""MobileNetV2 for images of CIFAR."""

from typing import TYPE_CHECKING

from sensai.models.architectures import ARCHITECTURES, CIFAR

if TYPE_CHECKING:
    from sensai.models.mobilenetv2 import MobileNetV2


@ARCHITECTURES.register("mobilenetv2", "MobileNetV2 for 32 x 32", **CIFAR)
def mobilenetv2(num_classes: int, in_channels: int) -> "MobileNetV2":
    """Return the form of the common CIFAR training scripts."""
    from sensai.models.mobilenetv2 import MobileNetV2

    return MobileNetV2(num_classes, in_channels)
