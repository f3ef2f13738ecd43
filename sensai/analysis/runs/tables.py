"""Tables that runs logged as CSV, and frames of fixed columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pandas as pd

from sensai.analysis.runs.run_ids import whole_ids
from sensai.files import reading
from sensai.tracking.artifacts import downloaded
from sensai.tracking.tracking_store import tracking_client


def table(run_id: str, path: str) -> pd.DataFrame:
    """Return a table that a run logged as CSV.

    Args:
        run_id: whole or shortened.
        path: name of the artifact.

    Raises:
        ValueError: the id names no run, or several.
        DamagedError: the artifact is no such table.
    """
    (run_id,) = whole_ids(tracking_client(), [run_id])
    with downloaded(run_id, path) as file, reading(f"run {run_id}: its artifact {path!r}"):
        return read_table(file)


def read_table(source: str | Path | IO[bytes]) -> pd.DataFrame:
    """Read a logged table; names of classes and sites stay text, even if they look like numbers or missing values."""
    return pd.read_csv(source, dtype={"classes": "str", "site": "str"}, keep_default_na=False, na_values=[""])


def frame_of(rows: Sequence[Mapping[str, object]], columns: dict[str, str]) -> pd.DataFrame:
    """Return rows as a frame: the given columns first, typed and present even without rows, and then all others."""
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*columns, *frame.columns.difference(list(columns), sort=False)])
    return frame.astype(columns)
