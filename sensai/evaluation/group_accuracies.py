"""Metrics of the members of an ensemble. N images, M members, K classes."""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, roc_auc_score

from sensai.ensemble import Ensemble
from sensai.evaluation.accuracy_metrics import means_of_nonempty
from sensai.evaluation.decision_thresholds import Thresholds, member_scores
from sensai.evaluation.outputs import Outputs, softmax
from sensai.grouping.partitions import membership


def member_metrics(
    outputs: Outputs, ensemble: Ensemble, thresholds: Sequence[Thresholds | None]
) -> list[dict[str, float]]:
    """Return the metrics of each member on a split.

    A binary member or a group answers whether an image is one of its classes. A member of all classes answers which one.

    Args:
        outputs: of the members on the split.
        ensemble: the members.
        thresholds: of each member (see `decision_thresholds`); None for a member of all classes.

    Returns:
        `binary_accuracy`: share of right answers, at the threshold for accuracy. `balanced_accuracy`: mean recall of the two
        answers, at the threshold for it. `roc_auc` and `average_precision` of the score, if there are images for both answers.
        A member of all classes has these metrics over its classes (the last two: each against the rest, averaged).
        `in_group_accuracy` if there are images of the member's classes, and `none_accuracy` if there are others.
    """
    known = _known(outputs, ensemble)
    right, none = _right_by_member(outputs, ensemble), called_none(outputs, ensemble, thresholds)
    metrics = []
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        own, fitted = known[:, number], thresholds[number]
        if fitted is None:
            answered = _class_metrics(logits, outputs.labels, member.classes)
        else:
            answered = _binary_metrics(member_scores(logits), own, fitted)
        shares = {"in_group_accuracy": right[own, number], "none_accuracy": none[~own, number]}
        metrics.append(answered | means_of_nonempty(shares))
    return metrics


def _binary_metrics(scores: np.ndarray, own: np.ndarray, thresholds: Thresholds) -> dict[str, float]:
    metrics = {
        "binary_accuracy": float(accuracy_score(own, scores > thresholds.accuracy)),
        "balanced_accuracy": float(balanced_accuracy_score(own, scores > thresholds.balanced_accuracy)),
    }
    return metrics | _ranking_metrics(own, scores)


def _class_metrics(logits: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> dict[str, float]:
    in_order = np.array(classes)
    answers = in_order[logits.argmax(1)]
    metrics = {
        "binary_accuracy": float(accuracy_score(labels, answers)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, answers)),
    }
    return metrics | _ranking_metrics(labels[:, None] == in_order, softmax(logits))


def _ranking_metrics(positive: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return `roc_auc` and `average_precision`; empty where a question has the same right answer for all images.

    Args:
        positive: bool (N,) or (N, questions), True where the right answer is yes.
        scores: float64, of the same shape. The metrics are means over the questions.
    """
    if np.any(positive.all(0) | ~positive.any(0)):
        return {}
    return {
        "roc_auc": float(roc_auc_score(positive, scores)),
        "average_precision": float(average_precision_score(positive, scores)),
    }


def group_metrics(outputs: Outputs, ensemble: Ensemble, thresholds: Sequence[Thresholds | None]) -> dict[str, float]:
    """Return `in_group_accuracy` and `none_accuracy` of all members together.

    Both are means over pairs of an image and a member. `in_group_accuracy`, over members that have the class of the image: the
    class has the largest output of the member's classes, "none" left out. `none_accuracy`, over the other members, if there
    are any: the member calls the image "none" (see `called_none`).
    """
    known = _known(outputs, ensemble)
    return means_of_nonempty(
        {
            "in_group_accuracy": _right_by_member(outputs, ensemble)[known],
            "none_accuracy": called_none(outputs, ensemble, thresholds)[~known],
        }
    )


def right_in_group(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return for each image, float64 (N,), the share of its class's members in which the class has the largest output.

    "None" is left out, so the share is always 1 for a member of one class.
    """
    known = _known(outputs, ensemble)
    shares: np.ndarray = (_right_by_member(outputs, ensemble) & known).sum(1) / known.sum(1)
    return shares


def _right_by_member(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return bool (N, M): True if the image's class has the largest output of the member's classes, "none" left out."""
    right = np.zeros((len(outputs.labels), len(ensemble.members)), bool)
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        classes = np.array(member.classes)
        right[:, number] = classes[logits[:, logits.shape[1] - len(classes) :].argmax(1)] == outputs.labels
    return right


def called_none(outputs: Outputs, ensemble: Ensemble, thresholds: Sequence[Thresholds | None]) -> np.ndarray:
    """Return bool (N, M): True if a member calls an image "none", by its threshold for balanced accuracy.

    A member of all classes never does.
    """
    none = np.zeros((len(outputs.labels), len(ensemble.members)), bool)
    for number, (logits, fitted) in enumerate(zip(outputs.members, thresholds, strict=True)):
        if fitted is not None:
            none[:, number] = member_scores(logits) <= fitted.balanced_accuracy
    return none


def _known(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """Return bool (N, M): True if a member has the class of an image."""
    return membership(ensemble.groups, len(ensemble.class_names))[outputs.labels]
