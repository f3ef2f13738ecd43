"""Learning curves of members as DataFrames, and the epochs and accuracy that an earlier stop saves and costs.

A stop changes nothing before it. One run that trains every member to its end is therefore enough for any stop rule. With a
schedule that has a decay, a stop changes what follows it: see `sensai.analysis.stop_regret`.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
from mlflow.tracking import MlflowClient

from sensai.analysis import runs
from sensai.analysis.runs.run_ids import whole_ids
from sensai.files import reading
from sensai.tracking.artifact_names import CURVES
from sensai.tracking.artifacts import artifact_names, downloaded
from sensai.tracking.tracking_store import tracking_client
from sensai.training.stopping import DEFAULT_STOP_RULES, reason_to_stop

# Members' runs log the metrics of their epochs under names with this prefix.
_PREFIX = "curve/"
_TEXTS = dict.fromkeys(("stage_run", "run_id", "classes", "stopped_by"), "str")
_COLUMNS = {
    **dict.fromkeys(("stage_run", "run_id"), "str"),
    "member": "int64",
    **dict.fromkeys(("classes", "stopped_by"), "str"),
    "epoch": "int64",
}


def curves(run_ids: Sequence[str], *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Return every epoch of every member of some retrain runs.

    Args:
        run_ids: ids of retrain runs, whole or shortened.
        tracking_uri: of the store that holds them; None: the one that MLflow is set to.

    Returns:
        Columns stage_run, run_id (the member's), member, classes, stopped_by, epoch (from 0), and one float64 column a metric:
        train_loss, and loss, accuracy, balanced_accuracy, roc_auc of the validation split (fractions). With a joint loss
        the metrics of the validation split are of all classes together.

    Raises:
        ValueError: an id names no run, several, or one of another stage.
    """
    run_ids = whole_ids(tracking_client(tracking_uri), run_ids)
    logged = [run_id for run_id in run_ids if CURVES in artifact_names(run_id, tracking_uri)]
    tables = [_table(run_id, tracking_uri) for run_id in logged]
    if earlier := [run_id for run_id in run_ids if run_id not in logged]:
        tables += _of_member_runs(earlier, tracking_uri)
    # Without a member the first frame alone gives the columns.
    frame = pd.concat([pd.DataFrame(columns=list(_COLUMNS)), *tables], ignore_index=True).astype(_COLUMNS)
    return frame.sort_values(["stage_run", "member", "epoch"], kind="stable", ignore_index=True)


def _table(run_id: str, tracking_uri: str | None) -> pd.DataFrame:
    with downloaded(run_id, CURVES, tracking_uri) as file, reading(f"run {run_id}: its artifact {CURVES!r}"):
        # The values must equal those of the members' runs to the last digit.
        frame = pd.read_csv(file, dtype=_TEXTS, keep_default_na=False, na_values=[""], float_precision="round_trip")
        table = frame.assign(stage_run=run_id, stopped_by=frame["stopped_by"].fillna(""))
        return table.astype(_COLUMNS)


def _of_member_runs(run_ids: Sequence[str], tracking_uri: str | None) -> list[pd.DataFrame]:
    """Return the curves from the metrics of the members' runs, as earlier versions logged no table.

    This takes six requests a member.
    """
    client = tracking_client(tracking_uri)
    members = runs.members(run_ids, wide=True, tracking_uri=tracking_uri)
    members = members[members["split"] == "val"]
    rows = members[[name for name in _COLUMNS if name != "epoch"]].to_dict("records")
    return [_curve(client, row) for row in rows]


def _curve(client: MlflowClient, member: dict[Hashable, Any]) -> pd.DataFrame:
    names = [name for name in client.get_run(member["run_id"]).data.metrics if name.startswith(_PREFIX)]
    series = {
        name.removeprefix(_PREFIX): pd.Series(
            {point.step: point.value for point in client.get_metric_history(member["run_id"], name)}, dtype="float64"
        )
        for name in sorted(names)
    }
    frame = pd.DataFrame(series).sort_index().rename_axis("epoch").reset_index()
    return frame.assign(**{str(name): value for name, value in member.items()})


def stopped(
    frame: pd.DataFrame,
    metric: str,
    *,
    patience: int = 0,
    min_gain: float = 0.0,
    target: float | None = None,
    stop_rules: Sequence[str] = DEFAULT_STOP_RULES,
) -> pd.DataFrame:
    """Apply stop rules to curves that were trained to their end.

    Args:
        frame: as `curves` returns it.
        metric: the column that the rules watch; the best epoch is that of its largest value.
        patience: as parameter of `retrain`.
        min_gain: likewise.
        target: likewise.
        stop_rules: names of the rules.

    Returns:
        One row a member: stage_run, run_id, member, classes, epochs (in full), epochs_run, epochs_saved, value (the best
        until the stop), given_up (the best of all epochs less `value`).
    """
    rows = []
    for run_id, curve in frame.sort_values("epoch").groupby("run_id", sort=False):
        values = curve[metric].to_numpy()
        run = _epochs_run(values.tolist(), stop_rules, patience=patience, min_gain=min_gain, target=target)
        rows.append(
            {
                **{name: curve[name].iloc[0] for name in ("stage_run", "member", "classes")},
                "run_id": run_id,
                "epochs": len(values),
                "epochs_run": run,
                "epochs_saved": len(values) - run,
                "value": values[:run].max(),
                "given_up": values.max() - values[:run].max(),
            }
        )
    return pd.DataFrame(rows)


def _epochs_run(values: list[float], rules: Sequence[str], **parameters: Any) -> int:
    """Return the number of epochs after which the rules stop a training with these values of its metric."""
    stops = (epochs for epochs in range(1, len(values)) if reason_to_stop(rules, values[:epochs], **parameters))
    return next(stops, len(values))
