"""Members of an ensemble learn their own outcomes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sensai.cluster.cores import deal
from sensai.data.batches import Normalization, batches
from sensai.data.dataset import Dataset, load_dataset
from sensai.data.dataset_names import InputRule
from sensai.data.transforms import Mixing
from sensai.ensemble import Ensemble
from sensai.ensemble.building import build_ensemble
from sensai.ensemble.calibration import class_contrasts
from sensai.errors import InputError
from sensai.sites import find_sites
from sensai.training import members
from sensai.training.checkpoints import TrainingHistory
from sensai.training.joint_trainer import JointLogits, noise_seed
from sensai.training.members import OnEpoch, Workers, retrain_members
from sensai.training.objectives import Objective, balanced_rows, judge
from sensai.training.training_config import BatchConfig, Budget, ObjectiveConfig, OptimizerConfig, TrainingConfig
from sensai.training.workers import member_checkpoints, stream_of
from tests.conftest import ROOT
from tests.helpers.networks import images_for, make

CPU = torch.device("cpu")
OPTIMIZER = OptimizerConfig(epochs=6, lr=0.05, weight_decay=5e-4, metric="balanced_accuracy")

BCE, NO_LIMIT, PLAIN = ObjectiveConfig("bce"), Budget(), BatchConfig(16, "none", 0)
# Everything of a modern recipe but standardised logits, which members of one class refuse.
RECIPE = {
    "images": BatchConfig(16, "crop", 0, auto_augment="trivialaugment", mixing=Mixing("cutmix", 1.0, 3)),
    "optimizer": replace(OPTIMIZER, epochs=3, weight_averaging="ema", ema_decay=0.8),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rule = InputRule(None, None)
    return load_dataset(f"{ROOT}/tests/helpers/tiny_data.py:tiny", "", work_dir=tmp_path, rule=rule, val_fraction=0.25)


def ensemble_of(groups: list[tuple[int, ...]], dataset: Dataset, arch: str = "small_cnn") -> Ensemble:
    """Return members of half the widths, with emptied sites."""
    model, spec = make(arch, num_classes=3, grey=True)
    sites = find_sites(model, images_for(spec, 2))
    plan = {each.name: np.arange(each.channels // (1 if each.name in sites.branches else 2)) for each in sites.sites}
    normalization = Normalization(dataset.mean, dataset.std)
    return build_ensemble(model, spec, sites, [(group, plan) for group in groups], dataset.class_names, normalization)


def retrain(
    ensemble: Ensemble,
    dataset: Dataset,
    folder: Path,
    *,
    seed: int = 0,
    objective: ObjectiveConfig = BCE,
    optimizer: OptimizerConfig = OPTIMIZER,
    teacher: nn.Module | None = None,
    jobs: int = 1,
    images: BatchConfig = PLAIN,
    budget: Budget = NO_LIMIT,
    on_epoch: OnEpoch = lambda *_: None,
    why_end: Callable[[], BaseException | None] = lambda: None,
) -> list[TrainingHistory]:
    members = deal([1.0] * len(ensemble.members), jobs)
    return retrain_members(
        ensemble,
        dataset,
        TrainingConfig(
            replace(optimizer, metric="accuracy") if objective.joint else optimizer,
            replace(images, seed=seed),
            objective,
            budget,
        ),
        Workers(members, [CPU] * len(members), threads=1),
        teacher=teacher,
        folder=folder,
        on_epoch=on_epoch,
        why_end=why_end,
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
        best = progress.epochs[progress.best_epoch]
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
        name: retrain(ensemble_of([(0,), (1,), (2,)], dataset), dataset, tmp_path / name, seed=seed)[0].epochs
        for name, seed in (("a", 0), ("again", 0), ("other", 1))
    }
    assert losses["a"] == losses["again"]
    assert losses["a"] != losses["other"]


@pytest.fixture
def teacher(dataset: Dataset, tmp_path: Path) -> nn.Module:
    """Return a trained K-way network."""
    ensemble = ensemble_of([(0, 1, 2)], dataset)
    retrain(ensemble, dataset, tmp_path / "teacher")
    network = ensemble.members[0].network
    network.zero_grad(set_to_none=True)
    return network


@pytest.mark.parametrize("loss", ["kd", "joint", "joint_kd"])
@GROUPS
def test_every_loss_teaches_every_kind_of_member(
    tmp_path: Path, dataset: Dataset, teacher: nn.Module, groups: list[tuple[int, ...]], loss: str
) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    ensemble = ensemble_of(groups, dataset)
    told: list[tuple[int, int]] = []
    results = retrain(
        ensemble,
        dataset,
        tmp_path,
        objective=ObjectiveConfig(loss, 0.5),
        teacher=teacher,
        on_epoch=lambda number, epoch, _: told.append((number, epoch)),
    )
    assert accuracy(ensemble, dataset) >= 0.9
    assert [len(result.epochs) for result in results] == [6] * len(groups)
    assert sorted(told) == [(number, epoch) for number in range(len(groups)) for epoch in range(6)]
    # The teacher teaches and learns nothing.
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


# ----------------------------------------------------------------------------------------------------------------- recipe


@pytest.mark.parametrize("loss", ["bce", "kd", "joint", "joint_kd"])
@pytest.mark.parametrize(
    "groups",
    [[(0,), (1,), (2,)], [(2, 0), (1,)], [(0, 1, 2)], [(0, 1, 2), (0, 1, 2)], [(0, 1), (1, 2), (2, 0)]],
    ids=["binary", "group", "control", "replicas", "overlap"],
)
def test_a_recipe_is_resumed_bit_by_bit(
    tmp_path: Path, dataset: Dataset, teacher: nn.Module, groups: list[tuple[int, ...]], loss: str
) -> None:
    """With averaged weights, mixed images and random operations, of every loss and kind of member."""
    objective = ObjectiveConfig(loss, 0.5, kd_temperature=3.0, label_smoothing=0.1)
    given = {"objective": objective, "teacher": teacher, **RECIPE}
    whole = ensemble_of(groups, dataset)
    expected = retrain(whole, dataset, tmp_path / "whole", **given)
    retrain(ensemble_of(groups, dataset), dataset, tmp_path / "parts", **given)
    # As if killed after the second epoch.
    for number in range(len(groups)):
        member_checkpoints(tmp_path / "parts", number).rewind(2)
    resumed = ensemble_of(groups, dataset)
    results = retrain(resumed, dataset, tmp_path / "parts", **given)
    assert [each.epochs for each in results] == [each.epochs for each in expected]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("loss", ["kd", "joint_kd"])
def test_a_teacher_without_weight_need_not_be_there(tmp_path: Path, dataset: Dataset, loss: str) -> None:
    untaught = {"kd": "bce", "joint_kd": "joint"}[loss]
    weights = []
    for name in (loss, untaught):
        ensemble = ensemble_of([(0,), (1, 2)], dataset)
        objective = ObjectiveConfig(name, kd_weight=0.0)
        retrain(ensemble, dataset, tmp_path / name, objective=objective, optimizer=replace(OPTIMIZER, epochs=1))
        weights.append(ensemble.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


STANDARDIZED = {loss: ObjectiveConfig(loss, logit_standardization=True) for loss in ("kd", "joint_kd")}


def test_standardised_logits_are_refused_where_they_say_nothing(
    tmp_path: Path, dataset: Dataset, teacher: nn.Module
) -> None:
    with pytest.raises(
        InputError, match=r"^logit_standardization=true: with loss=kd a member has 2 outcomes, .*joint_kd"
    ):
        retrain(ensemble_of([(0,), (1, 2)], dataset), dataset, tmp_path, objective=STANDARDIZED["kd"], teacher=teacher)
    learnt = {"kd": [(0, 1, 2)], "joint_kd": [(0,), (1,), (2,)]}
    for loss, groups in learnt.items():
        ensemble = ensemble_of(groups, dataset)
        retrain(ensemble, dataset, tmp_path / loss, objective=STANDARDIZED[loss], teacher=teacher)
        assert accuracy(ensemble, dataset) >= 0.9


def test_operations_on_colour_are_refused_for_other_images(tmp_path: Path, dataset: Dataset) -> None:
    two_channels = replace(dataset, train=replace(dataset.train, images=np.repeat(dataset.train.images, 2, axis=1)))
    with pytest.raises(InputError, match=r"^auto_augment='trivialaugment': takes images of 1 or 3 channels"):
        retrain(ensemble_of([(0,), (1, 2)], dataset), two_channels, tmp_path, **RECIPE)


def test_joint_logits_are_those_of_the_members(dataset: Dataset) -> None:
    ensemble = ensemble_of([(2, 0), (1,)], dataset).eval()
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        group, single = ensemble.member_logits(images)
        joint = JointLogits(ensemble.networks, [0, 1], [(2, 0), (1,)], 3)(images)
    expected = torch.stack([group[:, 2] - group[:, 0], single[:, 0], group[:, 1] - group[:, 0]], 1)
    assert torch.equal(joint, expected)


SHARED = [(2, 0), (1,), (0, 1, 2), (0, 1), (2, 1, 0)]


def test_joint_logits_of_shared_classes_are_the_class_contrasts(dataset: Dataset) -> None:
    ensemble = ensemble_of(SHARED, dataset).eval()
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        outputs = torch.cat(ensemble.member_logits(images), 1)
        joint = JointLogits(ensemble.networks, range(5), SHARED, 3)(images)
    expected = outputs.double() @ torch.from_numpy(class_contrasts(SHARED)).T
    torch.testing.assert_close(joint.double(), expected, rtol=0, atol=1e-6)


def test_joint_gradients_reach_every_member_that_has_a_class(dataset: Dataset) -> None:
    """They are those of one sum over all members, computed directly."""
    ensemble = ensemble_of(SHARED, dataset).eval()
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.nn.functional.cross_entropy(JointLogits(ensemble.networks, range(5), SHARED, 3)(images), labels).backward()
    found = [parameter.grad.clone() for parameter in ensemble.parameters()]
    ensemble.zero_grad()
    contrasts = torch.from_numpy(class_contrasts(SHARED)).float()
    torch.nn.functional.cross_entropy(torch.cat(ensemble.member_logits(images), 1) @ contrasts.T, labels).backward()
    for own, parameter in zip(found, ensemble.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-4, atol=1e-7)


def test_every_member_has_noise_of_its_own() -> None:
    seeds = [noise_seed(number, SHARED, 3) for number in range(5)]
    assert len(set(seeds)) == 5
    # Of groups that share no class it is the first class.
    assert [noise_seed(number, [(2, 0), (1,)], 3) for number in range(2)] == [2, 1]


def test_replicas_learn_from_batches_of_their_own(tmp_path: Path, dataset: Dataset) -> None:
    """From one start they become different networks, and the first is the one that is trained alone."""
    optimizer = replace(OPTIMIZER, epochs=2)
    alone = ensemble_of([(0, 1, 2)], dataset)
    replicas = ensemble_of([(0, 1, 2)] * 3, dataset)
    for member in replicas.members:
        member.network.load_state_dict(alone.members[0].network.state_dict())
    for name, ensemble in (("alone", alone), ("replicas", replicas)):
        retrain(ensemble, dataset, tmp_path / name, optimizer=optimizer)
    weights = [member.network.classifier.weight for member in replicas.members]
    assert torch.equal(weights[0], alone.members[0].network.classifier.weight)
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)
    assert not torch.allclose(weights[1], weights[2], atol=1e-3)


def test_only_members_of_the_same_classes_have_streams_of_their_own() -> None:
    assert [stream_of(number, SHARED) for number in range(5)] == [0, 0, 0, 0, 1]
    assert [stream_of(number, [(0, 1), (2,), (0, 1), (0, 1)]) for number in range(4)] == [0, 0, 1, 2]


def test_the_offset_of_all_members_changes_nothing_that_a_joint_training_watches(dataset: Dataset) -> None:
    """Best epoch, stop rules and shares of a budget follow from these metrics: an arbitrary offset does not harm them."""
    groups = [(2, 0), (1,)]
    ensemble = ensemble_of(groups, dataset).eval()
    objective = Objective.balanced((0, 1, 2), 3, dataset.train.labels, "joint")
    images, labels = torch.randn(40, 1, 8, 8), torch.arange(40) % 3
    model = JointLogits(ensemble.networks, [0, 1], groups, 3)
    (before,) = judge([(model, objective)], [(images, labels)])
    group, single = (member.network.classifier.bias for member in ensemble.members)
    with torch.no_grad():
        group[0] -= 4
        single += 4
    (after,) = judge([(model, objective)], [(images, labels)])
    assert after == pytest.approx(before, rel=1e-4)


def test_members_learn_jointly_from_each_other(tmp_path: Path, dataset: Dataset) -> None:
    """The gradient of one member depends on the others' logits, which it does not when each learns by itself."""
    optimizer = replace(OPTIMIZER, epochs=1)
    weights = {}
    losses: tuple[str, ...] = ("bce", "joint")
    for loss in losses:
        for other in (0.0, 3.0):
            ensemble = ensemble_of([(0,), (1,), (2,)], dataset)
            with torch.no_grad():
                ensemble.members[1].network.classifier.bias.add_(other)
            retrain(
                ensemble, dataset, tmp_path / f"{loss}{other}", objective=ObjectiveConfig(loss), optimizer=optimizer
            )
            weights[loss, other] = ensemble.members[0].network.classifier.weight
    assert torch.equal(weights["bce", 0.0], weights["bce", 3.0])
    assert not torch.allclose(weights["joint", 0.0], weights["joint", 3.0], atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------- workers


# With plain bce workers are compared where one of them is killed: test_killed_workers.py.
@pytest.mark.processes
@pytest.mark.parametrize(
    "objective",
    [pytest.param(ObjectiveConfig("bce", balance="sample"), marks=pytest.mark.long), ObjectiveConfig("joint_kd", 0.5)],
    ids=["sample", "joint_kd"],
)
def test_workers_change_nothing(
    tmp_path: Path, dataset: Dataset, teacher: nn.Module, objective: ObjectiveConfig
) -> None:
    """Not even for networks that draw at random as they learn, averaged weights and mixed images."""
    groups = [(0,), (1, 2)]
    given = {"optimizer": replace(OPTIMIZER, epochs=2)}
    if objective.balance == "weight":
        given = {**RECIPE, "optimizer": replace(RECIPE["optimizer"], epochs=2)}
    results, ensembles = {}, {}
    for jobs in (1, 2):
        ensembles[jobs] = ensemble_of(groups, dataset, f"{ROOT}/tests/helpers/noisy_cnn.py:make")
        told: list[tuple[int, int]] = []
        progress = retrain(
            ensembles[jobs],
            dataset,
            tmp_path / str(jobs),
            objective=objective,
            teacher=teacher,
            jobs=jobs,
            **given,
            on_epoch=lambda number, epoch, _: told.append((number, epoch)),  # noqa: B023  (called before the next round)
        )
        results[jobs] = [each.epochs for each in progress]
        assert sorted(told) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert results[1] == results[2]
    for name, value in ensembles[1].state_dict().items():
        assert torch.equal(ensembles[2].state_dict()[name], value), name


# Every block of a ResNet may be emptied.
@pytest.mark.processes
@pytest.mark.parametrize(
    ("objective", "jobs", "arch"),
    [
        (BCE, 1, "small_cnn"),
        pytest.param(ObjectiveConfig("joint"), 2, "small_cnn", marks=pytest.mark.long),
        (ObjectiveConfig("joint"), 1, "resnet20"),
    ],
    ids=str,
)
def test_training_that_is_ended_after_an_epoch_goes_on_to_the_same_members(
    tmp_path: Path, dataset: Dataset, objective: ObjectiveConfig, jobs: int, arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_SECONDS_BETWEEN_LOOKS", 0.01)
    own = {"objective": objective, "jobs": jobs, "optimizer": replace(OPTIMIZER, epochs=15)}
    whole, parts = (ensemble_of([(0,), (1, 2)], dataset, arch) for _ in range(2))
    # In one worker, which changes nothing.
    expected = retrain(whole, dataset, tmp_path / "whole", **own | {"jobs": 1})
    told: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        retrain(
            parts,
            dataset,
            tmp_path / "parts",
            on_epoch=lambda _, epoch, __: told.append(epoch),
            why_end=lambda: KeyboardInterrupt() if told else None,
            **own,
        )
    had = member_checkpoints(tmp_path / "parts", 0).history()
    assert had is not None
    assert 0 < len(had.epochs) < 15
    results = retrain(parts, dataset, tmp_path / "parts", **own)
    assert [result.epochs for result in results] == [result.epochs for result in expected]
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_joint_training_goes_back_to_the_last_epoch_that_all_have_written(tmp_path: Path, dataset: Dataset) -> None:
    groups = [(0,), (1,), (2,)]
    joint, optimizer = ObjectiveConfig("joint"), replace(OPTIMIZER, epochs=3)
    whole = ensemble_of(groups, dataset)
    expected = retrain(whole, dataset, tmp_path / "whole", objective=joint, optimizer=optimizer)
    retrain(ensemble_of(groups, dataset), dataset, tmp_path / "c", objective=joint, optimizer=optimizer)
    # As if killed when two of three had written the last epoch.
    member_checkpoints(tmp_path / "c", 1).rewind(2)
    resumed = ensemble_of(groups, dataset)
    results = retrain(resumed, dataset, tmp_path / "c", objective=joint, optimizer=optimizer)
    assert [result.epochs for result in results] == [result.epochs for result in expected]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.processes
@pytest.mark.long
def test_a_budget_is_dealt_to_the_workers(tmp_path: Path, dataset: Dataset) -> None:
    results = retrain(ensemble_of([(0,), (1,), (2,)], dataset), dataset, tmp_path, jobs=2, budget=Budget(epochs=8))
    assert sum(len(result.epochs) for result in results) == 8
    assert {result.stopped_by for result in results} == {"budget"}


@pytest.mark.long
@pytest.mark.processes
def test_a_joint_budget_ends_all_workers_in_one_epoch(tmp_path: Path, dataset: Dataset) -> None:
    results = retrain(
        ensemble_of([(0,), (1,), (2,)], dataset),
        dataset,
        tmp_path,
        jobs=2,
        objective=ObjectiveConfig("joint"),
        budget=Budget(epochs=8),
    )
    assert [len(result.epochs) for result in results] == [2, 2, 2]


@pytest.mark.long
@pytest.mark.processes
def test_members_that_learn_jointly_decay_together(tmp_path: Path, dataset: Dataset) -> None:
    """In one worker, where a budget stops them, and in two, where a plateau does."""
    joint = ObjectiveConfig("joint")
    optimizer = replace(
        OPTIMIZER, schedule="warmup_stable_decay", epochs=9, decay_epochs=2, patience=1, min_gain=1.0, metric="accuracy"
    )
    groups: list[tuple[int, ...]] = [(0,), (1,), (2,)]
    ensembles = [ensemble_of(groups, dataset) for _ in range(2)]
    limited = retrain(
        ensembles[0],
        dataset,
        tmp_path / "limited",
        objective=joint,
        optimizer=replace(optimizer, patience=0),
        budget=Budget(epochs=13),
    )
    stopped = retrain(ensembles[1], dataset, tmp_path / "stopped", objective=joint, optimizer=optimizer, jobs=2)
    for histories, reason in ((limited, "budget"), (stopped, "plateau")):
        assert [(each.stopped_after, len(each.epochs), each.stopped_by) for each in histories] == [(2, 4, reason)] * 3
    assert [each.epochs for each in stopped] == [each.epochs for each in limited]
    for name, value in ensembles[0].state_dict().items():
        assert torch.equal(ensembles[1].state_dict()[name], value), name


@pytest.mark.parametrize("loss", ["bce", "joint"])
def test_a_budget_that_leaves_members_untrained_is_refused(tmp_path: Path, dataset: Dataset, loss: str) -> None:
    with pytest.raises(InputError, match=r"^budget='2epochs': must be at least an epoch for each of 3 members"):
        retrain(
            ensemble_of([(0,), (1,), (2,)], dataset),
            dataset,
            tmp_path,
            objective=ObjectiveConfig(loss),
            budget=Budget(epochs=2),
        )
    results = retrain(
        ensemble_of([(0,), (1,), (2,)], dataset),
        dataset,
        tmp_path,
        objective=ObjectiveConfig(loss),
        budget=Budget(epochs=3),
    )
    assert [len(result.epochs) for result in results] == [1, 1, 1]


def test_those_that_learn_jointly_fail_together(tmp_path: Path, dataset: Dataset) -> None:
    ensemble = ensemble_of([(0,), (1,), (2,)], dataset)
    with torch.no_grad():
        ensemble.members[1].network.classifier.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"member top: the loss is .*; member middle: .*; member bottom: "):
        retrain(ensemble, dataset, tmp_path, objective=ObjectiveConfig("joint"))


def test_a_member_that_fails_is_named_and_the_others_are_trained(tmp_path: Path, dataset: Dataset) -> None:
    ensemble = ensemble_of([(0,), (1,), (2,)], dataset)
    with torch.no_grad():
        ensemble.members[1].network.classifier.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="member middle: the loss is not finite in epoch 0"):
        retrain(ensemble, dataset, tmp_path)
    ends = [member_checkpoints(tmp_path, number).history() for number in range(3)]
    assert [end.stopped_by for end in ends if end] == ["epochs", "", "epochs"]


def test_an_error_of_the_listener_ends_the_training(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(members, "_SECONDS_BETWEEN_LOOKS", 0.01)
    with pytest.raises(OSError, match="no space left"):
        retrain(
            ensemble_of([(0,), (1, 2)], dataset),
            dataset,
            tmp_path,
            optimizer=replace(OPTIMIZER, epochs=30),
            on_epoch=broken,
        )
    # Nothing more is trained that nobody would hear of.
    had = member_checkpoints(tmp_path, 0).history()
    assert had is not None
    assert len(had.epochs) < 30


# --------------------------------------------------------------------------------------------------------------- sample


@given(st.lists(st.integers(0, 3), min_size=2, max_size=80), st.integers(0, 9))
def test_a_sample_holds_every_image_of_the_member_and_as_many_others_as_of_one_class(
    outcomes: list[int], seed: int
) -> None:
    targets = torch.tensor(outcomes)
    rows = balanced_rows(targets, 3, torch.Generator().manual_seed(seed))
    assert torch.equal(rows, rows.unique())
    chosen = targets[rows]
    own = int((targets > 0).sum())
    assert int((chosen > 0).sum()) == own
    assert int((chosen == 0).sum()) == min(max(round(own / 3), 2), len(outcomes) - own)
