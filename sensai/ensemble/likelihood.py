"""The likelihood that combiners maximise. N images, K classes."""

import numpy as np
from scipy.special import log_softmax


def softened(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the labels as float64 (N, K), as if one image more had been labelled at random (after Platt 1999).

    Otherwise no finite scale would be the best of members that are right on every validation image.
    """
    doubt = 1 / (len(labels) + 1)
    return (1 - doubt) * np.eye(num_classes)[labels] + doubt / num_classes


def negative_log_likelihood(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean over the images of the cross-entropy of softmax(logits) to the targets, both float (N, K)."""
    return -float((targets * log_softmax(logits, axis=1)).sum() / len(logits))
