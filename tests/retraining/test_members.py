"""Members of an ensemble learn their own outcomes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sensai.data.batches import Normalization, batches
from sensai.data.dataset import Dataset, load_dataset
from sensai.ensemble import Ensemble
from sensai.ensemble.members import build_ensemble
from sensai.models.names import InputRule
from sensai.retraining.fitting import OnEpoch
from sensai.retraining.members import JointLogits, Loss, Stream, retrain_members
from sensai.retraining.objectives import Objective, judge
from sensai.retraining.trainee import Progress, Recipe
from sensai.sites import find_sites
from tests.conftest import ROOT
from tests.helpers.networks import images_for, make

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=6, lr=0.05, weight_decay=5e-4, patience=0, min_gain=0.0, metric="balanced_accuracy")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rule = InputRule(None, None)
    return load_dataset(f"{ROOT}/tests/helpers/tiny_data.py:tiny", "", work_dir=tmp_path, rule=rule, val_fraction=0.25)


def ensemble_of(groups: list[tuple[int, ...]], dataset: Dataset) -> Ensemble:
    model, spec = make("small_cnn", num_classes=3)
    sites = find_sites(model, images_for(spec, 2))
    plan = {site.name: np.arange(site.channels // 2) for site in sites.sites}
    normalization = Normalization(dataset.mean, dataset.std)
    return build_ensemble(model, spec, sites, [(group, plan) for group in groups], dataset.class_names, normalization)


def retrain(
    ensemble: Ensemble,
    dataset: Dataset,
    checkpoints: Path,
    *,
    seed: int = 0,
    loss: Loss = "bce",
    recipe: Recipe = RECIPE,
    teacher: nn.Module | None = None,
    on_epoch: OnEpoch = lambda *_: None,
) -> list[Progress]:
    return retrain_members(
        ensemble,
        dataset,
        recipe,
        Stream(16, "none", seed, CPU),
        loss=loss,
        teacher=teacher,
        teacher_share=0.5,
        checkpoints=checkpoints,
        on_epoch=on_epoch,
    )


GROUPS = pytest.mark.parametrize(
    "groups", [[(0,), (1,), (2,)], [(2, 0), (1,)], [(0, 1, 2)]], ids=["binary", "group", "control"]
)


@GROUPS
def test_every_kind_of_member_learns_its_outcomes(
    tmp_path: Path, dataset: Dataset, groups: list[tuple[int, ...]]
) -> None:
    ensemble = ensemble_of(groups, dataset)
    assert dataset.val is not None
    results = retrain(ensemble, dataset, tmp_path)
    for classes, member, progress in zip(groups, ensemble.members, results, strict=True):
        objective = Objective.balanced(classes, 3, dataset.train.labels)
        (found,) = judge([(member.network, objective)], batches(dataset.val, 16, ensemble.normalization, CPU))
        best = progress.history[progress.best_epoch]
        assert found == pytest.approx({name: best[name] for name in found}, abs=1e-6)
        assert best["balanced_accuracy"] >= 0.9
    assert accuracy(ensemble, dataset) >= 0.9


def accuracy(ensemble: Ensemble, dataset: Dataset) -> float:
    assert dataset.test is not None
    ((images, labels),) = batches(dataset.test, len(dataset.test), ensemble.normalization, CPU)
    with torch.no_grad():
        return float((ensemble.eval()(images).argmax(1) == labels).float().mean())


def test_a_seed_gives_another_order(tmp_path: Path, dataset: Dataset) -> None:
    losses = {
        name: retrain(ensemble_of([(0,), (1,), (2,)], dataset), dataset, tmp_path / name, seed=seed)[0].history
        for name, seed in (("a", 0), ("again", 0), ("other", 1))
    }
    assert losses["a"] == losses["again"]
    assert losses["a"] != losses["other"]


@pytest.fixture
def teacher(dataset: Dataset, tmp_path: Path) -> nn.Module:
    """A K-way network that has learnt the classes."""
    ensemble = ensemble_of([(0, 1, 2)], dataset)
    retrain(ensemble, dataset, tmp_path / "teacher")
    network = ensemble.members[0].network
    network.zero_grad(set_to_none=True)
    return network


@pytest.mark.parametrize("loss", ["kd", "joint", "joint_kd"])
@GROUPS
def test_every_loss_teaches_every_kind_of_member(
    tmp_path: Path, dataset: Dataset, teacher: nn.Module, groups: list[tuple[int, ...]], loss: Loss
) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    ensemble = ensemble_of(groups, dataset)
    recipe = replace(RECIPE, metric="accuracy") if loss.startswith("joint") else RECIPE
    told: list[tuple[int, int]] = []
    results = retrain(
        ensemble,
        dataset,
        tmp_path,
        loss=loss,
        recipe=recipe,
        teacher=teacher,
        on_epoch=lambda number, epoch, _: told.append((number, epoch)),
    )
    assert accuracy(ensemble, dataset) >= 0.9
    assert [len(result.history) for result in results] == [6] * len(groups)
    assert sorted(told) == [(number, epoch) for number in range(len(groups)) for epoch in range(6)]
    # The teacher teaches and learns nothing.
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_joint_logits_are_those_of_the_members(dataset: Dataset) -> None:
    ensemble = ensemble_of([(2, 0), (1,)], dataset).eval()
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        group, single = ensemble.member_logits(images)
        joint = JointLogits(ensemble)(images)
    expected = torch.stack([group[:, 2] - group[:, 0], single[:, 0], group[:, 1] - group[:, 0]], 1)
    assert torch.equal(joint, expected)


def test_members_learn_jointly_from_each_other(tmp_path: Path, dataset: Dataset) -> None:
    """The gradient of one member depends on the others' logits, which it does not when each learns by itself."""
    recipe = replace(RECIPE, epochs=1, metric="accuracy")
    weights = {}
    for loss in ("bce", "joint"):
        for other in (0.0, 3.0):
            ensemble = ensemble_of([(0,), (1,), (2,)], dataset)
            with torch.no_grad():
                ensemble.members[1].network.classifier.bias.add_(other)
            retrain(ensemble, dataset, tmp_path / f"{loss}{other}", loss=loss, recipe=recipe)
            weights[loss, other] = ensemble.members[0].network.classifier.weight
    assert torch.equal(weights["bce", 0.0], weights["bce", 3.0])
    assert not torch.allclose(weights["joint", 0.0], weights["joint", 3.0], atol=1e-4)


class _Killed(Exception):
    pass


def test_a_joint_training_goes_on_as_if_never_killed(tmp_path: Path, dataset: Dataset) -> None:
    recipe = replace(RECIPE, epochs=3, metric="accuracy")
    whole = ensemble_of([(0,), (1,), (2,)], dataset)
    expected = retrain(whole, dataset, tmp_path / "whole", loss="joint", recipe=recipe)

    def kill(number: int, epoch: int, _metrics: dict[str, float]) -> None:
        if (number, epoch) == (0, 1):
            raise _Killed

    killed = ensemble_of([(0,), (1,), (2,)], dataset)
    with pytest.raises(_Killed):
        retrain(killed, dataset, tmp_path / "c", loss="joint", recipe=recipe, on_epoch=kill)
    resumed = ensemble_of([(0,), (1,), (2,)], dataset)
    results = retrain(resumed, dataset, tmp_path / "c", loss="joint", recipe=recipe)
    assert [result.history for result in results] == [result.history for result in expected]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
