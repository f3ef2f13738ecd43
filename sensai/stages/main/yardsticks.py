"""Make the yardsticks of an ensemble: K-way networks on the same base model, activations and recipe.

| yardstick | what it is |
| --- | --- |
| `control` | one K-way network with at most the FLOPs of the largest member |
| `replicas` | as many K-way networks as members, each with at most these FLOPs, averaged |
| `base` | the base model as it is, trained further |
| `control_equal_flops` | a control with as many training FLOPs as the members had together |
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sensai.config import MainConfig
from sensai.errors import UnreachableTargetError
from sensai.evaluation.roles import BASE, CONTROL, CONTROL_EQUAL_FLOPS, REPLICAS
from sensai.pipeline.session import Session
from sensai.stages.main.flow import OWN, PRUNE, stage_config
from sensai.tracking import Run, tags
from sensai.training.losses import LOSSES
from sensai.training.stopping import DEFAULT_STOP_RULES

_log = logging.getLogger(__name__)

# A backward pass has twice the FLOPs of a forward pass: one for the gradients of activations, one for those of weights.
_PASSES_OF_A_STEP = 3
_ONE_NETWORK: Mapping[str, Any] = {"method": "random", "n_groups": 1, "policy": "ratio"}
_TO_THE_END: Mapping[str, Any] = {"patience": 0, "target": None, "stop_rules": DEFAULT_STOP_RULES, "budget": None}


class NoYardstickError(Exception):
    """A yardstick that would be no other network than the ensemble or the base model."""


@dataclass(frozen=True)
class _Ensemble:
    """The ensemble that yardsticks are made for.

    Attributes:
        config: of `main`.
        run_ids: stage -> run id, of its stages.
        session: of this process.
        parent: the run that new runs are nested below.
    """

    config: MainConfig
    run_ids: Mapping[str, str]
    session: Session
    parent: Run

    @property
    def sizes(self) -> dict[str, float]:
        """Return the metrics of its `prune` run."""
        return self.session.store.metrics_of(self.run_ids["prune"])

    @property
    def members(self) -> int:
        """Return the number of members."""
        return int(self.sizes["members"])

    @property
    def share(self) -> float:
        """Return the FLOPs of the largest member, as a share of the base model's."""
        return self.sizes["flops_max"] / self.sizes["flops_base"]

    @property
    def teacher(self) -> float:
        """Return the FLOPs of the teacher for one training image; 0 if the loss uses none."""
        return self.sizes["flops_base"] if "teacher" in LOSSES[self.config.loss].uses else 0.0


def make_yardsticks(config: MainConfig, run_ids: Mapping[str, str], session: Session, parent: Run) -> dict[str, str]:
    """Run the stages of every yardstick; return its name -> its evaluate run. Those that cannot be are left out.

    Args:
        config: of `main`.
        run_ids: stage -> run id, of the ensemble.
        session: of this process.
        parent: the run that new runs are nested below; it gets a tag a yardstick.
    """
    ensemble, made = _Ensemble(config, run_ids, session, parent), {}
    for name in config.yardsticks:
        try:
            made[name] = _evaluated(_CONFIGS[name](ensemble), ensemble)
        # A network of K outputs may not get as small as one of a single output.
        except (NoYardstickError, UnreachableTargetError) as error:
            _log.warning("no %s: %s", name, error)
            continue
        parent.set_tags({f"{tags.YARDSTICK}{name}": made[name]})
        _log.info("%s: run %s", name, made[name])
    return made


def _evaluated(config: MainConfig, ensemble: _Ensemble) -> str:
    """Run the stages of a yardstick; return its evaluate run."""
    run_id = ""
    for stage in OWN:
        run_id = stage.ensure(stage_config(config, stage), ensemble.session, ensemble.parent.id)
    return run_id


def _control(ensemble: _Ensemble) -> MainConfig:
    if ensemble.members == 1:
        raise NoYardstickError("the ensemble is itself one network")
    return ensemble.config.model_copy(update={**_ONE_NETWORK, "target_flops": ensemble.share})


def _replicas(ensemble: _Ensemble) -> MainConfig:
    if ensemble.members == 1:
        raise NoYardstickError("the ensemble is itself one network")
    if ensemble.config.method == REPLICAS:
        raise NoYardstickError("the ensemble is itself made of replicas")
    return ensemble.config.model_copy(
        update={
            "method": REPLICAS,
            "n_groups": ensemble.members,
            "policy": "ratio",
            "target_flops": ensemble.share,
            "target_of": "member",
        }
    )


def _base(ensemble: _Ensemble) -> MainConfig:
    if not ensemble.config.epochs:
        raise NoYardstickError("epochs=0 trains nothing further")
    return ensemble.config.model_copy(update={**_ONE_NETWORK, "ratio": 0.0, "target_flops": None})


def _control_equal_flops(ensemble: _Ensemble) -> MainConfig:
    config = ensemble.config
    if not config.epochs:
        raise NoYardstickError("epochs=0 trains nothing")
    control = _control(ensemble)
    store = ensemble.session.store
    pruned = PRUNE.ensure(stage_config(control, PRUNE), ensemble.session, ensemble.parent.id)
    trained = [store.metrics_of(run_id) for run_id in store.member_runs(ensemble.run_ids["retrain"]).values()]
    total = training_flops(
        [each["flops"] for each in trained], [each["epochs_run"] for each in trained], ensemble.teacher
    )
    an_epoch = training_flops([store.metrics_of(pruned)["flops_max"]], [1], ensemble.teacher)
    before = config.cut_epochs * (config.cut_steps - 1)
    epochs = max(round(total / an_epoch) - before, 1)
    return control.model_copy(update={**_TO_THE_END, "epochs": epochs})


def training_flops(flops: Sequence[float], epochs: Sequence[float], teacher: float) -> float:
    """Return the FLOPs of a training, for each image of the training split.

    A step is a forward and a backward pass, three times the FLOPs of a forward pass. The teacher answers each batch once for
    all members. Members count with their last size and with all images, even where they are cut in steps or `balance=sample`
    leaves images out.

    Args:
        flops: of a forward pass of each member.
        epochs: that each member was trained for.
        teacher: FLOPs of a forward pass of the teacher; 0 without one.
    """
    steps = sum(each * count for each, count in zip(flops, epochs, strict=True))
    return _PASSES_OF_A_STEP * steps + teacher * max(epochs)


# Name of a yardstick -> its configuration.
_CONFIGS: Mapping[str, Callable[[_Ensemble], MainConfig]] = {
    CONTROL: _control,
    REPLICAS: _replicas,
    BASE: _base,
    CONTROL_EQUAL_FLOPS: _control_equal_flops,
}
