"""Learning curves as logged, and the effect that stop rules would have had on them."""

import numpy as np
import pandas as pd
import pytest

from sensai.analysis.curves import curves, stopped
from sensai.stages import retrain
from tests.helpers.pipeline import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_database) -> Place:
    return Place.make(tmp_path_factory.mktemp("curves"), empty_database)


def run(place: Place, **parameters: object) -> pd.DataFrame:
    with place.active():
        return curves([retrain.run(place.config("retrain", epochs=6, **parameters))])


def test_curves_hold_every_epoch_of_every_member(place: Place) -> None:
    frame = run(place)
    assert frame.groupby("member")["epoch"].apply(list).tolist() == [list(range(6))] * 3
    assert {"train_loss", "loss", "accuracy", "balanced_accuracy", "roc_auc"} <= set(frame)
    assert frame["train_loss"].notna().all()
    assert frame["classes"].unique().tolist() == ["top", "middle", "bottom"]


@pytest.mark.parametrize("rule", [{"patience": 1}, {"patience": 2, "min_gain": 0.05}, {"target": 0.9}], ids=str)
def test_a_rule_replayed_stops_where_it_stops_in_training(place: Place, rule: dict[str, float]) -> None:
    whole, cut_short = run(place), run(place, **rule)
    replayed = stopped(whole, "balanced_accuracy", **rule)  # type: ignore[arg-type]
    assert replayed["epochs_run"].tolist() == cut_short.groupby("member").size().tolist()
    assert replayed["value"].tolist() == cut_short.groupby("member")["balanced_accuracy"].max().tolist()
    assert (replayed["epochs_run"] + replayed["epochs_saved"] == 6).all()
    assert replayed["epochs_saved"].sum() > 0


def test_no_rule_saves_nothing_and_costs_nothing(place: Place) -> None:
    replayed = stopped(run(place), "balanced_accuracy")
    assert replayed["epochs_saved"].sum() == replayed["given_up"].sum() == 0


def test_what_is_given_up_is_the_gain_of_the_epochs_that_are_missing() -> None:
    frame = pd.DataFrame(
        {
            "stage_run": "s",
            "run_id": np.repeat(["a", "b"], 4),
            "member": np.repeat([0, 1], 4),
            "classes": np.repeat(["x", "y"], 4),
            "epoch": [0, 1, 2, 3] * 2,
            "accuracy": [0.5, 0.5, 0.4, 0.9, 0.6, 0.7, 0.8, 0.7],
        }
    )
    found = stopped(frame, "accuracy", patience=2)
    assert found["epochs_run"].tolist() == [3, 4]
    assert found["given_up"].tolist() == pytest.approx([0.4, 0.0])


def test_columns_have_the_same_types_without_a_run_without_an_epoch_and_with_some(place: Place) -> None:
    types = {
        **dict.fromkeys(("stage_run", "run_id"), "str"),
        "member": "int64",
        **dict.fromkeys(("classes", "stopped_by"), "str"),
        "epoch": "int64",
    }
    some = run(place)
    with place.active():
        for empty in (curves([]), curves([retrain.run(place.config("retrain", epochs=0))])):
            assert len(empty) == 0
            assert {str(name): str(kind) for name, kind in empty.dtypes.items()} == types
    assert {name: str(some.dtypes[name]) for name in types} == types
    assert {str(kind) for kind in some.dtypes[len(types) :]} == {"float64"}


def test_runs_of_earlier_versions_give_the_same_from_their_members(place: Place) -> None:
    """They have no table of all curves."""
    with place.active():
        run_id = retrain.run(place.config("retrain", epochs=2))
        whole = curves([run_id])
        (place.folder / "artifacts" / run_id / "artifacts" / "curves.csv").unlink()
        assert len(whole) == 3 * 2
        pd.testing.assert_frame_equal(curves([run_id]), whole)
