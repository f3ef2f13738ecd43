"""Weighted cross entropies of a batch. N images."""

import torch.nn.functional as F
from torch import Tensor

# Of `softened`, so that equal logits do not divide by zero; as in the authors' code.
_LEAST_DEVIATION = 1e-7


def label_cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over the images of the weighted cross entropy of the labels.

    Args:
        logits: float (N, outcomes).
        targets: float (N, outcomes), the share of each outcome in the label.
        weight: float (outcomes,), how much each outcome counts.
    """
    return -(F.log_softmax(logits, 1) * targets.to(logits.dtype) * weight).sum(1).mean()


def taught_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight: Tensor,
    teacher: Tensor,
    kd_weight: float,
    kd_temperature: float,
    logit_standardization: bool,
) -> Tensor:
    """Return the loss of distillation (Hinton et al. 2015): that of the labels and that of the teacher's probabilities.

    It is (1 - w) CE(targets, z) + w T^2 CE(teacher, z / T) with weight w, temperature T, member's logits z and CE the weighted
    cross entropy; with T = 1 it is the cross entropy of the mixed targets. The gradient of T^2 CE is that of T^2 KL, from which
    it differs by the teacher's entropy.

    Args:
        logits: as of `label_cross_entropy`.
        targets: likewise.
        weight: likewise.
        teacher: float (N, outcomes), the teacher's probabilities, softened in the same way.
        kd_weight: w, in [0, 1].
        kd_temperature: T, above 0.
        logit_standardization: in the second term z is standardised (see `softened`).
    """
    if kd_temperature == 1 and not logit_standardization:
        return label_cross_entropy(logits, (1 - kd_weight) * targets + kd_weight * teacher, weight)
    soft = softened(logits, kd_temperature, logit_standardization)
    learnt = label_cross_entropy(logits, targets, weight)
    taught = label_cross_entropy(soft, teacher, weight)
    return (1 - kd_weight) * learnt + kd_weight * kd_temperature**2 * taught


def softened(logits: Tensor, temperature: float, standardized: bool) -> Tensor:
    """Return logits (N, outcomes) over a temperature, standardised before if so.

    Standardised logits of an image have mean 0 and standard deviation 1 over the outcomes (Sun et al., CVPR 2024, "Logit
    Standardization in Knowledge Distillation"), so that the member need not match the size of the teacher's logits.
    """
    if standardized:
        spread = logits.std(1, keepdim=True) + _LEAST_DEVIATION
        logits = (logits - logits.mean(1, keepdim=True)) / spread
    return logits / temperature
