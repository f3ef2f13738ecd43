"""Networks by name."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from torch import nn

from sensai.errors import InputError
from sensai.models import names
from sensai.models.resnet import resnet
from sensai.models.small import SmallCNN
from sensai.models.vgg import vgg

_FACTORIES: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": SmallCNN,
    **{f"vgg{depth}_bn": partial(vgg, depth) for depth in names.VGG_DEPTHS},
    **{f"resnet{depth}": partial(resnet, depth, block="basic") for depth in names.BASIC_RESNET_DEPTHS},
    **{f"resnet{depth}": partial(resnet, depth, block="bottleneck") for depth in names.BOTTLENECK_RESNET_DEPTHS},
}

# The values that `arch_args` may take, per argument.
_RESNET_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "block": ("basic", "bottleneck"),
    "shortcut": ("projection", "parameter_free"),
}


@dataclass(frozen=True)
class NetworkSpec:
    """What rebuilds a network of full width: architecture, factory arguments, input and output size."""

    arch: str
    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    arch_args: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The specification as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "NetworkSpec":
        """The inverse of `to_json`."""
        height, width = values["image_size"]
        return cls(**{**values, "image_size": (height, width)})

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one input image."""
        return (self.in_channels, *self.image_size)


def _allowed_arguments(arch: str) -> dict[str, tuple[str, ...]]:
    return _RESNET_ARGUMENTS if arch.startswith("resnet") else {}


def build(spec: NetworkSpec) -> nn.Module:
    """A freshly initialised network of full width.

    Raises:
        InputError: an unknown architecture, or `arch_args` that it does not take.
    """
    if spec.arch not in _FACTORIES:
        raise InputError(f"arch={spec.arch!r}: allowed are {', '.join(names.ARCHITECTURES)}")
    allowed = _allowed_arguments(spec.arch)
    for key, value in spec.arch_args.items():
        if key not in allowed:
            raise InputError(f"arch_args: {spec.arch} takes {', '.join(allowed) or 'no arguments'}, not {key!r}")
        if value not in allowed[key]:
            raise InputError(f"arch_args: {key}={value!r} is none of {', '.join(allowed[key])}")
    return _FACTORIES[spec.arch](num_classes=spec.num_classes, in_channels=spec.in_channels, **spec.arch_args)
