"""Weighted cross entropies of a batch. N images."""

import torch.nn.functional as F
from torch import Tensor


def label_cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over the images of the weighted cross entropy of the labels.

    Args:
        logits: float (N, outcomes).
        targets: int64 (N,), the outcome of each image.
        weight: float (outcomes,), how much each outcome counts.
    """
    return _cross_entropy(logits, F.one_hot(targets, len(weight)), weight)


def taught_cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor, teacher: Tensor, kd_weight: float) -> Tensor:
    """Return the same with targets that are in part a teacher's.

    Args:
        logits: as of `label_cross_entropy`.
        targets: likewise.
        weight: likewise.
        teacher: float (N, outcomes), the teacher's probabilities.
        kd_weight: share of the target that is the teacher's, in [0, 1].
    """
    wanted = (1 - kd_weight) * F.one_hot(targets, len(weight)) + kd_weight * teacher
    return _cross_entropy(logits, wanted, weight)


def _cross_entropy(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    return -(F.log_softmax(logits, 1) * wanted.to(logits.dtype) * weight).sum(1).mean()
