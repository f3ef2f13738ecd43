"""The metrics of an ensemble beside its base model, and the table of its members. N images, K classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import nn

from sensai.ensemble import Ensemble
from sensai.evaluation.accuracy_metrics import accuracies
from sensai.evaluation.network_sizes import size
from sensai.grouping.partitions import class_label


def accuracy_metrics(probabilities: np.ndarray, base_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the accuracies of both, those of the base model with the prefix `base_`, and `accuracy_drop`.

    Args:
        probabilities: float64 (N, K) of the ensemble.
        base_probabilities: likewise of the base model.
        labels: int64 (N,).
    """
    own, base = accuracies(probabilities, labels), accuracies(base_probabilities, labels)
    return {
        **own,
        **{f"base_{name}": value for name, value in base.items()},
        "accuracy_drop": base["accuracy"] - own["accuracy"],
    }


def members_table(
    ensemble: Ensemble, metrics: Sequence[Mapping[str, float]], milliseconds: Sequence[float]
) -> pd.DataFrame:
    """Return a row a member: its number, classes, metrics, params, flops, bytes and latency_ms.

    Args:
        ensemble: the members.
        metrics: of each (see `member_metrics`).
        milliseconds: of each for one image; NaN where it was not timed.
    """
    rows = []
    for number, (member, values, latency) in enumerate(zip(ensemble.members, metrics, milliseconds, strict=True)):
        sizes = size(member.network, ensemble.spec.input_shape)
        rows.append(
            {
                "member": number,
                "classes": class_label(member.classes, ensemble.class_names),
                **values,
                "params": sizes.params,
                "flops": sizes.flops,
                "bytes": sizes.bytes,
                "latency_ms": latency,
            }
        )
    return pd.DataFrame(rows)


def size_metrics(members: pd.DataFrame, base: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, float]:
    """Return the number of members, their mean and least binary accuracy, and their sizes beside the base model's.

    Args:
        members: as of `members_table`.
        base: the base model.
        input_shape: (C, H, W) of one image.
    """
    base_size = size(base, input_shape)
    return {
        "members": len(members),
        "binary_accuracy_mean": members["binary_accuracy"].mean(),
        "binary_accuracy_min": members["binary_accuracy"].min(),
        "params_base": base_size.params,
        "params_max": members["params"].max(),
        "params_total": members["params"].sum(),
        "flops_base": base_size.flops,
        "flops_max": members["flops"].max(),
        "flops_total": members["flops"].sum(),
        "flops_speedup": base_size.flops / members["flops"].max(),
    }
