"""Decision thresholds: a member answers "one of mine" to the images whose score is above its threshold. N images.

The score of a member is the log odds of its classes against "none", from its outputs alone. Its natural threshold is 0: even
odds. A joint loss trains only the differences between members' scores: their offset is arbitrary, and 0 has no meaning. A
threshold that is fitted on validation data moves with the offset.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import logsumexp
from sklearn.metrics import roc_curve

from sensai.ensemble import Ensemble
from sensai.ensemble.calibration import stratified_folds
from sensai.evaluation.outputs import Outputs

# Scores float64 (N,) and bool (N,), True for the images of the member's classes -> thresholds.
_Fit = Callable[[np.ndarray, np.ndarray], "Thresholds"]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The thresholds of one member: each is the one with the greatest value of its metric on validation data.

    Attributes:
        accuracy: one for all images, or float64 (N,), one for each.
        balanced_accuracy: likewise.
        source: "fitted"; "cross-fitted": for each image without its fold; "natural": 0, where nothing can be fitted.
    """

    accuracy: float | np.ndarray
    balanced_accuracy: float | np.ndarray
    source: Literal["fitted", "cross-fitted", "natural"]


NATURAL = Thresholds(0.0, 0.0, "natural")


def natural_thresholds(ensemble: Ensemble) -> list[Thresholds | None]:
    """Return the natural thresholds for each member, None for a member of all classes, which has no "none"."""
    return [NATURAL if _has_none(member.classes, ensemble) else None for member in ensemble.members]


def fitted_thresholds(outputs: Outputs, ensemble: Ensemble) -> list[Thresholds | None]:
    """Return the thresholds of each member, fitted on all images of a validation split.

    They are None for a member of all classes, and natural where the split has only images of the member's classes, or none.
    """
    return _of_members(fit_thresholds, outputs, ensemble)


def cross_fitted_thresholds(outputs: Outputs, ensemble: Ensemble) -> list[Thresholds | None]:
    """Return thresholds of each member that judge it on the images of the validation split itself.

    They are None for a member of all classes, and natural for a fold if the other folds have only images of the member's
    classes, or none.
    """
    folds = stratified_folds(outputs.labels)
    return _of_members(lambda scores, own: _cross_fit(scores, own, folds), outputs, ensemble)


def member_scores(logits: np.ndarray) -> np.ndarray:
    """Return the log odds of a member's classes against "none", float64 (N,).

    Args:
        logits: float (N, 1) of a binary member, or (N, 1 + g) of a group.
    """
    exact = logits.astype(np.float64)
    return exact[:, 0] if exact.shape[1] == 1 else np.asarray(logsumexp(exact[:, 1:], axis=1)) - exact[:, 0]


def fit_thresholds(scores: np.ndarray, own: np.ndarray) -> Thresholds:
    """Return the thresholds of greatest accuracy and of greatest balanced accuracy; of equally good ones the highest.

    A threshold is half way between two neighbouring scores, or infinite where the same answer to all images is best.

    Args:
        scores: float64 (N,).
        own: bool (N,), True for the images of the member's classes.
    """
    if own.all() or not own.any():
        return NATURAL
    false_rate, true_rate, highest = roc_curve(own, scores, drop_intermediate=False)
    # scikit-learn's thresholds are inf and the scores in falling order: scores at or above one are positive.
    cuts = (highest + np.append(highest[1:], -np.inf)) / 2
    share = own.mean()
    accuracy = share * true_rate + (1 - share) * (1 - false_rate)
    balanced_accuracy = (true_rate + 1 - false_rate) / 2
    return Thresholds(float(cuts[accuracy.argmax()]), float(cuts[balanced_accuracy.argmax()]), "fitted")


def _cross_fit(scores: np.ndarray, own: np.ndarray, folds: np.ndarray) -> Thresholds:
    if own.all() or not own.any():
        return NATURAL
    accuracy, balanced_accuracy = np.empty((2, len(scores)))
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = fit_thresholds(scores[~held_out], own[~held_out])
        accuracy[held_out], balanced_accuracy[held_out] = fitted.accuracy, fitted.balanced_accuracy
    return Thresholds(accuracy, balanced_accuracy, "cross-fitted")


def _of_members(fit: _Fit, outputs: Outputs, ensemble: Ensemble) -> list[Thresholds | None]:
    return [
        fit(member_scores(logits), np.isin(outputs.labels, member.classes))
        if _has_none(member.classes, ensemble)
        else None
        for logits, member in zip(outputs.members, ensemble.members, strict=True)
    ]


def _has_none(classes: tuple[int, ...], ensemble: Ensemble) -> bool:
    return len(classes) < len(ensemble.class_names)
