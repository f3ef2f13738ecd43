"""The studies of `tune`."""

import pandas as pd

from sensai.analysis.runs.frames import metric, tag
from sensai.analysis.runs.queries import pages
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.staged import configs, identity
from sensai.tracking import tags
from sensai.tracking.metric_names import CALIBRATED_VAL_ACCURACY
from sensai.tracking.tracking_store import tracking_client

_BEST_CALIBRATED = f"best_{CALIBRATED_VAL_ACCURACY}"
_FOUND = ("hypervolume", "base_val_accuracy", _BEST_CALIBRATED, "best_val_accuracy", "best_flops_speedup")
_TAGGED = {"study": tags.STUDY, "dataset": tags.DATASET, "arch": tags.ARCH}
_STUDY_COLUMNS = {
    **dict.fromkeys(("run_id", "name", "experiment", "study", "dataset", "arch", "objective", "mode"), "str"),
    "trials": "Int64",
    **dict.fromkeys(_FOUND, "float64"),
    "start": "datetime64[ms, UTC]",
    "seconds": "float64",
}


def studies(*, fresh: bool = False) -> pd.DataFrame:
    """Return the finished runs of `tune`, newest first.

    A study that was continued has several runs, each with the results that it knew. Runs are kept on this machine as
    `stage_runs` keeps its own. `runs.table(run_id, TRIALS)` has their trials, and `stage_runs("tune")` all parameters.

    Args:
        fresh: read every run anew.

    Returns:
        Columns run_id, name, experiment (its name), study, dataset, arch, objective (flops_max, flops_total or latency), mode
        (front or constrained), trials (results that it knew, logged ones among them), hypervolume (accuracy times cost, a share
        of the base model's), base_val_accuracy (a fraction), best_calibrated_val_accuracy and best_val_accuracy (fractions, of
        the recommended trial), best_flops_speedup (of that trial, base model / largest member), start (UTC), seconds. The best
        values and the hypervolume are missing where no trial had finished. Studies of earlier versions, ranked by
        `val_accuracy`, have no best_calibrated_val_accuracy.
    """
    client = tracking_client()
    found = finished_runs(client, f"tags.`{tags.STAGE}` = 'tune'", fresh=fresh)
    names = {each.experiment_id: each.name for each in pages(lambda token: client.search_experiments(page_token=token))}
    asked = configs(found).reindex(columns=["objective", "mode"])
    columns = {
        "experiment": found["experiment_id"].map(names).fillna(""),
        **{name: tag(found, key) for name, key in _TAGGED.items()},
        **{name: metric(found, name) for name in ("trials", *_FOUND)},
    }
    return identity(found).join(asked).assign(**columns)[list(_STUDY_COLUMNS)].astype(_STUDY_COLUMNS)
