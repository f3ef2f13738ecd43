"""The tables of retrainings in the documents, from the collected results.

python -m analysis.retraining_tables

Cells that are not collected are given here as text: validation accuracy and size of the base model.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from analysis.documents import RESULTS, write
from sensai.analysis.markdown import markdown_table
from sensai.analysis.rounding import rounded_accuracy

# Documents show so many digits of a run id.
_DIGITS = 12
# The seconds of trainings that were killed and resumed, or ran on another machine, are not comparable.
NO_SECONDS: Mapping[str, str] = {"seconds": ""}


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        labels: of the first columns.
        run: the first digits of the retrain run's id; empty: all cells are given.
        given: column -> text that replaces the collected value.
    """

    labels: tuple[str, ...]
    run: str
    given: Mapping[str, str] = {}


class RunTable(NamedTuple):
    """One table with a row a retraining.

    Attributes:
        name: in the document.
        labels: names of the first columns.
        columns: names of the others, keys of `COLUMNS`.
        rows: from top to bottom.
        bold: column whose largest number is bold; empty: none is.
    """

    name: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    bold: str = ""


def _flops(value: float) -> str:
    return f"{value / 1e6:#.3g}".removesuffix(".") + " M"


COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "epochs": lambda run: f"{run['epochs']}",
    "seconds": lambda run: f"{run['seconds']:.0f}",
    "validation accuracy": lambda run: rounded_accuracy(run["val_accuracy"]),
    "test accuracy": lambda run: rounded_accuracy(run["accuracy"]),
    "mean balanced accuracy of the members": lambda run: rounded_accuracy(run["balanced_accuracy"]),
    "params": lambda run: f"{run['params_total']:,}",
    "params of the largest": lambda run: f"{run['params_max']:,}",
    "FLOPs of the largest member": lambda run: _flops(run["flops_max"]),
    "FLOPs: largest, all": lambda run: f"{_flops(run['flops_max'])}, {_flops(run['flops_total'])}",
    "retrain run": lambda run: run["run_id"][:_DIGITS],
    "retrain, evaluate run": lambda run: f"{run['run_id'][:_DIGITS]}, {run['evaluate_run'][:_DIGITS]}",
}

_JOINT = {"mean balanced accuracy of the members": ""}
_TRAINED = ("epochs", "seconds", "validation accuracy", "test accuracy")
_RUNS = "retrain, evaluate run"

TABLES = [
    RunTable(
        "losses_and_balance",
        ("ensemble",),
        (
            "validation accuracy",
            "mean balanced accuracy of the members",
            "FLOPs of the largest member",
            "seconds",
            "retrain run",
        ),
        (
            Row(("ten, `joint`",), "5c0c06e87dee", _JOINT),
            Row(("ten, `bce`, `balance=weight`",), "bc015e5f0292"),
            Row(("ten, `bce`, `balance=sample`",), "29fbda3c0030"),
            Row(("control",), "f6797aee02f5", _JOINT),
            Row(("control, 20 epochs",), "5489a5d50bb5", _JOINT),
        ),
    ),
    RunTable(
        "rankings",
        ("ensemble", "`ranking`"),
        ("epochs", "validation accuracy", "FLOPs of the largest member", "seconds", "retrain run"),
        (
            Row(("control, `bce`", "`global`"), "f6797aee02f5"),
            Row(("control, `bce`", "`global`"), "5489a5d50bb5"),
            Row(("control, `kd`", "`global`"), "90bea0cb7654"),
            Row(("control, `kd`", "`layer`"), "00c1140ccb14"),
            Row(("control, `kd`", "`layer`"), "209f98f1090e"),
            Row(("2 random groups, `joint_kd`", "`layer`"), "863c3f4a8d41"),
        ),
    ),
    RunTable(
        "eighth_resnet20",
        ("ensemble",),
        (*_TRAINED, "params", "FLOPs of the largest member", _RUNS),
        (
            Row(
                ("base model",),
                "",
                {
                    "validation accuracy": "0.9444 (seen)",
                    "test accuracy": "0.8761",
                    "params": "269,722",
                    "FLOPs of the largest member": "81.1 M",
                },
            ),
            Row(("ten, `joint_kd`",), "7efb9c0271d7"),
            Row(("ten, `joint_kd`",), "23bfeaa0acf8"),
            Row(("control, `kd`",), "f9624fb35c59"),
            Row(("control, `kd`",), "aff5d4158102"),
            Row(("control, `kd`, on a CPU",), "633dd6b18bf3", NO_SECONDS),
        ),
        bold="test accuracy",
    ),
    RunTable(
        "eighth_vgg11",
        ("ensemble",),
        (*_TRAINED, "params", "FLOPs: largest, all", _RUNS),
        (
            Row(
                ("base model",),
                "",
                {
                    "validation accuracy": "0.8540",
                    "test accuracy": "0.8539",
                    "params": "9,231,114",
                    "FLOPs: largest, all": "305.5 M",
                },
            ),
            Row(("ten, `joint_kd`",), "ff8d3b997a1a"),
            Row(("five pairs by `most_similar`, `joint_kd`",), "8bb4c0fdbc6b"),
            Row(("control, `kd`",), "006ebf0281e2"),
            Row(("control, `kd`",), "1adcd69bca7d"),
            Row(("control, `kd`, on a CPU",), "a1a33ef57e98", NO_SECONDS),
        ),
        bold="test accuracy",
    ),
    RunTable(
        "sixteenth_vgg11",
        ("ensemble",),
        ("epochs", "minutes", "validation accuracy", "test accuracy", "FLOPs: largest, all", "retrain run"),
        (
            # The collected seconds count 34 minutes in which both trainings were stopped.
            Row(("two groups of five by `most_similar`, `joint`",), "4074861cd263", {"minutes": "29"}),
            Row(("control, cross entropy",), "8b3ed71797d1", {"minutes": "22"}),
        ),
    ),
    RunTable(
        "cuts_in_steps",
        ("ensemble", "cut"),
        ("validation accuracy", "FLOPs: largest, all", "params of the largest", "seconds", "retrain run"),
        (
            Row(("control", "at once"), "e1b41dc790ca"),
            Row(("control", "in 3 steps"), "d4ad096e9b14"),
            Row(("control, `scope=all`", "at once"), "88a75075407f"),
            Row(("two groups", "at once"), "057328a69fc5"),
            Row(("two groups", "in 3 steps"), "2d8bd256d84d"),
            Row(("two groups, `scope=all`", "at once"), "41236ca9dd69"),
            Row(("two groups, `scope=all`", "in 3 steps"), "20b0fd1a49b5"),
            Row(("two groups, `target_of=ensemble`, `criterion=mean`", "at once"), "c4e82af37d9e"),
            Row(("the same", "in 3 steps"), "bf2446c7a820"),
            Row(("two groups, `criterion=mean`", "at once"), "9268247078c9"),
            Row(("two groups, `target_of=ensemble`", "at once"), "ccdb3cbf38dc"),
            Row(("control, `criterion=mean`", "at once"), "6a941a9d44ae"),
        ),
        bold="validation accuracy",
    ),
    RunTable(
        "equal_time_vgg11",
        ("ensemble",),
        (*_TRAINED, "FLOPs: largest, all", _RUNS),
        (
            Row(
                ("base model (all 45,000 images)",),
                "",
                {"validation accuracy": "0.8540", "test accuracy": "0.8539", "FLOPs: largest, all": "305.5 M"},
            ),
            Row(("five pairs by `most_similar`, `joint_kd`",), "d77dc0c6fcae"),
            Row(("control, `kd`",), "94447a2b5be8"),
            Row(("control, `kd` (afterwards, beside tests)",), "9bbbdf4753a9", NO_SECONDS),
        ),
        bold="test accuracy",
    ),
]

# Row of the summary -> the retrain run of each of these columns; empty: there is none.
SUMMARY_COLUMNS = (
    "ten members",
    "five pairs of similar classes",
    "control, as many epochs",
    "control, 100 epochs",
    "control, equal time",
)
SUMMARY = {
    "VGG-11": ("ff8d3b997a1a", "8bb4c0fdbc6b", "006ebf0281e2", "1adcd69bca7d", "a1a33ef57e98"),
    "ResNet-20": ("23bfeaa0acf8", "", "aff5d4158102", "", ""),
    "the same, 24 epochs": ("7efb9c0271d7", "", "f9624fb35c59", "", "633dd6b18bf3"),
}


def blocks() -> dict[str, str]:
    """Return the tables."""
    runs = collected()
    tables = {table.name: shown(table, runs) for table in TABLES}
    tables |= {"jointly_trained": summary(runs), "jointly_trained gains": gains(runs)}
    return {name: markdown_table(table) for name, table in tables.items()}


def collected() -> pd.DataFrame:
    """Return the collected retrainings, with the mean balanced accuracy of the members on validation data."""
    runs, members = (pd.read_parquet(RESULTS / f"{name}.parquet") for name in ("retrainings", "members"))
    validated = members[members["split"] == "val"].groupby("stage_run")["balanced_accuracy"].mean()
    return runs.assign(balanced_accuracy=runs["run_id"].map(validated))


def run_of(runs: pd.DataFrame, run: str) -> dict[str, Any]:
    """Return the one retraining whose id begins with `run`."""
    (found,) = runs[runs["run_id"].str.startswith(run)].to_dict("records")
    return {str(name): value for name, value in found.items()}


def shown(table: RunTable, runs: pd.DataFrame) -> pd.DataFrame:
    """Return a table as readers see it, a text a cell."""
    rows = [[*row.labels, *_cells(table.columns, row, runs)] for row in table.rows]
    frame = pd.DataFrame(rows, columns=[*table.labels, *table.columns])
    if table.bold:
        # The base model, which has no run, does not compete.
        texts = [str(text) for text in frame[table.bold]]
        best = max((number for number, row in enumerate(table.rows) if row.run), key=lambda number: texts[number])
        texts[best] = f"**{texts[best]}**"
        frame[table.bold] = texts
    return frame


def _cells(columns: tuple[str, ...], row: Row, runs: pd.DataFrame) -> list[str]:
    if not row.run:
        return [row.given.get(name, "") for name in columns]
    run = run_of(runs, row.run)
    return [row.given[name] if name in row.given else COLUMNS[name](run) for name in columns]


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the test accuracies of jointly trained ensembles, their controls and base models."""
    return pd.DataFrame([[name, *_summary_row(own, runs)] for name, own in SUMMARY.items()], columns=_summary_names())


def _summary_names() -> list[str]:
    return ["", "base model", *SUMMARY_COLUMNS]


def _summary_row(own: tuple[str, ...], runs: pd.DataFrame) -> list[str]:
    found = [run_of(runs, run) if run else None for run in own]
    ten, *others = ["" if run is None else rounded_accuracy(run["accuracy"]) for run in found]
    if (equal := found[-1]) is not None:
        others[-1] += f" ({equal['epochs']} epochs)"
    return [rounded_accuracy(run_of(runs, own[0])["base_accuracy"]), f"**{ten}**", *others]


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the points by which ten members are above each of their rivals."""
    rows = []
    for name, own in SUMMARY.items():
        ten, *rivals = [run_of(runs, run) if run else None for run in own]
        assert ten is not None
        less = [ten["base_accuracy"], *(None if run is None else run["accuracy"] for run in rivals)]
        points = ["" if other is None else f"{100 * (ten['accuracy'] - other):+.1f}" for other in less]
        rows.append([name, *points])
    return pd.DataFrame(rows, columns=["ten members less", "base model", *SUMMARY_COLUMNS[1:]])


def main() -> None:
    """Write the tables."""
    write(blocks())


if __name__ == "__main__":
    main()
