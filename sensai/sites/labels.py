"""Labels: int64 tensors that name the channel of each element of a value.

They seldom change along more than one axis. Along the others they have stride 0, so the labels of a large feature map need
no more memory than its channels.
"""

import torch
from torch import Tensor

# The label of values that belong to no channel: the image, a number, a constant over all channels.
NEUTRAL = 0


def spread(label: Tensor, shape: torch.Size) -> Tensor:
    """Return one label in the shape of a whole tensor, as a view of one element."""
    return label.expand(shape)


def squash(labels: Tensor) -> Tensor:
    """Return the same labels, with stride 0 along every axis on which they do not change."""
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1 and labels.stride(axis) != 0:
            first = labels.narrow(axis, 0, 1)
            if bool((labels == first).all()):
                labels = first.expand(labels.shape)
    return labels


def varies(labels: Tensor, axis: int) -> bool:
    """Return True if squashed labels change along an axis."""
    return labels.shape[axis] > 1 and labels.stride(axis) != 0


def varies_only_along(labels: Tensor, axis: int) -> bool:
    """Return True if squashed labels change along no other axis."""
    axis = axis % labels.ndim
    return not any(varies(labels, other) for other in range(labels.ndim) if other != axis)


def along(labels: Tensor, axis: int) -> Tensor:
    """Return the labels along one axis."""
    for other in range(labels.ndim):
        if other != axis:
            labels = labels.narrow(other, 0, 1)
    return labels.reshape(-1)


def vector(labels: Tensor) -> Tensor:
    """Return squashed labels, flat, without the axes on which they do not change."""
    for axis in range(labels.ndim):
        if not varies(labels, axis):
            labels = labels.narrow(axis, 0, 1)
    return labels.reshape(-1)


def distinct(labels: Tensor) -> Tensor:
    """Return the labels of a tensor, flat, without their repetition over pixels."""
    return vector(squash(labels))


def repeats(before: Tensor, after: Tensor) -> bool:
    """Return True if moved data still hold all channels in their order, each one perhaps several times.

    A narrower network that moves its data in the same way then gets the remaining channels.
    """
    if sum(varies(after, axis) for axis in range(after.ndim)) > 1:
        return False
    old, new = vector(before), vector(after)
    times, rest = divmod(len(new), len(old))
    if rest or not times:
        return False
    return torch.equal(new, old.repeat_interleave(times)) or torch.equal(new, old.repeat(times))


def is_spread_over(constant: Tensor, labels: Tensor) -> bool:
    """Return True if a constant has one value for all channels of the tensor that it is combined with."""
    if not bool((vector(constant) < 0).all() and (vector(labels) > 0).any()):
        return False
    sizes = [1] * (labels.ndim - constant.ndim) + list(constant.shape[-labels.ndim :])
    return all(sizes[axis] == 1 for axis in range(labels.ndim) if varies(labels, axis))


def narrowed(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors of one shape with size 1 on the axes along which neither changes."""
    for axis in range(first.ndim):
        if not (varies(first, axis) or varies(second, axis)):
            first, second = first.narrow(axis, 0, 1), second.narrow(axis, 0, 1)
    return first, second
