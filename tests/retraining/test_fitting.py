"""The training loop: it learns, keeps its best epoch, stops, and goes on after being killed as if it had not been."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sensai.data.batches import Normalization, batches, steps_per_epoch, training_batches
from sensai.data.dataset import Split
from sensai.errors import InputError
from sensai.models.factory import NetworkSpec, build
from sensai.retraining.fitting import Batches, fit
from sensai.retraining.objectives import Objective, judge
from sensai.retraining.trainee import Progress, Recipe, Trainee
from tests.helpers import tiny_data

CPU = torch.device("cpu")
NORMALIZATION = Normalization((0.3,), (0.3,))
BATCH = 24
RECIPE = Recipe(epochs=4, lr=0.05, weight_decay=5e-4, patience=0, min_gain=0.0, metric="accuracy")
OBJECTIVE = Objective.multiclass(3)


def split_of(name: str) -> Split:
    images, labels = tiny_data.tiny("")[name]
    return Split(images[:, None], labels.astype(np.int64), np.arange(len(labels)))


TRAIN, VAL = split_of("train"), split_of("test")
validation = partial(batches, VAL, 13, NORMALIZATION, CPU)


def training(epoch: int) -> Batches:
    return training_batches(TRAIN, BATCH, NORMALIZATION, CPU, epoch, augmentation="none", seed=0)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(NetworkSpec("small_cnn", 3, 1, (8, 8)))


def run(
    checkpoint: Path,
    recipe: Recipe = RECIPE,
    *,
    model: nn.Module | None = None,
    train: Callable[[int], Batches] = training,
    judged: Callable[[], Batches] | None = validation,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda _epoch, _metrics: None,
) -> tuple[nn.Module, Progress]:
    model = model or network()
    trainee = Trainee(model, OBJECTIVE, recipe, steps_per_epoch(TRAIN, BATCH), checkpoint)
    fit([trainee], train, judged, lambda _position, epoch, metrics: on_epoch(epoch, metrics))
    return model, trainee.progress


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_it_learns_what_can_be_told_apart(tmp_path: Path) -> None:
    seen = []
    model, progress = run(tmp_path / "c", on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert progress.history[progress.best_epoch]["accuracy"] >= 0.95
    assert progress.history[-1]["train_loss"] < 0.5 * progress.history[0]["train_loss"]
    assert (progress.done, progress.stopped_by, len(progress.history)) == (True, "epochs", 4)
    assert progress.seconds > 0
    assert seen == list(enumerate(progress.history))
    assert progress.history[0].keys() == {"loss", "accuracy", "balanced_accuracy", "roc_auc", "train_loss"}
    assert not model.training
    assert judge([(model, OBJECTIVE)], validation())[0]["accuracy"] >= 0.95


def test_the_training_loss_is_the_mean_over_the_images(tmp_path: Path) -> None:
    """Without learning and in batches of other sizes it is the loss of the whole; batch norm needs the same batches."""
    pairs = list(training(0))
    model = network().train()
    with torch.no_grad():
        parts = [(float(OBJECTIVE.loss(model(images), labels)), len(labels)) for images, labels in pairs]
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=1, lr=1e-12))
    expected = sum(loss * count for loss, count in parts) / sum(count for _, count in parts)
    assert progress.history[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def spoilt_from(first: int) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """Training batches whose labels are wrong from one epoch on."""

    def pairs(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in training(epoch):
            yield images, (labels + 1) % 3 if epoch >= first else labels

    return pairs


def test_the_weights_of_the_best_epoch_are_returned(tmp_path: Path) -> None:
    model, progress = run(tmp_path / "c", replace(RECIPE, epochs=6), train=spoilt_from(3))
    history = progress.history
    best = max(range(6), key=lambda epoch: (history[epoch]["accuracy"], -history[epoch]["loss"]))
    assert progress.best_epoch == best < 5
    assert history[-1]["accuracy"] < history[best]["accuracy"]
    (metrics,) = judge([(model, OBJECTIVE)], validation())
    assert metrics == {name: history[best][name] for name in metrics}


def test_the_recipe_names_the_metric_that_is_watched(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=6, metric="roc_auc"), train=spoilt_from(3))
    history = progress.history
    assert progress.best_epoch == max(range(6), key=lambda epoch: (history[epoch]["roc_auc"], -history[epoch]["loss"]))


def test_ties_go_to_the_lower_loss(tmp_path: Path) -> None:
    # An epoch of these images suffices for accuracy 1; from there only the loss tells epochs apart.
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=8))
    best = progress.history[progress.best_epoch]
    rivals = [each for each in progress.history if each["accuracy"] == best["accuracy"]]
    assert len(rivals) > 1
    assert best["loss"] == min(each["loss"] for each in rivals)


def test_without_validation_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    model, progress = run(tmp_path / "c", judged=None)
    assert progress.best_epoch == 3
    assert [list(metrics) for metrics in progress.history] == [["train_loss"]] * 4
    with_validation, other = run(tmp_path / "d", replace(RECIPE, metric="unknown"))
    assert other.best_epoch == 3
    assert_same_weights(model, with_validation)


# ------------------------------------------------------------------------------------------------------ killed, resumed


class _Killed(Exception):
    pass


def killed_after(epoch: int) -> Callable[[int, dict[str, float]], None]:
    def on_epoch(number: int, _metrics: dict[str, float]) -> None:
        if number == epoch:
            raise _Killed

    return on_epoch


def killed_within(epoch: int) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    def pairs(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step, pair in enumerate(training(number)):
            if (number, step) == (epoch, 2):
                raise _Killed
            yield pair

    return pairs


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Progress]:
    return run(tmp_path_factory.mktemp("whole") / "c")


def assert_same_training(first: tuple[nn.Module, Progress], second: tuple[nn.Module, Progress]) -> None:
    assert_same_weights(first[0], second[0])
    assert second[1].history == first[1].history
    assert (second[1].best_epoch, second[1].stopped_by) == (first[1].best_epoch, first[1].stopped_by)


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_killed_after_an_epoch_and_resumed_is_as_if_never_killed(
    tmp_path: Path, uninterrupted: tuple[nn.Module, Progress], epoch: int
) -> None:
    checkpoint = tmp_path / "deeper" / "c.safetensors"
    with pytest.raises(_Killed):
        run(checkpoint, on_epoch=killed_after(epoch))
    seen: list[tuple[int, dict[str, float]]] = []
    # The new process starts with other weights; all that matters is in the checkpoint.
    resumed = run(checkpoint, model=network(seed=99), on_epoch=lambda number, metrics: seen.append((number, metrics)))
    assert_same_training(uninterrupted, resumed)
    # What was trained before is told again, so that a run's curve is whole.
    assert seen == list(enumerate(uninterrupted[1].history))


@pytest.mark.parametrize("epoch", [0, 2])
def test_killed_within_an_epoch_the_epoch_is_done_again(
    tmp_path: Path, uninterrupted: tuple[nn.Module, Progress], epoch: int
) -> None:
    with pytest.raises(_Killed):
        run(tmp_path / "c", train=killed_within(epoch))
    trained: list[int] = []

    def counted(number: int) -> Batches:
        trained.append(number)
        return training(number)

    # From the start there is nothing to go on from, so the first weights must be the same.
    resumed = run(tmp_path / "c", train=counted, model=network(seed=0 if epoch == 0 else 99))
    assert_same_training(uninterrupted, resumed)
    assert trained == list(range(epoch, 4))


def test_killed_again_and_again(tmp_path: Path, uninterrupted: tuple[nn.Module, Progress]) -> None:
    for epoch in range(3):
        with pytest.raises(_Killed):
            run(tmp_path / "c", on_epoch=killed_after(epoch))
    assert_same_training(uninterrupted, run(tmp_path / "c"))


def test_killed_after_the_best_epoch_its_weights_still_come_back(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=6)
    whole = run(tmp_path / "whole", recipe, train=spoilt_from(3))
    assert whole[1].best_epoch < 4
    with pytest.raises(_Killed):
        run(tmp_path / "c", recipe, train=spoilt_from(3), on_epoch=killed_after(4))
    assert_same_training(whole, run(tmp_path / "c", recipe, train=spoilt_from(3), model=network(seed=99)))


def test_a_finished_training_is_not_done_again(tmp_path: Path, uninterrupted: tuple[nn.Module, Progress]) -> None:
    run(tmp_path / "c")

    def must_not(_epoch: int) -> Batches:
        raise AssertionError("trained again")

    again = run(tmp_path / "c", model=network(seed=99), train=must_not)
    assert_same_training(uninterrupted, again)
    assert not again[0].training


def test_a_checkpoint_is_safetensors_and_nothing_else_is_left(tmp_path: Path) -> None:
    run(tmp_path / "c.safetensors", replace(RECIPE, epochs=2))
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.safetensors"]
    with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
        assert {key.partition(".")[0] for key in file.keys()} == {"network", "best", "momentum"}  # noqa: SIM118
        assert file.metadata().keys() == {"progress", "param_groups", "schedule"}


# ---------------------------------------------------------------------------------------------------------------- stops


def test_a_plateau_ends_the_training(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=9, patience=2, min_gain=2.0))
    # No gain of two whole units is possible, so two epochs after the first it is over.
    assert (len(progress.history), progress.stopped_by, progress.done) == (3, "plateau", True)


def test_patience_starts_anew_with_each_gain(tmp_path: Path) -> None:
    # Epochs 0-2 teach, from 3 on the labels are wrong: no gain after the best of the first.
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=12, patience=3), train=spoilt_from(3))
    accuracies = [metrics["accuracy"] for metrics in progress.history]
    last_gain = max(epoch for epoch in range(len(accuracies)) if accuracies[epoch] > max([-1.0, *accuracies[:epoch]]))
    assert progress.stopped_by == "plateau"
    assert len(accuracies) == last_gain + 1 + 3


def test_patience_of_zero_never_stops(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=5, patience=0, min_gain=2.0))
    assert (len(progress.history), progress.stopped_by) == (5, "epochs")


def test_a_resumed_training_stops_at_the_same_plateau(tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=9, patience=3, min_gain=2.0)
    whole = run(tmp_path / "whole", recipe)
    with pytest.raises(_Killed):
        run(tmp_path / "c", recipe, on_epoch=killed_after(1))
    assert_same_training(whole, run(tmp_path / "c", recipe))


def test_without_validation_there_is_no_plateau_to_see(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=5, patience=2), judged=None)
    assert (len(progress.history), progress.stopped_by) == (5, "epochs")


def test_a_loss_that_is_not_finite_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lr=1e\+20: the loss is not finite in epoch 0; try a smaller learning rate"):
        run(tmp_path / "c", replace(RECIPE, lr=1e20))
    assert not (tmp_path / "c").exists()


def test_weights_that_are_not_finite_after_the_last_step_are_said_too(tmp_path: Path) -> None:
    """One step an epoch: the loss is taken before the step that breaks the network."""

    def one_step(epoch: int) -> Batches:
        return list(training(epoch))[:1]

    trainee = Trainee(network(), OBJECTIVE, replace(RECIPE, lr=1e38), 1, tmp_path / "c")
    with pytest.raises(InputError, match="not finite"):
        fit([trainee], one_step, validation, lambda *_: None)


# ------------------------------------------------------------------------------------------------------ several at once

BINARY = [Objective.balanced((label,), 3, TRAIN.labels) for label in range(3)]


def trainees(folder: Path, recipes: list[Recipe], numbers: tuple[int, ...] = (0, 1, 2)) -> list[Trainee]:
    made = []
    for number in numbers:
        torch.manual_seed(number)
        model = build(NetworkSpec("small_cnn", 1, 1, (8, 8)))
        steps = steps_per_epoch(TRAIN, BATCH)
        made.append(Trainee(model, BINARY[number], recipes[number], steps, folder / f"{number}"))
    return made


RECIPES = [
    replace(RECIPE, metric="balanced_accuracy"),
    replace(RECIPE, metric="balanced_accuracy", epochs=6, patience=1, min_gain=2.0),
    replace(RECIPE, metric="balanced_accuracy", epochs=5, lr=0.02),
]


def test_what_becomes_of_a_network_does_not_depend_on_the_others(tmp_path: Path) -> None:
    together = trainees(tmp_path / "together", RECIPES)
    made: list[int] = []

    def counted(epoch: int) -> Batches:
        made.append(epoch)
        return training(epoch)

    fit(together, counted, validation, lambda *_: None)
    # The batches of an epoch are made once for all that are still in training.
    assert made == [0, 1, 2, 3, 4]
    assert [(len(t.progress.history), t.progress.stopped_by) for t in together] == [
        (4, "epochs"),
        (2, "plateau"),
        (5, "epochs"),
    ]
    for number in range(3):
        (alone,) = trainees(tmp_path / "alone", RECIPES, (number,))
        fit([alone], training, validation, lambda *_: None)
        assert alone.progress.history == together[number].progress.history
        assert_same_weights(alone.network, together[number].network)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_killed_between_two_checkpoints_of_one_epoch(tmp_path: Path, position: int) -> None:
    whole = trainees(tmp_path / "whole", RECIPES)
    fit(whole, training, validation, lambda *_: None)

    def kill(number: int, epoch: int, _metrics: dict[str, float]) -> None:
        if (number, epoch) == (position, 1):
            raise _Killed

    with pytest.raises(_Killed):
        fit(trainees(tmp_path / "c", RECIPES), training, validation, kill)
    told: list[tuple[int, int]] = []
    resumed = trainees(tmp_path / "c", RECIPES)
    assert [each.epoch for each in resumed] == [2 if number <= position else 1 for number in range(3)]
    made: list[int] = []

    def counted(epoch: int) -> Batches:
        made.append(epoch)
        return training(epoch)

    fit(resumed, counted, validation, lambda number, epoch, _metrics: told.append((number, epoch)))
    # Those that were left behind catch up; from there on all share their batches again.
    assert made == sorted(set(made))
    assert sorted(told) == [(n, epoch) for n in range(3) for epoch in range(len(whole[n].progress.history))]
    for one, other in zip(whole, resumed, strict=True):
        assert one.progress.history == other.progress.history
        assert_same_weights(one.network, other.network)


def test_a_target_that_is_reached_ends_the_training(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(RECIPE, epochs=9, target=0.9))
    accuracies = [metrics["accuracy"] for metrics in progress.history]
    assert (progress.stopped_by, progress.done) == ("target", True)
    assert accuracies[-1] >= 0.9 > max([0.0, *accuracies[:-1]])


def test_a_target_out_of_reach_or_unseen_ends_nothing(tmp_path: Path) -> None:
    for name, judged in (("a", validation), ("b", None)):
        _, progress = run(tmp_path / name, replace(RECIPE, epochs=2, target=1.1), judged=judged)
        assert (len(progress.history), progress.stopped_by) == (2, "epochs")
