"""The studies that `tune` has made."""

import pandas as pd

from sensai.analysis.runs.frames import metric, tag
from sensai.analysis.runs.queries import pages
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.staged import configs, identity
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_FOUND = ("hypervolume", "base_val_accuracy", "best_val_accuracy", "best_flops_speedup")
_TAGGED = {"study": tags.STUDY, "dataset": tags.DATASET, "arch": tags.ARCH}
_STUDY_COLUMNS = {
    **dict.fromkeys(("run_id", "name", "experiment", "study", "dataset", "arch", "objective", "mode"), "str"),
    "trials": "Int64",
    **dict.fromkeys(_FOUND, "float64"),
    "start": "datetime64[ms, UTC]",
    "seconds": "float64",
}


def studies(*, fresh: bool = False) -> pd.DataFrame:
    """The finished runs of `tune`, newest first: of a study that was gone on with there are several, each with what it knew.

    They are kept on this machine as `stage_runs` keeps its runs. Their trials are `runs.table(run_id, TRIALS)`; all
    parameters are columns of `stage_runs("tune")`.

    Args:
        fresh: read every run anew.

    Returns:
        Columns run_id, name, experiment (its name), study, dataset, arch, objective (flops_max, flops_total or latency), mode
        (front or constrained), trials (results that it knew, logged ones among them), hypervolume (accuracy times cost, a share
        of the base model's), base_val_accuracy, best_val_accuracy (fractions; of what is recommended), best_flops_speedup (of
        that, base model / largest member), start (UTC), seconds. What is recommended, and the hypervolume, are missing where no
        trial had finished.
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
