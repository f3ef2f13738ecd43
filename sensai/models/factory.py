"""Build networks by name: a part of the family, of another package, or the user's own."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from sensai.errors import InputError
from sensai.models import libraries
from sensai.models.architecture_names import LIVE, is_own, source_digest, unknown
from sensai.models.architectures import ARCHITECTURES
from sensai.models.wrappers import materialise
from sensai.plugins import load_factory, users_code

# By default convolutions on a GPU round their operands to 10 bits (TF32). Then no proof could show that a pruned network
# computes the same as the masked one.
torch.backends.cudnn.allow_tf32 = False


@dataclass(frozen=True)
class NetworkSpec:
    """The specification of a network of full width: architecture, factory arguments, input and output size.

    Attributes:
        source: SHA-256 of the file of the user's own network, which must not change under its weights; else empty.
        channels_last: the network takes images and weights in this memory format (see `layout`); else contiguous ones.
        network: the user's own network where no name makes it; it is copied, and not stored.
    """

    arch: str
    num_classes: int
    in_channels: int
    image_size: tuple[int, int]
    arch_args: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    channels_last: bool = False
    network: nn.Module | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "network"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "NetworkSpec":
        """Make the specification from the values of `to_json`."""
        height, width = values["image_size"]
        return cls(**{**values, "image_size": (height, width)})

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return the shape (C, H, W) of one input image."""
        return (self.in_channels, *self.image_size)

    @property
    def memory_format(self) -> torch.memory_format:
        """Return the memory format of the network's images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


def auxiliary_heads(arch: str) -> tuple[str, ...]:
    """Return the first parts of the keys that checkpoints may hold for heads that only training uses."""
    found = libraries.find(arch)
    return found.library.auxiliary_heads(found.name) if found else ()


def build(spec: NetworkSpec) -> nn.Module:
    """Return a freshly initialised network of full width.

    Raises:
        InputError: an unknown architecture, `arch_args` that it does not take, or a function of the user's that fails.
    """
    if spec.network is not None:
        return deepcopy(spec.network)
    if spec.arch.startswith(LIVE):
        raise InputError(
            f"model=None: this was made of a network in memory, {spec.arch.removeprefix(LIVE)!r}, which no name makes again; "
            "give one of the same architecture, with any weights"
        )
    if spec.arch in ARCHITECTURES:
        return _build_part(spec)
    if found := libraries.find(spec.arch):
        return found.library.build(found.name, spec.num_classes, spec.input_shape, spec.arch_args)
    if is_own(spec.arch):
        return _build_own(spec)
    raise unknown(spec.arch)


def check_output(network: nn.Module, spec: NetworkSpec) -> None:
    """Check that a network gives one float logit a class for each image.

    Raises:
        InputError: it does not take the images, or gives something else.
    """
    was_training = network.training
    images = torch.zeros(2, *spec.input_shape)
    with users_code(f"arch={spec.arch!r}: takes no images of shape {spec.input_shape}"), torch.no_grad():
        output = network.eval()(images)
    network.train(was_training)
    if not isinstance(output, Tensor) or output.shape != (2, spec.num_classes):
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"arch={spec.arch!r}: gives {given} for 2 images, not (2, {spec.num_classes}), one logit a class"
        )


def _build_part(spec: NetworkSpec) -> nn.Module:
    part = ARCHITECTURES[spec.arch]
    allowed = cast("Mapping[str, tuple[object, ...]]", part.traits["arguments"])
    for key, value in spec.arch_args.items():
        if key not in allowed:
            raise InputError(f"arch_args: {spec.arch} takes {', '.join(allowed) or 'no arguments'}, not {key!r}")
        if value not in allowed[key]:
            raise InputError(f"arch_args: {key}={value!r} is none of {', '.join(map(str, allowed[key]))}")
    network: nn.Module = part(spec)
    return network


def _build_own(spec: NetworkSpec) -> nn.Module:
    factory = load_factory(spec.arch, "arch")
    if spec.source and spec.source != source_digest(spec.arch):
        raise InputError(
            f"arch={spec.arch!r}: the file is not the one that this network was trained with; run baseline"
        )
    network = factory(num_classes=spec.num_classes, **spec.arch_args)
    if not isinstance(network, nn.Module):
        raise InputError(f"arch={spec.arch!r}: the function gave {type(network).__name__}, not a torch.nn.Module")
    _finish_lazy(network, spec)
    return with_own_input(network)


def _finish_lazy(network: nn.Module, spec: NetworkSpec) -> None:
    with users_code(f"arch={spec.arch!r}: takes no images of shape {spec.input_shape}"):
        left = materialise(network, spec.input_shape)
    if left:
        raise InputError(f"arch={spec.arch!r}: {left!r} has no shape yet, since no image comes by its lazy layer")


def with_own_input(network: nn.Module) -> nn.Module:
    """Let a network compute in a copy of its input, in place; it may compute in the input itself, which others read too."""
    network.register_forward_pre_hook(_own_input)
    return network


def _own_input(_network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in inputs)
