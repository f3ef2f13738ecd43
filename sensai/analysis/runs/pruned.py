"""The members of ensembles: their metrics, their sizes and the widths of their layers."""

import json
import warnings
from collections.abc import Sequence
from functools import lru_cache

import pandas as pd
from mlflow.tracking import MlflowClient

from sensai.analysis.grouped import Grouped
from sensai.analysis.runs.frames import metric, run_frame, tag
from sensai.analysis.runs.queries import FINISHED, LoggedRun, Query, answering, kept_at_once
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.run_ids import FEW, STAGE_RUNS, answering_run, whole_ids
from sensai.analysis.runs.run_roles import roles
from sensai.analysis.runs.tables import table
from sensai.tracking import tags
from sensai.tracking.artifact_names import GROUPS, LAYERS, MEMBERS_TABLE
from sensai.tracking.artifacts import downloaded
from sensai.tracking.tracking_store import tracking_client

_GROUP_RUN = f"{tags.UPSTREAM}group"
_STAGES = ("retrain", "evaluate")
_IS_MEMBER = f"tags.`{tags.STAGE}` = 'member'"

_MEMBER_COLUMNS = {
    "run_id": "str",
    "stage_run": "str",
    "split": "str",
    "member": "int64",
    "classes": "str",
    "role": "str",
    "binary_accuracy": "float64",
    "balanced_accuracy": "float64",
    "roc_auc": "float64",
    "average_precision": "float64",
    "params": "float64",
    "flops": "float64",
    "epochs_run": "float64",
    "seconds": "float64",
    "stopped_by": "str",
}
_MEMBER_METRICS = [name for name, kind in _MEMBER_COLUMNS.items() if kind == "float64"]
# The columns of the narrow form.
_MAIN_COLUMNS = (
    *("run_id", "stage_run", "split", "member", "classes", "role"),
    *("binary_accuracy", "balanced_accuracy", "roc_auc", "params", "flops"),
)
_LAYER_COLUMNS = {
    "member": "int64",
    "classes": "str",
    "role": "str",
    "depth": "int64",
    "site": "str",
    "channels": "int64",
    "kept": "int64",
}
_SIZE_COLUMNS = {
    "member": "int64",
    "classes": "str",
    "role": "str",
    "channels_kept": "int64",
    "params": "int64",
    "flops": "int64",
    "bytes": "int64",
}


@kept_at_once()
def members(
    run_ids: Sequence[str] | None = None, *, fresh: bool = False, wide: bool = False, tracking_uri: str | None = None
) -> pd.DataFrame:
    """Return the member runs: validation metrics of `retrain` (split `val`) and test metrics of `evaluate` (split `test`).

    The members of up to 20 runs are read from the server each time. Otherwise all members are kept on this machine, as
    `stage_runs` keeps its runs.

    Args:
        run_ids: ids of retrain or evaluate runs, whole or shortened, or of runs that reused them; None: all.
        fresh: read every run anew.
        wide: return all columns, not only those that matter most.
        tracking_uri: of the store that holds them; None: the one that MLflow is set to.

    Returns:
        Columns run_id, stage_run (the retrain or evaluate run), split, member, classes (joined by +), role (see `stage_runs`),
        binary_accuracy, balanced_accuracy, roc_auc (fractions), params, flops (2 x multiply-accumulates). In the wide form also
        average_precision (a fraction), epochs_run, seconds, stopped_by. Runs without average_precision are of earlier versions:
        the first two accuracies are at the natural threshold.

    Raises:
        ValueError: an id names no run, several, or one of a stage that has no members.
    """
    client = tracking_client(tracking_uri)
    wanted = None if run_ids is None else _with_members(client, run_ids)
    if wanted is not None and len(wanted) <= FEW:
        found = run_frame([run for run_id in sorted(wanted) for run in _members_of(client, run_id)])
    else:
        found = finished_runs(client, _IS_MEMBER, fresh=fresh)
    frame = _member_table(found, client)
    if wanted is not None:
        frame = frame[frame["stage_run"].isin(wanted)]
    frame = frame.sort_values(["stage_run", "split", "member"], kind="stable", ignore_index=True)
    return frame if wide else frame[list(_MAIN_COLUMNS)]


def _with_members(client: MlflowClient, run_ids: Sequence[str]) -> set[str]:
    """Return the whole ids of the runs that have the members of some runs.

    Raises:
        ValueError: an id names no run, several, or one of a stage that has no members.
    """
    whole = whole_ids(client, run_ids)
    if len(whole) > FEW:
        found = finished_runs(client, STAGE_RUNS)
        stages = dict(zip(found["run_id"], tag(found, tags.STAGE), strict=True))
    else:
        stages = {}
    answers = set()
    for run_id in whole:
        if stages.get(run_id) in _STAGES:
            answers.add(run_id)
            continue
        run = answering(client, run_id)
        if (stage := run.tags.get(tags.STAGE, "no stage")) not in _STAGES:
            raise ValueError(f"run_ids must name runs of {' or '.join(_STAGES)}, but {run_id} is one of {stage}")
        answers.add(run.run_id)
    return answers


def _members_of(client: MlflowClient, run_id: str) -> list[LoggedRun]:
    # Members of an evaluation stand on the retraining too, and filters have no "or", so there are two queries.
    validated = f"tags.`{tags.UPSTREAM}retrain` = '{run_id}' and tags.`{tags.SPLIT}` = 'val'"
    tested = f"tags.`{tags.UPSTREAM}evaluate` = '{run_id}'"
    query = Query.to(client, f"{_IS_MEMBER} and {FINISHED}")
    return [*query.runs(validated), *query.runs(tested)]


def _member_table(runs: pd.DataFrame, client: MlflowClient) -> pd.DataFrame:
    evaluated, retrained = (tag(runs, tags.UPSTREAM + stage) for stage in ("evaluate", "retrain"))
    columns = {
        **{name: metric(runs, name) for name in _MEMBER_METRICS},
        "run_id": runs["run_id"],
        "stage_run": evaluated.fillna(retrained),
        "split": tag(runs, tags.SPLIT),
        "member": tag(runs, tags.MEMBER),
        "classes": [
            _joined(*each, client.tracking_uri)
            for each in zip(tag(runs, tags.CLASSES), tag(runs, _GROUP_RUN), tag(runs, tags.MEMBER), strict=True)
        ],
        "role": roles(runs, client),
        "stopped_by": tag(runs, tags.STOPPED_BY).fillna(""),
    }
    return pd.DataFrame(columns)[list(_MEMBER_COLUMNS)].astype(_MEMBER_COLUMNS)


@lru_cache(maxsize=4096)
def _joined(classes: str, group_run: str, member: str, tracking_uri: str) -> str:
    """Return the classes of a member, joined by +.

    If they are many, its tag has only the first and their number, and the run of `group` has all.
    """
    content = json.loads(classes)
    if isinstance(content, list):
        return "+".join(content)
    try:
        return _groups(group_run, tracking_uri)[int(member)]
    # Artifacts may be gone or damaged, and a table with shortened names is better than none.
    except Exception as error:
        warnings.warn(
            f"the classes of members are cut short: the groups.json of run {group_run} cannot be read ({error})",
            stacklevel=2,
        )
        return f"{content['first']}+... ({content['count']} classes)"


@lru_cache(maxsize=8)
def _groups(group_run: str, tracking_uri: str) -> list[str]:
    """Return the classes of every group, joined by +."""
    with downloaded(group_run, GROUPS, tracking_uri) as file:
        grouped = Grouped.from_json(file.read_bytes())
    return ["+".join(grouped.class_names[label] for label in group) for group in grouped.groups]


def layers(run_id: str) -> pd.DataFrame:
    """Return the widths of the members of one pruning, a row for every member and site.

    Args:
        run_id: a prune run, or a later one that stands on it; whole or shortened.

    Returns:
        Columns member, classes, role (see `stage_runs`), depth (position of the site), site, channels (of the base model),
        kept.

    Raises:
        ValueError: the id names no run, or several, or the run stands on no pruning.
    """
    return _of_pruning(run_id, LAYERS, _LAYER_COLUMNS)


def sizes(run_id: str) -> pd.DataFrame:
    """Return the sizes of the members of one pruning, a row for each.

    Args:
        run_id: a prune run, or a later one that stands on it; whole or shortened.

    Returns:
        Columns member, classes, role (see `stage_runs`), channels_kept (over all sites), params, flops (2 x
        multiply-accumulates of one image), bytes (of the parameters).

    Raises:
        ValueError: the id names no run, or several, or the run stands on no pruning.
    """
    return _of_pruning(run_id, MEMBERS_TABLE, _SIZE_COLUMNS)


def _of_pruning(run_id: str, name: str, columns: dict[str, str]) -> pd.DataFrame:
    """Return a table of a run of `prune`, or of the one on which a run stands, with its role."""
    client = tracking_client()
    run = answering_run(client, run_id)
    own = run.run_id if run.tags.get(tags.STAGE) == "prune" else None
    prune_run = run.upstream.get("prune", own)
    if prune_run is None:
        raise ValueError(f"run {run_id} is no prune run and stands on none")
    (role,) = roles(run_frame([run]), client)
    return table(prune_run, name).assign(role=role)[list(columns)].astype(columns)
