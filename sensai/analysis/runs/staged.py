"""The runs of a stage, and the runs that a run stands on."""

import json

import pandas as pd
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sensai.analysis.runs.frames import TAG, metrics, run_frame, tag, updated
from sensai.analysis.runs.queries import UNFINISHED, LoggedRun, Query, answering, kept_at_once
from sensai.analysis.runs.run_cache import finished_runs
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_STAGE_COLUMNS = {
    "run_id": "str",
    "name": "str",
    "stage": "str",
    "status": "str",
    "start": "datetime64[ms, UTC]",
    "seconds": "float64",
    "parent": "str",
    "fingerprint": "str",
    "reused": "str",
}
_LINEAGE_COLUMNS = {
    "stage": "str",
    "run_id": "str",
    "name": "str",
    "status": "str",
    "fingerprint": "str",
    "data_digest": "str",
    "start": "datetime64[ms, UTC]",
}


@kept_at_once()
def stage_runs(
    stage: str, *, include_reused: bool = False, finished_only: bool = True, fresh: bool = False
) -> pd.DataFrame:
    """Return all runs of a stage, newest first, in every experiment of the tracking store that MLflow is set to.

    Finished runs are kept on this machine, and only new ones are read. Runs that end, fail, go on, are deleted or restored
    show at the next call. A name, tag or metric that changed after a run's end shows with `fresh` only.
    `sensai.analysis.runs.run_cache` says where runs are kept, and which other changes can be missed.

    Args:
        stage: baseline, activations, group, prune, retrain, evaluate, register, report or main.
        include_reused: also list runs that reused the results of a run of this stage; the column `reused` names that run.
        finished_only: leave out runs that go on, failed or were killed.
        fresh: read every run anew.

    Returns:
        Columns run_id, name, stage, status, start (UTC), seconds, parent, fingerprint, reused; `upstream.<stage>` (ids of the
        runs that it stands on); `config.<parameter>` typed as configured; `metrics.<name>` (fractions, counts, ms as DESIGN
        names them).
    """
    client = tracking_client()
    frame = _stage_table(_runs(client, f"tags.`{tags.STAGE}` = '{stage}'", finished_only, fresh))
    if include_reused:
        reused = _runs(client, f"tags.`{tags.REUSED}` LIKE '%'", finished_only, fresh)
        frame = pd.concat([frame, _answered(reused, frame)])
    return frame.sort_values("start", ascending=False, kind="stable", ignore_index=True)


def lineage(run_id: str) -> pd.DataFrame:
    """Return everything that a run stands on, with the run itself last.

    Returns:
        Columns stage, run_id, name, status, fingerprint, data_digest, start (UTC), in the order in which data flowed.
    """
    client = tracking_client()
    itself = answering(client, run_id)
    upstream = [LoggedRun.of(client.get_run(each)) for each in itself.upstream.values()]
    # A run stands on all that its upstream runs stand on, so runs with fewer of them come first. The run itself is not sorted,
    # because a member's run has the upstream tags of its stage.
    ordered = [*sorted(upstream, key=lambda run: len(run.upstream)), itself]
    found = run_frame(ordered)
    named = {"stage": tags.STAGE, "fingerprint": tags.FINGERPRINT, "data_digest": tags.DATA_DIGEST}
    frame = identity(found).assign(**{column: tag(found, name).fillna("") for column, name in named.items()})
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


def _stage_table(runs: pd.DataFrame) -> pd.DataFrame:
    upstream = runs.filter(like=TAG + tags.UPSTREAM)
    columns = [
        identity(runs).assign(
            stage=tag(runs, tags.STAGE), fingerprint=tag(runs, tags.FINGERPRINT).fillna(""), reused=""
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
