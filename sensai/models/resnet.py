"""Residual networks for 32x32 input (He et al. 2016, section 4.2): three stages of 16, 32 and 64 channels."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensai.errors import InputError

Block = Literal["basic", "bottleneck"]
Shortcut = Literal["projection", "parameter_free"]


class ParameterFreeShortcut(nn.Conv2d):
    """Every second pixel, and zero channels added evenly on both sides (option A of the paper).

    It is written as the equal 1x1 convolution of ones and zeros, whose channels can be removed on either side. The weight
    (out, in, 1, 1) is a buffer: it is not trained, and checkpoints need not have it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__(in_channels, out_channels, 1, stride=stride, bias=False)
        del self.weight
        before = (out_channels - in_channels) // 2
        after = out_channels - in_channels - before
        self.register_buffer("weight", F.pad(torch.eye(in_channels), (0, 0, before, after))[:, :, None, None])

    def reset_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.setdefault(f"{prefix}weight", self.weight)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _shortcut(kind: Shortcut, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    if kind == "parameter_free":
        return ParameterFreeShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; ReLU as a function call."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(shortcut, in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class BottleneckBlock(nn.Module):
    """1x1, 3x3, 1x1 convolutions, the last four times as wide, beside a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


_BLOCKS: dict[Block, type[BasicBlock] | type[BottleneckBlock]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}
_CONVOLUTIONS_PER_BLOCK: dict[Block, int] = {"basic": 2, "bottleneck": 3}


class ResNet(nn.Module):
    """A residual network for input (N, C, 32, 32) or larger.

    It has a 3x3 convolution, three stages of blocks, global average pooling and a linear layer.
    """

    def __init__(
        self, blocks_per_stage: int, block: Block, shortcut: Shortcut, num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        make_block = _BLOCKS[block]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = []
            for position in range(blocks_per_stage):
                stride = 2 if stage > 1 and position == 0 else 1
                blocks.append(make_block(channels, width, stride, shortcut))
                channels = width * make_block.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(channels, num_classes)
        self.apply(_initialise)

    def stages(self) -> list[nn.Module]:
        return [self.get_submodule(f"layer{stage}") for stage in (1, 2, 3)]

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages():
            out = stage(out)
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d) and not isinstance(module, ParameterFreeShortcut):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet(depth: int, block: Block, num_classes: int, in_channels: int, shortcut: Shortcut = "projection") -> ResNet:
    """Return ResNet-`depth`: 6n + 2 layers of basic blocks or 9n + 2 of bottleneck blocks.

    Raises:
        InputError: no whole number of blocks makes that depth.
    """
    per_stage = 3 * _CONVOLUTIONS_PER_BLOCK[block]
    blocks, rest = divmod(depth - 2, per_stage)
    if rest or blocks < 1:
        raise InputError(f"arch_args: block={block!r} makes depths {per_stage}n + 2, but the depth is {depth}")
    return ResNet(blocks, block, shortcut, num_classes, in_channels)
