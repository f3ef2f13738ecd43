"""Widths of the layers of a network, and a network of given widths."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

# Layer name -> the sizes that pruning changes: (out, in, groups) of a convolution, (out, in) of a linear layer, (features,)
# of a layer that works on each channel alone.
Widths = dict[str, tuple[int, ...]]

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
InstanceNorm = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d
# Layers that work on each channel alone, with tensors that have one value for each.
PerChannel = BatchNorm | InstanceNorm | nn.PReLU


class ZeroWidthConv2d(nn.Conv2d):
    """A convolution without input or output channels, for which torch has no kernel: its bias everywhere, or zero."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self._extent(x.shape[2 + axis], axis) for axis in (0, 1))
        nothing = x.new_zeros((x.shape[0], self.out_channels, height, width))
        return nothing if self.bias is None else nothing.movedim(1, -1).add_(self.bias).movedim(-1, 1)

    def _extent(self, extent: int, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1)
        padding = {"same": reach, "valid": 0}[self.padding] if isinstance(self.padding, str) else 2 * self.padding[axis]
        return (extent + padding - reach - 1) // self.stride[axis] + 1


class ZeroWidthBatchNorm2d(nn.BatchNorm2d):
    """A batch norm without channels, which torch refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return x


_ZERO_WIDTH: dict[type[nn.Module], Any] = {nn.Conv2d: ZeroWidthConv2d, nn.BatchNorm2d: ZeroWidthBatchNorm2d}
# Layers that torch computes without channels too.
_EMPTIED_AS_IT_IS = nn.Linear | InstanceNorm | nn.PReLU | ZeroWidthConv2d | ZeroWidthBatchNorm2d


def layer_widths(module: nn.Module) -> tuple[int, ...] | None:
    """Return the sizes of one layer that pruning changes, or None for a module without any."""
    if isinstance(module, nn.Conv2d):
        return (module.out_channels, module.in_channels, module.groups)
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    if isinstance(module, nn.PReLU):
        return (module.num_parameters,)
    if isinstance(module, BatchNorm | InstanceNorm):
        return (module.num_features,)
    return None


def channel_axis(module: nn.Module) -> int:
    """Return the axis of a layer's inputs and outputs that holds the channels: the last of a linear layer, else the second."""
    return -1 if isinstance(module, nn.Linear) else 1


def widths(model: nn.Module) -> Widths:
    """Return the widths of every layer that has any."""
    return {name: sizes for name, module in model.named_modules() if (sizes := layer_widths(module)) is not None}


def set_layer_widths(module: nn.Module, sizes: tuple[int, ...]) -> None:
    """Declare the sizes of one layer; the caller sets its tensors. A layer of size 0 becomes one of the zero-width classes.

    Raises:
        TypeError: the layer has no such sizes, or cannot be emptied.
    """
    if isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels, module.groups = sizes
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = sizes
    elif isinstance(module, nn.PReLU):
        (module.num_parameters,) = sizes
    elif isinstance(module, BatchNorm | InstanceNorm):
        (module.num_features,) = sizes
    else:
        raise TypeError(f"{type(module).__name__} has no widths")
    if 0 in sizes and not isinstance(module, _EMPTIED_AS_IT_IS):
        if type(module) not in _ZERO_WIDTH:
            raise TypeError(f"{type(module).__name__} cannot be emptied")
        module.__class__ = _ZERO_WIDTH[type(module)]


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a network with tensors of its present shapes.

    Raises:
        RuntimeError: a tensor is missing, left over or of the wrong shape (from `load_state_dict`).
    """
    state = OrderedDict(tensors)
    # Modules that convert older forms of their weights (torchvision's MNASNet) need the version of these.
    state._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]
    model.load_state_dict(state, strict=True)


def load_narrow(model: nn.Module, target: Widths, tensors: dict[str, Tensor]) -> nn.Module:
    """Bring a network of full width to the target widths and fill it with tensors of those shapes, in place.

    Raises:
        RuntimeError: a tensor is missing, left over or of the wrong shape (from `load_state_dict`).
    """
    modules = dict(model.named_modules())
    for name, sizes in target.items():
        module = modules[name]
        if layer_widths(module) == tuple(sizes):
            continue
        set_layer_widths(module, tuple(sizes))
        for key, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, key, nn.Parameter(parameter.new_empty(_shape(module, key))))
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.ndim:
                module.register_buffer(key, buffer.new_empty(_shape(module, key)))
    load_tensors(model, tensors)
    return model


def _shape(module: nn.Module, key: str) -> tuple[int, ...]:
    if isinstance(module, nn.Conv2d):
        weight = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
        return weight if key == "weight" else (module.out_channels,)
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features) if key == "weight" else (module.out_features,)
    return tuple(layer_widths(module) or ())
