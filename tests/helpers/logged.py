"""The names that runs have logged, held against the tables."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities import Run

from sensai.config import CONFIGS
from sensai.tracking import tags
from sensai.tracking.artifact_names import ARTIFACTS, Artifact
from sensai.tracking.metric_names import METRICS, Metric, entry_of
from sensai.tracking.tags import TAGS, Tag
from tests.helpers.pipeline import Place


def undeclared(place: Place) -> set[tuple[str, str]]:
    """Return (stage, name) of all metrics, tags and artifacts of a store's runs that no table has under that stage."""
    return {(_stage(run), name) for run in place.runs().values() for name in _unknown(run)}


def stands_in(table: Mapping[str, Metric | Artifact | Tag], name: str, stage: str) -> bool:
    """Return True if a table has a name under a stage."""
    entry = entry_of(name, table)
    return entry is not None and bool({stage, "any"} & set(table[entry].stages))


def _unknown(run: Run) -> set[str]:
    stage = _stage(run)
    # A stored run answered, and the run of `mlflow run` has its metrics. MLflow has tags of its own. The chosen parameters of a
    # trial are tags of it and of the runs below.
    metrics = set() if tags.REUSED in run.data.tags else set(run.data.metrics)
    own = {name for name in run.data.tags if not name.startswith("mlflow.")} - _chosen(run)
    # `register` logs a model, whose files MLflow names.
    folder = Path(url2pathname(urlsplit(run.info.artifact_uri).path))
    files = {each.name for each in folder.iterdir()} if folder.is_dir() and stage != "register" else set()
    found = ((METRICS, metrics), (TAGS, own), (ARTIFACTS, files))
    return {name for table, names in found for name in names if not stands_in(table, name, stage)}


def _chosen(run: Run) -> set[str]:
    return set(CONFIGS["retrain"].model_fields) if tags.STUDY in run.data.tags else set()


def _stage(run: Run) -> str:
    return run.data.tags.get(tags.STAGE, "")
