"""A user's network with dropout, whose training is random."""

from torch import nn

from sensai.models.small import SmallCNN


def make(num_classes: int) -> nn.Module:
    """Return SmallCNN with dropout before its classifier; input (N, 1, H, W)."""
    network = SmallCNN(num_classes, in_channels=1)
    network.pool = nn.Sequential(network.pool, nn.Dropout(0.5))
    return network
