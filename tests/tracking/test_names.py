"""The tables of metrics and artifacts: all that the stages log stands in them, and no name stands twice in code."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sensai.tracking import tags
from sensai.tracking.artifact_names import ARTIFACTS, Artifact
from sensai.tracking.metric_names import METRICS, Metric, metric_entry
from tests.conftest import ROOT
from tests.helpers.pipeline import FinishedMain


def test_every_metric_and_artifact_of_main_is_in_the_tables_under_its_stage(finished: FinishedMain) -> None:
    stages, unknown = set(), set()
    for run_id, run in finished.place.runs().items():
        stage = run.data.tags[tags.STAGE]
        stages.add(stage)
        unknown |= {(stage, name) for name in run.data.metrics if not _stands_in(METRICS, metric_entry(name), stage)}
        # `register` logs a model, whose files MLflow names.
        artifacts = finished.place.artifacts(run_id) if stage != "register" else set()
        tops = {name.partition("/")[0] for name in artifacts}
        unknown |= {(stage, name) for name in tops if not _stands_in(ARTIFACTS, name, stage)}
    assert not unknown
    assert {"baseline", "activations", "group", "prune", "retrain", "member", "evaluate", "main"} <= stages


def _stands_in(table: Mapping[str, Artifact | Metric], name: str | None, stage: str) -> bool:
    return name in table and stage in table[name].stages


def test_no_name_of_an_artifact_stands_in_other_code() -> None:
    files = {name for name in ARTIFACTS if "." in name}
    assert len(files) > 30
    for path in sorted((ROOT / "sensai").rglob("*.py")):
        if path.name != "artifact_names.py":
            assert not files & set(_texts(path)), path


def _texts(path: Path) -> Iterator[str]:
    return (
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_every_entry_has_its_stages_and_a_meaning_of_one_line() -> None:
    for entry in (*METRICS.values(), *ARTIFACTS.values()):
        assert entry.stages
        assert entry.meaning
        assert "\n" not in entry.meaning
        assert not entry.meaning.endswith(".")
    assert all(entry.unit for entry in METRICS.values())


@given(st.sampled_from(sorted(METRICS)))
def test_a_name_stands_under_its_own_entry(name: str) -> None:
    assert metric_entry(name.replace("<metric>", "accuracy").replace("<combine>", "vector")) is not None
    if "<" not in name:
        assert metric_entry(name) == name


def test_patterns_take_no_other_names() -> None:
    assert metric_entry("accuracy_vector") == "accuracy_<combine>"
    assert metric_entry("training_engine_step_ms") == "<task>_<way>_step_ms"
    assert metric_entry("latency_p95_ms") == "latency_p<quantile>_ms"
    assert metric_entry("precision") is None
    assert metric_entry("my_accuracy") is None
