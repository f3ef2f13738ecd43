"""The life of a run: opened, described, left open for another process, and ended in every way."""

import json
from collections.abc import Callable

import pytest

from sensai.config import PromoteConfig
from sensai.config.arguments import as_yaml
from sensai.errors import EndedEarlyError, InputError
from sensai.pipeline.run_lifecycle import (
    Description,
    begin_run,
    continue_run,
    enter_store,
    open_entry_run,
    open_run,
    reuse,
)
from sensai.tracking import Store
from tests.helpers.pipeline import Place, parent_of, stage_of

DESCRIBED = Description(
    "the name", {"sensai.stage": "prune", "sensai.arch": "small_cnn"}, {"ratio": 0.5}, "What\nit does."
)


def test_a_new_run_is_described_and_found_while_it_is_busy(place: Place) -> None:
    store = Store.connect()
    parent = store.create("parent", None)
    with open_run(store, DESCRIBED, parent.id) as run:
        (busy,) = place.of("prune")
        assert (busy.info.run_id, busy.info.status, busy.info.run_name) == (run.id, "RUNNING", "the name")
        assert parent_of(busy) == parent.id
        run.log_metrics({"val_accuracy": 0.5})
    ended = place.run(run.id)
    assert ended.info.status == "FINISHED"
    assert ended.data.params == {"ratio": "0.5"}
    assert ended.data.metrics == {"val_accuracy": 0.5}
    assert ended.data.tags["sensai.arch"] == "small_cnn"
    assert ended.data.tags["mlflow.note.content"] == "What it does."


@pytest.mark.parametrize("opened", [open_run, begin_run])
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (InputError("lr=9: too large"), "FAILED", "InputError: lr=9: too large"),
        (RuntimeError("broken"), "FAILED", "RuntimeError: broken"),
        (EndedEarlyError("pruned after 2 epochs"), "KILLED", "pruned after 2 epochs"),
        (KeyboardInterrupt(), "KILLED", "interrupted"),
    ],
    ids=str,
)
def test_a_block_that_fails_ends_the_run_with_the_reason(
    place: Place, opened: Callable, error: BaseException, status: str, reason: str
) -> None:
    with pytest.raises(type(error)), opened(Store.connect(), DESCRIBED):
        raise error
    (run,) = place.of("prune")
    assert (run.info.status, run.data.tags["sensai.failure"]) == (status, reason)


def test_a_run_that_was_begun_stays_open_until_it_is_continued(place: Place) -> None:
    with begin_run(Store.connect(), DESCRIBED) as begun:
        begun.log_metrics({"members": 1})
    assert place.run(begun.id).info.status == "RUNNING"
    assert place.run(begun.id).data.metrics == {"members": 1}
    with continue_run(Store.connect(), begun.id) as run:
        run.log_metrics({"val_accuracy": 0.5})
    assert place.run(begun.id).info.status == "FINISHED"
    assert place.run(begun.id).data.metrics == {"members": 1, "val_accuracy": 0.5}
    with begin_run(Store.connect(), DESCRIBED) as other:
        pass
    with pytest.raises(RuntimeError), continue_run(Store.connect(), other.id):
        raise RuntimeError("broken")
    assert place.run(other.id).data.tags["sensai.failure"] == "RuntimeError: broken"


def test_an_adopted_run_takes_the_whole_description(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    config = PromoteConfig(model_name="mine")
    with open_entry_run(config, "promote mine", "What it does.") as (_, run):
        assert run.id == opened
        assert stage_of(place.run(opened)) == "promote"
    ended = place.run(opened)
    assert (ended.info.status, ended.info.run_name) == ("FINISHED", "promote mine")
    assert json.loads(ended.data.tags["sensai.config"])["model_name"] == "mine"
    assert ended.data.params["max_accuracy_drop"] == "0.005"
    assert set(ended.data.params) == config.own_values().keys()
    assert place.artifact(opened, "config.yaml").read_text() == as_yaml(config)
    assert len(place.runs()) == 1


def test_what_goes_wrong_before_a_run_is_described_is_the_failure_of_the_adopted_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    with pytest.raises(InputError), enter_store():
        raise InputError("from_run='x': there is no such run")
    assert place.run(opened).data.tags["sensai.failure"] == "InputError: from_run='x': there is no such run"
    with enter_store() as (_, adopted):
        assert adopted is None


def test_an_adopted_run_that_is_answered_by_another_points_to_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(Store.connect(), DESCRIBED) as found:
        found.log_metrics({"val_accuracy": 0.5})
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    with enter_store() as (store, adopted):
        assert reuse(store, found.id, adopted) == found.id
    run = place.run(opened)
    assert (run.info.status, run.data.tags["sensai.reused"]) == ("FINISHED", found.id)
    assert run.data.metrics == {"val_accuracy": 0.5}
    assert stage_of(run) == ""
