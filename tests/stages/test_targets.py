"""`target_flops` through the prune stage: for each member alone, or for the whole ensemble."""

import pandas as pd
import pytest

from sensai.config import PruneConfig
from sensai.errors import InputError
from sensai.policy.member_plans import MemberPlan
from sensai.stages import prune
from sensai.tracking import Store
from tests.helpers.pipeline import Pruned


def test_prune_meets_a_target_or_says_what_is_in_reach(pruned: Pruned) -> None:
    run = pruned.place.run(prune.run(pruned.place.config("prune", target_flops=0.2)))
    metrics = run.data.metrics
    assert metrics["flops_max"] <= 0.2 * metrics["flops_base"]
    assert metrics["flops_max"] > 0.15 * metrics["flops_base"]
    assert "flops=0.2" in run.info.run_name
    for whole in ("member", "ensemble"):
        with pytest.raises(InputError, match=r"target_flops=1e-05: .* no less than 0\.\d+ can be reached"):
            prune.run(pruned.place.config("prune", target_flops=1e-5, target_of=whole))


def test_a_target_of_the_ensemble_leaves_the_other_members_smaller(pruned: Pruned) -> None:
    place = pruned.place
    sizes: dict[str, pd.Series] = {}
    plans: dict[str, list[MemberPlan]] = {}
    for whole in ("member", "ensemble"):
        run = place.run(prune.run(place.config("prune", target_flops=0.2, target_of=whole)))
        assert ("of the ensemble" in run.info.run_name) == (whole == "ensemble")
        sizes[whole] = pd.read_csv(place.artifact(run.info.run_id, "members.csv"))["flops"]
        plans[whole] = prune.load(Store.connect(), run.info.run_id)
        assert sizes[whole].max() <= 0.2 * run.data.metrics["flops_base"]
    assert (sizes["ensemble"] <= sizes["member"]).all()
    assert (sizes["ensemble"] == sizes["member"]).any()
    assert sizes["ensemble"].sum() < sizes["member"].sum()
    for one, other in zip(plans["member"], plans["ensemble"], strict=True):
        assert one.classes == other.classes
        assert all(set(removed) <= set(other.plan[site]) for site, removed in one.plan.items())


def test_a_target_replaces_the_ratio() -> None:
    given = PruneConfig(target_flops=0.5, ratio=0.1).fingerprint_parameters()
    assert given == PruneConfig(target_flops=0.5, ratio=0.9).fingerprint_parameters()
    assert given != PruneConfig(target_flops=0.4).fingerprint_parameters()
    with pytest.raises(ValueError, match="goes with policy=ratio"):
        PruneConfig(target_flops=0.5, policy="threshold")
