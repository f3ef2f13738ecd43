"""One network in training: its optimiser, one-cycle schedule, stop rule, and the checkpoints that it goes on from."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from sensai.models.widths import load_tensors
from sensai.training.checkpoints import Checkpoints, Progress, below

_MOMENTUM = 0.9
# What a network whose loss was no longer finite goes on with.
_LR_AFTER_FAILURE = 0.5


@dataclass(frozen=True)
class Recipe:
    """How long and how a network is trained.

    Attributes:
        epochs: at most so many passes over the training split.
        lr: peak learning rate of the one-cycle schedule (Smith & Topin 2018).
        weight_decay: L2 penalty.
        patience: stop after so many epochs without gain; 0: never.
        min_gain: what counts as gain in the metric that is watched.
        metric: the validation metric that picks the best epoch (ties: the lower loss).
        target: stop once the metric has reached this; None: never.
    """

    epochs: int
    lr: float
    weight_decay: float
    patience: int
    min_gain: float
    metric: str
    target: float | None = None


class MemberTrainer:
    """A network with all that its training needs beside the batches and the loss."""

    def __init__(self, network: nn.Module, recipe: Recipe, steps_per_epoch: int, checkpoints: Checkpoints) -> None:
        """Go on from the last checkpoint where there is one, to the same result bit for bit on a CPU.

        Args:
            network: trained in place, on the device of the batches and in their memory format (see `laid_out`).
            recipe: how it is trained.
            steps_per_epoch: number of batches of an epoch.
            checkpoints: written before the first epoch and after each.
        """
        self.network, self.recipe = network, recipe
        self.optimizer = SGD(
            network.parameters(), lr=recipe.lr, momentum=_MOMENTUM, weight_decay=recipe.weight_decay, nesterov=True
        )
        self._scheduler = OneCycleLR(
            self.optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * steps_per_epoch + 1, cycle_momentum=False
        )
        self._checkpoints = checkpoints
        self._best: dict[str, Tensor] = {}
        self.progress = Progress(history=[])
        if not self._restore():
            self._save(best=True)

    @property
    def epoch(self) -> int:
        """The epoch that comes next."""
        return len(self.progress.history)

    def update(self) -> None:
        """Take one step along the gradients."""
        self.optimizer.step()
        self._scheduler.step()

    def end_epoch(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Note how the network is judged after an epoch, decide whether to stop, and write the checkpoint.

        Args:
            metrics: with `train_loss`; those of the validation split where there is one.
            seconds: what the epoch took.
        """
        progress = self.progress
        progress.history.append(dict(metrics))
        improved = progress.best_epoch < 0 or self._is_better()
        if improved:
            progress.best_epoch = len(progress.history) - 1
        if reason := self._reason_to_stop():
            progress.done, progress.stopped_by = True, reason
        progress.seconds += seconds
        self._save(best=improved)

    def stop(self, reason: str) -> None:
        """End the training before its time."""
        self.progress.done, self.progress.stopped_by = True, reason
        self._save(best=False)

    def go_back(self, failure: str) -> None:
        """Return to the last checkpoint after a failure and go on from there, with half the learning rate."""
        self._restore()
        for group in self.optimizer.param_groups:
            for rate in ("lr", "initial_lr", "max_lr", "min_lr"):
                group[rate] *= _LR_AFTER_FAILURE
        self.progress.failure = failure
        self._save(best=False)

    def recent_gain(self, epochs: int) -> float:
        """How much the best validation metric grew an epoch in the last ones; infinite before there are so many."""
        values = self._watched()
        return math.inf if len(values) <= epochs else (max(values) - max(values[:-epochs])) / epochs

    def load_best(self) -> None:
        """Give the network the weights of its best epoch, in eval mode."""
        load_tensors(self.network, self._best)
        self.network.eval()

    # -------------------------------------------------------------------------------------------------------- decisions

    def _is_better(self) -> bool:
        last, old = self.progress.history[-1], self.progress.history[self.progress.best_epoch]
        metric = self.recipe.metric
        if metric not in last:
            return True
        return (last[metric], -last["loss"]) > (old[metric], -old["loss"])

    def _reason_to_stop(self) -> str:
        recipe, history = self.recipe, self.progress.history
        if recipe.target is not None and history[-1].get(recipe.metric, -math.inf) >= recipe.target:
            return "target"
        if len(history) >= recipe.epochs:
            return "epochs"
        if recipe.patience and self._epochs_without_gain() >= recipe.patience:
            return "plateau"
        return ""

    def _epochs_without_gain(self) -> int:
        best, since = -math.inf, 0
        for value in self._watched():
            best, since = (value, 0) if value > best + self.recipe.min_gain else (best, since + 1)
        return since

    def _watched(self) -> list[float]:
        """The validation metric that counts, epoch by epoch; nothing without validation."""
        metric = self.recipe.metric
        return [metrics[metric] for metrics in self.progress.history if metric in metrics]

    # ------------------------------------------------------------------------------------------------------- checkpoint

    def _restore(self) -> bool:
        found = self._checkpoints.read()
        if found is None:
            return False
        tensors, self.progress, state = found
        load_tensors(self.network, below(tensors, "network."))
        self._best = below(tensors, "best.")
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            int(key): {"momentum_buffer": value} for key, value in below(tensors, "momentum.").items()
        }
        optimizer["param_groups"] = json.loads(state["param_groups"])
        self.optimizer.load_state_dict(optimizer)
        self._scheduler.load_state_dict(json.loads(state["schedule"]))
        return True

    def _save(self, best: bool) -> None:
        current = {key: _stored(value) for key, value in self.network.state_dict().items()}
        if best:
            self._best = current
        optimizer = self.optimizer.state_dict()
        tensors = {
            **{f"network.{key}": value for key, value in current.items()},
            # Cloned where both are the same, which safetensors refuses.
            **{f"best.{key}": value.clone() for key, value in self._best.items()},
            **{f"momentum.{key}": _stored(value["momentum_buffer"]) for key, value in optimizer["state"].items()},
        }
        state = {
            "param_groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(_plain(self._scheduler.state_dict())),
        }
        self._checkpoints.write(tensors, self.progress, state)


def _stored(value: Tensor) -> Tensor:
    # safetensors knows no memory format but the contiguous one.
    return value.detach().cpu().contiguous().clone()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The schedule's state without what JSON has no form for (functions that the constructor sets again)."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | list | dict | bool)}
