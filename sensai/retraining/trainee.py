"""One network in training: its optimiser, one-cycle schedule, stop rule, and the checkpoint that it goes on from."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from sensai.errors import InputError
from sensai.files import whole_file
from sensai.models.widths import load_tensors
from sensai.retraining.objectives import Objective

_MOMENTUM = 0.9


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


@dataclass
class Progress:
    """Where a training stands, as kept in its checkpoint.

    Attributes:
        history: validation metrics of every epoch so far, with `train_loss`.
        best_epoch: index into `history`; -1 before the first.
        seconds: time trained so far; of networks that share a stream, each one's part of it.
        done: the training has ended, by `stopped_by` (`epochs`, `plateau` or `target`).
    """

    history: list[dict[str, float]]
    best_epoch: int = -1
    seconds: float = 0.0
    done: bool = False
    stopped_by: str = ""


class Trainee:
    """A network with all that its training needs beside the batches."""

    def __init__(
        self, network: nn.Module, objective: Objective, recipe: Recipe, steps_per_epoch: int, checkpoint: Path
    ) -> None:
        """Go on from the checkpoint where there is one, to the same result bit for bit on a CPU.

        Args:
            network: trained in place, on the device of the batches.
            objective: loss and metrics.
            recipe: how it is trained.
            steps_per_epoch: number of batches of an epoch.
            checkpoint: file that is written after each epoch.
        """
        self.network, self.objective, self.recipe = network, objective, recipe
        self._optimizer = SGD(
            network.parameters(), lr=recipe.lr, momentum=_MOMENTUM, weight_decay=recipe.weight_decay, nesterov=True
        )
        self._scheduler = OneCycleLR(
            self._optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * steps_per_epoch + 1, cycle_momentum=False
        )
        self._checkpoint = checkpoint
        self._best: dict[str, Tensor] = {}
        self.progress = self._restored()
        self._loss_sum, self._images = 0.0, 0

    @property
    def epoch(self) -> int:
        """The epoch that comes next."""
        return len(self.progress.history)

    def begin_epoch(self) -> None:
        """Make ready for the steps of one epoch."""
        self.network.train()
        self._loss_sum, self._images = 0.0, 0

    def step(self, images: Tensor, labels: Tensor, teacher: Tensor | None) -> None:
        """Learn one batch: images (N, C, H, W), labels int64 (N,), and the teacher's logits (N, K) where there is one."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.objective.loss(self.network(images), labels, teacher)
        loss.backward()
        self._optimizer.step()
        self._scheduler.step()
        self._loss_sum += float(loss.detach()) * len(labels)
        self._images += len(labels)

    def end_epoch(self, metrics: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Judge the epoch, decide whether to stop, write the checkpoint; returns what the history gets.

        Raises:
            InputError: the loss is no longer finite.
        """
        train_loss = self._loss_sum / self._images
        if not (math.isfinite(train_loss) and math.isfinite(metrics.get("loss", 0.0))):
            raise InputError(
                f"lr={self.recipe.lr}: the loss is not finite in epoch {self.epoch}; try a smaller learning rate"
            )
        progress = self.progress
        progress.history.append({**metrics, "train_loss": train_loss})
        improved = progress.best_epoch < 0 or self._is_better()
        if improved:
            progress.best_epoch = len(progress.history) - 1
        self._decide_stop()
        progress.seconds += seconds
        self._save(best=improved)
        return progress.history[-1]

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

    def _decide_stop(self) -> None:
        recipe, history = self.recipe, self.progress.history
        if recipe.target is not None and history[-1].get(recipe.metric, -math.inf) >= recipe.target:
            self._stop("target")
        elif len(history) >= recipe.epochs:
            self._stop("epochs")
        elif recipe.patience and self._epochs_without_gain() >= recipe.patience:
            self._stop("plateau")

    def _stop(self, reason: str) -> None:
        self.progress.done, self.progress.stopped_by = True, reason

    def _epochs_without_gain(self) -> int:
        best, since = float("-inf"), 0
        # Without validation there is no such metric, and nothing to wait for.
        values = [metrics[self.recipe.metric] for metrics in self.progress.history if self.recipe.metric in metrics]
        for value in values:
            best, since = (value, 0) if value > best + self.recipe.min_gain else (best, since + 1)
        return since

    # ------------------------------------------------------------------------------------------------------- checkpoint

    def _restored(self) -> Progress:
        if not self._checkpoint.exists():
            return Progress(history=[])
        with safe_open(self._checkpoint, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata()
        load_tensors(self.network, _below(tensors, "network."))
        self._best = _below(tensors, "best.")
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {
            int(key): {"momentum_buffer": value} for key, value in _below(tensors, "momentum.").items()
        }
        optimizer["param_groups"] = json.loads(metadata["param_groups"])
        self._optimizer.load_state_dict(optimizer)
        self._scheduler.load_state_dict(json.loads(metadata["schedule"]))
        return Progress(**json.loads(metadata["progress"]))

    def _save(self, best: bool) -> None:
        current = {key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()}
        if best:
            self._best = current
        optimizer = self._optimizer.state_dict()
        tensors = {
            **{f"network.{key}": value for key, value in current.items()},
            **{f"best.{key}": value.clone() for key, value in self._best.items()},
            **{f"momentum.{key}": value["momentum_buffer"].cpu() for key, value in optimizer["state"].items()},
        }
        metadata = {
            "progress": json.dumps(vars(self.progress)),
            "param_groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(_plain(self._scheduler.state_dict())),
        }
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._checkpoint) as temporary:
            save_file(tensors, temporary, metadata=metadata)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The schedule's state without what JSON has no form for (functions that the constructor sets again)."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | list | dict | bool)}
