"""`from_run`: a stage starts from a run of the stage before, and takes its parameters from there."""

import json

import pytest

from sensai.config import GroupConfig, PruneConfig
from sensai.errors import InputError
from sensai.stages import group, prune
from tests.helpers.pipeline import Place, Pruned


def config_of(place: Place, run_id: str) -> dict:
    return json.loads(place.run(run_id).data.tags["sensai.config"])


def stand_on(place: Place, run_id: str, **parameters: object) -> PruneConfig:
    """Run a pruning with only the upstream run given."""
    return PruneConfig(from_run=run_id, work_dir=str(place.folder / "work"), **parameters)


def test_parameters_are_inherited_and_its_own_are_not(pruned: Pruned) -> None:
    place = pruned.place
    before = place.runs()
    base = group.run(place.config("group", method="random", n_groups=2, val_fraction=0.2))
    run_id = prune.run(stand_on(place, base, ratio=0.25))
    inherited, given = config_of(place, run_id), config_of(place, base)
    assert inherited["ratio"] == 0.25
    assert inherited["from_run"] == base
    # Both stages go by a ratio.
    shared = set(GroupConfig.model_fields) - {"from_run", "ratio"}
    assert {name: inherited[name] for name in shared} == {name: given[name] for name in shared}
    assert (inherited["n_groups"], inherited["val_fraction"], inherited["base_epochs"]) == (2, 0.2, 3)
    run = place.run(run_id)
    assert run.data.tags["sensai.upstream.group"] == base
    assert run.data.tags["sensai.upstream.baseline"] == place.run(base).data.tags["sensai.upstream.baseline"]
    assert len([each for each in place.new_runs(before) if each.data.tags.get("sensai.stage") == "prune"]) == 1


def test_it_is_the_same_run_as_with_all_parameters_given(pruned: Pruned) -> None:
    before = pruned.place.runs()
    assert prune.run(stand_on(pruned.place, pruned.upstream("group"))) == pruned.run_id
    assert pruned.place.new_runs(before) == []


def test_where_it_runs_is_not_inherited(pruned: Pruned) -> None:
    place = pruned.place
    base = group.run(place.config("group", force=True, device="cpu", work_dir=str(place.folder / "elsewhere")))
    config = config_of(place, prune.run(stand_on(place, base, ratio=0.25)))
    assert config["work_dir"] == str(place.folder / "work")
    assert config["device"] == "auto"
    assert config["force"] is False


def test_the_folder_of_the_data_may_have_moved(pruned: Pruned) -> None:
    place = pruned.place
    kept = prune.run(stand_on(place, pruned.upstream("group"), ratio=0.2))
    moved = prune.run(stand_on(place, pruned.upstream("group"), ratio=0.3, data_dir="new/place"))
    assert config_of(place, kept)["data_dir"] == ""
    assert config_of(place, moved)["data_dir"] == "new/place"


def test_the_seed_that_the_groups_were_drawn_by_is_inherited(pruned: Pruned) -> None:
    place = pruned.place
    base = group.run(place.config("group", method="random", n_groups=2, seed=3))
    assert config_of(place, prune.run(stand_on(place, base)))["seed"] == 3


def test_a_run_that_was_itself_answered_from_the_store_is_followed(
    pruned: Pruned, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = pruned.place
    opened = place.client.create_run(place.experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    assert group.run(place.config("group")) == pruned.upstream("group")
    assert prune.run(stand_on(place, opened)) == pruned.run_id
    fresh = place.run(prune.run(stand_on(place, opened, ratio=0.25)))
    assert fresh.data.tags["sensai.upstream.group"] == pruned.upstream("group")


def test_runs_that_it_cannot_stand_on(pruned: Pruned) -> None:
    place = pruned.place
    before = place.runs()
    with pytest.raises(InputError, match="from_run='nonsense': there is no such run"):
        prune.run(stand_on(place, "nonsense"))
    with pytest.raises(InputError, match=r"must be a run of group, but it is one of prune"):
        prune.run(stand_on(place, pruned.run_id))
    with pytest.raises(InputError, match=r"must be a run of group, but it is one of baseline"):
        prune.run(stand_on(place, pruned.upstream("baseline")))
    assert place.new_runs(before) == []


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_runs_that_have_not_finished(pruned: Pruned, status: str) -> None:
    place = pruned.place
    run_id = place.client.create_run(place.experiment, tags={"sensai.stage": "group"}).info.run_id
    place.client.update_run(run_id, status=status)
    before = place.runs()
    with pytest.raises(InputError, match=f"from_run='{run_id}': must have finished, but it is {status}"):
        prune.run(stand_on(place, run_id))
    assert place.new_runs(before) == []
