"""The accuracy with which an ensemble is served: by the combination that is likeliest on held-out images. K classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import accuracy_score

from sensai.ensemble.calibration import RAW, cross_fitted, methods_for
from sensai.evaluation.accuracy_metrics import nll
from sensai.evaluation.outputs import Outputs
from sensai.grouping.partitions import Group


def likeliest(probabilities: Mapping[str, np.ndarray], labels: np.ndarray) -> str:
    """Return the method that gives the labels the least negative log likelihood, the first of equals.

    The best one depends on how the members were trained, see docs/experiments.md.

    Args:
        probabilities: method -> float64 (N, K) of N images, each by a fit without it (see `cross_fitted`).
        labels: int64 (N,).
    """
    losses = {method: nll(each, labels) for method, each in probabilities.items()}
    return min(losses, key=losses.__getitem__)


def calibrated_accuracy(outputs: Outputs, groups: Sequence[Group]) -> float:
    """Return the accuracy on validation images, combined by the likeliest method, each image by a fit without it.

    This is the `val_accuracy` of `evaluate` where `combine` is empty. The accuracy on a single image is that of `raw`.

    Args:
        outputs: of the members on the validation split.
        groups: the classes of each member.
    """
    labels = outputs.labels
    methods = [RAW.method, *methods_for(groups, len(labels))] if len(labels) > 1 else [RAW.method]
    held_out = {method: cross_fitted(method, outputs.members, groups, labels) for method in methods}
    return float(accuracy_score(labels, held_out[likeliest(held_out, labels)].argmax(1)))
