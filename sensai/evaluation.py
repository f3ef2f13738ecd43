"""What a classifier is worth: accuracies, confusion, sizes, latencies. N images, K classes."""

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from sensai.data.batches import member_targets
from sensai.ensemble import Ensemble, combine
from sensai.retraining.objectives import outcome_metrics
from sensai.sites import count_flops, count_params

_LATENCY_SECONDS = 0.3


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


def ensemble_probabilities(outputs: Outputs, ensemble: Ensemble) -> np.ndarray:
    """float64 (N, K): class probabilities from the members' outputs."""
    logits = [torch.from_numpy(member).double() for member in outputs.members]
    groups = [member.classes for member in ensemble.members]
    return combine(logits, groups, len(ensemble.class_names)).numpy()


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


def member_metrics(outputs: Outputs, ensemble: Ensemble) -> list[dict[str, float]]:
    """`outcome_metrics` of each member on a split."""
    labels = torch.from_numpy(outputs.labels)
    return [
        outcome_metrics(logits, member_targets(labels, member.classes, len(ensemble.class_names)).numpy())
        for logits, member in zip(outputs.members, ensemble.members, strict=True)
    ]


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 (K, K): images of class row that were called class column."""
    return confusion_matrix(labels, probabilities.argmax(1), labels=np.arange(probabilities.shape[1]))


def size(network: nn.Module, input_shape: tuple[int, int, int]) -> Size:
    """The size of a network for one image of shape (C, H, W)."""
    parameter_bytes = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return Size(count_params(network), count_flops(network, input_shape), parameter_bytes)


@torch.no_grad()
def latency_ms(forward: Callable[[Tensor], object], input_shape: tuple[int, int, int], device: torch.device) -> float:
    """Median milliseconds of one image of shape (C, H, W), with the threads that torch is set to."""
    image = torch.zeros(1, *input_shape, device=device)
    timer = Timer("forward(image)", globals={"forward": forward, "image": image}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=_LATENCY_SECONDS).median * 1e3)


def host() -> dict[str, str]:
    """What timings depend on: processor, cores, accelerator, and the library that computes."""
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
    }
