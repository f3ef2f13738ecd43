"""Accuracies, confusion and sizes of networks and ensembles; roles and the verdict, which need no torch."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensai.evaluation.accuracy_metrics import accuracies, probability_metrics, rejection_metrics, reliability_curve
    from sensai.evaluation.confusion_matrices import (
        confusion,
        confusion_between_groups,
        confusion_in_groups,
        error_shares,
    )
    from sensai.evaluation.group_accuracies import called_none, group_metrics, member_metrics, right_in_group
    from sensai.evaluation.network_sizes import Size, host, size
    from sensai.evaluation.outputs import Outputs, run_networks, softmax

# Name -> its module, imported on first use: run tables need the verdict, but no torch.
_HOMES = {
    **dict.fromkeys(
        ("accuracies", "probability_metrics", "rejection_metrics", "reliability_curve"), "accuracy_metrics"
    ),
    **dict.fromkeys(
        ("confusion", "confusion_between_groups", "confusion_in_groups", "error_shares"), "confusion_matrices"
    ),
    **dict.fromkeys(("called_none", "group_metrics", "member_metrics", "right_in_group"), "group_accuracies"),
    **dict.fromkeys(("Size", "host", "size"), "network_sizes"),
    **dict.fromkeys(("Outputs", "run_networks", "softmax"), "outputs"),
}

__all__ = [
    "Outputs",
    "Size",
    "accuracies",
    "called_none",
    "confusion",
    "confusion_between_groups",
    "confusion_in_groups",
    "error_shares",
    "group_metrics",
    "host",
    "member_metrics",
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
