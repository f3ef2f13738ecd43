"""The tables of metrics, tags and artifacts: all that runs log stands in them, and no name stands twice in code.

Every test that uses the fixtures `place` or `pruned` looks for undeclared names in its store when it ends.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sensai.tracking import Store, logged_names, tags
from sensai.tracking.artifact_names import ARTIFACTS
from sensai.tracking.metric_names import METRICS, entry_of, metric_entry
from sensai.tracking.tags import TAGS
from tests.conftest import ROOT
from tests.helpers.logged import stands_in, undeclared
from tests.helpers.pipeline import FinishedMain, Place


def test_everything_that_main_logs_is_in_the_tables_under_its_stage(finished: FinishedMain) -> None:
    assert not undeclared(finished.place)
    stages = {run.data.tags[tags.STAGE] for run in finished.place.runs().values()}
    assert {"baseline", "activations", "group", "prune", "retrain", "member", "evaluate", "main"} <= stages


def test_the_tags_of_a_version_are_in_the_table(finished: FinishedMain) -> None:
    (version,) = finished.place.client.search_model_versions(f"name = '{finished.config.model_name}'")
    assert len(version.tags) > 5
    assert not {name for name in version.tags if not stands_in(TAGS, name, "version")}


def test_a_name_that_is_in_no_table_is_found(place: Place) -> None:
    run = Store.connect().create("bare", None, {tags.STAGE: "group", "sensai.colour": "blue", tags.MEMBER: "1"})
    with run.closing():
        run.log_metrics({"groups": 1, "accuracy": 1, "loudness": 1})
        run.log_text("", "groups.json")
        run.log_text("", "plans.json")
        run.log_text("", "notes.txt")
    names = {"sensai.colour", tags.MEMBER, "accuracy", "loudness", "plans.json", "notes.txt"}
    assert undeclared(place) == {("group", name) for name in names}
    place.client.delete_run(run.id)


def test_the_page_is_what_the_tables_say() -> None:
    assert (ROOT / "docs/reference/metrics.md").read_text() == logged_names.render(), "run `make reference`"


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


def test_every_tag_has_an_entry_and_its_name_stands_in_no_other_code() -> None:
    named = {value for name, value in vars(tags).items() if name.isupper() and isinstance(value, str)}
    assert {entry_of(name.removesuffix(".") + ".x" if name.endswith(".") else name, TAGS) for name in named} <= set(
        TAGS
    )
    own = {name for name in TAGS if name.startswith("sensai.")}
    for path in sorted((ROOT / "sensai").rglob("*.py")):
        if path.name != "tags.py":
            assert not own & set(_texts(path)), path


def test_every_entry_has_its_stages_and_a_meaning_of_one_line() -> None:
    for entry in (*METRICS.values(), *TAGS.values(), *ARTIFACTS.values()):
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
