"""Members learn by squared errors instead of cross entropies."""

import torch.nn.functional as F
from torch import Tensor

from sensai.training.losses import LOSSES


@LOSSES.register("brier", "squared error of the probabilities")
def brier(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted Brier score (Brier 1950) of the batch."""
    errors = logits.softmax(1) - F.one_hot(targets, len(weight))
    return (errors.square().sum(1) * weight[targets]).mean()
