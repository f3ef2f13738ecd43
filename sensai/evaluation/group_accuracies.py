"""Metrics of the members of an ensemble within their groups. N images, M members."""

import numpy as np
import torch

from sensai.data.batches import member_targets
from sensai.ensemble import Ensemble
from sensai.evaluation.accuracy_metrics import means_of_nonempty
from sensai.evaluation.outputs import Outputs
from sensai.grouping.partitions import membership
from sensai.training.objectives import outcome_metrics


def member_metrics(outputs: Outputs, ensemble: Ensemble) -> list[dict[str, float]]:
    """Return the `outcome_metrics` of each member on a split.

    A member also has `in_group_accuracy` if there are images of its classes, and `none_accuracy` if there are others.
    """
    labels, known = torch.from_numpy(outputs.labels), membership(ensemble.groups)[outputs.labels]
    right, none = _right_by_member(outputs, ensemble), called_none(outputs, ensemble)
    metrics = []
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        targets = member_targets(labels, member.classes, len(ensemble.class_names)).numpy()
        own = known[:, number]
        shares = {"in_group_accuracy": right[own, number], "none_accuracy": none[~own, number]}
        metrics.append(outcome_metrics(logits, targets) | means_of_nonempty(shares))
    return metrics


def group_metrics(outputs: Outputs, ensemble: Ensemble) -> dict[str, float]:
    """Return `in_group_accuracy` and `none_accuracy` of all members together.

    Both are means over pairs of an image and a member. `in_group_accuracy`, over members that have the class of the image: the
    class has the largest output of the member's classes, "none" left out. `none_accuracy`, over the other members, if there
    are any: the member calls the image "none".
    """
    known = membership(ensemble.groups)[outputs.labels]
    return means_of_nonempty(
        {
            "in_group_accuracy": _right_by_member(outputs, ensemble)[known],
            "none_accuracy": called_none(outputs, ensemble)[~known],
        }
    )


def right_in_group(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return for each image, float64 (N,), the share of its class's members in which the class has the largest output.

    "None" is left out, so the share is always 1 for a member of one class.
    """
    known = membership(ensemble.groups)[outputs.labels]
    shares: np.ndarray = (_right_by_member(outputs, ensemble) & known).sum(1) / known.sum(1)
    return shares


def _right_by_member(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return bool (N, M): True if the image's class has the largest output of the member's classes, "none" left out."""
    right = np.zeros((len(outputs.labels), len(ensemble.members)), bool)
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        classes = np.array(member.classes)
        right[:, number] = classes[logits[:, logits.shape[1] - len(classes) :].argmax(1)] == outputs.labels
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
