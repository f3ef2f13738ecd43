"""The group stage: every method end to end, and its predictions for groups before they are pruned."""

import json
from pathlib import Path

import pandas as pd
import pytest

from sensai.errors import InputError
from sensai.grouping.methods import METHODS
from sensai.grouping.similarities import leaf_order
from sensai.stages import group, prune
from sensai.tracking import Store
from tests.conftest import ROOT
from tests.helpers.pipeline import Place, Pruned


def formed(place: Place, **parameters: object) -> str:
    return group.run(place.config("group", **parameters))


@pytest.mark.parametrize(
    "method", [name for name in METHODS if "n_groups" in METHODS[name].uses and METHODS[name].traits["joinable"]]
)
def test_every_method_makes_the_groups_it_was_asked_for(pruned: Pruned, method: str) -> None:
    run_id = formed(pruned.place, method=method, n_groups=2, similarity="confusion")
    groups = group.load(Store.connect(), run_id)
    assert sorted(map(len, groups)) == [1, 2]
    assert sorted(label for each in groups for label in each) == [0, 1, 2]
    run = pruned.place.run(run_id)
    assert f"2 groups {method}" in run.info.run_name
    assert run.data.tags["sensai.upstream.activations"] == pruned.upstream("activations")
    assert run.data.metrics["groups"] == 2


@pytest.mark.parametrize("similarity", ["coupling", "statistics", "confusion"])
def test_every_similarity(pruned: Pruned, similarity: str) -> None:
    run_id = formed(pruned.place, method="most_similar", n_groups=2, similarity=similarity)
    assert f"most_similar {similarity}" in pruned.place.run(run_id).info.run_name


@pytest.mark.parametrize(
    ("parameters", "members"),
    [
        ({"method": "min_flops", "n_groups": 2, "ratio": 0.3}, 2),
        ({"method": "file", "groups_file": "groups.json", "ratio": 0.3}, 2),
        ({"method": "singletons"}, 3),
    ],
    ids=["min_flops", "file", "singletons"],
)
def test_sizes_are_known_before_anything_is_pruned(pruned: Pruned, parameters: dict[str, object], members: int) -> None:
    place = pruned.place
    Path("groups.json").write_text("[[2], [1, 0]]")
    run_id = formed(place, **parameters)
    sizes = pd.read_csv(place.artifact(run_id, "sizes.csv"))
    groups = json.loads(place.artifact(run_id, "groups.json").read_text())
    names = groups["class_names"]
    assert sizes["group"].tolist() == list(range(members))
    assert sizes["classes"].tolist() == ["+".join(names[label] for label in each) for each in groups["groups"]]
    pruned_id = prune.run(place.config("prune", **parameters))
    assert place.run(pruned_id).data.tags["sensai.upstream.group"] == run_id
    built = pd.read_csv(place.artifact(pruned_id, "members.csv"))
    assert sizes[["params", "flops"]].equals(built[["params", "flops"]])
    metrics = place.run(run_id).data.metrics
    assert metrics["predicted_flops_max"] == sizes["flops"].max()
    assert metrics["predicted_flops_total"] == sizes["flops"].sum()


def test_the_coupling_is_at_the_ratio(pruned: Pruned) -> None:
    few, many = (
        pd.read_csv(pruned.place.artifact(formed(pruned.place, ratio=ratio), "coupling.csv")).to_numpy()
        for ratio in (0.25, 0.75)
    )
    # On the diagonal stands what a class's own plan removes: 192 channels can be.
    assert few.diagonal().tolist() == [48] * 3
    assert many.diagonal().tolist() == [144] * 3


def test_the_order_of_the_heatmap_is_logged(pruned: Pruned) -> None:
    run_id = formed(pruned.place)
    coupling = pd.read_csv(pruned.place.artifact(run_id, "coupling.csv")).to_numpy()
    content = json.loads(pruned.place.artifact(run_id, "groups.json").read_text())
    assert content["order"] == leaf_order(coupling).tolist()


def test_one_plan_of_groups_serves_every_ratio_where_its_run_is_named(pruned: Pruned) -> None:
    place = pruned.place
    base = formed(place, method="min_flops", n_groups=2, ratio=0.3)
    for ratio in (0.3, 0.6):
        run = place.run(prune.run(place.config("prune", from_run=base, ratio=ratio)))
        assert run.data.tags["sensai.upstream.group"] == base
        assert json.loads(run.data.tags["sensai.config"])["ratio"] == ratio
        assert run.data.metrics["channels_kept"] == pytest.approx(1 - ratio, abs=0.01)


def test_more_groups_than_classes(pruned: Pruned) -> None:
    with pytest.raises(InputError, match="n_groups=4: there are only 3 classes"):
        formed(pruned.place, method="kmeans", n_groups=4)


def test_confusion_needs_a_validation_split(place: Place) -> None:
    dataset = f"{ROOT}/tests/helpers/tiny_data.py:one_of_each"
    parameters = {"dataset": dataset, "base_epochs": 0, "method": "most_similar", "n_groups": 2}
    with pytest.raises(InputError, match="similarity='confusion': the data have no validation split"):
        formed(place, similarity="confusion", **parameters)
    assert len(group.load(Store.connect(), formed(place, similarity="statistics", **parameters))) == 2
