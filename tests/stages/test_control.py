"""The control of `main`: one K-way network of the largest member's FLOPs, beside base model and ensemble."""

import json
from pathlib import Path

import pytest

from sensai.errors import InputError
from sensai.stages import main, report
from tests.helpers.pipeline import FinishedMain, Place, parent_of


@pytest.fixture
def place(finished_main: FinishedMain, tmp_path: Path) -> Place:
    return finished_main.place.copy(tmp_path)


def test_the_control_is_made_like_the_ensemble(
    place: Place, finished_main: FinishedMain, capsys: pytest.CaptureFixture[str]
) -> None:
    before = place.runs()
    with place.active():
        parent = place.run(main.run(place.config("main", control=True)))
    tags, metrics = parent.data.tags, parent.data.metrics
    # The ensemble's own stages are answered from the store; the report shows more than it did.
    for stage in ("baseline", "activations", "group", "prune", "retrain", "evaluate", "register"):
        assert tags[f"sensai.upstream.{stage}"] == finished_main.upstream(stage)
    new = place.new_runs(before)
    assert {parent_of(run) for run in new if run.info.run_id != parent.info.run_id} == {parent.info.run_id}
    control = place.run(tags["sensai.control"])
    configured = json.loads(control.data.tags["sensai.config"])
    assert (configured["method"], configured["n_groups"]) == ("random", 1)
    assert configured["epochs"] == 1
    for stage in ("baseline", "activations"):
        assert control.data.tags[f"sensai.upstream.{stage}"] == finished_main.upstream(stage)
    # The largest network of at most so many FLOPs.
    assert 0.8 * metrics["flops_max"] < control.data.metrics["flops_max"] <= metrics["flops_max"]
    assert {f"control_{name}": value for name, value in control.data.metrics.items()}.items() <= metrics.items()
    printed = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in printed if line.startswith("control"))
    assert float(row[1]) == pytest.approx(control.data.metrics["accuracy"], abs=1e-4)
    for name, other in (("base model", metrics["base_accuracy"]), ("control", metrics["control_accuracy"])):
        row = next(line for line in printed if line.startswith(f"ensemble - {name}")).removeprefix(f"ensemble - {name}")
        assert float(row.split()[0]) == pytest.approx(metrics["accuracy"] - other, abs=1e-4)
    page = place.artifact(tags["sensai.upstream.report"], "report.html").read_text()
    assert "<td>control</td>" in page
    assert "<td>ensemble - control</td>" in page
    assert control.info.run_id in page


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"method": "random", "n_groups": 1}, "itself one network"),
        ({"ratio": 0.9999, "epochs": 0}, "no less than"),
    ],
)
def test_where_there_is_no_control_the_pipeline_says_so_and_ends_well(
    place: Place, parameters: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with place.active(), caplog.at_level("INFO"):
        parent = place.run(main.run(place.config("main", control=True, **parameters)))
    assert parent.info.status == "FINISHED"
    assert "sensai.control" not in parent.data.tags
    assert not [name for name in parent.data.metrics if name.startswith("control")]
    assert any("control" in message and said in message for message in caplog.messages)


def test_only_an_evaluation_is_a_control(place: Place, finished_main: FinishedMain) -> None:
    pruned = finished_main.upstream("prune")
    with place.active(), pytest.raises(InputError, match=f"control_run='{pruned}': must be a run of evaluate"):
        report.run(place.config("report", control_run=pruned))


def test_an_evaluation_without_answers_is_refused_as_a_control(place: Place, finished_main: FinishedMain) -> None:
    # As version 1 of evaluate logged it.
    old = place.client.create_run(place.experiment, tags={"sensai.stage": "evaluate"}).info.run_id
    place.client.set_terminated(old)
    said = rf"control_run='{old}': run {old} has no answers\.csv; it must be a run of evaluate"
    with place.active(), pytest.raises(InputError, match=said):
        report.run(place.config("report", control_run=old))


def test_a_control_that_was_answered_from_the_store_is_the_run_that_answered(
    place: Place, finished_main: FinishedMain
) -> None:
    answer = finished_main.upstream("evaluate")
    asked = place.client.create_run(place.experiment, tags={"sensai.reused": answer}).info.run_id
    place.client.set_terminated(asked)
    with place.active():
        page = place.artifact(report.run(place.config("report", control_run=asked)), "report.html").read_text()
    assert f"evaluate of the control: <code>{answer}</code>" in page
