"""Write the reference page of all metrics, tags and artifacts from their tables: `python -m sensai.tracking.logged_names`."""

import sys
from collections.abc import Iterable

from sensai.tracking.artifact_names import ARTIFACTS, ENTRY_POINTS
from sensai.tracking.metric_names import METRICS
from sensai.tracking.tags import TAGS

_HEAD = """\
<!-- Written by `make reference` from sensai/tracking. -->
# Metrics, tags and artifacts

Everything that runs log. A name with a part in `<...>` stands for every name of that form: `accuracy_<combine>` for
`accuracy_vector`, `accuracy_temperature` and others. [Asking the runs](../how_to/asking_the_runs.md) shows how to read them.

*Logged by* names entry points. `member` is a run for one member, of `retrain` (validation data) or `evaluate` (test data).
`trial` is a run of `tune`, `cell` one of `grouping_study`. A run that `mlflow run` opened has the metrics of the stored run
that answered for it, if one did.
"""
_METRICS = """\
## Metrics

A fraction lies between 0 and 1. FLOPs are 2 x multiply-accumulates at batch 1. Accuracies in `val_*` are on the validation
split, by which every choice is made; `evaluate` reads the test split, once.
"""
_TAGS = """\
## Tags

Trials of `tune`, and runs below them, also have the chosen parameters as tags, by their plain names: `tags.ratio = '0.5'`.
*version* is a registered version, *registered model* what holds the versions.
"""
_ARTIFACTS = """\
## Artifacts

Files and folders of a run. `register` also logs the ensemble itself, as a model of MLflow.
"""
_BY_STAGE = """\
## By entry point

The names that each entry point logs, without those that all of them have.
"""
_ANY = "any"
# No entry points: runs below them, and what is registered.
_BELOW = ("member", "trial", "cell")
_REGISTERED = ("version", "registered model")


def render() -> str:
    """Return the page as Markdown."""
    metrics = ((_code(name), each.unit, each.meaning, _stages(each.stages)) for name, each in METRICS.items())
    of_runs = ((_code(name), each.meaning, _stages(each.stages)) for name, each in TAGS.items())
    artifacts = ((_code(name), each.meaning, _stages(each.stages)) for name, each in ARTIFACTS.items())
    parts = [
        _HEAD,
        _METRICS,
        *_table(("metric", "unit", "meaning", "logged by"), metrics),
        _TAGS,
        *_table(("tag", "meaning", "logged by"), of_runs),
        _ARTIFACTS,
        *_table(("artifact", "meaning", "logged by"), artifacts),
        _BY_STAGE,
        *_table(("entry point", "metrics", "tags", "artifacts"), map(_logged_by, (*ENTRY_POINTS, *_BELOW))),
    ]
    return "\n".join(parts)


def table_row(cells: Iterable[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [table_row(columns), table_row("---" for _ in columns), *map(table_row, rows), ""]


def _logged_by(stage: str) -> tuple[str, ...]:
    tables = (METRICS, TAGS, ARTIFACTS)
    names = ((name for name, each in table.items() if stage in each.stages) for table in tables)
    return (_code(stage), *(" ".join(map(_code, found)) for found in names))


def _stages(stages: tuple[str, ...]) -> str:
    if set(ENTRY_POINTS) <= set(stages):
        stages = (_ANY, *(each for each in stages if each not in ENTRY_POINTS))
    return ", ".join("all" if each == _ANY else each if each in _REGISTERED else _code(each) for each in stages)


def _code(name: str) -> str:
    return f"`{name}`"


if __name__ == "__main__":
    sys.stdout.write(render())
