"""Accuracies, decision thresholds, confusion and sizes of networks and ensembles; roles and the verdict, without torch."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.evaluation.accuracy_metrics import (
        accuracies,
        least_difference,
        probability_metrics,
        rejection_metrics,
        reliability_curve,
    )
    from sensai.evaluation.confusion_matrices import (
        confusion,
        confusion_between_groups,
        confusion_in_groups,
        error_shares,
    )
    from sensai.evaluation.decision_thresholds import (
        Thresholds,
        cross_fitted_thresholds,
        fitted_thresholds,
        natural_thresholds,
    )
    from sensai.evaluation.group_accuracies import called_none, group_metrics, member_metrics, right_in_group
    from sensai.evaluation.network_sizes import Size, host, size
    from sensai.evaluation.outputs import Outputs, run_networks, softmax
    from sensai.evaluation.served_accuracy import calibrated_accuracy, likeliest

# Name -> its module, imported on first use: run tables need the verdict, but no torch.
_HOMES = {
    **dict.fromkeys(
        ("accuracies", "least_difference", "probability_metrics", "rejection_metrics", "reliability_curve"),
        "accuracy_metrics",
    ),
    **dict.fromkeys(
        ("confusion", "confusion_between_groups", "confusion_in_groups", "error_shares"), "confusion_matrices"
    ),
    **dict.fromkeys(
        ("Thresholds", "cross_fitted_thresholds", "fitted_thresholds", "natural_thresholds"), "decision_thresholds"
    ),
    **dict.fromkeys(("called_none", "group_metrics", "member_metrics", "right_in_group"), "group_accuracies"),
    **dict.fromkeys(("Size", "host", "size"), "network_sizes"),
    **dict.fromkeys(("Outputs", "run_networks", "softmax"), "outputs"),
    **dict.fromkeys(("calibrated_accuracy", "likeliest"), "served_accuracy"),
}

__all__ = [
    "Outputs",
    "Size",
    "Thresholds",
    "accuracies",
    "calibrated_accuracy",
    "called_none",
    "confusion",
    "confusion_between_groups",
    "confusion_in_groups",
    "cross_fitted_thresholds",
    "error_shares",
    "fitted_thresholds",
    "group_metrics",
    "host",
    "least_difference",
    "likeliest",
    "member_metrics",
    "natural_thresholds",
    "probability_metrics",
    "rejection_metrics",
    "reliability_curve",
    "right_in_group",
    "run_networks",
    "size",
    "softmax",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
