"""A table of all retrainings with their pruning and evaluation, and the tables of a store as Parquet files.

`python -m sensai.analysis.results FOLDER` adds the runs of MLflow's current store to the files in FOLDER,
so that the tables of several machines accumulate. pyarrow, which mlflow requires, reads and writes Parquet.
"""

import argparse
from pathlib import Path

import pandas as pd

from sensai.analysis import curves, runs
from sensai.errors import DamagedError, StorageError
from sensai.files import reading, whole_file, writing

# A table without rows has these types too. Counts are NA in runs that are older than their parameter or metric.
_CONFIG = {
    **dict.fromkeys(("arch", "dataset", "method"), "str"),
    "n_groups": "Int64",
    "policy": "str",
    "ratio": "float64",
    "target_flops": "float64",
    **dict.fromkeys(("target_of", "ranking", "criterion", "loss"), "str"),
    "kd_weight": "float64",
    "balance": "str",
    **dict.fromkeys(("cut_steps", "cut_epochs", "epochs"), "Int64"),
    "lr": "float64",
    "batch_size": "Int64",
    "patience": "Int64",
    "min_gain": "float64",
    "target": "float64",
    "budget": "str",
    "seed": "Int64",
}
_PRUNED = dict.fromkeys(("members", "params_max", "params_total", "flops_base", "flops_max", "flops_total"), "Int64")
_RETRAINED = {"val_accuracy": "float64", "seconds": "float64", "epochs_saved": "Int64"}
_EVALUATED = {"accuracy": "float64", "base_accuracy": "float64"}
_COLUMNS = {
    "run_id": "str",
    "start": "datetime64[ms, UTC]",
    **_CONFIG,
    **_PRUNED,
    **_RETRAINED,
    **_EVALUATED,
    "evaluate_run": "str",
}
# Column -> its name in the joined tables of stage runs, which keep their own names.
_SOURCES = {
    "run_id": "run_id",
    "start": "start",
    **{name: f"config.{name}" for name in _CONFIG},
    **{name: f"prune.metrics.{name}" for name in _PRUNED},
    **{name: f"metrics.{name}" for name in _RETRAINED},
    **{name: f"evaluate.metrics.{name}" for name in _EVALUATED},
    "evaluate_run": "evaluate.run_id",
}
_PRINTED = ["start", "arch", "dataset", "members", "loss", "epochs", "flops_max", "val_accuracy", "accuracy"]


def retrainings() -> pd.DataFrame:
    """Return the finished retrain runs, newest first, each with its pruning and its latest evaluation.

    Returns:
        Columns run_id, start (UTC); parameters as configured; members, params and FLOPs (2 x multiply-accumulates) of the
        prune run; val_accuracy, seconds, epochs_saved; accuracy, base_accuracy (test split, fractions) and evaluate_run. The
        last three are missing where there is no evaluation.
    """
    pruned = runs.stage_runs("prune").add_prefix("prune.")
    evaluated = _stage_runs("evaluate", "upstream.retrain").drop_duplicates("upstream.retrain").add_prefix("evaluate.")
    joined = (
        _stage_runs("retrain", "upstream.prune")
        .merge(pruned, how="left", left_on="upstream.prune", right_on="prune.run_id")
        .merge(evaluated, how="left", left_on="run_id", right_on="evaluate.upstream.retrain")
    )
    return joined.reindex(columns=list(_SOURCES.values())).set_axis(list(_SOURCES), axis=1).astype(_COLUMNS)


def _stage_runs(stage: str, upstream: str) -> pd.DataFrame:
    """Return `runs.stage_runs` with the column of an upstream stage, which it lacks if there is no run."""
    frame = runs.stage_runs(stage)
    return frame.assign(**{upstream: frame.get(upstream, pd.Series(dtype="str"))})


def export(folder: Path) -> None:
    """Write `retrainings.parquet`, `members.parquet` and `curves.parquet` of the store that MLflow is set to.

    Rows of the files stay, unless the store has their run (`run_id`). The store's rows then replace them.

    Raises:
        DamagedError: a file holds no such table; it stays as it is.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    retrained = retrainings()
    _add(retrained, folder / "retrainings.parquet")
    _add(runs.members(), folder / "members.parquet")
    _add(curves.curves(list(retrained["run_id"])), folder / "curves.parquet")


def _add(table: pd.DataFrame, path: Path) -> None:
    if path.exists():
        with reading(f"{str(path)!r}"):
            table = _with_stored(table, path)
    with whole_file(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)


def _with_stored(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table together with the rows of a file that are of other runs."""
    if not path.is_file():
        raise ValueError("not a file")
    stored = pd.read_parquet(path, page_checksum_verification=True)
    # Curves have a column for each metric of any run, so other columns of floats are allowed.
    metrics = stored.select_dtypes("float64").columns
    if unknown := list(stored.columns.difference([*table.columns, *metrics])):
        raise ValueError(f"unknown column {unknown[0]!r}")
    both = pd.concat([table, stored[~stored["run_id"].isin(table["run_id"])]], ignore_index=True)
    for name, kind in table.dtypes.items():
        if both[name].dtype != kind:
            raise ValueError(f"the column {name!r} is missing or not of type {kind}")
    return both


def main() -> None:
    """Export to the folder that the command line names, and print what it holds."""
    parser = argparse.ArgumentParser(prog="python -m sensai.analysis.results", description=export.__doc__)
    parser.add_argument("folder", type=Path, help="of the Parquet files; it is made if it does not exist")
    folder = parser.parse_args().folder
    if folder.exists() and not folder.is_dir():
        parser.error(f"{str(folder)!r} is no folder")
    try:
        with writing(folder):
            export(folder)
    except (StorageError, DamagedError) as error:
        parser.exit(2, f"error: {error}\n")
    stored = pd.read_parquet(folder / "retrainings.parquet").sort_values("start", ascending=False)
    print(stored.set_index("run_id")[_PRINTED].to_string())  # noqa: T201  (what the user asked for)


if __name__ == "__main__":
    main()
