"""VGG with batch norm for 32x32 input (Simonyan & Zisserman 2015; the form of the common CIFAR training scripts)."""

import torch.nn.functional as F
from torch import Tensor, nn

# Channels of the 3x3 convolutions, "M" for a 2x2 max pooling: configurations A, B, D, E of the paper.
_PLANS: dict[int, str] = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


class VGG(nn.Module):
    """Convolutions with batch norm, then one linear layer on 512 features; input (N, in_channels, 32, 32) or larger.

    `depth` is one of 11, 13, 16, 19.
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for entry in _PLANS[depth].split():
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            width = int(entry)
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        # One pixel is left at 32x32, more for larger images.
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
