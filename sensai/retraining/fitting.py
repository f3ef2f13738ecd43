"""The training loop of one network: one-cycle schedule, best epoch by validation, plateau stop, checkpoint every epoch."""

import json
import math
import time
from collections.abc import Callable, Iterable
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
from sensai.retraining.objectives import Objective, judge

Batches = Iterable[tuple[Tensor, Tensor]]
OnEpoch = Callable[[int, dict[str, float]], None]

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
    """

    epochs: int
    lr: float
    weight_decay: float
    patience: int
    min_gain: float
    metric: str


@dataclass
class Progress:
    """Where a training stands, as kept in its checkpoint.

    Attributes:
        history: validation metrics of every epoch so far, with `train_loss`.
        best_epoch: index into `history`; -1 before the first.
        seconds: time trained so far.
        done: the training has ended, by `stopped_by` (`epochs` or `plateau`).
    """

    history: list[dict[str, float]]
    best_epoch: int = -1
    seconds: float = 0.0
    done: bool = False
    stopped_by: str = ""


def fit(
    network: nn.Module,
    objective: Objective,
    training: Callable[[int], Batches],
    steps_per_epoch: int,
    validation: Callable[[], Batches] | None,
    recipe: Recipe,
    checkpoint: Path,
    on_epoch: OnEpoch,
) -> Progress:
    """Train a network in place and leave it with the weights of its best epoch, in eval mode.

    Args:
        network: on the device of the batches.
        objective: loss and metrics.
        training: epoch -> its batches, the same ones each time it is asked for an epoch.
        steps_per_epoch: number of those batches.
        validation: the validation batches; None: the last epoch is the best.
        recipe: how it is trained.
        checkpoint: file that is written after each epoch; where it exists the training goes on from it, to the same
            result bit for bit on a CPU.
        on_epoch: called with each epoch's number and its metrics, those of a checkpoint that is gone on from included.

    Raises:
        InputError: the loss is no longer finite.
    """
    optimizer = SGD(
        network.parameters(), lr=recipe.lr, momentum=_MOMENTUM, weight_decay=recipe.weight_decay, nesterov=True
    )
    scheduler = OneCycleLR(
        optimizer, max_lr=recipe.lr, total_steps=recipe.epochs * steps_per_epoch + 1, cycle_momentum=False
    )
    state = _State(network, optimizer, scheduler, checkpoint)
    progress = state.restore()
    for epoch, metrics in enumerate(progress.history):
        on_epoch(epoch, metrics)
    while not progress.done:
        epoch, start = len(progress.history), time.perf_counter()
        train_loss = _train_epoch(network, objective, training(epoch), optimizer, scheduler)
        metrics = judge(network, objective, validation()) if validation else {}
        if not (math.isfinite(train_loss) and math.isfinite(metrics.get("loss", 0.0))):
            raise InputError(f"lr={recipe.lr}: the loss is not finite in epoch {epoch}; try a smaller learning rate")
        progress.history.append({**metrics, "train_loss": train_loss})
        improved = progress.best_epoch < 0 or _better(progress.history, progress.best_epoch, recipe.metric)
        if improved:
            progress.best_epoch = epoch
        _decide_stop(progress, recipe)
        progress.seconds += time.perf_counter() - start
        state.save(progress, best=improved)
        on_epoch(epoch, progress.history[-1])
    state.load_best()
    network.eval()
    return progress


def _train_epoch(
    network: nn.Module, objective: Objective, batches: Batches, optimizer: SGD, scheduler: OneCycleLR
) -> float:
    network.train()
    total, count = 0.0, 0
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = objective.loss(network(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += float(loss.detach()) * len(labels)
        count += len(labels)
    return total / count


def _better(history: list[dict[str, float]], best: int, metric: str) -> bool:
    last, old = history[-1], history[best]
    if metric not in last:
        return True
    return (last[metric], -last["loss"]) > (old[metric], -old["loss"])


def _decide_stop(progress: Progress, recipe: Recipe) -> None:
    if len(progress.history) >= recipe.epochs:
        progress.done, progress.stopped_by = True, "epochs"
    elif recipe.patience and _epochs_without_gain(progress.history, recipe) >= recipe.patience:
        progress.done, progress.stopped_by = True, "plateau"


def _epochs_without_gain(history: list[dict[str, float]], recipe: Recipe) -> int:
    best, since = float("-inf"), 0
    # Without validation there is no such metric, and nothing to wait for.
    for value in (metrics[recipe.metric] for metrics in history if recipe.metric in metrics):
        best, since = (value, 0) if value > best + recipe.min_gain else (best, since + 1)
    return since


class _State:
    """Network, best network, optimiser, schedule and progress in one safetensors file with JSON metadata."""

    def __init__(self, network: nn.Module, optimizer: SGD, scheduler: OneCycleLR, path: Path) -> None:
        self._network, self._optimizer, self._scheduler, self._path = network, optimizer, scheduler, path
        self._best: dict[str, Tensor] = {}

    def restore(self) -> Progress:
        """Continue from the checkpoint, or from the start where there is none."""
        if not self._path.exists():
            return Progress(history=[])
        with safe_open(self._path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata()
        self._network.load_state_dict(_below(tensors, "network."))
        self._best = _below(tensors, "best.")
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {
            int(key): {"momentum_buffer": value} for key, value in _below(tensors, "momentum.").items()
        }
        optimizer["param_groups"] = json.loads(metadata["param_groups"])
        self._optimizer.load_state_dict(optimizer)
        self._scheduler.load_state_dict(json.loads(metadata["schedule"]))
        return Progress(**json.loads(metadata["progress"]))

    def save(self, progress: Progress, best: bool) -> None:
        """Write the checkpoint; `best` says that the network is the best so far."""
        current = {key: value.detach().cpu().clone() for key, value in self._network.state_dict().items()}
        if best:
            self._best = current
        optimizer = self._optimizer.state_dict()
        tensors = {
            **{f"network.{key}": value for key, value in current.items()},
            **{f"best.{key}": value.clone() for key, value in self._best.items()},
            **{f"momentum.{key}": value["momentum_buffer"].cpu() for key, value in optimizer["state"].items()},
        }
        metadata = {
            "progress": json.dumps(vars(progress)),
            "param_groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(_plain(self._scheduler.state_dict())),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    def load_best(self) -> None:
        """Give the network the weights of its best epoch."""
        self._network.load_state_dict(self._best)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The schedule's state without what JSON has no form for (functions that the constructor sets again)."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | list | dict | bool)}
