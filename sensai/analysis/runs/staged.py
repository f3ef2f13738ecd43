"""The runs of a stage, and the runs that a run stands on."""

import json
from collections.abc import Sequence

import pandas as pd
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sensai.analysis.runs.frames import TAG, metrics, run_frame, tag, updated
from sensai.analysis.runs.queries import UNFINISHED, LoggedRun, Query, kept_at_once
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.run_ids import answering_run
from sensai.analysis.runs.run_roles import roles
from sensai.errors import suggestion
from sensai.tracking import tags
from sensai.tracking.artifact_names import ENTRY_POINTS
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.tracking.tracking_store import tracking_client

_STAGE_COLUMNS = {
    "run_id": "str",
    "name": "str",
    "role": "str",
    "stage": "str",
    "status": "str",
    "start": "datetime64[ms, UTC]",
    "seconds": "float64",
    "parent": "str",
    "fingerprint": "str",
    "reused": "str",
}
# The columns of the narrow form: of each run, its parameters, and the metrics of each stage. Another stage has all metrics.
_FIRST = ("run_id", "name", "role", "start", "seconds")
_PARAMETERS = ("dataset", "arch", "method", "n_groups", "ratio", "epochs", "seed")
_EVALUATED = (
    *("accuracy", "base_accuracy", "accuracy_drop", "flops_speedup"),
    *("latency_base_ms", "latency_member_max_ms", "latency_ensemble_ms"),
)
_METRICS = {
    "baseline": ("val_accuracy", "params", "flops"),
    "activations": ("images_per_s", "overhead"),
    "group": ("groups", "coupling_within", "coupling_between"),
    "prune": ("val_accuracy", "members", "channels_kept", "flops_base", "flops_max", "flops_total"),
    "retrain": ("val_accuracy", CALIBRATED_VAL_ACCURACY, "epochs_saved"),
    "evaluate": _EVALUATED,
    "main": _EVALUATED,
    "tune": ("trials", f"best_{CALIBRATED_VAL_ACCURACY}", "best_flops_speedup", "hypervolume"),
}
_STAGES = (*ENTRY_POINTS, "member", "trial", "cell")
_LINEAGE_COLUMNS = {
    "stage": "str",
    "run_id": "str",
    "name": "str",
    "role": "str",
    "status": "str",
    "fingerprint": "str",
    "data_digest": "str",
    "start": "datetime64[ms, UTC]",
}


@kept_at_once()
def stage_runs(
    stage: str,
    *,
    include_reused: bool = False,
    finished_only: bool = True,
    fresh: bool = False,
    wide: bool = False,
) -> pd.DataFrame:
    """Return all runs of a stage, newest first, in every experiment of the tracking store that MLflow is set to.

    Finished runs are kept on this machine, and only new ones are read. Runs that end, fail, go on, are deleted or restored
    show at the next call. A name, tag or metric that changed after a run's end shows with `fresh` only.
    `sensai.analysis.runs.run_cache` says where runs are kept, and which other changes can be missed.

    Args:
        stage: baseline, activations, group, prune, retrain, evaluate, register, report, main, tune, trial, cell or another
            entry point.
        include_reused: also list runs that reused the results of a run of this stage; the column `reused` names that run.
        finished_only: leave out runs that go on, failed or were killed.
        fresh: read every run anew.
        wide: return all columns, not only those that matter most.

    Returns:
        Columns run_id, name, role (ensemble, control, replicas or base; NaN without members), start (UTC), seconds;
        `config.<parameter>` of the main parameters, typed as configured; `metrics.<name>` of the stage's main metrics
        (fractions, counts, ms as DESIGN names them). If runs are listed that reused another or have not finished, also status
        and reused. In the wide form also stage, status, parent, fingerprint, reused; `upstream.<stage>` (ids of the runs that
        a run stands on); all parameters and metrics that a run has.

    Raises:
        ValueError: there is no such stage.
    """
    if stage not in _STAGES:
        raise ValueError(f"stage={stage!r}: {suggestion(stage, _STAGES)}")
    client = tracking_client()
    frame = _stage_table(_runs(client, f"tags.`{tags.STAGE}` = '{stage}'", finished_only, fresh), client)
    if include_reused:
        reused = _runs(client, f"tags.`{tags.REUSED}` LIKE '%'", finished_only, fresh)
        frame = pd.concat([frame, _answered(reused, frame)])
    frame = frame.sort_values("start", ascending=False, kind="stable", ignore_index=True)
    if wide:
        return frame
    states = ("status", "reused") if include_reused or not finished_only else ()
    return _narrow(frame, stage, states)


def lineage(run_id: str) -> pd.DataFrame:
    """Return everything that a run stands on, with the run itself last.

    Args:
        run_id: of any run, whole or shortened.

    Returns:
        Columns stage, run_id, name, role (see `stage_runs`), status, fingerprint, data_digest, start (UTC), in the order in
        which data flowed.

    Raises:
        ValueError: the id names no run, or several.
    """
    client = tracking_client()
    itself = answering_run(client, run_id)
    upstream = [LoggedRun.of(client.get_run(each)) for each in itself.upstream.values()]
    # A run stands on all that its upstream runs stand on, so runs with fewer of them come first. The run itself is not sorted,
    # because a member's run has the upstream tags of its stage.
    ordered = [*sorted(upstream, key=lambda run: len(run.upstream)), itself]
    found = run_frame(ordered)
    named = {"stage": tags.STAGE, "fingerprint": tags.FINGERPRINT, "data_digest": tags.DATA_DIGEST}
    columns = {column: tag(found, name).fillna("") for column, name in named.items()}
    frame = identity(found).assign(role=roles(found, client), **columns)
    return frame.set_index("run_id").loc[[run.run_id for run in ordered]].reset_index()[list(_LINEAGE_COLUMNS)]


def identity(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that every run has: run_id, name, status, start (UTC), seconds, parent."""
    columns = {
        **{name: runs[name] for name in ("run_id", "name", "status")},
        "start": runs["start"].astype("datetime64[ms, UTC]"),
        "seconds": ((runs["end"] - runs["start"]) / 1000).astype("float64"),
        "parent": tag(runs, MLFLOW_PARENT_RUN_ID).fillna(""),
    }
    return pd.DataFrame(columns)


def configs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the configurations of runs, a typed column for each parameter."""
    return pd.DataFrame([json.loads(config) for config in runs["config"]], index=runs.index)


def _runs(client: MlflowClient, condition: str, finished_only: bool, fresh: bool) -> pd.DataFrame:
    if finished_only:
        return finished_runs(client, condition, fresh=fresh)
    # A run that ends between the two readings is in both, and its finished row is kept.
    unfinished = Query.to(client, f"{condition} and {UNFINISHED}").runs()
    return updated(run_frame(unfinished), finished_runs(client, condition, fresh=fresh))


def _narrow(frame: pd.DataFrame, stage: str, states: Sequence[str]) -> pd.DataFrame:
    """Return the columns that matter most; they are there even if no run has a value."""
    names = _METRICS.get(stage)
    measured = [f"metrics.{name}" for name in names] if names else list(metrics(frame).columns)
    asked = [f"config.{name}" for name in _PARAMETERS]
    narrow = frame.reindex(columns=[*_FIRST, *states, *asked, *measured])
    return narrow.astype(dict.fromkeys(measured, "float64"))


def _stage_table(runs: pd.DataFrame, client: MlflowClient) -> pd.DataFrame:
    upstream = runs.filter(like=TAG + tags.UPSTREAM)
    columns = [
        identity(runs).assign(
            role=roles(runs, client),
            stage=tag(runs, tags.STAGE),
            fingerprint=tag(runs, tags.FINGERPRINT).fillna(""),
            reused="",
        )[list(_STAGE_COLUMNS)],
        upstream.rename(columns=lambda name: name.removeprefix(TAG + tags.UPSTREAM)).add_prefix("upstream."),
        configs(runs).add_prefix("config."),
        metrics(runs),
    ]
    return pd.concat(columns, axis="columns").astype(_STAGE_COLUMNS)


def _answered(reused: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of reused results, each with the identity of the run that reused them.

    A run is left out if the run that it reused is not in `answers`.
    """
    found = identity(reused).assign(reused=tag(reused, tags.REUSED))
    kept = answers.drop(columns=[*identity(reused).columns, "reused"]).set_index(answers["run_id"])
    return found.merge(kept, left_on="reused", right_index=True)[list(answers.columns)]
