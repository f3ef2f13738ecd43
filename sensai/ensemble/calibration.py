"""How the members' outputs become class probabilities, fitted on validation data. N images, K classes, F outputs in all.

Members are trained apart, so their scores are not comparable by themselves. Every method but `raw` is a softmax over one linear
map of all outputs side by side, (N, F): `temperature` and `vector` (Guo et al. 2017) scale the members' class logits with one
number, or with a scale and a bias a class; `logistic` learns the whole map (multinomial logistic regression, as in stacking,
Wolpert 1992).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sensai.ensemble import combine
from sensai.grouping.partitions import Group

_log = logging.getLogger(__name__)

# Of log(1 / T): far beyond what a network's logits need.
_TEMPERATURE_BOUND = 10.0
# Inverse strength of the L2 penalty on the standardised outputs: with scikit-learn's 1 the few validation images of digits make
# all answers unsure, and on those of CIFAR-10 nothing from 1 to 1000 differs (docs/experiments.md).
_LOGISTIC_C = 100.0
# Above which a logistic regression takes minutes for each fit, and has more weights than there are images to learn them from.
_MOST_WEIGHTS = 100_000
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Calibration:
    """How the outputs of all members become class probabilities.

    Attributes:
        method: `raw`, or a name in `METHODS`.
        weight: float64 (K, F); None where the method is raw (see `combine`).
        bias: float64 (K,); likewise.
        threshold: an image whose largest probability is below it is of none of the classes; None: it is of one always.
    """

    method: str
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    threshold: float | None = None

    def __call__(self, outputs: Sequence[np.ndarray], groups: Sequence[Group]) -> np.ndarray:
        """float64 (N, K): class probabilities.

        Args:
            outputs: float (N, outputs) of each member.
            groups: the classes of each member.
        """
        if self.weight is None or self.bias is None:
            logits = [torch.from_numpy(member).double() for member in outputs]
            return combine(logits, list(groups), sum(map(len, groups))).numpy()
        return np.asarray(softmax(_side_by_side(outputs) @ self.weight.T + self.bias, axis=1))

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        weight, bias = (None if each is None else each.tolist() for each in (self.weight, self.bias))
        return {"method": self.method, "weight": weight, "bias": bias, "threshold": self.threshold}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Calibration":
        """The inverse of `to_json`, bit for bit."""
        weight, bias = (None if content[name] is None else np.array(content[name]) for name in ("weight", "bias"))
        return cls(content["method"], weight, bias, content["threshold"])


RAW = Calibration("raw")


def methods_for(groups: Sequence[Group]) -> list[str]:
    """The methods that are worth a fit for so many classes, `raw` left aside: all, but `logistic` up to some hundred only."""
    num_classes, features = class_contrasts(groups).shape
    return [name for name in METHODS if name != "logistic" or num_classes * features <= _MOST_WEIGHTS]


def fit(method: str, outputs: Sequence[np.ndarray], groups: Sequence[Group], labels: np.ndarray) -> Calibration:
    """A calibration fitted on validation data.

    Where a class does not occur in the labels, nothing is learnt for single classes: the method then is temperature.

    Args:
        method: `raw`, or a name in `METHODS`.
        outputs: float (N, outputs) of each member.
        groups: the classes of each member.
        labels: int64 (N,).
    """
    if method == RAW.method:
        return RAW
    contrasts = class_contrasts(groups)
    missing = np.setdiff1d(np.arange(len(contrasts)), labels)
    if len(missing) and method != "temperature":
        _log.warning("combine=%s: temperature instead, as classes %s have no validation images", method, missing)
        method = "temperature"
    weight, bias = METHODS[method](_side_by_side(outputs), contrasts, labels)
    return Calibration(method, weight, bias)


def cross_fitted(method: str, outputs: Sequence[np.ndarray], groups: Sequence[Group], labels: np.ndarray) -> np.ndarray:
    """float64 (N, K): the probabilities of each of N > 1 images by a calibration that was fitted without it and its fold.

    By these methods can be compared: on what they were fitted on, the one with the most parameters always looks best.
    """
    # Dealt out class by class, so that every fold has of each.
    folds = np.empty(len(labels), np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % _FOLDS
    probabilities = np.empty((len(labels), sum(map(len, groups))))
    for fold in np.unique(folds):
        held_out = folds == fold
        calibration = fit(method, [member[~held_out] for member in outputs], groups, labels[~held_out])
        probabilities[held_out] = calibration([member[held_out] for member in outputs], groups)
    return probabilities


def rejection_threshold(probabilities: np.ndarray, share: float) -> float:
    """The threshold that this share of the images' largest probabilities, of float (N, K), is below."""
    return float(np.quantile(probabilities.max(1), share))


def class_contrasts(groups: Sequence[Group]) -> np.ndarray:
    """float64 (K, F): the map from all outputs to class logits.

    The logit of a class is that of its binary member, or in a group its output less that of "none": both are the log odds
    of the class against no class of the member. One member of all classes has no "none", and its outputs are the logits.
    """
    num_classes = sum(map(len, groups))
    blocks = []
    for group in groups:
        block = np.zeros((num_classes, len(group)))
        block[list(group), np.arange(len(group))] = 1
        if 1 < len(group) < num_classes:
            block = np.hstack([-block.sum(1, keepdims=True), block])
        blocks.append(block)
    return np.hstack(blocks)


def _side_by_side(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """float64 (N, F)."""
    return np.concatenate(outputs, axis=1, dtype=np.float64)


def _temperature(features: np.ndarray, contrasts: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The T of least negative log likelihood, which is convex in 1 / T."""
    logits, targets = features @ contrasts.T, _softened(labels, len(contrasts))

    def loss(log_inverse: float) -> float:
        return _nll(np.exp(log_inverse) * logits, targets)

    bounds = (-_TEMPERATURE_BOUND, _TEMPERATURE_BOUND)
    inverse = np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x)
    return inverse * contrasts, np.zeros(len(contrasts))


def _vector(features: np.ndarray, contrasts: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scale and bias a class of least negative log likelihood, which is convex in both."""
    # From the best temperature on, so that all scales are near 1.
    weight, bias = _temperature(features, contrasts, labels)
    logits, targets = features @ weight.T, _softened(labels, len(contrasts))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, shift = np.split(parameters, 2)
        scores = scale * logits + shift
        residuals = (softmax(scores, axis=1) - targets) / len(labels)
        return _nll(scores, targets), np.concatenate([(residuals * logits).sum(0), residuals.sum(0)])

    start = np.concatenate([np.ones_like(bias), bias])
    options = {"ftol": 1e-12, "gtol": 1e-7, "maxiter": 2000}
    scale, shift = np.split(minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x, 2)
    return scale[:, None] * weight, shift


def _logistic(features: np.ndarray, contrasts: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression on the standardised outputs."""
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=_LOGISTIC_C, max_iter=1000).fit(scaler.transform(features), labels)
    weight, bias = model.coef_ / scaler.scale_, model.intercept_
    if len(contrasts) == 2:
        # Of two classes scikit-learn gives the second's logit alone.
        weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
    return weight, bias - weight @ scaler.mean_


Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

# From all outputs (N, F), the class contrasts (K, F) and labels (N,) to weight (K, F) and bias (K,).
METHODS: dict[str, Fit] = {"temperature": _temperature, "vector": _vector, "logistic": _logistic}


def _softened(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float64 (N, K): the labels, as if one image more had been labelled at random (after Platt 1999).

    Otherwise no finite scale would be the best of members that are right on every validation image.
    """
    doubt = 1 / (len(labels) + 1)
    return (1 - doubt) * np.eye(num_classes)[labels] + doubt / num_classes


def _nll(logits: np.ndarray, targets: np.ndarray) -> float:
    return -float((targets * log_softmax(logits, axis=1)).sum() / len(logits))
