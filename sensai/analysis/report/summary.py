"""Base model, ensemble and yardsticks side by side, from the metrics of their evaluations."""

from collections.abc import Mapping

import pandas as pd

from sensai.analysis.rounding import rounded_accuracy
from sensai.evaluation.roles import BASE_MODEL, ENSEMBLE, TITLES
from sensai.evaluation.verdict import answer_ms

# Row of the summary -> its metrics of an evaluate run, in the order of `_SUMMARY_COLUMNS`. The accuracies of a single
# member are not comparable.
_SUMMARY_ROWS = {
    BASE_MODEL: ("base_accuracy", "base_top5_accuracy", "params_base", "flops_base", "latency_base_ms"),
    "largest member": (None, None, "params_max", "flops_max", "latency_member_max_ms"),
    TITLES[ENSEMBLE]: ("accuracy", "top5_accuracy", "params_total", "flops_total", "latency_ensemble_ms"),
}
_SUMMARY_COLUMNS = ("accuracy", "top5_accuracy", "params", "flops", "latency_ms")


def summary_numbers(
    metrics: Mapping[str, float], yardsticks: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """Compare base model and ensemble: accuracy (fractions of the test split), params, FLOPs, latency (ms at batch 1).

    Args:
        metrics: that `evaluate` logs.
        yardsticks: name of a yardstick -> metrics of its evaluation.

    Returns:
        float64, rows `base model`, `largest member`, `ensemble`, and one a yardstick; columns accuracy, top5_accuracy, params,
        flops, latency_ms. The accuracies of a single member are not comparable and stay NaN.
    """
    rows = {name: [metrics.get(metric or "") for metric in row] for name, row in _SUMMARY_ROWS.items()}
    for name, measured in (yardsticks or {}).items():
        *sizes, _ = _SUMMARY_ROWS[TITLES[ENSEMBLE]]
        rows[TITLES[name]] = [*(measured.get(metric or "") for metric in sizes), answer_ms(measured)]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(_SUMMARY_COLUMNS), dtype="float64")
    table.index.name = "network"
    return table


def summary_table(
    metrics: Mapping[str, float], yardsticks: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """Return `summary_numbers` as texts for people; a missing value is empty."""
    table = summary_numbers(metrics, yardsticks)
    return pd.DataFrame(
        {
            "accuracy": table["accuracy"].map(rounded_accuracy),
            "top5_accuracy": table["top5_accuracy"].map(rounded_accuracy),
            "params": table["params"].map("{:,.0f}".format, na_action="ignore"),
            "flops": table["flops"].map("{:,.0f}".format, na_action="ignore"),
            "latency_ms": table["latency_ms"].map("{:.3f}".format, na_action="ignore"),
        }
    ).fillna("")
