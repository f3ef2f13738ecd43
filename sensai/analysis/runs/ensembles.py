"""The versions of registered ensembles."""

from collections.abc import Mapping

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from sensai.analysis.runs.frames import metrics, selected
from sensai.analysis.runs.queries import pages
from sensai.analysis.runs.run_cache import finished_runs
from sensai.analysis.runs.run_roles import roles
from sensai.analysis.runs.tables import frame_of
from sensai.tracking import tags
from sensai.tracking.tracking_store import tracking_client

_ENSEMBLE_COLUMNS = {
    "model_name": "str",
    "version": "int64",
    "aliases": "str",
    "created": "datetime64[ms, UTC]",
    "run_id": "str",
    "evaluate_run": "str",
    "role": "str",
}
# The metrics of the narrow form.
_METRICS = (
    *("accuracy", "base_accuracy", "accuracy_drop", "flops_speedup"),
    *("latency_base_ms", "latency_member_max_ms", "latency_ensemble_ms"),
)


def ensembles(model_name: str | None = None, *, fresh: bool = False, wide: bool = False) -> pd.DataFrame:
    """Return the versions of registered ensembles, newest first.

    Args:
        model_name: name of one registered model; None: all.
        fresh: read every evaluate run anew, though `stage_runs` keeps them; versions are read anew each time.
        wide: return all columns, not only those that matter most.

    Returns:
        Columns model_name, version, aliases (joined by commas: candidate, champion, ...), created (UTC), run_id (the register
        run), evaluate_run, role (see `stage_runs`); `metrics.<name>` of the evaluate run (test data; fractions, counts, ms as
        DESIGN names them): the main ones. In the wide form all, and `tags.<name>` (text, as they stand on the version).
    """
    client = tracking_client()
    wanted = f"name = '{model_name}'" if model_name else None
    evaluated = finished_runs(client, f"tags.`{tags.STAGE}` = 'evaluate'", fresh=fresh)
    aliases = {
        model.name: model.aliases
        for model in pages(lambda token: client.search_registered_models(wanted, page_token=token))
    }
    rows = [
        _ensemble_row(version, aliases[version.name])
        for version in pages(lambda token: client.search_model_versions(wanted, page_token=token))
    ]
    frame = frame_of(rows, _ENSEMBLE_COLUMNS)
    evaluated = selected(evaluated, evaluated["run_id"].isin(frame["evaluate_run"]))
    found = roles(evaluated, client).set_axis(evaluated["run_id"])
    frame = frame.assign(role=frame["evaluate_run"].map(found)).astype({"role": "str"})
    frame = frame.join(metrics(evaluated).set_index(evaluated["run_id"]), on="evaluate_run")
    frame = frame.sort_values(["created", "version"], ascending=False, ignore_index=True)
    if wide:
        return frame
    measured = [f"metrics.{name}" for name in _METRICS]
    return frame.reindex(columns=[*_ENSEMBLE_COLUMNS, *measured]).astype(dict.fromkeys(measured, "float64"))


def _ensemble_row(version: ModelVersion, aliases: Mapping[str, str]) -> dict[str, object]:
    return {
        "model_name": version.name,
        "version": int(version.version),
        "aliases": ",".join(sorted(name for name, number in aliases.items() if int(number) == int(version.version))),
        "created": pd.Timestamp(version.creation_timestamp, unit="ms", tz="UTC"),
        "run_id": version.run_id or "",
        "role": None,
        "evaluate_run": version.tags.get(f"{tags.UPSTREAM}evaluate", ""),
        **{f"tags.{name}": value for name, value in version.tags.items()},
    }
