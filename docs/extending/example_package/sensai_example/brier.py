"""Members learn by squared errors instead of cross entropies."""

from torch import Tensor

from sensai.training.losses import LOSSES


@LOSSES.register("brier", "squared error of the probabilities")
def brier(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted Brier score (Brier 1950) of the batch."""
    errors = logits.softmax(1) - targets
    return (errors.square().sum(1) * (targets @ weight)).mean()
