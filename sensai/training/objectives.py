"""Losses and metrics of networks. N images; a member has 1, 1 + g or K outputs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from sensai.data.batches import member_targets
from sensai.training.cross_entropy import label_cross_entropy, softened
from sensai.training.losses import LOSSES
from sensai.training.training_config import ObjectiveConfig

# Batch norm needs two images, also of a batch in which a member's classes do not occur.
_FEWEST_OTHERS = 2
_DEFAULT = ObjectiveConfig()


@dataclass(frozen=True)
class Objective:
    """The classification that one network learns.

    Attributes:
        classes: that the network tells apart, in the order of its outputs.
        num_classes: K of the data set.
        weight: how much each outcome counts; inverse frequencies give all outcomes the same sum.
        config: the loss and its parameters.
    """

    classes: tuple[int, ...]
    num_classes: int
    weight: tuple[float, ...]
    config: ObjectiveConfig = _DEFAULT

    @classmethod
    def balanced(
        cls,
        classes: tuple[int, ...],
        num_classes: int,
        labels: np.ndarray,
        config: ObjectiveConfig = _DEFAULT,
    ) -> "Objective":
        """Return the objective of a member, balanced on training labels int64 (N,)."""
        targets = member_targets(torch.from_numpy(np.asarray(labels)), classes, num_classes)
        outcomes = len(classes) + (len(classes) < num_classes)
        counts = torch.bincount(targets, minlength=outcomes)
        present = counts > 0
        weight = torch.where(present, len(targets) / (present.sum() * counts.clamp(min=1)), 0.0)
        return cls(classes, num_classes, tuple(weight.tolist()), config)

    @classmethod
    def unweighted(cls, classes: tuple[int, ...], num_classes: int, config: ObjectiveConfig = _DEFAULT) -> "Objective":
        """Return the objective of a member whose batches are balanced by sampling."""
        outcomes = len(classes) + (len(classes) < num_classes)
        return cls(classes, num_classes, (1.0,) * outcomes, config)

    @classmethod
    def multiclass(cls, num_classes: int) -> "Objective":
        """Return the objective of a base model: all K classes, unweighted."""
        return cls(tuple(range(num_classes)), num_classes, (1.0,) * num_classes)

    def targets(self, labels: Tensor) -> Tensor:
        """Return int64 (N,): the outcome of each label for this network."""
        return member_targets(labels, self.classes, self.num_classes)

    def loss(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Return the loss of a batch, a tensor of shape ().

        Args:
            logits: float (N, outcomes), or (N, 1).
            labels: int64 (N,), in [0, K), or of mixed images float32 (N, K): the share of each class.
            teacher: logits (N, K); needed where the loss uses a teacher.

        Raises:
            ValueError: the loss uses a teacher, and there is none.
        """
        config = self.config
        if teacher is None and config.uses_teacher:
            raise ValueError(f"loss={config.loss}: needs the teacher's logits")
        targets = self._shares(labels, config.label_smoothing)
        inputs = SimpleNamespace(
            logits=_of_outcomes(logits),
            targets=targets,
            weight=on_device(self.weight, logits.device),
            # A teacher whose weight is 0 is not asked, and any answer serves in its place.
            teacher=targets if teacher is None else self._teacher_shares(teacher),
            kd_weight=config.kd_weight,
            kd_temperature=config.kd_temperature,
            logit_standardization=config.logit_standardization,
        )
        loss: Tensor = LOSSES[config.loss](inputs)
        return loss

    def label_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted cross entropy of the labels alone, as they are, which judges networks of every loss."""
        targets = self._shares(labels, smoothing=0.0)
        return label_cross_entropy(_of_outcomes(logits), targets, on_device(self.weight, logits.device))

    def _shares(self, labels: Tensor, smoothing: float) -> Tensor:
        """Return float32 (N, outcomes): the share of each outcome in the labels of classes, smoothed."""
        of_classes = _outcome_shares(self.classes, self.num_classes, smoothing, labels.device)
        return labels @ of_classes if labels.is_floating_point() else of_classes[labels]

    def _teacher_shares(self, teacher: Tensor) -> Tensor:
        """Return (N, outcomes): the teacher's probability of each outcome, softened like the members' logits."""
        own = on_device(self.classes, teacher.device, torch.int64)
        knows_all = len(self.weight) == len(self.classes)
        if self.config.softens:
            logits = teacher[:, own]
            if not knows_all:
                others = teacher.index_fill(1, own, -torch.inf).logsumexp(1, keepdim=True)
                logits = torch.cat([others, logits], 1)
            soft = softened(logits, self.config.kd_temperature, self.config.logit_standardization)
            return torch.softmax(soft, 1)
        shares = torch.softmax(teacher, 1)[:, own]
        return shares if knows_all else torch.cat([1 - shares.sum(1, keepdim=True), shares], 1)


# Cached for every member of a large ensemble, because making it would wait for the GPU at every step.
@cache
def _outcome_shares(classes: tuple[int, ...], num_classes: int, smoothing: float, device: torch.device) -> Tensor:
    """Return float32 (K, outcomes): the share of each outcome in the label of each class.

    Smoothing spreads a share of every label evenly over the K classes (Szegedy et al. 2016), of which a member sees the sums
    that are its outcomes. So all networks of an ensemble, and those that it is compared with, learn the same labels.
    """
    outcomes = member_targets(torch.arange(num_classes), classes, num_classes)
    shares = F.one_hot(outcomes, len(classes) + (len(classes) < num_classes)).float()
    return ((1 - smoothing) * shares + smoothing * shares.mean(0)).to(device)


def _of_outcomes(logits: Tensor) -> Tensor:
    """Return (N, outcomes): one logit is that of outcome 1 against an outcome 0 of logit zero."""
    return F.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits


# The type is part of the key, because (1, 0) and (1.0, 0.0) are equal.
@cache
def on_device(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return values (values,) of a type; cached, because a copy to a GPU would wait at every step."""
    return torch.tensor(values, device=device, dtype=dtype)


def balanced_rows(targets: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Return the rows of a batch that a member learns from where it balances by sampling.

    Args:
        targets: int64 (N,), outcomes; 0 is "none" where there is one more outcome than classes.
        classes: g, how many classes the member has.
        generator: on the CPU; samples the images that are "none".

    Returns:
        int64 (rows,), sorted: every image of the member's classes, and of the others as many as of one of them on average.
    """
    own = targets.cpu() > 0
    wanted = max(round(int(own.sum()) / classes), _FEWEST_OTHERS)
    others = torch.nonzero(~own).flatten()
    sampled = others[torch.randperm(len(others), generator=generator)[:wanted]]
    return torch.cat([torch.nonzero(own).flatten(), sampled]).sort().values.to(targets.device)


def outcome_metrics(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the metrics of one member on its outcomes.

    Args:
        logits: float (N, outputs).
        targets: int64 (N,), the outcome of each image (see `member_targets`).

    Returns:
        `accuracy`: share of right outcomes; `balanced_accuracy`: mean recall; `roc_auc` where every outcome occurs
        (groups: one against the rest, averaged).
    """
    if logits.shape[1] == 1:
        chosen, scores = (logits[:, 0] > 0).astype(np.int64), logits[:, 0]
    else:
        chosen = logits.argmax(1)
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        if logits.shape[1] == 2:
            scores = scores[:, 1]
    metrics = {
        "accuracy": float(accuracy_score(targets, chosen)),
        "balanced_accuracy": float(balanced_accuracy_score(targets, chosen)),
    }
    if len(np.unique(targets)) == max(2, logits.shape[1]):
        metrics["roc_auc"] = float(roc_auc_score(targets, scores, multi_class="ovr"))
    return metrics


# A network and its objective.
Judged = tuple[nn.Module, Objective]


@torch.no_grad()
def judge(judged: Sequence[Judged], batches: Iterable[tuple[Tensor, Tensor]]) -> list[dict[str, float]]:
    """Return the metrics of networks on a split. Each batch is made once for all networks.

    Returns:
        For each network its `loss` (summed over batches, divided once) and its `outcome_metrics`. A loss that is not finite
        stands alone.
    """
    for network, _ in judged:
        network.eval()
    losses, count = [0.0] * len(judged), 0
    logits: list[list[np.ndarray]] = [[] for _ in judged]
    all_labels = []
    for images, labels in batches:
        all_labels.append(labels)
        count += len(labels)
        for position, (network, objective) in enumerate(judged):
            output = network(images)
            losses[position] += float(objective.label_loss(output, labels)) * len(labels)
            logits[position].append(output.float().cpu().numpy())
    labels = torch.cat(all_labels).cpu()
    return [
        _metrics(np.concatenate(parts), objective.targets(labels).numpy(), loss / count)
        for (_, objective), parts, loss in zip(judged, logits, losses, strict=True)
    ]


def _metrics(logits: np.ndarray, targets: np.ndarray, loss: float) -> dict[str, float]:
    return {"loss": loss} | (outcome_metrics(logits, targets) if math.isfinite(loss) else {})
