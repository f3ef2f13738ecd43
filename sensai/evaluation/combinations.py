"""The ways to combine members' outputs, fitted on validation data and judged side by side. N images, K classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sensai.ensemble.calibration import RAW, Calibration, cross_fitted, fit, methods_for
from sensai.evaluation.accuracy_metrics import least_difference, probability_metrics
from sensai.evaluation.outputs import Outputs
from sensai.evaluation.served_accuracy import likeliest
from sensai.grouping.partitions import Group

# The row of the base model beside the combiners.
BASE_ROW = "base model"
# Splits of one collection may differ by as much, and the best epoch of an honest base model is chosen on validation images.
_RELEVANT = 0.01


@dataclass(frozen=True)
class Answered:
    """The answers to all images of a split.

    Attributes:
        outputs: of the members.
        base: float64 (N, K), the base model's class probabilities.
    """

    outputs: Outputs
    base: np.ndarray

    @property
    def base_right(self) -> np.ndarray:
        """Return a mask of the images that the base model answers rightly, bool (N,)."""
        return self.base.argmax(1) == self.outputs.labels


@dataclass(frozen=True)
class Combinations:
    """All combiners that suit an ensemble, fitted, and the one that is chosen.

    Attributes:
        fitted: name -> calibration; without validation data `raw` alone.
        held_out: name -> float64 (N, K): probabilities of all validation images, each by a fit without it; empty without any.
        method: name of the chosen one.
    """

    fitted: Mapping[str, Calibration]
    held_out: Mapping[str, np.ndarray]
    method: str

    @property
    def chosen(self) -> Calibration:
        """Return the calibration that is chosen."""
        return self.fitted[self.method]


def fit_combinations(groups: Sequence[Group], val: Outputs | None, wanted: str | None = None) -> Combinations:
    """Fit the combiners for some groups, and choose one.

    Args:
        groups: the classes of each member.
        val: outputs on validation images; None: there are none.
        wanted: name of the one to choose; None: the likeliest on held-out validation images.

    Raises:
        InputError: no combiner of that name.
    """
    if val is None:
        return Combinations({RAW.method: RAW}, {}, RAW.method)
    names = [RAW.method, *methods_for(groups, len(val.labels))]
    if wanted is not None and wanted not in names:
        names.append(wanted)
    fitted = {name: fit(name, val.members, groups, val.labels) for name in names}
    held_out = {name: cross_fitted(name, val.members, groups, val.labels) for name in names}
    return Combinations(fitted, held_out, wanted or likeliest(held_out, val.labels))


def compared(
    tested: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray], test: Answered, val: Answered | None
) -> pd.DataFrame:
    """Return metrics of all combiners and the base model: on the test split, and with the prefix `val_` on validation data.

    Args:
        tested: name -> float64 (N, K), probabilities of the test images.
        held_out: as of `Combinations`.
        test: answers to the test images.
        val: answers to the validation images; None: there are none.
    """
    tables = [_judged({**tested, BASE_ROW: test.base}, test.outputs.labels)]
    if val is not None:
        tables.append(_judged({**held_out, BASE_ROW: val.base}, val.outputs.labels).add_prefix("val_"))
    return pd.concat(tables, axis=1)


def _judged(probabilities: Mapping[str, np.ndarray], labels: np.ndarray) -> pd.DataFrame:
    """Return a row of `probability_metrics` for each."""
    rows = {name: probability_metrics(each, labels) for name, each in probabilities.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def leakage_warning(val: Answered, test: Answered) -> str:
    """Return a line where the base model is better on validation than on test images, surely and by a relevant amount.

    That is where the lower bound of the one-sided 99.9 % interval of the difference in accuracy is above 0.01; else it is
    empty.
    """
    least = least_difference(val.base_right, test.base_right)
    if least <= _RELEVANT:
        return ""
    return (
        f"the base model's accuracy is {val.base_right.mean():.4f} on validation images and {test.base_right.mean():.4f} on "
        f"test images, at least {least:.4f} less: it was probably trained on validation images, so do not trust validation "
        "accuracies, nor what is chosen by them"
    )
