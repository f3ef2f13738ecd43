"""The comparison of runs side by side."""

import json
from collections.abc import Sequence

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sensai.analysis.runs.frames import run_frame
from sensai.analysis.runs.queries import LoggedRun, answering
from sensai.analysis.runs.staged import identity
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_ABOUT = ("name", "stage", "status", "start", "seconds")
# MLflow's error codes for an id without a run and for text that is no id.
_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


def compare(run_ids: Sequence[str], *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Compare runs side by side, one column a run: the parameters that differ, and all metrics.

    Args:
        run_ids: ids of any runs, in the order of the columns. If a run reused the results of another, the parameters and
            metrics are those of the other.
        tracking_uri: of the store that holds them; None: the one that MLflow is set to.

    Returns:
        Columns are the run ids. Their dtype is object, so that a value keeps the type in which it was configured: int, float,
        bool, str or None. A value is NA where the run has no such parameter or metric. The index (`field`) names the rows as
        `stage_runs` names its columns: name, stage, status, start (UTC), seconds (NaN while it runs); `config.<parameter>` of
        the parameters that differ, in the order of the configuration; `metrics.<name>` of all metrics, by name (fractions,
        counts, ms as DESIGN names them).

    Raises:
        ValueError: an id names no run; the message has all such ids.
    """
    client = tracking_client(tracking_uri)
    found = {run_id: _column(client, run_id) for run_id in dict.fromkeys(run_ids)}
    unknown = [run_id for run_id, column in found.items() if column is None]
    if unknown:
        raise ValueError(f"run_ids must name runs of the tracking store, which has none of these: {', '.join(unknown)}")
    columns = {run_id: column for run_id, column in found.items() if column is not None}
    fields = list(dict.fromkeys(field for column in columns.values() for field in column))
    config = [
        field
        for field in fields
        if field.startswith("config.") and _differ([column.get(field, pd.NA) for column in columns.values()])
    ]
    metrics = sorted(field for field in fields if field.startswith("metrics."))
    shown = [*_ABOUT, *config, *metrics]
    data = {run_id: [column.get(field, pd.NA) for field in shown] for run_id, column in columns.items()}
    return pd.DataFrame(data, index=pd.Index(shown, name="field", dtype="str"), dtype="object")


def _column(client: MlflowClient, run_id: str) -> dict[str, object] | None:
    """Return everything about a run; None: there is no such run."""
    try:
        asked, answered_by = LoggedRun.of(client.get_run(run_id)), answering(client, run_id)
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            return None
        raise
    return {
        **identity(run_frame([asked])).iloc[0],
        "stage": answered_by.tags.get(tags.STAGE, ""),
        **{f"config.{name}": value for name, value in json.loads(answered_by.config).items()},
        **{f"metrics.{name}": value for name, value in answered_by.metrics.items()},
    }


def _differ(values: Sequence[object]) -> bool:
    """Return True if values differ: 1 and 1.0 are the same, 1 and True are not."""
    return (
        len({(isinstance(value, bool), value if isinstance(value, float | int) else repr(value)) for value in values})
        > 1
    )
