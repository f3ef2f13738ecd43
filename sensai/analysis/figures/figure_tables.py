"""Tables and labels that the static and the interactive figures share. K classes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY

# An axis with more labels than these is not legible.
MOST_LABELS = 40
# A longer name takes the place of the figure.
MOST_LETTERS = 24
MEMBER_MEASURES = ("balanced_accuracy", "binary_accuracy")
FLOPS_LABEL = "FLOPs of the member"
SITES_LABEL = "site, by depth"
KEPT_LABEL = "share of channels kept"
VOLUME_LABELS = ("trials, logged ones first", "hypervolume")
EPOCHS = "epochs"
_PARAMETER = "params."


class TrialGroup(NamedTuple):
    """The trials of a study that share a colour.

    Attributes:
        label: for the legend.
        source: "tune" or "logged".
        trials: the rows of the table.
    """

    label: str
    source: str
    trials: pd.DataFrame


class Slice(NamedTuple):
    """The trials that have a parameter.

    Attributes:
        title: the parameter's name.
        values: of the parameter; texts if they are not numbers.
        numeric: True if they are numbers.
        trials: the rows of the table, in the same order.
    """

    title: str
    values: pd.Series
    numeric: bool
    trials: pd.DataFrame


def label_of(name: str) -> str:
    """Return the name of a column as a reader sees it."""
    return name.replace("_", " ")


def short(name: str) -> str:
    """Return a name of classes as it fits beside an axis or into a legend."""
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}\u2026"


def owners(groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the numbers of each class's groups, float64 (R, K), R the most groups of a class; NaN where it has fewer."""
    of_classes: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        for label in group:
            of_classes.setdefault(label, []).append(number)
    numbers = np.full((max(map(len, of_classes.values())), len(of_classes)), np.nan)
    for label, own in of_classes.items():
        numbers[: len(own), label] = own
    return numbers


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Return the entries of a (K, K) matrix that are not on its diagonal, (K * (K - 1),)."""
    return matrix[~np.eye(len(matrix), dtype=bool)]


def with_shares(layers: pd.DataFrame) -> pd.DataFrame:
    """Add the column `share`, kept channels over all channels, to a table with `kept` and `channels`."""
    return layers.assign(share=layers["kept"] / layers["channels"])


def trial_groups(trials: pd.DataFrame) -> Iterator[TrialGroup]:
    """Yield the trials of a study by epochs and source; columns `epochs` and `source`."""
    for (epochs, source), rows in trials.groupby(["epochs", "source"]):
        label = f"{epochs} epochs" + (", logged before" if source == "logged" else "")
        yield TrialGroup(label, str(source), rows)


def parameter_columns(trials: pd.DataFrame) -> list[str]:
    """Return the columns of a study's trials that hold parameters, in their order."""
    return [name for name in trials.columns if name.startswith(_PARAMETER)]


def parameter_name(column: str) -> str:
    """Return the name of the parameter that a column of a study's trials holds."""
    return column.removeprefix(_PARAMETER)


def slices(trials: pd.DataFrame) -> list[Slice]:
    """Return the trials of a study by each parameter, epochs first; columns `epochs`, `params.<parameter>`."""
    return [_slice(trials, name) for name in (EPOCHS, *parameter_columns(trials))]


def _slice(trials: pd.DataFrame, name: str) -> Slice:
    own = trials[trials[name].notna()]
    values = own[name]
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return Slice(parameter_name(name), values if numeric else values.astype("str"), numeric, own)


def accuracy_column(table: pd.DataFrame) -> str:
    """Return the column of a study's table that holds the accuracy which it ranks by: in earlier versions the raw one."""
    return CALIBRATED_VAL_ACCURACY if CALIBRATED_VAL_ACCURACY in table else "val_accuracy"


def importance_bars(weights: pd.DataFrame, objective: str) -> dict[str, pd.Series]:
    """Return label -> importance of each parameter, for the accuracy and for the cost, which is `objective`."""
    accuracy = accuracy_column(weights)
    return {label_of(accuracy): weights[accuracy], objective: weights["cost"]}
