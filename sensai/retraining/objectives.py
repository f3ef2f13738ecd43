"""What a network learns and how it is judged. N images; a member has 1, 1 + g or K outputs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from sensai.data.batches import member_targets


@dataclass(frozen=True)
class Objective:
    """The classification that one network learns, every outcome weighing the same in all.

    Attributes:
        classes: the classes it tells apart, in the order of its outputs.
        num_classes: K of the data set.
        weight: float32 (outcomes,), inverse frequency of each outcome in the training labels, of mean 1 over the images.
    """

    classes: tuple[int, ...]
    num_classes: int
    weight: Tensor

    @classmethod
    def balanced(cls, classes: tuple[int, ...], num_classes: int, labels: np.ndarray) -> "Objective":
        """The objective of a member, balanced on training labels int64 (N,)."""
        targets = member_targets(torch.from_numpy(np.asarray(labels)), classes, num_classes)
        outcomes = len(classes) + (len(classes) < num_classes)
        counts = torch.bincount(targets, minlength=outcomes)
        present = counts > 0
        weight = torch.where(present, len(targets) / (present.sum() * counts.clamp(min=1)), 0.0)
        return cls(classes, num_classes, weight.float())

    @classmethod
    def multiclass(cls, num_classes: int) -> "Objective":
        """All K classes as they come: the objective of a base model."""
        return cls(tuple(range(num_classes)), num_classes, torch.ones(num_classes))

    def targets(self, labels: Tensor) -> Tensor:
        """int64 (N,): the labels as this network sees them."""
        return member_targets(labels, self.classes, self.num_classes)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Weighted mean over the images: binary cross entropy for one logit, else cross entropy over the outputs."""
        targets = self.targets(labels)
        weight = self.weight.to(logits.device)
        if logits.shape[1] == 1:
            each = F.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), reduction="none")
        else:
            each = F.cross_entropy(logits, targets, reduction="none")
        return (each * weight[targets]).mean()


def outcome_metrics(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """How well one member tells its outcomes apart.

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


@torch.no_grad()
def judge(network: nn.Module, objective: Objective, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """The metrics of one network on a split, with its `loss` (sums over batches, divided once).

    Where the loss is not finite it stands alone.
    """
    network.eval()
    logits, targets, loss, count = [], [], 0.0, 0
    for images, labels in batches:
        output = network(images)
        loss += float(objective.loss(output, labels)) * len(labels)
        count += len(labels)
        logits.append(output.float().cpu().numpy())
        targets.append(objective.targets(labels).cpu().numpy())
    if not math.isfinite(loss):
        return {"loss": loss}
    return {"loss": loss / count, **outcome_metrics(np.concatenate(logits), np.concatenate(targets))}
