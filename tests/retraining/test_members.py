"""Members of an ensemble learn their own outcomes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sensai.data.batches import Normalization, batches
from sensai.data.dataset import Dataset, load_dataset
from sensai.ensemble import Ensemble
from sensai.ensemble.members import build_ensemble
from sensai.models.names import InputRule
from sensai.retraining.fitting import Progress, Recipe
from sensai.retraining.members import retrain_member
from sensai.retraining.objectives import Objective, judge
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


def retrain(ensemble: Ensemble, number: int, dataset: Dataset, checkpoint: Path, seed: int = 0) -> Progress:
    return retrain_member(
        ensemble,
        number,
        dataset,
        RECIPE,
        batch_size=16,
        augmentation="none",
        seed=seed,
        device=CPU,
        checkpoint=checkpoint,
        on_epoch=lambda *_: None,
    )


@pytest.mark.parametrize(
    "groups", [[(0,), (1,), (2,)], [(2, 0), (1,)], [(0, 1, 2)]], ids=["binary", "group", "control"]
)
def test_every_kind_of_member_learns_its_outcomes(
    tmp_path: Path, dataset: Dataset, groups: list[tuple[int, ...]]
) -> None:
    ensemble = ensemble_of(groups, dataset)
    assert dataset.val is not None
    assert dataset.test is not None
    for number, classes in enumerate(groups):
        progress = retrain(ensemble, number, dataset, tmp_path / f"{number}.safetensors")
        objective = Objective.balanced(classes, 3, dataset.train.labels)
        network = ensemble.members[number].network
        found = judge(network, objective, batches(dataset.val, 16, ensemble.normalization, CPU))
        best = progress.history[progress.best_epoch]
        assert found == pytest.approx({name: best[name] for name in found}, abs=1e-6)
        assert best["balanced_accuracy"] >= 0.9
    ensemble.eval()
    right = [
        (ensemble(images).argmax(1) == labels).float().mean()
        for images, labels in batches(dataset.test, 30, ensemble.normalization, CPU)
    ]
    assert float(right[0]) >= 0.9


def test_only_the_named_member_is_trained(tmp_path: Path, dataset: Dataset) -> None:
    ensemble = ensemble_of([(0,), (1,), (2,)], dataset)
    before = {name: value.clone() for name, value in ensemble.state_dict().items()}
    retrain(ensemble, 1, dataset, tmp_path / "c")
    changed = {name for name, value in ensemble.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("networks.1.") for name in changed)
    assert len(changed) > 5


def test_the_draw_follows_from_seed_and_position(tmp_path: Path, dataset: Dataset) -> None:
    losses = {}
    for name, number, seed in (("a", 0, 0), ("again", 0, 0), ("other seed", 0, 1), ("other position", 1, 0)):
        # Both members are the same network for the same class: only their positions differ.
        ensemble = ensemble_of([(0,), (0,)], dataset)
        losses[name] = retrain(ensemble, number, dataset, tmp_path / name, seed).history[0]["train_loss"]
    assert losses["a"] == losses["again"]
    assert len(set(losses.values())) == 3
