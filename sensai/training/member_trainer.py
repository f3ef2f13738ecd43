"""One network in training: its optimizer, schedule, stop rules and checkpoints."""

import json
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sensai.models.widths import load_tensors
from sensai.training.checkpoints import Checkpoints, TrainingHistory, below
from sensai.training.schedules import SCHEDULES
from sensai.training.stopping import goals, reason_to_stop
from sensai.training.training_config import OptimizerConfig
from sensai.training.weight_averaging import exponential_average

_MOMENTUM = 0.9


class MemberTrainer:
    """A network with all that its training needs beside the batches and the loss.

    Attributes:
        history: of the training, those epochs included that an earlier process trained.
    """

    def __init__(
        self, network: nn.Module, config: OptimizerConfig, steps_per_epoch: int, checkpoints: Checkpoints
    ) -> None:
        """Go on from the last checkpoint where there is one; on a CPU the result is the same bit for bit.

        Args:
            network: trained in place, on the device of the batches and in their memory format (see `laid_out`).
            config: of optimizer, schedule and stop rules.
            steps_per_epoch: number of batches of an epoch.
            checkpoints: written before the first epoch and after each.
        """
        self.network = network
        self.optimizer = SGD(
            network.parameters(), lr=config.lr, momentum=_MOMENTUM, weight_decay=config.weight_decay, nesterov=True
        )
        self.history = TrainingHistory()
        self._config, self._checkpoints = config, checkpoints
        self._scheduler: LRScheduler = SCHEDULES[config.schedule](
            SimpleNamespace(
                optimizer=self.optimizer,
                peak_lr=config.lr,
                steps=config.epochs * steps_per_epoch,
                steps_per_epoch=steps_per_epoch,
                decay_steps=config.epochs_after_stop * steps_per_epoch,
                decay_start=lambda: self._decay_start * steps_per_epoch,
            )
        )
        self._average = None if config.weight_averaging == "none" else exponential_average(network, config.ema_decay)
        self._best: dict[str, Tensor] = {}
        if not self._restore():
            self._save(best=True)

    @property
    def epoch(self) -> int:
        """Return the number of the next epoch."""
        return len(self.history.epochs)

    @property
    def decaying(self) -> bool:
        """Return whether the next epoch belongs to the decay of the schedule, or follows it."""
        return self._config.epochs_after_stop > 0 and self.epoch >= self._decay_start

    @property
    def epochs_after_stop(self) -> int:
        """Return the epochs that would be trained after a stop now: those of the decay, or what is left of them."""
        if self.history.done:
            return 0
        return self._last_epoch - max(self.epoch, self._decay_start)

    @property
    def judged(self) -> nn.Module:
        """Return the network that is judged and kept: the trained one, or where weights are averaged, that of the averages."""
        return self.network if self._average is None else self._average.module

    def update(self) -> None:
        """Take one step along the gradients."""
        self.optimizer.step()
        self._scheduler.step()
        if self._average is not None:
            self._average.update_parameters(self.network)

    def end_epoch(self, metrics: Mapping[str, float], seconds: float) -> None:
        """Record an epoch, decide whether to stop, and write the checkpoint.

        Args:
            metrics: of the epoch: `train_loss`, and those of the validation split where there is one.
            seconds: that the epoch took.
        """
        history = self.history
        history.epochs.append(dict(metrics))
        improved = history.best_epoch < 0 or self._is_better()
        if improved:
            history.best_epoch = len(history.epochs) - 1
        if reason := self._reason_to_stop():
            self._stop(reason)
        history.seconds += seconds
        self._save(best=improved)

    def stop(self, reason: str) -> None:
        """Begin the decay of the schedule; where it has none, or it has begun, end the training."""
        self._stop(reason)
        self._save(best=False)

    def go_back(self, failure: str) -> None:
        """Return to the last checkpoint after a failure and go on from there with half the learning rate."""
        self._restore()
        halve_rates(self.optimizer, self._scheduler)
        self.history.failure = failure
        self._save(best=False)

    def recent_gain(self, epochs: int) -> float:
        """Return the growth per epoch of the best validation metric over the last epochs; infinite with too few of them."""
        values = self._values()
        return math.inf if len(values) <= epochs else (max(values) - max(values[:-epochs])) / epochs

    def load_best(self) -> None:
        """Give the network the weights of its best epoch, in eval mode."""
        load_tensors(self.network, self._best)
        self.network.eval()

    # -------------------------------------------------------------------------------------------------------- decisions

    def _is_better(self) -> bool:
        last, best = self.history.epochs[-1], self.history.epochs[self.history.best_epoch]
        metric = self._config.metric
        if metric not in last:
            return True
        return (last[metric], -last["loss"]) > (best[metric], -best["loss"])

    @property
    def _decay_start(self) -> int:
        """Return the number of epochs before the decay, as decided so far."""
        config, stopped_after = self._config, self.history.stopped_after
        return config.epochs - config.epochs_after_stop if stopped_after is None else stopped_after

    @property
    def _last_epoch(self) -> int:
        """Return the number of epochs after which the training ends, as decided so far."""
        return self._decay_start + self._config.epochs_after_stop

    def _stop(self, reason: str) -> None:
        history, config = self.history, self._config
        if config.epochs_after_stop == 0 or self.decaying or reason in goals(config.stop_rules):
            history.done = True
        else:
            history.stopped_after = self.epoch
        # At the end of a decay that a stop began, the stop is the reason.
        if not (history.stopped_by and reason == "epochs"):
            history.stopped_by = reason

    def _reason_to_stop(self) -> str:
        config = self._config
        return reason_to_stop(
            goals(config.stop_rules) if self.decaying else config.stop_rules,
            self._values(),
            patience=config.patience,
            min_gain=config.min_gain,
            target=config.target,
            last_epoch=self.epoch >= self._last_epoch,
        )

    def _values(self) -> list[float]:
        """Return the validation metric of every epoch; empty without validation."""
        metric = self._config.metric
        return [metrics[metric] for metrics in self.history.epochs if metric in metrics]

    # ------------------------------------------------------------------------------------------------------- checkpoint

    def _restore(self) -> bool:
        found = self._checkpoints.read()
        if found is None:
            return False
        tensors, self.history, state = found
        load_tensors(self.network, below(tensors, "network."))
        if self._average is not None:
            self._average.load_state_dict(below(tensors, "average."))
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
        if best:
            self._best = _stored_state(self.judged)
        optimizer = self.optimizer.state_dict()
        tensors = {
            **{f"network.{key}": value for key, value in _stored_state(self.network).items()},
            **{f"average.{key}": value for key, value in _stored_state(self._average).items()},
            **{f"best.{key}": value for key, value in self._best.items()},
            **{f"momentum.{key}": _stored(value["momentum_buffer"]) for key, value in optimizer["state"].items()},
        }
        state = {
            "param_groups": json.dumps(optimizer["param_groups"]),
            "schedule": json.dumps(plain(self._scheduler.state_dict())),
        }
        self._checkpoints.write(tensors, self.history, state)


def halve_rates(optimizer: Optimizer, scheduler: LRScheduler) -> None:
    """Halve the learning rate now and in all further steps of the schedule."""
    for group in optimizer.param_groups:
        for rate in {"lr", "initial_lr", "max_lr", "min_lr"} & group.keys():
            group[rate] /= 2
    scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]


def _stored_state(module: nn.Module | None) -> dict[str, Tensor]:
    """Return copies of the tensors of a module, none where there is no module."""
    return {} if module is None else {key: _stored(value) for key, value in module.state_dict().items()}


def _stored(value: Tensor) -> Tensor:
    # safetensors knows no memory format but the contiguous one.
    return value.detach().cpu().contiguous().clone()


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """Return the schedule's state without functions, which JSON cannot hold and the constructor sets again."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | str | list | dict | bool)}
