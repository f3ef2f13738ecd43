"""What a network learns and how it is judged. N images; a member has 1, 1 + g or K outputs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn

from sensai.data.batches import member_targets

# Batch norm needs two images, also of a batch in which a member's classes do not occur.
_FEWEST_OTHERS = 2


@dataclass(frozen=True)
class Objective:
    """The classification that one network learns.

    Attributes:
        classes: the classes it tells apart, in the order of its outputs.
        num_classes: K of the data set.
        weight: of each outcome, what it counts; inverse frequencies let all count the same in sum.
        teacher_share: how much of the target is the teacher's probability of the outcome (Hinton et al. 2015, at temperature
            1) instead of the label, in [0, 1].
    """

    classes: tuple[int, ...]
    num_classes: int
    weight: tuple[float, ...]
    teacher_share: float = 0.0

    @classmethod
    def balanced(
        cls, classes: tuple[int, ...], num_classes: int, labels: np.ndarray, teacher_share: float = 0.0
    ) -> "Objective":
        """The objective of a member, balanced on training labels int64 (N,)."""
        targets = member_targets(torch.from_numpy(np.asarray(labels)), classes, num_classes)
        outcomes = len(classes) + (len(classes) < num_classes)
        counts = torch.bincount(targets, minlength=outcomes)
        present = counts > 0
        weight = torch.where(present, len(targets) / (present.sum() * counts.clamp(min=1)), 0.0)
        return cls(classes, num_classes, tuple(weight.tolist()), teacher_share)

    @classmethod
    def unweighted(cls, classes: tuple[int, ...], num_classes: int, teacher_share: float = 0.0) -> "Objective":
        """The objective of a member whose batches are balanced by sampling."""
        outcomes = len(classes) + (len(classes) < num_classes)
        return cls(classes, num_classes, (1.0,) * outcomes, teacher_share)

    @classmethod
    def multiclass(cls, num_classes: int) -> "Objective":
        """All K classes as they come: the objective of a base model."""
        return cls(tuple(range(num_classes)), num_classes, (1.0,) * num_classes)

    def targets(self, labels: Tensor) -> Tensor:
        """int64 (N,): the labels as this network sees them."""
        return member_targets(labels, self.classes, self.num_classes)

    def loss(self, logits: Tensor, labels: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Weighted mean over the images: binary cross entropy for one logit, else cross entropy over the outputs.

        Args:
            logits: (N, outputs).
            labels: int64 (N,), in [0, K).
            teacher: logits (N, K); needed where `teacher_share` is above 0.
        """
        # One logit is that of outcome 1 against an outcome 0 of logit zero.
        scores = F.pad(logits, (1, 0)) if logits.shape[1] == 1 else logits
        weight = on_device(self.weight, logits.device)
        wanted = self._wanted(labels, teacher, len(weight)).to(logits.dtype)
        return -(F.log_softmax(scores, 1) * wanted * weight).sum(1).mean()

    def told(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss by the labels alone, by which networks are judged."""
        return replace(self, teacher_share=0.0).loss(logits, labels)

    def _wanted(self, labels: Tensor, teacher: Tensor | None, outcomes: int) -> Tensor:
        """(N, outcomes): the probability of each outcome that is to be learnt."""
        told = F.one_hot(self.targets(labels), outcomes)
        if not self.teacher_share:
            return told
        if teacher is None:
            raise ValueError(f"teacher_share={self.teacher_share}: needs the teacher's logits")
        taught = torch.softmax(teacher, 1)[:, list(self.classes)]
        if outcomes > len(self.classes):
            taught = torch.cat([1 - taught.sum(1, keepdim=True), taught], 1)
        return (1 - self.teacher_share) * told + self.teacher_share * taught


@lru_cache
def on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Integers as int64, others as float32 (values,); kept, so that a GPU is not waited for at every step."""
    return torch.tensor(values, device=device)


def balanced_rows(targets: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """The rows of a batch that a member learns from where it balances by sampling.

    Args:
        targets: int64 (N,), outcomes; 0 is "none" where there is one more outcome than classes.
        classes: g, how many classes the member has.
        generator: on the CPU, draws the images that are "none".

    Returns:
        int64 (rows,), sorted: every image of the member's classes, and of the others as many as of one of them on average.
    """
    own = targets.cpu() > 0
    wanted = max(round(int(own.sum()) / classes), _FEWEST_OTHERS)
    others = torch.nonzero(~own).flatten()
    drawn = others[torch.randperm(len(others), generator=generator)[:wanted]]
    return torch.cat([torch.nonzero(own).flatten(), drawn]).sort().values.to(targets.device)


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


# A network and what it is to tell apart.
Judged = tuple[nn.Module, Objective]


@torch.no_grad()
def judge(judged: Sequence[Judged], batches: Iterable[tuple[Tensor, Tensor]]) -> list[dict[str, float]]:
    """The metrics of networks on a split, each with its `loss` (sums over batches, divided once); a batch is made once for all.

    Where a loss is not finite it stands alone.
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
            losses[position] += float(objective.told(output, labels)) * len(labels)
            logits[position].append(output.float().cpu().numpy())
    labels = torch.cat(all_labels).cpu()
    return [
        _metrics(np.concatenate(parts), objective.targets(labels).numpy(), loss / count)
        for (_, objective), parts, loss in zip(judged, logits, losses, strict=True)
    ]


def _metrics(logits: np.ndarray, targets: np.ndarray, loss: float) -> dict[str, float]:
    return {"loss": loss} | (outcome_metrics(logits, targets) if math.isfinite(loss) else {})
