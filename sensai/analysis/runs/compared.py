"""The comparison of runs side by side."""

import json
from collections.abc import Sequence

import pandas as pd
from mlflow.tracking import MlflowClient

from sensai.analysis.runs.frames import run_frame
from sensai.analysis.runs.queries import LoggedRun, answering
from sensai.analysis.runs.run_ids import whole_ids
from sensai.analysis.runs.run_roles import roles
from sensai.analysis.runs.staged import identity
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_ABOUT = ("name", "stage", "role", "status", "start", "seconds")


def compare(run_ids: Sequence[str], *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Compare runs side by side, one column a run: the parameters that differ, and all metrics.

    Args:
        run_ids: ids of any runs, whole or shortened, in the order of the columns. If a run reused the results of another, the
            parameters and metrics are those of the other.
        tracking_uri: of the store that holds them; None: the one that MLflow is set to.

    Returns:
        Columns are the whole run ids. Their dtype is object, so that a value keeps the type in which it was configured: int,
        float, bool, str or None. A value is NA where the run has no such parameter or metric. The index (`field`) names the
        rows as `stage_runs` names its columns: name, stage, role, status, start (UTC), seconds (NaN while it runs);
        `config.<parameter>` of the parameters that differ, in the order of the configuration; `metrics.<name>` of all metrics,
        by name (fractions, counts, ms as DESIGN names them).

    Raises:
        ValueError: an id names no run, or several; the message has all such ids.
    """
    client = tracking_client(tracking_uri)
    columns = {run_id: _column(client, run_id) for run_id in whole_ids(client, run_ids)}
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


def _column(client: MlflowClient, run_id: str) -> dict[str, object]:
    """Return everything about a run."""
    asked, answered_by = LoggedRun.of(client.get_run(run_id)), answering(client, run_id)
    return {
        **identity(run_frame([asked])).iloc[0],
        "stage": answered_by.tags.get(tags.STAGE, ""),
        "role": roles(run_frame([answered_by]), client).iloc[0],
        **{f"config.{name}": value for name, value in json.loads(answered_by.config).items()},
        **{f"metrics.{name}": value for name, value in answered_by.metrics.items()},
    }


def _differ(values: Sequence[object]) -> bool:
    """Return True if values differ: 1 and 1.0 are the same, 1 and True are not."""
    return (
        len({(isinstance(value, bool), value if isinstance(value, float | int) else repr(value)) for value in values})
        > 1
    )
