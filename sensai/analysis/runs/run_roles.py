"""The roles of runs: whether what they made is an ensemble, or a yardstick that one is compared with."""

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sensai.analysis.runs.frames import metric, run_frame, tag
from sensai.analysis.runs.queries import LoggedRun
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.run_ids import FEW
from sensai.evaluation.roles import BASE, CONTROL, ENSEMBLE, REPLICAS
from sensai.tracking import tags

_METHOD = r'"method":\s*"([^"]*)"'


def roles(runs: pd.DataFrame, client: MlflowClient) -> "pd.Series[str]":
    """Return the role of each run: ensemble, control, replicas or base; NaN for one without members.

    Evaluations of earlier versions and all other stages have no tag for it. Their role follows from the method and the sizes
    that the run, or the run of `prune` on which it stands, has logged.

    Args:
        runs: as `run_frame` returns them.
        client: of their store.
    """
    own = tag(runs, tags.ROLE).fillna(_by_sizes(runs))
    pruned = tag(runs, f"{tags.UPSTREAM}prune")
    wanted = pruned[own.isna()].dropna().unique()
    if not len(wanted):
        return own
    found = _prune_runs(wanted.tolist(), client)
    return own.fillna(pruned.map(_by_sizes(found).set_axis(found["run_id"])))


def role_of(table: pd.DataFrame) -> "pd.Series[str]":
    """Return what each row is compared as: ensemble, replicas, control or base; NaN where its members are not known.

    Args:
        table: columns method, members, flops_max and flops_base. Replicas are told by the method. A single network is the
            control, or with all FLOPs of the base model that model, trained further.
    """
    single = (table["members"] == 1).fillna(False)
    whole = (table["flops_max"] == table["flops_base"]).fillna(False)
    found = np.select(
        [table["members"].isna(), table["method"] == REPLICAS, single & whole, single],
        ["", REPLICAS, BASE, CONTROL],
        ENSEMBLE,
    )
    return pd.Series(found, index=table.index, dtype="str").replace("", np.nan)


def _by_sizes(runs: pd.DataFrame) -> "pd.Series[str]":
    """Return the roles that follow from what the runs have logged themselves."""
    # `group` has made no members yet, and knows their number.
    members = metric(runs, "members").fillna(metric(runs, "groups"))
    sizes = {name: metric(runs, name) for name in ("flops_max", "flops_base")}
    return role_of(pd.DataFrame({"method": runs["config"].str.extract(_METHOD)[0], "members": members, **sizes}))


def _prune_runs(run_ids: list[str], client: MlflowClient) -> pd.DataFrame:
    """Return the runs of `prune` with these ids, as far as they are still there."""
    if len(run_ids) > FEW:
        return finished_runs(client, f"tags.`{tags.STAGE}` = 'prune'")
    found = []
    for run_id in run_ids:
        try:
            found.append(LoggedRun.of(client.get_run(run_id)))
        except MlflowException:  # It was purged.
            continue
    return run_frame(found)
