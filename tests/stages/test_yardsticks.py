"""The yardsticks of `main`: K-way networks beside base model and ensemble, in tables, tags, page and verdict."""

import json
import re
from pathlib import Path

import pytest

from sensai.config import CONFIGS
from sensai.errors import InputError
from sensai.evaluation.roles import YARDSTICKS
from sensai.evaluation.verdict import read
from sensai.pipeline.session import Session
from sensai.stages import main, report
from sensai.stages.evaluate import judging
from sensai.stages.main import yardsticks
from sensai.tracking import Store
from tests.analysis.test_report import rows
from tests.helpers.pipeline import FinishedMain, Place, parent_of

ROW = {
    "control": "control",
    "replicas": "replicas",
    "base": "base model trained further",
    "control_equal_flops": "control of equal training FLOPs",
}
PREFIX = {"base": "base_further"}


@pytest.fixture
def place(finished_main: FinishedMain, tmp_path: Path) -> Place:
    return finished_main.place.copy(tmp_path)


def test_yardsticks_are_made_like_the_ensemble(place: Place, finished_main: FinishedMain) -> None:
    before = place.runs()
    with place.active():
        parent = place.run(main.run(place.config("main", yardsticks=",".join(ROW))))
        findings = main.found(Store.connect(), parent.info.run_id)
    tags, metrics = parent.data.tags, parent.data.metrics
    # The ensemble's own stages are answered from the store; the report shows more than it did.
    for stage in ("baseline", "activations", "group", "prune", "retrain", "evaluate", "register"):
        assert tags[f"sensai.upstream.{stage}"] == finished_main.upstream(stage)
    new = place.new_runs(before)
    assert {parent_of(run) for run in new if run.info.run_id != parent.info.run_id} == {parent.info.run_id}
    made = {name: place.run(tags[f"sensai.yardstick.{name}"]) for name in ROW}
    page = place.artifact(tags["sensai.upstream.report"], "report.html").read_text()
    printed = "\n".join([*findings.facts, f"Next, {findings.purpose}: {findings.next}"]).splitlines()
    for name, run in made.items():
        configured = json.loads(run.data.tags["sensai.config"])
        made_of = (configured["method"], configured["n_groups"])
        assert made_of == (("replicas", 3) if name == "replicas" else ("random", 1))
        for stage in ("baseline", "activations"):
            assert run.data.tags[f"sensai.upstream.{stage}"] == finished_main.upstream(stage)
        carried = {f"{PREFIX.get(name, name)}_{metric}": value for metric, value in run.data.metrics.items()}
        assert carried.items() <= metrics.items()
        row = next(line for line in printed if line.startswith(f"{ROW[name]} ")).removeprefix(ROW[name])
        assert float(row.split()[0]) == pytest.approx(run.data.metrics["accuracy"], abs=1e-4)
        head = f"ensemble - {ROW[name]} "
        row = next(line for line in printed if line.startswith(head)).removeprefix(head)
        gain = metrics["accuracy"] - run.data.metrics["accuracy"]
        assert float(row.split()[0]) == pytest.approx(gain, abs=1e-4)
        for cell in (f">{ROW[name]}</th>", f">{head.strip()}</th>", run.info.run_id):
            assert cell in page
    # The largest network of at most so many FLOPs.
    for name in ("control", "replicas", "control_equal_flops"):
        assert 0.8 * metrics["flops_max"] < made[name].data.metrics["flops_max"] <= metrics["flops_max"]
    assert made["base"].data.metrics["flops_max"] == metrics["flops_base"]
    roles = {name: run.data.tags["sensai.role"] for name, run in made.items()}
    assert roles == {"control": "control", "replicas": "replicas", "base": "base", "control_equal_flops": "control"}
    epochs = {name: json.loads(run.data.tags["sensai.config"])["epochs"] for name, run in made.items()}
    # Three members of about the same size, each trained for an epoch, and no teacher.
    share = metrics["flops_total"] / made["control"].data.metrics["flops_max"]
    assert epochs == {"control": 1, "replicas": 1, "base": 1, "control_equal_flops": round(share)}

    verdict = tags["sensai.verdict"].splitlines()
    assert all(line in printed for line in verdict)
    assert not [line for line in verdict if line.startswith("No yardstick")]
    for name in ROW.values():
        assert name in " ".join(verdict)
    assert re.match("Next, to (use the|search for) .*: sensai ", verdict[-1])
    version = place.client.get_model_version("sensai-ensemble", "1").description
    assert all(line in version for line in verdict)


def test_the_ensemble_is_judged_without_yardsticks_too(finished: FinishedMain) -> None:
    place = finished.place
    evaluated = place.run(finished.upstream("evaluate"))
    assert evaluated.data.tags["sensai.role"] == "ensemble"
    lines = evaluated.data.tags["sensai.verdict"].splitlines()
    assert lines[0].startswith("On this machine the ")
    assert lines[-2].startswith("No yardstick was measured")
    command = lines[-1].removeprefix("Next, to measure yardsticks: ")
    assert command.startswith("sensai main --dataset ")
    assert command.endswith("--yardsticks control,replicas")
    assert all(line in place.client.get_model_version("sensai-ensemble", "1").description for line in lines)
    page = place.artifact(finished.upstream("report"), "report.html").read_text()
    assert f'<p class="lead">{lines[0]}</p>' in page


def test_the_command_that_measures_yardsticks_names_the_same_ensemble(finished: FinishedMain) -> None:
    from sensai.cli import parse

    told = read(finished.place.run(finished.upstream("evaluate")).data.tags["sensai.verdict"])
    _, stage, *arguments = told.command.split()
    config = parse(stage, arguments)
    assert config.yardsticks == ("control", "replicas")
    evaluate = CONFIGS["evaluate"]
    assert config.upstream(evaluate).recipe() == finished.config.upstream(evaluate).recipe()


@pytest.mark.long
def test_where_there_is_no_yardstick_the_pipeline_says_so_and_ends_well(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = {"control": "no less than", "base": "trains nothing further", "control_equal_flops": "trains nothing"}
    config = place.config("main", yardsticks=",".join(reasons), ratio=0.9999, epochs=0)
    with place.active(), caplog.at_level("INFO"):
        parent = place.run(main.run(config))
    assert parent.info.status == "FINISHED"
    assert not [name for name in parent.data.tags if name.startswith("sensai.yardstick")]
    assert not [name for name in parent.data.metrics if name.startswith(("control", "base_further"))]
    for name, reason in reasons.items():
        assert any(message.startswith(f"no {name}: ") and reason in message for message in caplog.messages)
    # What was not measured does not count as measured.
    assert "No yardstick was measured" in parent.data.tags["sensai.verdict"]


@pytest.mark.parametrize(
    ("members", "method", "left_out", "said"),
    [
        (1, "random", "control", "the ensemble is itself one network"),
        (1, "random", "replicas", "the ensemble is itself one network"),
        (2, "replicas", "replicas", "the ensemble is itself made of replicas"),
    ],
)
def test_an_ensemble_is_no_yardstick_of_itself(
    place: Place, members: int, method: str, left_out: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    pruned = place.client.create_run(place.experiment).info.run_id
    for name, value in {"members": members, "flops_max": 1, "flops_base": 2}.items():
        place.client.log_metric(pruned, name, value)
    config = place.config("main", yardsticks=left_out, method=method, n_groups=members)
    with place.active():
        session = Session.connect()
        parent = session.store.create("main", None, {})
        assert yardsticks.make_yardsticks(config, {"prune": pruned}, session, parent) == {}
    assert caplog.messages == [f"no {left_out}: {said}"]


def test_a_yardstick_that_is_best_is_registered_under_the_same_name() -> None:
    config = CONFIGS["main"](model_name="my model")
    commands = judging.commands_after(config, "promote", {"control": "abc"})
    assert commands["control"] == "sensai register --model_name 'my model' --from_run abc"
    assert (commands["ensemble"], commands["base model"]) == ("promote", "sensai tune")
    assert judging.registering(CONFIGS["evaluate"](), "abc") == "sensai register --from_run abc"


def test_every_yardstick_that_may_be_asked_for_can_be_made() -> None:
    assert set(yardsticks._CONFIGS) == set(YARDSTICKS)


def test_training_flops_are_three_forward_passes_and_the_teachers_one() -> None:
    # Two members of 10 and 20 FLOPs, for 3 and 5 epochs, and a teacher of 100, which answers as long as anyone is trained.
    assert yardsticks.training_flops([10, 20], [3, 5], 100) == 3 * (10 * 3 + 20 * 5) + 100 * 5
    assert yardsticks.training_flops([10], [1], 0) == 30


def test_only_an_evaluation_is_a_yardstick(place: Place, finished_main: FinishedMain) -> None:
    pruned = finished_main.upstream("prune")
    with place.active(), pytest.raises(InputError, match=f"yardstick_runs='{pruned}': must be a run of evaluate"):
        report.run(place.config("report", yardstick_runs=f"control={pruned}"))


def test_an_evaluation_without_answers_is_refused_as_a_yardstick(place: Place, finished_main: FinishedMain) -> None:
    # As version 1 of evaluate logged it.
    old = place.client.create_run(place.experiment, tags={"sensai.stage": "evaluate"}).info.run_id
    place.client.set_terminated(old)
    said = rf"yardstick_runs='base={old}': run {old} has no answers\.csv; it must be a run of evaluate"
    with place.active(), pytest.raises(InputError, match=said):
        report.run(place.config("report", yardstick_runs=f"base={old}"))


def test_a_yardstick_that_was_answered_from_the_store_is_the_run_that_answered(
    place: Place, finished_main: FinishedMain
) -> None:
    answer = finished_main.upstream("evaluate")
    asked = place.client.create_run(place.experiment, tags={"sensai.reused": answer}).info.run_id
    place.client.set_terminated(asked)
    with place.active():
        page = place.artifact(report.run(place.config("report", control_run=asked)), "report.html").read_text()
    assert ["evaluate of the control", answer] in rows(page, "Runs")
