"""The small default network."""

from typing import TYPE_CHECKING

from sensai.models.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from sensai.models.small import SmallCNN


@ARCHITECTURES.register("small_cnn", "four convolutions, for images of 8 x 8 pixels and more", channels_last=True)
def small_cnn(num_classes: int, in_channels: int) -> "SmallCNN":
    """Return the network that is trained in seconds."""
    from sensai.models.small import SmallCNN

    return SmallCNN(num_classes, in_channels)
