"""The training loop learns, keeps its best epoch, stops, and resumes after a kill with the same result."""

import math
import shutil
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
from sensai.models.factory import NetworkSpec, build
from sensai.training.checkpoints import Checkpoints, TrainingHistory
from sensai.training.joint_trainer import JointTrainer
from sensai.training.member_trainer import MemberTrainer
from sensai.training.objectives import Objective, judge
from sensai.training.training_config import Budget, OptimizerConfig
from sensai.training.training_loop import Batches, fit
from tests.helpers import tiny_data

CPU = torch.device("cpu")
NORMALIZATION = Normalization((0.3,), (0.3,))
BATCH = 24
CONFIG = OptimizerConfig(epochs=4, lr=0.05, weight_decay=5e-4, metric="accuracy")
OBJECTIVE = Objective.multiclass(3)


def split_of(name: str) -> Split:
    images, labels = tiny_data.tiny("")[name]
    return Split(images[:, None], labels.astype(np.int64), np.arange(len(labels)))


TRAIN, VAL = split_of("train"), split_of("test")
validation = partial(batches, VAL, 13, NORMALIZATION, CPU)


def training(epoch: int, stream: int = 0) -> Batches:
    return training_batches(TRAIN, BATCH, NORMALIZATION, CPU, epoch, augmentation="none", seed=0)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build(NetworkSpec("small_cnn", 3, 1, (8, 8)))


def run(
    checkpoint: Path,
    config: OptimizerConfig = CONFIG,
    *,
    model: nn.Module | None = None,
    train: Callable[[int], Batches] = training,
    judged: Callable[[], Batches] | None = validation,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda _epoch, _metrics: None,
) -> tuple[nn.Module, TrainingHistory]:
    model = model or network()
    member = MemberTrainer(model, config, steps_per_epoch(TRAIN, BATCH), Checkpoints(checkpoint))
    trainer = JointTrainer(model, OBJECTIVE, [member])
    failures = fit([trainer], train, judged, on_epoch=lambda _position, epoch, metrics: on_epoch(epoch, metrics))
    assert failures == {}
    return model, member.history


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_it_learns_what_can_be_told_apart(tmp_path: Path) -> None:
    seen = []
    model, progress = run(tmp_path / "c", on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert progress.epochs[progress.best_epoch]["accuracy"] >= 0.95
    assert progress.epochs[-1]["train_loss"] < 0.5 * progress.epochs[0]["train_loss"]
    assert (progress.done, progress.stopped_by, len(progress.epochs)) == (True, "epochs", 4)
    assert progress.seconds > 0
    assert seen == list(enumerate(progress.epochs))
    assert progress.epochs[0].keys() == {"loss", "accuracy", "balanced_accuracy", "roc_auc", "train_loss"}
    assert not model.training
    assert judge([(model, OBJECTIVE)], validation())[0]["accuracy"] >= 0.95


def test_the_training_loss_is_the_mean_over_the_images(tmp_path: Path) -> None:
    """Without learning and in batches of other sizes it is the loss of the whole; batch norm needs the same batches."""
    pairs = list(training(0))
    model = network().train()
    with torch.no_grad():
        parts = [(float(OBJECTIVE.loss(model(images), labels)), len(labels)) for images, labels in pairs]
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=1, lr=1e-12))
    expected = sum(loss * count for loss, count in parts) / sum(count for _, count in parts)
    assert progress.epochs[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def spoilt_from(first: int) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """Yield training batches whose labels are wrong from one epoch on."""

    def pairs(epoch: int, stream: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in training(epoch):
            yield images, (labels + 1) % 3 if epoch >= first else labels

    return pairs


def test_the_weights_of_the_best_epoch_are_returned(tmp_path: Path) -> None:
    model, progress = run(tmp_path / "c", replace(CONFIG, epochs=6), train=spoilt_from(3))
    history = progress.epochs
    best = max(range(6), key=lambda epoch: (history[epoch]["accuracy"], -history[epoch]["loss"]))
    assert progress.best_epoch == best < 5
    assert history[-1]["accuracy"] < history[best]["accuracy"]
    (metrics,) = judge([(model, OBJECTIVE)], validation())
    assert metrics == {name: history[best][name] for name in metrics}


def test_the_config_names_the_metric_that_is_watched(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=6, metric="roc_auc"), train=spoilt_from(3))
    history = progress.epochs
    assert progress.best_epoch == max(range(6), key=lambda epoch: (history[epoch]["roc_auc"], -history[epoch]["loss"]))


def test_ties_go_to_the_lower_loss(tmp_path: Path) -> None:
    # An epoch of these images suffices for accuracy 1; from there only the loss tells epochs apart.
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=8))
    best = progress.epochs[progress.best_epoch]
    rivals = [each for each in progress.epochs if each["accuracy"] == best["accuracy"]]
    assert len(rivals) > 1
    assert best["loss"] == min(each["loss"] for each in rivals)


def test_without_validation_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    model, progress = run(tmp_path / "c", judged=None)
    assert progress.best_epoch == 3
    assert [list(metrics) for metrics in progress.epochs] == [["train_loss"]] * 4
    with_validation, other = run(tmp_path / "d", replace(CONFIG, metric="unknown"))
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
    def pairs(number: int, stream: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for step, pair in enumerate(training(number)):
            if (number, step) == (epoch, 2):
                raise _Killed
            yield pair

    return pairs


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, TrainingHistory]:
    return run(tmp_path_factory.mktemp("whole") / "c")


def assert_same_training(first: tuple[nn.Module, TrainingHistory], second: tuple[nn.Module, TrainingHistory]) -> None:
    assert_same_weights(first[0], second[0])
    assert second[1].epochs == first[1].epochs
    assert (second[1].best_epoch, second[1].stopped_by) == (first[1].best_epoch, first[1].stopped_by)


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_killed_after_an_epoch_and_resumed_is_as_if_never_killed(
    tmp_path: Path, uninterrupted: tuple[nn.Module, TrainingHistory], epoch: int
) -> None:
    checkpoint = tmp_path / "deeper" / "c.safetensors"
    with pytest.raises(_Killed):
        run(checkpoint, on_epoch=killed_after(epoch))
    seen: list[tuple[int, dict[str, float]]] = []
    # The new process starts with other weights; all that matters is in the checkpoint.
    resumed = run(checkpoint, model=network(seed=99), on_epoch=lambda number, metrics: seen.append((number, metrics)))
    assert_same_training(uninterrupted, resumed)
    # What was trained before is told again, so that a run's curve is whole.
    assert seen == list(enumerate(uninterrupted[1].epochs))


@pytest.mark.parametrize("epoch", [0, 2])
def test_killed_within_an_epoch_the_epoch_is_done_again(
    tmp_path: Path, uninterrupted: tuple[nn.Module, TrainingHistory], epoch: int
) -> None:
    with pytest.raises(_Killed):
        run(tmp_path / "c", train=killed_within(epoch))
    trained: list[int] = []

    def counted(number: int, stream: int = 0) -> Batches:
        trained.append(number)
        return training(number)

    # From the start there is nothing to go on from, so the first weights must be the same.
    resumed = run(tmp_path / "c", train=counted, model=network(seed=0 if epoch == 0 else 99))
    assert_same_training(uninterrupted, resumed)
    assert trained == list(range(epoch, 4))


def test_killed_again_and_again(tmp_path: Path, uninterrupted: tuple[nn.Module, TrainingHistory]) -> None:
    for epoch in range(3):
        with pytest.raises(_Killed):
            run(tmp_path / "c", on_epoch=killed_after(epoch))
    assert_same_training(uninterrupted, run(tmp_path / "c"))


def test_killed_after_the_best_epoch_its_weights_still_come_back(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=6)
    whole = run(tmp_path / "whole", config, train=spoilt_from(3))
    assert whole[1].best_epoch < 4
    with pytest.raises(_Killed):
        run(tmp_path / "c", config, train=spoilt_from(3), on_epoch=killed_after(4))
    assert_same_training(whole, run(tmp_path / "c", config, train=spoilt_from(3), model=network(seed=99)))


def test_a_finished_training_is_not_done_again(
    tmp_path: Path, uninterrupted: tuple[nn.Module, TrainingHistory]
) -> None:
    run(tmp_path / "c")

    def must_not(_epoch: int) -> Batches:
        raise AssertionError("trained again")

    again = run(tmp_path / "c", model=network(seed=99), train=must_not)
    assert_same_training(uninterrupted, again)
    assert not again[0].training


def test_a_checkpoint_is_safetensors_and_the_last_two_are_kept(tmp_path: Path) -> None:
    run(tmp_path / "c", replace(CONFIG, epochs=3))
    assert sorted(entry.name for entry in (tmp_path / "c").iterdir()) == ["000002.safetensors", "000003.safetensors"]
    with safe_open(tmp_path / "c" / "000003.safetensors", framework="pt") as file:
        assert {key.partition(".")[0] for key in file.keys()} == {"network", "best", "momentum"}  # noqa: SIM118
        assert file.metadata().keys() == {"progress", "param_groups", "schedule"}


def test_a_checkpoint_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    """`stored/checkpoint` was written by the code of commit c039702, killed after two epochs (stored/make_checkpoint.txt)."""
    stored = Path(__file__).parent / "stored" / "checkpoint"
    shutil.copytree(stored, tmp_path / "c")
    torch.manual_seed(0)
    config = replace(CONFIG, patience=3)
    whole, resumed = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(2))
    torch.manual_seed(0)
    whole[1].reset_parameters()
    _, expected = run(tmp_path / "whole", config, model=whole)
    _, history = run(tmp_path / "c", config, model=resumed)
    # The first two epochs are as stored, digit by digit; other machines add up in another order from there on.
    assert history.epochs[:2] == Checkpoints(stored).history().epochs
    assert (len(history.epochs), history.stopped_by) == (4, "epochs")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value)
    assert history.epochs[3] == pytest.approx(expected.epochs[3], rel=1e-3)


# ---------------------------------------------------------------------------------------------------------------- stops


def test_a_plateau_ends_the_training(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=9, patience=2, min_gain=2.0))
    # No gain of two whole units is possible, so two epochs after the first it is over.
    assert (len(progress.epochs), progress.stopped_by, progress.done) == (3, "plateau", True)


def test_patience_starts_anew_with_each_gain(tmp_path: Path) -> None:
    # Epochs 0-2 teach, from 3 on the labels are wrong: no gain after the best of the first.
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=12, patience=3), train=spoilt_from(3))
    accuracies = [metrics["accuracy"] for metrics in progress.epochs]
    last_gain = max(epoch for epoch in range(len(accuracies)) if accuracies[epoch] > max([-1.0, *accuracies[:epoch]]))
    assert progress.stopped_by == "plateau"
    assert len(accuracies) == last_gain + 1 + 3


def test_patience_of_zero_never_stops(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=5, patience=0, min_gain=2.0))
    assert (len(progress.epochs), progress.stopped_by) == (5, "epochs")


def test_a_resumed_training_stops_at_the_same_plateau(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=9, patience=3, min_gain=2.0)
    whole = run(tmp_path / "whole", config)
    with pytest.raises(_Killed):
        run(tmp_path / "c", config, on_epoch=killed_after(1))
    assert_same_training(whole, run(tmp_path / "c", config))


def test_without_validation_there_is_no_plateau_to_see(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=5, patience=2), judged=None)
    assert (len(progress.epochs), progress.stopped_by) == (5, "epochs")


# --------------------------------------------------------------------------------------------- stops that begin a decay

# No epoch but the first can gain so much, so the plateau is there after the fourth.
DECAYED = replace(CONFIG, schedule="warmup_stable_decay", epochs=12, decay_epochs=2, patience=3, min_gain=0.9)


@pytest.fixture(scope="module")
def decayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, TrainingHistory]:
    return run(tmp_path_factory.mktemp("decayed") / "c", DECAYED)


def test_a_stop_begins_the_decay_as_if_the_training_had_been_that_short(
    tmp_path: Path, decayed: tuple[nn.Module, TrainingHistory]
) -> None:
    model, progress = decayed
    assert (len(progress.epochs), progress.stopped_after, progress.stopped_by) == (6, 4, "plateau")
    shorter, to_its_end = run(tmp_path / "c", replace(DECAYED, epochs=6, patience=0))
    assert (to_its_end.epochs, to_its_end.stopped_by) == (progress.epochs, "epochs")
    assert_same_weights(model, shorter)


@pytest.mark.parametrize("epoch", [0, 3, 4, 5])
def test_killed_before_and_in_its_decay_a_training_is_as_if_never_killed(
    tmp_path: Path, decayed: tuple[nn.Module, TrainingHistory], epoch: int
) -> None:
    with pytest.raises(_Killed):
        run(tmp_path / "c", DECAYED, on_epoch=killed_after(epoch))
    assert_same_training(decayed, run(tmp_path / "c", DECAYED, model=network(seed=99)))


def test_without_a_stop_the_decay_is_the_end_of_the_epochs(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "c", replace(DECAYED, epochs=5, patience=0))
    rates: list[float] = []

    def noted(epoch: int, stream: int = 0) -> Batches:
        rates.append(trainer.members[0].optimizer.param_groups[0]["lr"])
        return training(epoch)

    fit([trainer], noted, validation)
    assert (len(trainer.history.epochs), trainer.history.stopped_by) == (5, "epochs")
    assert rates[1:] == pytest.approx([CONFIG.lr, CONFIG.lr, CONFIG.lr, CONFIG.lr * (1 - math.sqrt(0.5))])


def test_a_target_that_is_reached_before_the_decay_ends_the_training_at_once(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(DECAYED, patience=0, target=0.9))
    accuracies = [metrics["accuracy"] for metrics in progress.epochs]
    assert (progress.stopped_by, progress.stopped_after) == ("target", None)
    assert accuracies[-1] >= 0.9 > max([0.0, *accuracies[:-1]])


def test_a_target_that_is_reached_in_the_decay_ends_it(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "c", replace(DECAYED, metric="height", target=2.0, epochs=20, decay_epochs=9))
    trainer.history.epochs[:] = [{"height": 1.0, "loss": 1.0} for _ in range(3)]
    member = trainer.members[0]
    member.end_epoch({"height": 1.0, "loss": 1.0}, 1.0)
    assert (trainer.history.stopped_after, trainer.done, trainer.epochs_after_stop) == (4, False, 9)
    # A plateau in the decay is none to stop at.
    member.end_epoch({"height": 1.0, "loss": 1.0}, 1.0)
    assert (trainer.history.stopped_by, trainer.done, trainer.epochs_after_stop) == ("plateau", False, 8)
    member.end_epoch({"height": 2.0, "loss": 1.0}, 1.0)
    assert (trainer.history.stopped_by, trainer.done, trainer.epochs_after_stop) == ("target", True, 0)


def trainer_of(
    folder: Path, config: OptimizerConfig, *, steps: int | None = None, model: nn.Module | None = None
) -> JointTrainer:
    model = model or network()
    member = MemberTrainer(model, config, steps or steps_per_epoch(TRAIN, BATCH), Checkpoints(folder))
    return JointTrainer(model, OBJECTIVE, [member])


def test_a_loss_that_is_not_finite_twice_is_said(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "c", replace(CONFIG, lr=1e20))
    assert fit([trainer], training, validation) == {0: "the loss is not finite in epoch 0; try a smaller learning rate"}
    # Nothing was learnt, so it stands as it did before.
    assert_same_weights(trainer.model, network())


def test_weights_that_are_not_finite_after_the_last_step_are_noticed_too(tmp_path: Path) -> None:
    """One step an epoch: the loss is taken before the step that breaks the network."""

    def one_step(epoch: int, stream: int = 0) -> Batches:
        return list(training(epoch))[:1]

    failures = fit([trainer_of(tmp_path / "c", replace(CONFIG, lr=1e38), steps=1)], one_step, validation)
    assert "not finite" in failures[0]


def test_a_training_that_fails_once_goes_on_from_its_last_checkpoint_at_half_the_learning_rate(tmp_path: Path) -> None:
    calls: list[int] = []

    def broken_once(epoch: int, stream: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        calls.append(epoch)
        for images, labels in training(epoch):
            yield (images * float("nan") if calls.count(2) == 1 and epoch == 2 else images), labels

    trainer = trainer_of(tmp_path / "c", CONFIG)
    assert fit([trainer], broken_once, validation) == {}
    assert calls == [0, 1, 2, 2, 3]
    progress = trainer.history
    assert (len(progress.epochs), progress.stopped_by) == (4, "epochs")
    assert progress.failure == "the loss is not finite in epoch 2; try a smaller learning rate"
    _, whole = run(tmp_path / "whole")
    assert progress.epochs[:2] == whole.epochs[:2]
    peaks = [MemberTrainer(network(), CONFIG, 1, Checkpoints(tmp_path / name)).optimizer for name in ("c", "whole")]
    assert [optimizer.param_groups[0]["max_lr"] for optimizer in peaks] == [CONFIG.lr / 2, CONFIG.lr]


def test_killed_while_it_is_tried_again_a_training_is_not_tried_a_third_time(tmp_path: Path) -> None:
    def broken(epoch: int, stream: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for step, (images, labels) in enumerate(training(epoch)):
            calls.append(epoch)
            if step == 1 and calls.count(0) == kill_at:
                raise _Killed
            yield images * float("nan"), labels

    calls: list[int] = []
    kill_at = len(list(training(0))) + 2
    with pytest.raises(_Killed):
        fit([trainer_of(tmp_path / "c", CONFIG)], broken, validation)
    calls, kill_at = [], -1
    again = trainer_of(tmp_path / "c", CONFIG)
    assert list(fit([again], broken, validation)) == [0]
    assert len(calls) == len(list(training(0)))
    assert again.members[0].optimizer.param_groups[0]["max_lr"] == CONFIG.lr / 2


class TooLarge(nn.Module):
    """Asks for memory that no machine has, so many times: as it learns, or as it is judged."""

    def __init__(self, times: int, learning: bool) -> None:
        super().__init__()
        self.network, self.left, self.learning = network(), times, learning

    def forward(self, images: Tensor) -> Tensor:
        if self.training == self.learning and self.left:
            self.left -= 1
            torch.empty(2**60)
        return self.network(images)


# Judged together with others it lacks memory once, and once more by itself.
@pytest.mark.parametrize(
    ("times", "learning", "failed"), [(1, True, False), (99, True, True), (2, False, False), (99, False, True)]
)
def test_a_lack_of_memory_leaves_the_others_alone(tmp_path: Path, times: int, learning: bool, failed: bool) -> None:
    trainers = [trainer_of(tmp_path / "a", CONFIG), trainer_of(tmp_path / "b", CONFIG, model=TooLarge(times, learning))]
    failures = fit(trainers, training, validation)
    assert list(failures) == ([1] if failed else [])
    alone, progress = run(tmp_path / "whole")
    assert trainers[0].history.epochs == progress.epochs
    assert_same_weights(trainers[0].model, alone)
    if failed:
        assert failures[1].startswith("out of memory in epoch 0 (")
    else:
        assert trainers[1].history.stopped_by == "epochs"
        assert trainers[1].history.failure.startswith("out of memory in epoch 0 (")


def test_other_errors_are_not_hidden(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("sizes do not match")

    with pytest.raises(RuntimeError, match="sizes do not match"):
        fit([trainer_of(tmp_path / "c", CONFIG, model=Broken())], training, validation)


# ------------------------------------------------------------------------------------------------------ several at once

BINARY = [Objective.balanced((label,), 3, TRAIN.labels) for label in range(3)]


def trainers_of(
    folder: Path, configs: list[OptimizerConfig], numbers: tuple[int, ...] = (0, 1, 2), seed: int = 0
) -> list[JointTrainer]:
    made = []
    for number in numbers:
        torch.manual_seed(number)
        model = build(NetworkSpec("small_cnn", 1, 1, (8, 8)))
        member = MemberTrainer(model, configs[number], steps_per_epoch(TRAIN, BATCH), Checkpoints(folder / f"{number}"))
        made.append(JointTrainer(model, BINARY[number], [member], seed=seed + number))
    return made


CONFIGS = [
    replace(CONFIG, metric="balanced_accuracy"),
    replace(CONFIG, metric="balanced_accuracy", epochs=6, patience=1, min_gain=2.0),
    replace(CONFIG, metric="balanced_accuracy", epochs=5, lr=0.02),
]


def test_what_becomes_of_a_network_does_not_depend_on_the_others(tmp_path: Path) -> None:
    together = trainers_of(tmp_path / "together", CONFIGS)
    made: list[int] = []

    def counted(epoch: int, stream: int = 0) -> Batches:
        made.append(epoch)
        return training(epoch)

    fit(together, counted, validation)
    # The batches of an epoch are made once for all that are still in training.
    assert made == [0, 1, 2, 3, 4]
    assert [(len(t.history.epochs), t.history.stopped_by) for t in together] == [
        (4, "epochs"),
        (2, "plateau"),
        (5, "epochs"),
    ]
    for number in range(3):
        (alone,) = trainers_of(tmp_path / "alone", CONFIGS, (number,))
        fit([alone], training, validation)
        assert alone.history.epochs == together[number].history.epochs
        assert_same_weights(alone.model, together[number].model)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_killed_between_two_checkpoints_of_one_epoch(tmp_path: Path, position: int) -> None:
    whole = trainers_of(tmp_path / "whole", CONFIGS)
    fit(whole, training, validation)

    def kill(number: int, epoch: int, _metrics: dict[str, float]) -> None:
        if (number, epoch) == (position, 1):
            raise _Killed

    with pytest.raises(_Killed):
        fit(trainers_of(tmp_path / "c", CONFIGS), training, validation, on_epoch=kill)
    told: list[tuple[int, int]] = []
    resumed = trainers_of(tmp_path / "c", CONFIGS)
    assert [each.epoch for each in resumed] == [2 if number <= position else 1 for number in range(3)]
    made: list[int] = []

    def counted(epoch: int, stream: int = 0) -> Batches:
        made.append(epoch)
        return training(epoch)

    fit(resumed, counted, validation, on_epoch=lambda number, epoch, _metrics: told.append((number, epoch)))
    # Those that were left behind catch up; from there on all share their batches again.
    assert made == sorted(set(made))
    assert sorted(told) == [(n, epoch) for n in range(3) for epoch in range(len(whole[n].history.epochs))]
    for one, other in zip(whole, resumed, strict=True):
        assert one.history.epochs == other.history.epochs
        assert_same_weights(one.model, other.model)


def test_a_target_that_is_reached_ends_the_training(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c", replace(CONFIG, epochs=9, target=0.9))
    accuracies = [metrics["accuracy"] for metrics in progress.epochs]
    assert (progress.stopped_by, progress.done) == ("target", True)
    assert accuracies[-1] >= 0.9 > max([0.0, *accuracies[:-1]])


def test_a_target_out_of_reach_or_unseen_ends_nothing(tmp_path: Path) -> None:
    for name, judged in (("a", validation), ("b", None)):
        _, progress = run(tmp_path / name, replace(CONFIG, epochs=2, target=1.1), judged=judged)
        assert (len(progress.epochs), progress.stopped_by) == (2, "epochs")


# --------------------------------------------------------------------------------------------------------------- budget


def test_a_budget_of_epochs_is_spent_and_not_more(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path, [replace(config, patience=0, epochs=9) for config in CONFIGS])
    assert fit(trainers, training, validation, budget=Budget(epochs=11)) == {}
    assert sum(trainer.epoch for trainer in trainers) == 11
    assert {trainer.history.stopped_by for trainer in trainers} == {"budget"}
    # Where nothing is known yet of what an epoch brings, all get the same.
    assert min(trainer.epoch for trainer in trainers) >= 2


def test_what_a_budget_leaves_over_goes_to_those_that_gain(tmp_path: Path) -> None:
    config = replace(CONFIG, metric="loss_gain", epochs=20)
    learning, stuck = trainers_of(tmp_path, [config] * 3, (0, 1))
    for trainer, values in ((learning, np.arange(20)), (stuck, np.zeros(20))):
        trainer.history.epochs[:] = [{"loss_gain": float(value), "loss": 1.0} for value in values[:3]]
        trainer.history.seconds = 3.0

    fit([learning, stuck], training, validation, budget=Budget(epochs=7))
    assert (learning.epoch, stuck.epoch) == (4, 3)


@pytest.mark.parametrize(("budget", "next_is"), [(Budget(epochs=7), 0), (Budget(seconds=500), 1)])
def test_the_next_epoch_is_for_the_gain_of_an_epoch_or_of_a_second(
    tmp_path: Path, budget: Budget, next_is: int
) -> None:
    trainers = trainers_of(tmp_path, [replace(CONFIG, metric="loss_gain", epochs=20)] * 3, (0, 1))
    # The first gains twice as much an epoch, and takes a hundred times as long.
    for trainer, gain, seconds in zip(trainers, (2.0, 1.0), (300.0, 3.0), strict=True):
        trainer.history.epochs[:] = [{"loss_gain": gain * epoch, "loss": 1.0} for epoch in range(3)]
        trainer.history.seconds = seconds
    told: list[int] = []
    fit(trainers, training, validation, budget=budget, on_epoch=lambda number, epoch, _: told.append(number))
    # After what is told of the three epochs that each has had.
    assert told[6] == next_is


def test_a_budget_of_seconds_ends_a_training_that_has_had_them(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path / "a", CONFIGS)
    fit(trainers, training, validation, budget=Budget(seconds=1e-9))
    assert [trainer.epoch for trainer in trainers] == [1, 1, 1]
    fit(plenty := trainers_of(tmp_path / "b", CONFIGS), training, validation, budget=Budget(seconds=1e9))
    assert [trainer.history.stopped_by for trainer in plenty] == ["epochs", "plateau", "epochs"]
    assert [trainer.epoch for trainer in plenty] == [4, 2, 5]


def test_an_epoch_that_the_budget_will_not_last_for_is_not_begun(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path, CONFIGS)
    fit(trainers, training, validation, budget=Budget(epochs=3))
    again = trainers_of(tmp_path, CONFIGS)
    for trainer, seconds in zip(again, (1.0, 3.0, 5.0), strict=True):
        trainer.history.done, trainer.history.seconds = False, seconds
    # Nine seconds are gone, and 2.5 left: enough for an epoch of the first, and then, with what that took, for no other.
    fit(again, training, validation, budget=Budget(seconds=11.5))
    assert [trainer.epoch >= 2 for trainer in again] == [True, False, False]


def test_a_budget_of_epochs_goes_on_after_a_kill(tmp_path: Path) -> None:
    configs = [replace(config, patience=0, epochs=9) for config in CONFIGS]

    def kill(number: int, epoch: int, _metrics: dict[str, float]) -> None:
        if (number, epoch) == (1, 1):
            raise _Killed

    budget = Budget(epochs=11)
    fit(whole := trainers_of(tmp_path / "whole", configs), training, validation, budget=budget)
    with pytest.raises(_Killed):
        fit(trainers_of(tmp_path / "c", configs), training, validation, on_epoch=kill, budget=budget)
    fit(resumed := trainers_of(tmp_path / "c", configs), training, validation, budget=budget)
    assert sum(trainer.epoch for trainer in resumed) == 11
    # No clock decided who got the epochs.
    for own, other in zip(resumed, whole, strict=True):
        assert own.history.epochs == other.history.epochs
        assert_same_weights(own.model, other.model)


def test_epochs_that_begin_together_are_within_the_budget_together(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path, [replace(config, patience=0, epochs=9) for config in CONFIGS])
    fit(trainers, training, validation, budget=Budget(epochs=3))
    again = trainers_of(tmp_path, [replace(config, patience=0, epochs=9) for config in CONFIGS])
    for trainer in again:
        trainer.history.done, trainer.history.seconds = False, 1000.0
    made: list[int] = []

    def noted(epoch: int, stream: int = 0) -> Batches:
        made.append(epoch)
        return training(epoch)

    # 3000 seconds are gone and 1500 left: each could go on for an epoch of a thousand, no two of them together.
    fit(again, noted, validation, budget=Budget(seconds=4500))
    assert made[:3] == [1, 1, 1]


LASTING = [replace(DECAYED, patience=0, metric="balanced_accuracy", decay_epochs=epochs) for epochs in (1, 2, 3)]


def test_a_budget_lasts_for_all_decays(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path, LASTING)
    assert fit(trainers, training, validation, budget=Budget(epochs=16)) == {}
    assert sum(trainer.epoch for trainer in trainers) == 16
    for trainer, config in zip(trainers, LASTING, strict=True):
        assert (trainer.history.stopped_by, trainer.done) == ("budget", True)
        assert trainer.history.stopped_after == trainer.epoch - config.decay_epochs
        # The rate after the last step.
        assert trainer.members[0].optimizer.param_groups[0]["lr"] == 0


def test_a_budget_too_small_for_the_decays_is_not_exceeded(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path, [replace(config, decay_epochs=9) for config in LASTING])
    fit(trainers, training, validation, budget=Budget(epochs=7))
    assert sum(trainer.epoch for trainer in trainers) == 7
    assert {trainer.history.stopped_by for trainer in trainers} == {"budget"}


def test_a_budget_of_seconds_ends_with_decays_too(tmp_path: Path) -> None:
    trainers = trainers_of(tmp_path, LASTING)
    for trainer in trainers:
        trainer.history.epochs[:] = [{"balanced_accuracy": 0.5, "loss": 1.0}] * 3
        trainer.history.seconds = 3000.0
    # 9000 seconds are gone; decays take 6000 at the pace so far, in fact almost nothing. 500 do for no epoch before them.
    fit(trainers, training, validation, budget=Budget(seconds=15_500))
    assert [trainer.history.stopped_after for trainer in trainers] == [3, 3, 3]
    assert [trainer.epoch for trainer in trainers] == [4, 5, 6]


@pytest.mark.parametrize(("number", "epoch"), [(1, 1), (0, 3), (2, 5)])
def test_a_budget_with_decays_goes_on_after_a_kill(tmp_path: Path, number: int, epoch: int) -> None:
    def kill(position: int, at: int, _metrics: dict[str, float]) -> None:
        if (position, at) == (number, epoch):
            raise _Killed

    budget = Budget(epochs=16)
    fit(whole := trainers_of(tmp_path / "whole", LASTING), training, validation, budget=budget)
    with pytest.raises(_Killed):
        fit(trainers_of(tmp_path / "c", LASTING), training, validation, on_epoch=kill, budget=budget)
    fit(resumed := trainers_of(tmp_path / "c", LASTING), training, validation, budget=budget)
    for own, other in zip(resumed, whole, strict=True):
        assert (own.history.epochs, own.history.stopped_after) == (other.history.epochs, other.history.stopped_after)
        assert_same_weights(own.model, other.model)


def test_the_noise_of_a_network_is_its_own(tmp_path: Path) -> None:
    """With dropout too, neither other trainers nor a kill change what a network becomes."""

    def noisy(folder: Path, numbers: tuple[int, ...], seed: int = 0) -> list[JointTrainer]:
        made = trainers_of(folder, [replace(CONFIG, epochs=3)] * 3, numbers, seed)
        for trainer in made:
            trainer.model.pool = nn.Sequential(trainer.model.pool, nn.Dropout(0.5))
        return made

    together, (alone,) = noisy(tmp_path / "together", (0, 1, 2)), noisy(tmp_path / "alone", (2,))
    fit(together, training, validation)
    torch.manual_seed(99)
    fit([alone], training, validation)
    assert_same_weights(together[2].model, alone.model)
    kill = killed_after(1)
    with pytest.raises(_Killed):
        fit(noisy(tmp_path / "c", (2,)), training, validation, on_epoch=lambda _, *epoch: kill(*epoch))
    torch.manual_seed(7)
    fit(resumed := noisy(tmp_path / "c", (2,)), training, validation)
    assert_same_weights(resumed[0].model, alone.model)
    # It is noise: another seed gives another network.
    fit(others := noisy(tmp_path / "other", (2,), seed=1), training, validation)
    assert not torch.equal(others[0].model.classifier.weight, alone.model.classifier.weight)
