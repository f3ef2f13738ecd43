"""Reports of runs other than evaluations: a study, and a comparison of runs."""

import json

import pytest

from sensai.errors import InputError
from sensai.stages import report, tune
from tests.conftest import Entry
from tests.helpers.pipeline import Place, Pruned, stage_of


def reported(place: Place, **parameters: object) -> str:
    return report.run(place.config("report", **parameters))


def test_a_study_is_what_from_run_may_name(pruned: Pruned, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pruned.place
    study = tune.run(place.config("tune", trials=0, max_accuracy_drop=1))
    before = place.runs()
    run_id = reported(place, from_run=study)
    own, tuned = place.run(run_id).data.tags, place.run(study).data.tags
    assert [run.info.run_id for run in place.new_runs(before)] == [run_id]
    assert own["sensai.upstream.tune"] == study
    for name in ("upstream.activations", "upstream.baseline", "study", "dataset", "data_digest", "arch"):
        assert own[f"sensai.{name}"] == tuned[f"sensai.{name}"]
    assert json.loads(own["sensai.config"]) == {"from_run": study}
    page = place.artifact(run_id, "report.html").read_text()
    assert f"Its run: {pruned.run_id}." in page
    with pytest.raises(
        InputError, match=f"yardstick_runs='control=x': go with an evaluation, but from_run='{study}' is a study"
    ):
        reported(place, from_run=study, yardstick_runs="control=x")

    # The same again is answered from the store, unless it is to be redone.
    assert reported(place, from_run=study) == run_id
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    assert reported(place, from_run=study) == run_id
    assert place.run(opened).data.tags["sensai.reused"] == run_id
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    assert reported(place, from_run=study, force=True) == opened
    assert place.run(opened).info.status == "FINISHED"


def test_runs_side_by_side(pruned: Pruned) -> None:
    place, others = pruned.place, [pruned.upstream("baseline"), pruned.run_id]
    before = place.runs()
    run_id = reported(place, compare_runs=f"{others[0]}, {others[1]},{others[0]}")
    run = place.run(run_id)
    assert [stage_of(each) for each in place.new_runs(before)] == ["report"]
    assert json.loads(run.data.tags["sensai.config"]) == {"compare_runs": ",".join(others)}
    assert run.data.tags["sensai.data_digest"] == place.run(pruned.run_id).data.tags["sensai.data_digest"]
    assert not [name for name in run.data.tags if name.startswith("sensai.upstream")]
    page = place.artifact(run_id, "report.html").read_text()
    assert all(f">{each}</td>" in page for each in others)
    assert reported(place, compare_runs=",".join(others)) == run_id
    # Of runs on different data the page is on neither.
    elsewhere = place.client.create_run(
        place.experiment, tags={"sensai.stage": "prune", "sensai.data_digest": "another"}
    ).info.run_id
    place.client.set_terminated(elsewhere)
    mixed = place.run(reported(place, compare_runs=f"{elsewhere},{pruned.run_id}"))
    assert "sensai.data_digest" not in mixed.data.tags


def test_runs_that_it_cannot_be_about(pruned: Pruned) -> None:
    place = pruned.place
    running = place.client.create_run(place.experiment).info.run_id
    with pytest.raises(InputError, match=f"compare_runs='{running}': must have finished, but it is RUNNING"):
        reported(place, compare_runs=f"{pruned.run_id},{running}")
    with pytest.raises(InputError, match="compare_runs='nowhere': there is no such run"):
        reported(place, compare_runs=f"{pruned.run_id},nowhere")
    with pytest.raises(InputError, match="must be a run of evaluate or tune, but it is one of prune"):
        reported(place, from_run=pruned.run_id)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"compare_runs": "one"}, "compare_runs='one': must be the ids of two or more runs, separated by commas"),
        ({"compare_runs": "one,,one"}, "must be the ids of two or more runs"),
        ({"compare_runs": "a,b", "from_run": "c"}, "compare_runs='a,b': stands by itself, without from_run='c'"),
        ({"compare_runs": "a,b", "yardstick_runs": "base=d"}, "without yardstick_runs='base=d'"),
        ({"yardstick_runs": "control"}, "yardstick_runs='control': must be pairs yardstick=run id, each once"),
        ({"yardstick_runs": "control=a,control=b"}, "must be pairs yardstick=run id, each once"),
        ({"yardstick_runs": "none=a"}, "yardsticks are control, replicas, base, control_equal_flops"),
    ],
)
def test_parameters_that_do_not_go_together(launched: Entry, parameters: dict[str, object], said: str) -> None:
    result = launched("report", **parameters)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
