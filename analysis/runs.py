"""Logged runs as DataFrames: typed columns, one query a page of runs, no artifact read per row.

Parameters come with their types from the tag `sensai.config`. Every function has the same fixed columns for no run and for
many; further columns hold whatever parameters and metrics the runs have.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from analysis import tags
from analysis.artifacts import downloaded

_PAGE = 1000

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
_MEMBER_COLUMNS = {
    "run_id": "str",
    "stage_run": "str",
    "split": "str",
    "member": "int64",
    "classes": "str",
    "binary_accuracy": "float64",
    "balanced_accuracy": "float64",
    "roc_auc": "float64",
    "params": "float64",
    "flops": "float64",
    "epochs_run": "float64",
    "seconds": "float64",
    "stopped_by": "str",
}
_LAYER_COLUMNS = {
    "member": "int64",
    "classes": "str",
    "depth": "int64",
    "site": "str",
    "channels": "int64",
    "kept": "int64",
}
_SIZE_COLUMNS = {
    "member": "int64",
    "classes": "str",
    "channels_kept": "int64",
    "params": "int64",
    "flops": "int64",
    "bytes": "int64",
}
_ENSEMBLE_COLUMNS = {
    "model_name": "str",
    "version": "int64",
    "aliases": "str",
    "created": "datetime64[ms, UTC]",
    "run_id": "str",
    "evaluate_run": "str",
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


def stage_runs(stage: str, *, include_reused: bool = False, finished_only: bool = True) -> pd.DataFrame:
    """All runs of a stage, newest first, in every experiment of the tracking store that MLflow is set to.

    Args:
        stage: baseline, activations, group, prune, retrain, evaluate, register, report or main.
        include_reused: also list runs that were answered from the cache (column `reused`: the run that answered); they are
            found through the stage of that run.
        finished_only: leave out runs that run, failed or were killed.

    Returns:
        Columns run_id, name, stage, status, start (UTC), seconds, parent, fingerprint, reused; `upstream.<stage>` (ids of the
        runs that it stands on); `config.<parameter>` typed as configured; `metrics.<name>` (fractions, counts, ms as DESIGN
        names them).
    """
    client = MlflowClient()
    status = " and attributes.status = 'FINISHED'" if finished_only else ""
    rows = [_stage_row(run) for run in _search(client, f"tags.`{tags.STAGE}` = '{stage}'{status}")]
    if include_reused:
        own = {row["run_id"]: row for row in rows}
        for run in _search(client, f"tags.`{tags.REUSED}` LIKE '%'{status}"):
            answered_by = own.get(run.data.tags[tags.REUSED])
            if answered_by is not None:
                rows.append({**answered_by, **_identity(run), "stage": stage, "reused": answered_by["run_id"]})
    return _frame(rows, _STAGE_COLUMNS).sort_values("start", ascending=False, ignore_index=True)


def members(run_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """The member runs: validation metrics of `retrain` (split `val`) and test metrics of `evaluate` (split `test`).

    Args:
        run_ids: of retrain or evaluate runs; None: all.

    Returns:
        Columns run_id, stage_run (the retrain or evaluate run), split, member, classes (joined by +), binary_accuracy,
        balanced_accuracy, roc_auc (fractions), params, flops (2 x multiply-accumulates), epochs_run, seconds, stopped_by.
    """
    wanted = None if run_ids is None else set(run_ids)
    rows = []
    for run in _search(MlflowClient(), f"tags.`{tags.STAGE}` = 'member' and attributes.status = 'FINISHED'"):
        run_tags, metrics = run.data.tags, run.data.metrics
        upstream = [run_tags.get(tags.UPSTREAM + stage) for stage in ("evaluate", "retrain")]
        stage_run = next(run_id for run_id in upstream if run_id)
        if wanted is not None and stage_run not in wanted:
            continue
        rows.append(
            {
                **{name: metrics.get(name) for name, kind in _MEMBER_COLUMNS.items() if kind == "float64"},
                "run_id": run.info.run_id,
                "stage_run": stage_run,
                "split": run_tags[tags.SPLIT],
                "member": int(run_tags[tags.MEMBER]),
                "classes": "+".join(json.loads(run_tags[tags.CLASSES])),
                "stopped_by": run_tags.get(tags.STOPPED_BY, ""),
            }
        )
    frame = _frame(rows, _MEMBER_COLUMNS)
    return frame.sort_values(["stage_run", "split", "member"], ignore_index=True)


def layers(run_id: str) -> pd.DataFrame:
    """The irregular widths of one pruning: a row for every member and site.

    Args:
        run_id: a prune run, or a later one that stands on it.

    Returns:
        Columns member, classes, depth (position of the site), site, channels (of the base model), kept.

    Raises:
        ValueError: the run stands on no pruning.
    """
    return table(_prune_run(run_id), "layers.csv").astype(_LAYER_COLUMNS)


def sizes(run_id: str) -> pd.DataFrame:
    """How large the members of one pruning are: a row for each.

    Args:
        run_id: a prune run, or a later one that stands on it.

    Returns:
        Columns member, classes, channels_kept (over all sites), params, flops (2 x multiply-accumulates of one image), bytes
        (of the parameters).

    Raises:
        ValueError: the run stands on no pruning.
    """
    return table(_prune_run(run_id), "members.csv").astype(_SIZE_COLUMNS)


def _prune_run(run_id: str) -> str:
    run_tags = _answering(MlflowClient().get_run(run_id).data.tags, run_id)
    own = run_tags[_SELF] if run_tags.get(tags.STAGE) == "prune" else None
    prune_run = run_tags.get(f"{tags.UPSTREAM}prune", own)
    if prune_run is None:
        raise ValueError(f"run {run_id} is no prune run and stands on none")
    return prune_run


def lineage(run_id: str) -> pd.DataFrame:
    """Everything that a run stands on, itself last.

    Returns:
        Columns stage, run_id, name, status, fingerprint, data_digest, start (UTC), in the order in which data flowed.
    """
    client = MlflowClient()
    run_tags = _answering(client.get_run(run_id).data.tags, run_id)
    upstream = [value for key, value in run_tags.items() if key.startswith(tags.UPSTREAM)]
    runs = [client.get_run(each) for each in [*upstream, run_tags[_SELF]]]
    rows = [
        {
            **_identity(run),
            "stage": run.data.tags.get(tags.STAGE, ""),
            "fingerprint": run.data.tags.get(tags.FINGERPRINT, ""),
            "data_digest": run.data.tags.get(tags.DATA_DIGEST, ""),
        }
        for run in runs
    ]
    # A run stands on all that its upstream runs stand on, so fewer upstream runs come first.
    order = [sum(key.startswith(tags.UPSTREAM) for key in run.data.tags) for run in runs]
    # The run itself is last, also where it is a member's run, which shares the tags of its stage.
    order[-1] = max(order) + 1
    ordered = [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
    return _frame(ordered, _LINEAGE_COLUMNS)[list(_LINEAGE_COLUMNS)]


def ensembles(model_name: str | None = None) -> pd.DataFrame:
    """The versions of registered ensembles, newest first.

    Args:
        model_name: of one registered model; None: all.

    Returns:
        Columns model_name, version, aliases (joined by commas: candidate, champion, ...), created (UTC), run_id (the register
        run), evaluate_run; `tags.<name>` (text, as they stand on the version); `metrics.<name>` of the evaluate run (test
        data; fractions, counts, ms as DESIGN names them).
    """
    client = MlflowClient()
    wanted = f"name = '{model_name}'" if model_name else None
    evaluated = {
        run.info.run_id: run.data.metrics
        for run in _search(client, f"tags.`{tags.STAGE}` = 'evaluate' and attributes.status = 'FINISHED'")
    }
    aliases = {
        model.name: model.aliases
        for model in _pages(lambda token: client.search_registered_models(wanted, page_token=token))
    }
    rows = [
        _ensemble_row(version, aliases[version.name], evaluated)
        for version in _pages(lambda token: client.search_model_versions(wanted, page_token=token))
    ]
    return _frame(rows, _ENSEMBLE_COLUMNS).sort_values(["created", "version"], ascending=False, ignore_index=True)


def table(run_id: str, path: str) -> pd.DataFrame:
    """A table that a run logged as CSV."""
    with downloaded(run_id, path) as file:
        return read_table(file)


def read_table(path: str | Path) -> pd.DataFrame:
    """A logged table; names of classes and sites stay text, also where they look like numbers or missing values."""
    return pd.read_csv(path, dtype={"classes": "str", "site": "str"}, keep_default_na=False, na_values=[""])


_SELF = "run_id"


def _answering(run_tags: dict[str, str], run_id: str) -> dict[str, str]:
    """The tags of the run that answered, which is another one where the run was reused, with its id under `_SELF`."""
    reused = run_tags.get(tags.REUSED)
    if reused is not None:
        return {**MlflowClient().get_run(reused).data.tags, _SELF: reused}
    return {**run_tags, _SELF: run_id}


def _search(client: MlflowClient, filter_string: str) -> Iterator[Run]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return _pages(lambda token: client.search_runs(experiments, filter_string, max_results=_PAGE, page_token=token))


def _pages(query: Callable[[str | None], PagedList]) -> Iterator[Any]:
    """What a query gives page by page."""
    token = None
    while True:
        page = query(token)
        yield from page
        token = page.token
        if not token:
            return


def _identity(run: Run) -> dict[str, object]:
    info = run.info
    ended = info.end_time
    return {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "start": pd.Timestamp(info.start_time, unit="ms", tz="UTC"),
        "seconds": (ended - info.start_time) / 1000 if ended else None,
        "parent": run.data.tags.get("mlflow.parentRunId", ""),
    }


def _stage_row(run: Run) -> dict[str, object]:
    run_tags = run.data.tags
    config = json.loads(run_tags.get(tags.CONFIG, "{}"))
    return {
        **_identity(run),
        "stage": run_tags[tags.STAGE],
        "fingerprint": run_tags.get(tags.FINGERPRINT, ""),
        "reused": "",
        **{
            f"upstream.{key.removeprefix(tags.UPSTREAM)}": value
            for key, value in run_tags.items()
            if key.startswith(tags.UPSTREAM)
        },
        **{f"config.{name}": value for name, value in config.items()},
        **{f"metrics.{name}": value for name, value in run.data.metrics.items()},
    }


def _ensemble_row(
    version: ModelVersion, aliases: dict[str, str], evaluated: dict[str, dict[str, float]]
) -> dict[str, object]:
    evaluate_run = version.tags.get(f"{tags.UPSTREAM}evaluate", "")
    return {
        "model_name": version.name,
        "version": int(version.version),
        "aliases": ",".join(sorted(name for name, number in aliases.items() if int(number) == int(version.version))),
        "created": pd.Timestamp(version.creation_timestamp, unit="ms", tz="UTC"),
        "run_id": version.run_id or "",
        "evaluate_run": evaluate_run,
        **{f"tags.{name}": value for name, value in version.tags.items()},
        **{f"metrics.{name}": value for name, value in evaluated.get(evaluate_run, {}).items()},
    }


def _frame(rows: list[dict], columns: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*columns, *frame.columns.difference(list(columns), sort=False)])
    return frame.astype(columns)
