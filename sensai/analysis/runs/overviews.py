"""All runs of stages, studies and their cells: what ran, on what, and with which code."""

import pandas as pd

from sensai.analysis.runs.frames import tag
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.run_ids import STAGE_RUNS
from sensai.analysis.runs.run_roles import roles
from sensai.analysis.runs.staged import identity
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_TAGGED = {
    **{"stage": tags.STAGE, "dataset": tags.DATASET, "arch": tags.ARCH, "data_digest": tags.DATA_DIGEST},
    **{"study": tags.STUDY, "trial": tags.TRIAL, "cell": tags.CELL, "retrain_run": f"{tags.UPSTREAM}retrain"},
    **{"precision": tags.PRECISION, "device": tags.DEVICE, "commit": tags.COMMIT},
}
_COLUMNS = {
    **dict.fromkeys(("run_id", "stage", "name", "role"), "str"),
    "start": "datetime64[ms, UTC]",
    "seconds": "float64",
    "parent": "str",
    **dict.fromkeys((name for name in _TAGGED if name != "stage"), "str"),
    "config": "str",
}


# The columns of the narrow form.
_FEW = ("run_id", "stage", "name", "role", "start", "seconds", "dataset", "arch", "study")


def overview(*, fresh: bool = False, wide: bool = False) -> pd.DataFrame:
    """Return all finished runs but those of members, newest first.

    They are kept on this machine, as `stage_runs` keeps its own.

    Args:
        fresh: read every run anew.
        wide: return all columns, not only those that matter most.

    Returns:
        Columns run_id, stage (also main, tune, cell, trial and so on), name, role (see `stage_runs`), start (UTC), seconds,
        dataset, arch, study. In the wide form also parent (empty at the top), data_digest, trial, cell (the place of a cell as
        JSON), retrain_run (that it stands on); precision (if it was measured), device, commit; config (JSON). A text is NaN
        where a run has none.
    """
    client = tracking_client()
    found = finished_runs(client, STAGE_RUNS, fresh=fresh)
    columns = {name: tag(found, each) for name, each in _TAGGED.items()}
    frame = identity(found).assign(role=roles(found, client), **columns, config=found["config"]).astype(_COLUMNS)
    return frame[list(_COLUMNS if wide else _FEW)]
