"""Accuracies and calibration of class probabilities. N images, K classes."""

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

# Bins of confidence, as in Guo et al. 2017.
_BINS = 15
# One in a thousand differences of equally accurate samples has a lower bound above zero.
_CONFIDENCE = 0.999


def accuracies(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return `accuracy` and `top5_accuracy` as fractions; with fewer than six classes the latter is 1.0."""
    num_classes = probabilities.shape[1]
    top5 = 1.0
    if num_classes > 5:
        top5 = float(top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(num_classes)))
    return {"accuracy": float(accuracy_score(labels, probabilities.argmax(1))), "top5_accuracy": top5}


def probability_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return `accuracy`, `ece` and `nll`.

    `ece` is the expected calibration error, a fraction, over 15 bins of equal width. `nll` is the mean negative log
    likelihood in nats.
    """
    # This import takes seconds.
    from torchmetrics.functional.classification import multiclass_calibration_error

    num_classes = probabilities.shape[1]
    # torchmetrics takes values for logits if rounding makes one larger than 1.
    bounded = probabilities.clip(max=1)
    ece = multiclass_calibration_error(
        torch.from_numpy(bounded), torch.from_numpy(labels), num_classes, n_bins=_BINS, norm="l1"
    )
    return {
        "accuracy": float(accuracy_score(labels, probabilities.argmax(1))),
        "ece": float(ece),
        "nll": nll(probabilities, labels),
    }


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log likelihood of the labels, int64 (N,), in nats, given probabilities float64 (N, K)."""
    return float(log_loss(labels, probabilities.clip(max=1), labels=np.arange(probabilities.shape[1])))


def least_difference(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Return the lower bound of the one-sided 99.9 % interval of the first accuracy less the second, as a fraction.

    It is Newcombe's hybrid score interval of two independent proportions (Statistics in Medicine 1998, method 10).

    Args:
        right_a: bool (N,), True where an image of one sample was answered rightly.
        right_b: bool of any other length, likewise of other images.
    """
    a, b = (binomtest(int(right.sum()), len(right)) for right in (right_a, right_b))
    interval_a, interval_b = (each.proportion_ci(2 * _CONFIDENCE - 1, method="wilson") for each in (a, b))
    below, above = a.statistic - interval_a.low, interval_b.high - b.statistic
    return float(a.statistic - b.statistic - np.hypot(below, above))


def reliability_curve(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean largest probability, accuracy, float64 (bins,), and images, int64 (bins,), of each bin that has images."""
    right = (probabilities.argmax(1) == labels).astype(np.int64)
    accuracy, confidence = calibration_curve(right, probabilities.max(1).clip(max=1), n_bins=_BINS)
    images = np.bincount(np.searchsorted(np.linspace(0, 1, _BINS + 1)[1:-1], probabilities.max(1).clip(max=1)))
    return confidence, accuracy, images[images > 0]


def rejection_metrics(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    """Return `rejected` and `accuracy_answered`.

    `rejected` is the share of images whose largest probability is below the threshold. `accuracy_answered` is the accuracy
    of the others, if there are any.
    """
    answered = probabilities.max(1) >= threshold
    right = probabilities.argmax(1) == labels
    return means_of_nonempty({"rejected": ~answered, "accuracy_answered": right[answered]})


def means_of_nonempty(parts: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean of each array that has elements, by name."""
    return {name: float(values.mean()) for name, values in parts.items() if len(values)}
