"""Metrics of the members of an ensemble within their groups. N images, M members."""

import numpy as np
import torch

from sensai.data.batches import member_targets
from sensai.ensemble import Ensemble
from sensai.evaluation.accuracy_metrics import means_of_nonempty
from sensai.evaluation.outputs import Outputs
from sensai.grouping.partitions import labels_of
from sensai.training.objectives import outcome_metrics


def member_metrics(outputs: Outputs, ensemble: Ensemble) -> list[dict[str, float]]:
    """Return the `outcome_metrics` of each member on a split.

    A member also has `in_group_accuracy` if there are images of its classes, and `none_accuracy` if there are others.
    """
    labels, owner = torch.from_numpy(outputs.labels), _owners(outputs, ensemble)
    right, none = right_in_group(outputs, ensemble), called_none(outputs, ensemble)
    metrics = []
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        targets = member_targets(labels, member.classes, len(ensemble.class_names)).numpy()
        own = owner == number
        shares = {"in_group_accuracy": right[own], "none_accuracy": none[~own, number]}
        metrics.append(outcome_metrics(logits, targets) | means_of_nonempty(shares))
    return metrics


def group_metrics(outputs: Outputs, ensemble: Ensemble) -> dict[str, float]:
    """Return `in_group_accuracy` and `none_accuracy` of all members together.

    `in_group_accuracy` is the share of images whose class has the largest output of its member's classes, "none" left out.
    `none_accuracy` is the share of "none" among the answers of members to images of other members' classes, if there are
    any.
    """
    others = _owners(outputs, ensemble)[:, None] != np.arange(len(ensemble.members))
    return means_of_nonempty(
        {
            "in_group_accuracy": right_in_group(outputs, ensemble),
            "none_accuracy": called_none(outputs, ensemble)[others],
        }
    )


def right_in_group(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return True for each image, bool (N,), whose class has the largest output of its member's classes, "none" left out.

    It is always True for a member of one class.
    """
    right = np.empty(len(outputs.labels), bool)
    for logits, member in zip(outputs.members, ensemble.members, strict=True):
        classes = np.array(member.classes)
        rows = np.isin(outputs.labels, classes)
        own = logits[rows, logits.shape[1] - len(classes) :]
        right[rows] = classes[own.argmax(1)] == outputs.labels[rows]
    return right


def called_none(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return bool (N, M): True if a member calls an image "none".

    A member of all classes never does.
    """
    none = np.zeros((len(outputs.labels), len(ensemble.members)), bool)
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        if logits.shape[1] == 1:
            none[:, number] = logits[:, 0] <= 0
        elif logits.shape[1] > len(member.classes):
            none[:, number] = logits.argmax(1) == 0
    return none


def _owners(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return the member that has the class of each image, int64 (N,)."""
    return labels_of([member.classes for member in ensemble.members])[outputs.labels]
