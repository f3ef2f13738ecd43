"""The tables of a store as Parquet files.

`python -m sensai.analysis.results FOLDER` adds the runs of MLflow's current store to the files in FOLDER,
so that the tables of several machines accumulate. pyarrow, which mlflow requires, reads and writes Parquet.
"""

import argparse
from pathlib import Path

import pandas as pd

from sensai.analysis import curves, runs
from sensai.analysis.collected_answers import collected_answers
from sensai.analysis.retrainings import retrainings
from sensai.errors import DamagedError, StorageError
from sensai.files import reading, whole_file, writing

_PRINTED = ["start", "arch", "dataset", "members", "loss", "epochs", "flops_max", "val_accuracy", "accuracy"]


def export(folder: Path) -> None:
    """Write the tables of the store that MLflow is set to as Parquet files.

    They are `retrainings.parquet`, `members.parquet`, `curves.parquet`, `answers.parquet` (to every test image) and
    `runs.parquet` (all runs but those of members). Rows of the files stay, unless the store has their run (`run_id`). The
    store's rows then replace them.

    Raises:
        DamagedError: a file holds no such table; it stays as it is.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    retrained = retrainings()
    _add(retrained, folder / "retrainings.parquet")
    _add(runs.members(wide=True), folder / "members.parquet")
    _add(curves.curves(list(retrained["run_id"])), folder / "curves.parquet")
    _add(collected_answers(retrained), folder / "answers.parquet")
    _add(runs.overview(wide=True), folder / "runs.parquet")


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
