"""Class probabilities from the members' outputs, fitted on validation data. N images, K classes, F outputs of all members.

Members are trained apart, so their scores are not comparable by themselves. Every combiner but `raw` is a softmax over one
linear map of all outputs side by side, (N, F).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from sensai.ensemble import combine
from sensai.ensemble.combiners import COMBINERS
from sensai.errors import InputError
from sensai.grouping.partitions import Group, is_partition, number_of_classes
from sensai.parts import Part

_log = logging.getLogger(__name__)

# A fit of more weights takes minutes, and there are fewer images to learn them from.
_MOST_WEIGHTS = 100_000
# Likewise a fit of several weights to more class logits: about a minute at this bound, where a temperature takes 1 s.
_MOST_LOGITS = 2_000_000
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted combiner.

    Attributes:
        method: name of the combiner.
        weight: float64 (K, F); None where nothing was fitted (see `combine`).
        bias: float64 (K,); likewise.
        threshold: an image whose largest probability is below it is of none of the classes; None: it is of one always.
    """

    method: str
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    threshold: float | None = None

    def __call__(self, outputs: Sequence[np.ndarray], groups: Sequence[Group]) -> np.ndarray:
        """Return class probabilities, float64 (N, K).

        Args:
            outputs: float (N, outputs) of each member.
            groups: the classes of each member.
        """
        if self.weight is None or self.bias is None:
            logits = [torch.from_numpy(member).double() for member in outputs]
            return combine(logits, list(groups), number_of_classes(groups)).numpy()
        return np.asarray(softmax(_side_by_side(outputs) @ self.weight.T + self.bias, axis=1))

    def of_tensors(self, outputs: Sequence[Tensor], groups: Sequence[Group]) -> Tensor:
        """Return what a call returns, as a tensor of float32 (N, K) on the device of the outputs."""
        if self.weight is None or self.bias is None:
            return combine(list(outputs), list(groups), number_of_classes(groups))
        side_by_side = torch.cat(list(outputs), dim=1).double()
        weight, bias = (torch.from_numpy(each).to(side_by_side.device) for each in (self.weight, self.bias))
        return torch.softmax(side_by_side @ weight.T + bias, dim=1).float()

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON can hold it."""
        weight, bias = (None if each is None else each.tolist() for each in (self.weight, self.bias))
        return {"method": self.method, "weight": weight, "bias": bias, "threshold": self.threshold}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Calibration":
        """Return the inverse of `to_json`, bit for bit; the package that fitted it need not be installed."""
        weight, bias = (None if content[name] is None else np.array(content[name]) for name in ("weight", "bias"))
        return cls(content["method"], weight, bias, content["threshold"])


RAW = Calibration("raw")


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Inputs of the combiners, as `sensai.ensemble.combiners` describes them."""

    outputs: np.ndarray
    contrasts: np.ndarray
    labels: np.ndarray
    owners: np.ndarray


def methods_for(groups: Sequence[Group], images: int) -> list[str]:
    """Return the combiners that are compared for these groups, those of the fewest weights first, `raw` left aside.

    Args:
        groups: the classes of each member.
        images: number of validation images.
    """
    shape, shared = class_contrasts(groups).shape, not is_partition(groups)
    most = _MOST_WEIGHTS if images * shape[0] <= _MOST_LOGITS else 1
    parts = [COMBINERS[name] for name in COMBINERS]
    counts = {
        part.name: count(*shape)
        for part in parts
        if callable(count := part.traits["weights"]) and (shared or not part.traits["shared"])
    }
    return sorted((name for name, count in counts.items() if count <= most), key=lambda name: counts[name])


def fit(method: str, outputs: Sequence[np.ndarray], groups: Sequence[Group], labels: np.ndarray) -> Calibration:
    """Return a calibration fitted on validation data.

    Where a class does not occur in the labels, nothing is learnt for single classes: the method then is temperature.

    Args:
        method: name of a combiner.
        outputs: float (N, outputs) of each member.
        groups: the classes of each member.
        labels: int64 (N,).

    Raises:
        InputError: there is no such combiner, or it returns no map of these outputs to these classes.
    """
    missing = np.setdiff1d(np.arange(number_of_classes(groups)), labels)
    if len(missing) and COMBINERS[method].traits["per_class"]:
        _log.warning("combine=%s: temperature instead, as classes %s have no validation images", method, missing)
    return _fit(method, outputs, groups, labels)


def _fit(method: str, outputs: Sequence[np.ndarray], groups: Sequence[Group], labels: np.ndarray) -> Calibration:
    part, contrasts = COMBINERS[method], class_contrasts(groups)
    if part.traits["per_class"] and len(np.unique(labels)) < len(contrasts):
        part = COMBINERS["temperature"]
    owners = np.repeat(np.arange(len(outputs)), [member.shape[1] for member in outputs])
    return _fitted(part, _Inputs(_side_by_side(outputs), contrasts, labels, owners))


def _fitted(part: Part, inputs: _Inputs) -> Calibration:
    fitted = part(inputs)
    if fitted is None:
        return RAW
    weight, bias = (np.asarray(each, np.float64) for each in fitted)
    shape = inputs.contrasts.shape
    if weight.shape != shape or bias.shape != shape[:1] or not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError(
            f"combine={part.name!r}: returned weight {weight.shape} and bias {bias.shape}; "
            f"both must be finite, of shapes {shape} and {shape[:1]}"
        )
    return Calibration(part.name, weight, bias)


def cross_fitted(method: str, outputs: Sequence[np.ndarray], groups: Sequence[Group], labels: np.ndarray) -> np.ndarray:
    """Return the probabilities of N > 1 images, float64 (N, K), each by a calibration fitted without the image and its fold.

    By these, combiners can be compared: on what they were fitted on, the one with the most parameters always looks best.
    """
    folds = stratified_folds(labels)
    probabilities = np.empty((len(labels), number_of_classes(groups)))
    for fold in np.unique(folds):
        held_out = folds == fold
        # A class may be missing in one fold only, which needs no warning.
        calibration = _fit(method, [member[~held_out] for member in outputs], groups, labels[~held_out])
        probabilities[held_out] = calibration([member[held_out] for member in outputs], groups)
    return probabilities


def stratified_folds(labels: np.ndarray) -> np.ndarray:
    """Return the fold of each image, int64 (N,) in [0, 5), for labels int64 (N,); every fold gets its share of each class."""
    folds = np.empty(len(labels), np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % _FOLDS
    return folds


def rejection_threshold(probabilities: np.ndarray, share: float) -> float:
    """Return the threshold that this share of the images' largest probabilities, of float (N, K), is below."""
    return float(np.quantile(probabilities.max(1), share))


def class_contrasts(groups: Sequence[Group]) -> np.ndarray:
    """Return the map from all outputs to class logits, float64 (K, F).

    A binary member's logit, and in a group the output of a class less that of "none", are the log odds of the class against
    no class of the member. A class in several groups has the sum of these, a product of experts (Hinton 2002). Members of
    all classes have no "none": the mean of their outputs is added.
    """
    num_classes = number_of_classes(groups)
    whole = sum(len(group) == num_classes for group in groups)
    blocks = []
    for group in groups:
        block = np.zeros((num_classes, len(group)))
        block[list(group), np.arange(len(group))] = 1 / whole if len(group) == num_classes else 1
        if 1 < len(group) < num_classes:
            block = np.hstack([-block.sum(1, keepdims=True), block])
        blocks.append(block)
    return np.hstack(blocks)


def _side_by_side(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the outputs of all members, float64 (N, F)."""
    return np.concatenate(outputs, axis=1, dtype=np.float64)
