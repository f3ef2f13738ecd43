"""ShuffleNetV2 for 32x32 input (Ma et al. 2018; the form of the common CIFAR training scripts).

Unlike in the paper, the stem keeps the resolution and no max pooling follows it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Width -> channels of the three stages and of the last convolution. The training scripts have 224 where the paper has 244;
# with 224 their checkpoints can be loaded.
_CHANNELS: dict[float, tuple[int, int, int, int]] = {
    0.5: (48, 96, 192, 1024),
    1: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2: (224, 488, 976, 2048),
}
_BLOCKS = (3, 7, 3)
_STEM = 24


def _shuffle(x: Tensor) -> Tensor:
    """Return the channels of the first and the second half in alternation."""
    count, channels, height, width = x.shape
    return x.view(count, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


class ShuffleBlock(nn.Module):
    """A block that passes one half of the channels on and applies 1x1, 3x3 depthwise and 1x1 convolutions to the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        passed, out = x.chunk(2, dim=1)
        out = F.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        out = F.relu(self.bn3(self.conv3(out)))
        return _shuffle(torch.cat([passed, out], dim=1))


class DownBlock(nn.Module):
    """Two branches at stride 2, each making half of the output channels: depthwise and 1x1; 1x1, depthwise and 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        short = self.bn1(self.conv1(x))
        short = F.relu(self.bn2(self.conv2(short)))
        long = F.relu(self.bn3(self.conv3(x)))
        long = self.bn4(self.conv4(long))
        long = F.relu(self.bn5(self.conv5(long)))
        return _shuffle(torch.cat([short, long], dim=1))


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 for input (N, in_channels, 32, 32) or larger. `width` is one of 0.5, 1, 1.5 and 2.

    It has a 3x3 convolution, three stages of blocks, a 1x1 convolution, global average pooling and a linear layer.
    """

    def __init__(self, num_classes: int, in_channels: int, width: float = 1) -> None:
        super().__init__()
        *stages, features = _CHANNELS[width]
        self.conv1 = nn.Conv2d(in_channels, _STEM, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        channels = _STEM
        for stage, (out_channels, count) in enumerate(zip(stages, _BLOCKS, strict=True), start=1):
            blocks = [DownBlock(channels, out_channels), *(ShuffleBlock(out_channels) for _ in range(count))]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            channels = out_channels
        self.conv2 = nn.Conv2d(channels, features, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(features)
        self.linear = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            out = self.get_submodule(f"layer{stage}")(out)
        out = F.relu(self.bn2(self.conv2(out)))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))
