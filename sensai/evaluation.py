"""What a classifier is worth: accuracies, confusion, sizes. N images, K classes, M members, G groups."""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score
from torch import Tensor, nn

from sensai.data.batches import member_targets
from sensai.ensemble import Ensemble
from sensai.grouping.partitions import Group, labels_of
from sensai.sites import count_flops, count_params
from sensai.training.objectives import outcome_metrics

# Of confidence, as in Guo et al. 2017.
_BINS = 15


@dataclass(frozen=True)
class Outputs:
    """What networks said about a split.

    Attributes:
        labels: int64 (N,).
        members: float32 (N, outputs) of each network.
    """

    labels: np.ndarray
    members: list[np.ndarray]


@dataclass(frozen=True)
class Size:
    """How large a network is: trained values, 2 x multiply-accumulates at batch 1, bytes of its parameters."""

    params: int
    flops: int
    bytes: int


@torch.no_grad()
def run_networks(networks: Iterable[nn.Module], batches: Iterable[tuple[Tensor, Tensor]]) -> Outputs:
    """Every network on every batch of a split, the batch made once."""
    networks = [network.eval() for network in networks]
    labels: list[np.ndarray] = []
    collected: list[list[np.ndarray]] = [[] for _ in networks]
    for images, batch_labels in batches:
        labels.append(batch_labels.cpu().numpy())
        for network, parts in zip(networks, collected, strict=True):
            parts.append(network(images).float().cpu().numpy())
    return Outputs(np.concatenate(labels), [np.concatenate(parts) for parts in collected])


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 (N, K): class probabilities of a K-way network."""
    return torch.softmax(torch.from_numpy(logits).double(), dim=1).numpy()


def accuracies(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`accuracy` and `top5_accuracy` (all classes, where there are fewer than six: 1.0), as fractions."""
    num_classes = probabilities.shape[1]
    top5 = 1.0
    if num_classes > 5:
        top5 = float(top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(num_classes)))
    return {"accuracy": float(accuracy_score(labels, probabilities.argmax(1))), "top5_accuracy": top5}


def probability_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`accuracy`, `ece` (expected calibration error, 15 bins of equal width, as a fraction) and `nll` (mean negative log
    likelihood, in nats).
    """
    # Its import takes seconds.
    from torchmetrics.functional.classification import multiclass_calibration_error

    num_classes = probabilities.shape[1]
    # Anything above 1, by whatever rounding, would be taken for logits.
    bounded = probabilities.clip(max=1)
    ece = multiclass_calibration_error(
        torch.from_numpy(bounded), torch.from_numpy(labels), num_classes, n_bins=_BINS, norm="l1"
    )
    return {
        "accuracy": float(accuracy_score(labels, probabilities.argmax(1))),
        "ece": float(ece),
        "nll": float(log_loss(labels, bounded, labels=np.arange(num_classes))),
    }


def reliability_curve(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean largest probability and accuracy, float64 (bins,), of the images in each bin of the former that has some."""
    right = (probabilities.argmax(1) == labels).astype(np.int64)
    accuracy, confidence = calibration_curve(right, probabilities.max(1).clip(max=1), n_bins=_BINS)
    return confidence, accuracy


def rejection_metrics(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    """`rejected`: share of images whose largest probability is below the threshold; `accuracy_answered`: that of the others, if
    there are any.
    """
    answered = probabilities.max(1) >= threshold
    right = probabilities.argmax(1) == labels
    return _means({"rejected": ~answered, "accuracy_answered": right[answered]})


def member_metrics(outputs: Outputs, ensemble: Ensemble) -> list[dict[str, float]]:
    """`outcome_metrics` of each member on a split, and its `in_group_accuracy` and `none_accuracy` where it has images of its
    classes and of others.
    """
    labels, owner = torch.from_numpy(outputs.labels), _owners(outputs, ensemble)
    right, none = right_in_group(outputs, ensemble), called_none(outputs, ensemble)
    metrics = []
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        targets = member_targets(labels, member.classes, len(ensemble.class_names)).numpy()
        own = owner == number
        shares = {"in_group_accuracy": right[own], "none_accuracy": none[~own, number]}
        metrics.append(outcome_metrics(logits, targets) | _means(shares))
    return metrics


def group_metrics(outputs: Outputs, ensemble: Ensemble) -> dict[str, float]:
    """`in_group_accuracy`: share of the images that the member of their class tells from its other classes, "none" left aside.
    `none_accuracy`: share of "none" among what members say of images of other members' classes, where there are any.
    """
    others = _owners(outputs, ensemble)[:, None] != np.arange(len(ensemble.members))
    return _means(
        {
            "in_group_accuracy": right_in_group(outputs, ensemble),
            "none_accuracy": called_none(outputs, ensemble)[others],
        }
    )


def right_in_group(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """For each image, bool (N,): whether its class has the largest output among the classes of its member, "none" left aside.

    Always so where the member has one class.
    """
    right = np.empty(len(outputs.labels), bool)
    for logits, member in zip(outputs.members, ensemble.members, strict=True):
        classes = np.array(member.classes)
        rows = np.isin(outputs.labels, classes)
        own = logits[rows, logits.shape[1] - len(classes) :]
        right[rows] = classes[own.argmax(1)] == outputs.labels[rows]
    return right


def called_none(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """For each image, bool (N, M): whether a member calls it none of its classes, which a member of all classes never does."""
    none = np.zeros((len(outputs.labels), len(ensemble.members)), bool)
    for number, (logits, member) in enumerate(zip(outputs.members, ensemble.members, strict=True)):
        if logits.shape[1] == 1:
            none[:, number] = logits[:, 0] <= 0
        elif logits.shape[1] > len(member.classes):
            none[:, number] = logits.argmax(1) == 0
    return none


def _owners(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """int64 (N,): the member that has the class of each image."""
    return labels_of([member.classes for member in ensemble.members])[outputs.labels]


def _means(parts: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in parts.items() if len(values)}


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 (K, K): images of class row that were called class column."""
    return confusion_matrix(labels, probabilities.argmax(1), labels=np.arange(probabilities.shape[1]))


def confusion_between_groups(matrix: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """int64 (G, G): images of a class of group row that were called a class of group column.

    Args:
        matrix: int64 (K, K), see `confusion`.
        groups: a partition of the classes.
    """
    belongs = (labels_of(groups)[:, None] == np.arange(len(groups))).astype(np.int64)
    return belongs.T @ matrix @ belongs


def confusion_in_groups(matrix: np.ndarray, groups: Sequence[Group]) -> list[np.ndarray]:
    """int64 (g, g) of each group: its images that were called one of its classes, in the group's order.

    Args:
        matrix: int64 (K, K), see `confusion`.
        groups: a partition of the classes.
    """
    return [matrix[np.ix_(group, group)] for group in groups]


def error_shares(matrix: np.ndarray, groups: Sequence[Group]) -> dict[str, float]:
    """`errors_between_groups` and `errors_in_groups`: shares of all errors that are answers from another group than the
    image's, and wrong ones from its own. Empty where there is no error.

    Args:
        matrix: int64 (K, K), see `confusion`.
        groups: a partition of the classes.
    """
    errors = int(matrix.sum() - np.trace(matrix))
    if not errors:
        return {}
    in_groups = int(np.trace(confusion_between_groups(matrix, groups)) - np.trace(matrix))
    return {"errors_between_groups": (errors - in_groups) / errors, "errors_in_groups": in_groups / errors}


def size(network: nn.Module, input_shape: tuple[int, int, int]) -> Size:
    """The size of a network for one image of shape (C, H, W)."""
    parameter_bytes = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return Size(count_params(network), count_flops(network, input_shape), parameter_bytes)


def host() -> dict[str, str]:
    """What timings depend on: processor, cores, accelerator, and the libraries that compute."""
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "onnxruntime": version("onnxruntime"),
    }
