"""Tables that runs logged as CSV, and frames of fixed columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pandas as pd

from sensai.files import reading
from sensai.tracking.artifacts import downloaded


def table(run_id: str, path: str) -> pd.DataFrame:
    """A table that a run logged as CSV.

    Raises:
        DamagedError: it is none.
    """
    with downloaded(run_id, path) as file, reading(f"run {run_id}: its artifact {path!r}"):
        return read_table(file)


def read_table(source: str | Path | IO[bytes]) -> pd.DataFrame:
    """A logged table; names of classes and sites stay text, also where they look like numbers or missing values."""
    return pd.read_csv(source, dtype={"classes": "str", "site": "str"}, keep_default_na=False, na_values=[""])


def frame_of(rows: Sequence[Mapping[str, object]], columns: dict[str, str]) -> pd.DataFrame:
    """Rows with the given columns first, typed, whether there are rows or not, and then all others."""
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*columns, *frame.columns.difference(list(columns), sort=False)])
    return frame.astype(columns)
