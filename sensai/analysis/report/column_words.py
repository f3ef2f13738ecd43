"""Words for the columns of the page's tables: what a column is called, what it means, and how its numbers are written."""

from typing import NamedTuple

from sensai.analysis.figures.figure_tables import label_of
from sensai.analysis.rounding import rounded_accuracy
from sensai.tracking.metric_names import METRICS, metric_entry

# Floats are exact up to here.
_MOST_DIGITS = 1e15
_FRACTION = "fraction"
# Unit -> how `format` writes a number of it.
_FORMATS = {
    "count": ",.0f",
    "FLOPs": ",.0f",
    "bytes": ",.0f",
    "channels": ".1f",
    "ms": ".3f",
    "s": ".1f",
}


class ColumnWords(NamedTuple):
    """The words for a column.

    Attributes:
        heading: above the column.
        definition: its meaning, in one line; empty if nobody has written one.
        unit: of its numbers, as in `METRICS`; empty if it has none.
    """

    heading: str
    definition: str = ""
    unit: str = ""


_OWN = {
    "accuracy": ColumnWords("top-1 accuracy", "share of the test images that are answered rightly", "fraction"),
    "combine": ColumnWords("combination", "how the outputs of the members become one answer"),
    "network": ColumnWords("network", "what answers: the base model, the ensemble, its largest member, or a yardstick"),
    "compared": ColumnWords("compared", "what is compared, on the same test images"),
    "difference": ColumnWords(
        "difference [points]", "accuracy of the first less that of the second, in percentage points"
    ),
    "95 % interval": ColumnWords("95 % interval [points]", "of the difference, by a paired bootstrap over test images"),
    "runtime": ColumnWords("runtime", "the engine that runs the network"),
    "threads": ColumnWords("threads", "threads of the runtime", "count"),
    "median_ms": ColumnWords("median time [ms]", "from the raw image to the answer, median of the repeats", "ms"),
    "p95_ms": ColumnWords("95th percentile [ms]", "of the time from the raw image to the answer", "ms"),
    "error": ColumnWords("largest deviation", "largest difference from the outputs of the network as it was trained"),
    "why_not": ColumnWords("why it does not run", "the reason, where a runtime cannot run the network"),
    "latency_ms": ColumnWords(
        "time [ms]", "of one batch in the network of the row, in its fastest runtime, median", "ms"
    ),
    "member": ColumnWords("member", "number of the network within the ensemble"),
    "classes": ColumnWords("classes", "the classes that the member tells from all others, joined by +"),
    "channels_kept": ColumnWords("channels kept", "removable channels that the member keeps", "count"),
    "run_id": ColumnWords("run", "the first digits of the run's id; the CSV has the whole"),
    "run": ColumnWords("run", "id of the MLflow run"),
    "stage": ColumnWords("stage", "the entry point that made the run"),
    "name": ColumnWords("name", "of the run"),
    "status": ColumnWords("status", "FINISHED, FAILED, KILLED or RUNNING"),
    "start": ColumnWords("started", "when the run started, UTC"),
    "trial": ColumnWords("trial", "number of the trial in the study"),
    "source": ColumnWords("source", "tune: made by the study; logged: found among earlier runs"),
    "parameter": ColumnWords("parameter", "the name with which it is given"),
    "value": ColumnWords("value", "the value that was used"),
    "meaning": ColumnWords("meaning"),
    "values": ColumnWords("values", "those that the study may choose"),
    "when": ColumnWords("when", "the condition under which the parameter exists; empty: always"),
    "measure": ColumnWords("measure", "a logged metric, in words"),
    "logged": ColumnWords("logged as", "the name of the metric"),
    "configuration": ColumnWords("configuration", "the parameters that the study chose; the CSV has a column for each"),
    "more_epochs": ColumnWords("epochs of the longer", "epochs of the longer of two trainings", "count"),
    "configurations": ColumnWords("configurations", "that were trained for both numbers of epochs", "count"),
    "spearman": ColumnWords("rank correlation", "Spearman's, between accuracies after few and after more epochs"),
}
# Words for metrics whose names do not read as words.
_HEADINGS = {
    "top5_accuracy": "top-5 accuracy",
    "val_accuracy": "validation accuracy",
    "calibrated_val_accuracy": "validation accuracy, calibrated",
    "accuracy_drop": "drop against the base model",
    "base_accuracy": "base model's accuracy",
    "base_top5_accuracy": "base model's top-5 accuracy",
    "base_val_accuracy": "base model's validation accuracy",
    "ece": "calibration error",
    "nll": "log-likelihood loss",
    "val_ece": "validation calibration error",
    "val_nll": "validation log-likelihood loss",
    "in_group_accuracy": "accuracy within its classes",
    "none_accuracy": '"none" recognised',
    "roc_auc": "area under ROC curve",
    "params": "parameters",
    "flops": "FLOPs",
    "bytes": "size [bytes]",
    "params_base": "parameters of the base model",
    "params_max": "parameters of the largest member",
    "params_total": "parameters of all members",
    "flops_base": "FLOPs of the base model",
    "flops_max": "FLOPs of the largest member",
    "flops_total": "FLOPs of all members",
    "flops_speedup": "times fewer FLOPs, largest member",
    "latency_ms": "time [ms]",
    "latency_base_ms": "time of the base model [ms]",
    "latency_member_max_ms": "time of the slowest member [ms]",
    "latency_ensemble_ms": "time of the ensemble [ms]",
    "speedup_critical_path": "times faster, slowest member",
    "speedup_ensemble": "times faster, ensemble",
    "seconds": "seconds",
    "cost": "cost, share of base model",
}


def words_for(column: str) -> ColumnWords:
    """Return the words for a column of a run table: its name, or `config.<parameter>`, or `metrics.<name>`."""
    words = _words(column.removeprefix("metrics."))
    return words._replace(heading=f"{words.heading} [%]") if words.unit == _FRACTION else words


def _words(name: str) -> ColumnWords:
    if name in _OWN:
        return _OWN[name]
    entry = metric_entry(name)
    if entry is not None:
        return ColumnWords(_HEADINGS.get(name, label_of(name)), METRICS[entry].meaning, METRICS[entry].unit)
    return ColumnWords(label_of(name.removeprefix("config.")))


def written(value: float, unit: str) -> str:
    """Return a number as a reader sees it: whole numbers in full, others as their unit asks, or to four digits.

    Fractions are written in percent, as their headings say.
    """
    if unit == _FRACTION:
        return rounded_accuracy(100 * value, 2)
    if unit in _FORMATS:
        return f"{value:{_FORMATS[unit]}}"
    return f"{value:.0f}" if value % 1 == 0 and abs(value) < _MOST_DIGITS else f"{value:.4g}"


def in_percent(fraction: float) -> str:
    """Return a fraction in percent."""
    return f"{100 * fraction:.1f} %"
