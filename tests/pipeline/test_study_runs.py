"""The runs of a study's candidates: their labels, the stages below them, and the metrics that they carry."""

import json

import pytest

from sensai.config import PruneConfig
from sensai.pipeline.session import Session
from sensai.pipeline.study_runs import (
    Candidate,
    begin_study_run,
    carried,
    continue_study_run,
    open_study_run,
)
from sensai.stages import prune
from tests.helpers.pipeline import Place, Pruned, parent_of, stage_of

LABELS = {"sensai.study": "mine", "ratio": "0.25"}


def candidate(place: Place) -> Candidate:
    config = place.config("prune", ratio=0.25)
    return Candidate("trial", "trial 0", config, {"ratio": 0.25}, LABELS, {"sensai.trial": "0"})


def test_stages_are_nested_below_it_and_carry_its_labels(pruned: Pruned) -> None:
    place, before, session = pruned.place, pruned.place.runs(), Session.connect()
    study = session.store.create("study", None)
    one = candidate(place)
    with open_study_run(one, session, study.id) as opened:
        upstream = opened.ensure(prune.stage, one.config)
    run = place.run(opened.run.id)
    assert (run.info.status, run.info.run_name, parent_of(run)) == ("FINISHED", "trial 0", study.id)
    assert (stage_of(run), run.data.tags["sensai.trial"], run.data.params) == ("trial", "0", {"ratio": "0.25"})
    assert PruneConfig(**json.loads(run.data.tags["sensai.config"])) == one.config
    below = [each for each in place.new_runs(before) if each.info.run_id not in (study.id, run.info.run_id)]
    assert {stage_of(each) for each in below} == {"group", "prune"}
    for each in below:
        assert parent_of(each) == run.info.run_id
        assert LABELS.items() <= each.data.tags.items()
        assert "sensai.trial" not in each.data.tags
    # It names all that it stands on, also what was there before.
    assert set(upstream) == {"baseline", "activations", "group", "prune"}
    assert {name: run.data.tags[f"sensai.upstream.{name}"] for name in upstream} == upstream
    assert upstream["activations"] == pruned.upstream("activations")
    # What the store has is not computed once more.
    before = place.runs()
    with open_study_run(one, session, study.id) as again:
        assert again.ensure(prune.stage, one.config) == upstream
    assert [each.info.run_id for each in place.new_runs(before)] == [again.run.id]


def test_one_that_was_begun_is_continued_with_its_labels(pruned: Pruned) -> None:
    place, session = pruned.place, Session.connect()
    study, one = session.store.create("study", None), candidate(place)
    with begin_study_run(one, session, study.id) as begun:
        pass
    before = place.runs()
    assert before[begun.run.id].info.status == "RUNNING"
    with continue_study_run(one, Session.connect(), begun.run.id) as run:
        run.ensure(prune.stage, one.config)
    assert place.run(begun.run.id).info.status == "FINISHED"
    for each in place.new_runs(before):
        assert LABELS.items() <= each.data.tags.items()
    with pytest.raises(RuntimeError), begin_study_run(one, session, study.id) as failed:
        raise RuntimeError("broken")
    assert place.run(failed.run.id).info.status == "FAILED"


def test_it_carries_the_metrics_that_there_are(pruned: Pruned) -> None:
    store = Session.connect().store
    metrics = store.metrics_of(pruned.run_id)
    upstream = {"group": pruned.upstream("group"), "prune": pruned.run_id}
    names = {
        "prune": {"flops_max": "flops_max", "val_in_group_accuracy": "separability", "no_such": "none"},
        "evaluate": {"accuracy": "accuracy"},
    }
    assert carried(upstream, names, store) == {
        "flops_max": metrics["flops_max"],
        "separability": metrics["val_in_group_accuracy"],
    }
