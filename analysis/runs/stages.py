"""The runs of a stage, and everything that a run stands on."""

import json

import pandas as pd
from mlflow.tracking import MlflowClient

from analysis import tags
from analysis.runs.cache import finished_runs
from analysis.runs.logged import UNFINISHED, LoggedRun, Query, answering, kept_at_once
from analysis.runs.tables import frame_of

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
    """All runs of a stage, newest first, in every experiment of the tracking store that MLflow is set to.

    Finished runs are kept on this machine and only what is new is read. Runs that end, fail, go on, are deleted or restored
    show at the next call; a name, tag or metric that was changed on a run after its end shows with `fresh` only
    (`analysis.runs.cache` says where they are kept, and what else can be missed).

    Args:
        stage: baseline, activations, group, prune, retrain, evaluate, register, report or main.
        include_reused: also list runs that were answered from the cache (column `reused`: the run that answered); they are
            found through the stage of that run.
        finished_only: leave out runs that run, failed or were killed.
        fresh: read every run anew.

    Returns:
        Columns run_id, name, stage, status, start (UTC), seconds, parent, fingerprint, reused; `upstream.<stage>` (ids of the
        runs that it stands on); `config.<parameter>` typed as configured; `metrics.<name>` (fractions, counts, ms as DESIGN
        names them).
    """
    client = MlflowClient()
    rows = [_stage_row(run) for run in _runs(client, f"tags.`{tags.STAGE}` = '{stage}'", finished_only, fresh)]
    if include_reused:
        own = {row["run_id"]: row for row in rows}
        for run in _runs(client, f"tags.`{tags.REUSED}` LIKE '%'", finished_only, fresh):
            answered_by = own.get(run.tags[tags.REUSED])
            if answered_by is not None:
                rows.append({**answered_by, **identity(run), "stage": stage, "reused": answered_by["run_id"]})
    frame = frame_of(rows, _STAGE_COLUMNS)
    return frame.sort_values("start", ascending=False, kind="stable", ignore_index=True)


def lineage(run_id: str) -> pd.DataFrame:
    """Everything that a run stands on, itself last.

    Returns:
        Columns stage, run_id, name, status, fingerprint, data_digest, start (UTC), in the order in which data flowed.
    """
    client = MlflowClient()
    itself = answering(client, run_id)
    upstream = [LoggedRun.of(client.get_run(each)) for each in itself.upstream.values()]
    # A run stands on all that its upstream runs stand on, so fewer upstream runs come first. The run itself is last, also where
    # it is a member's run, which shares the tags of its stage.
    ordered = [*sorted(upstream, key=lambda run: len(run.upstream)), itself]
    rows = [
        {
            **identity(run),
            "stage": run.tags.get(tags.STAGE, ""),
            "fingerprint": run.tags.get(tags.FINGERPRINT, ""),
            "data_digest": run.tags.get(tags.DATA_DIGEST, ""),
        }
        for run in ordered
    ]
    return frame_of(rows, _LINEAGE_COLUMNS)[list(_LINEAGE_COLUMNS)]


def identity(run: LoggedRun) -> dict[str, object]:
    """What every run has: run_id, name, status, start (UTC), seconds, parent."""
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "start": pd.Timestamp(run.start, unit="ms", tz="UTC"),
        "seconds": (run.end - run.start) / 1000 if run.end else None,
        "parent": run.parent,
    }


def findings(run: LoggedRun) -> dict[str, object]:
    """What a run was asked for and what it found, as columns `config.<parameter>` and `metrics.<name>`."""
    return {
        **{f"config.{name}": value for name, value in json.loads(run.config).items()},
        **{f"metrics.{name}": value for name, value in run.metrics.items()},
    }


def _runs(client: MlflowClient, condition: str, finished_only: bool, fresh: bool) -> list[LoggedRun]:
    # A run that ends between the two readings is in both.
    unfinished = [] if finished_only else Query.to(client, f"{condition} and {UNFINISHED}").runs()
    finished = {run.run_id: run for run in finished_runs(client, condition, fresh=fresh)}
    both = {run.run_id: run for run in unfinished} | finished
    return sorted(both.values(), key=lambda run: (-run.start, run.run_id))


def _stage_row(run: LoggedRun) -> dict[str, object]:
    return {
        **identity(run),
        "stage": run.tags[tags.STAGE],
        "fingerprint": run.tags.get(tags.FINGERPRINT, ""),
        "reused": "",
        **{f"upstream.{stage}": run_id for stage, run_id in run.upstream.items()},
        **findings(run),
    }
