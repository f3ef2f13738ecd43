"""`criterion` of prune: shared upstream runs, names of runs, and plans that equal the criterion's."""

import numpy as np
import pytest

from sensai.config import PruneConfig
from sensai.errors import InputError
from sensai.pipeline.base_model import load_base_model
from sensai.pipeline.session import Session
from sensai.policy.criterion_inputs import criterion_of
from sensai.policy.plans import ratio_plan
from sensai.stages import activations, baseline, group, main, prune
from sensai.tracking import Store
from tests.helpers.pipeline import Place, Pruned, stage_of


def upstream(place: Place, run_id: str, stage: str) -> str:
    return place.run(run_id).data.tags[f"sensai.upstream.{stage}"]


def removed(run_id: str) -> list[dict[str, list[int]]]:
    plans = prune.load(Store.connect(), run_id)
    return [{site: channels.tolist() for site, channels in member.plan.items()} for member in plans]


def test_every_criterion_gives_other_plans_from_one_pass(pruned: Pruned) -> None:
    place = pruned.place
    runs = {name: prune.run(place.config("prune", criterion=name)) for name in ("mean", "l1", "random")}
    assert len({str(removed(run_id)) for run_id in [pruned.run_id, *runs.values()]}) == 4
    for name, run_id in runs.items():
        assert upstream(place, run_id, "activations") == pruned.upstream("activations")
        run = place.run(run_id)
        assert run.info.run_name.startswith(f"prune 0.5 by {name} ")
        assert run.data.params["criterion"] == name
        assert run.data.metrics["proof_error"] < 1e-4
    # Filters are what they are, whatever the class.
    first, *others = removed(runs["l1"])
    assert all(other == first for other in others)
    first, *others = removed(runs["random"])
    assert all(other != first for other in others)


def test_l1_ranks_the_filters_of_the_base_model(pruned: Pruned) -> None:
    run_id = prune.run(pruned.place.config("prune", criterion="l1", ranking="layer", ratio=0.25))
    model, _ = load_base_model(Store.connect(), pruned.upstream("baseline"))
    for site, channels in removed(run_id)[0].items():
        norms = model.get_submodule(site).weight.abs().flatten(1).sum(1)
        assert sorted(channels) == sorted(norms.argsort()[: round(len(norms) / 4)].tolist())


def test_taylor_makes_its_own_pass_and_shares_the_base(pruned: Pruned) -> None:
    place, before = pruned.place, pruned.place.runs()
    run_id = prune.run(place.config("prune", criterion="taylor"))
    assert {stage_of(run) for run in place.new_runs(before)} == {"activations", "group", "prune"}
    assert upstream(place, run_id, "baseline") == pruned.upstream("baseline")
    own = upstream(place, run_id, "activations")
    with_it = activations.load(Store.connect(), own)
    without = activations.load(Store.connect(), pruned.upstream("activations"))
    for site, values in without.items():
        assert values.sensitivity is None
        assert with_it[site].sensitivity.shape == values.magnitude.shape
        np.testing.assert_array_equal(with_it[site].elements, values.elements)
        np.testing.assert_allclose(with_it[site].magnitude, values.magnitude, rtol=1e-4)
    assert removed(run_id) != removed(pruned.run_id)


def test_the_threshold_policy_makes_no_backward_pass(pruned: Pruned) -> None:
    place = pruned.place
    run_id = prune.run(place.config("prune", policy="threshold", criterion="taylor"))
    assert upstream(place, run_id, "activations") == pruned.upstream("activations")
    assert "taylor" not in place.run(run_id).info.run_name


def test_criteria_are_compared_on_one_run_of_group(pruned: Pruned) -> None:
    place = pruned.place
    work_dir = str(place.folder / "work")
    config = PruneConfig(from_run=pruned.upstream("group"), criterion="random", seed=5, work_dir=work_dir)
    run_id = prune.run(config)
    statistics = activations.load(Store.connect(), pruned.upstream("activations"))
    plan = ratio_plan(statistics, (1,), ratio=0.5, criterion=criterion_of("random", 5))
    assert removed(run_id)[1] == {site: channels.tolist() for site, channels in plan.items()}
    assert upstream(place, run_id, "group") == pruned.upstream("group")


def test_taylor_on_statistics_without_a_backward_pass_is_refused(pruned: Pruned) -> None:
    place = pruned.place
    config = PruneConfig(from_run=pruned.upstream("group"), criterion="taylor", work_dir=str(place.folder / "work"))
    with pytest.raises(InputError, match="criterion='taylor': the run of from_run"):
        prune.run(config)
    made = group.run(place.config("group", criterion="taylor"))
    assert prune.run(PruneConfig(from_run=made, criterion="taylor", work_dir=str(place.folder / "work")))


@pytest.mark.parametrize("parameters", [{"policy": "threshold"}, {"target_flops": 0.5}, {"ratio": 0.5}], ids=str)
def test_main_makes_the_runs_that_its_later_stages_stand_on(place: Place, parameters: dict[str, object]) -> None:
    config, session = place.config("main", criterion="taylor", **parameters), Session.connect()
    for stage in (group.stage, activations.stage, baseline.stage):
        by_prune = main.stage_config(config, prune.stage).upstream(stage.config)
        assert stage.fingerprint(main.stage_config(config, stage), session) == stage.fingerprint(by_prune, session)
