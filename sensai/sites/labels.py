"""Labels: int64 tensors that say of each element of a value which channel it belongs to.

They seldom change along more than one axis. Along the others they are kept with stride 0, so that the labels of a large
feature map take no more memory than its channels.
"""

import torch
from torch import Tensor

# Label of what belongs to no channel: the image, a number, a constant spread over all channels.
NEUTRAL = 0


def spread(label: Tensor, shape: torch.Size) -> Tensor:
    """One label for a whole tensor, without its memory."""
    return label.expand(shape)


def squash(labels: Tensor) -> Tensor:
    """The same labels, with stride 0 along every axis on which they do not change."""
    for axis in range(labels.ndim):
        if labels.shape[axis] > 1 and labels.stride(axis) != 0:
            first = labels.narrow(axis, 0, 1)
            if bool((labels == first).all()):
                labels = first.expand(labels.shape)
    return labels


def varies(labels: Tensor, axis: int) -> bool:
    """Whether squashed labels change along an axis."""
    return labels.shape[axis] > 1 and labels.stride(axis) != 0


def varies_only_along(labels: Tensor, axis: int) -> bool:
    """Whether squashed labels change along no other axis."""
    axis = axis % labels.ndim
    return not any(varies(labels, other) for other in range(labels.ndim) if other != axis)


def along(labels: Tensor, axis: int) -> Tensor:
    """The labels along one axis."""
    for other in range(labels.ndim):
        if other != axis:
            labels = labels.narrow(other, 0, 1)
    return labels.reshape(-1)


def vector(labels: Tensor) -> Tensor:
    """Squashed labels without the axes on which they do not change, flat."""
    for axis in range(labels.ndim):
        if not varies(labels, axis):
            labels = labels.narrow(axis, 0, 1)
    return labels.reshape(-1)


def distinct(labels: Tensor) -> Tensor:
    """The labels of a tensor without their repetition over pixels, flat."""
    return vector(squash(labels))


def repeats(before: Tensor, after: Tensor) -> bool:
    """Whether moved data still hold all channels in their order, each perhaps several times: then a narrower network that
    moves its data likewise gets what is left of them.
    """
    if sum(varies(after, axis) for axis in range(after.ndim)) > 1:
        return False
    old, new = vector(before), vector(after)
    times, rest = divmod(len(new), len(old))
    if rest or not times:
        return False
    return torch.equal(new, old.repeat_interleave(times)) or torch.equal(new, old.repeat(times))


def is_spread_over(constant: Tensor, labels: Tensor) -> bool:
    """Whether a constant has one value for all the channels of a tensor that it meets."""
    if not bool((vector(constant) < 0).all() and (vector(labels) > 0).any()):
        return False
    sizes = [1] * (labels.ndim - constant.ndim) + list(constant.shape[-labels.ndim :])
    return all(sizes[axis] == 1 for axis in range(labels.ndim) if varies(labels, axis))


def narrowed(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of one shape without the axes on which neither changes (size 1)."""
    for axis in range(first.ndim):
        if not (varies(first, axis) or varies(second, axis)):
            first, second = first.narrow(axis, 0, 1), second.narrow(axis, 0, 1)
    return first, second
