"""Members side by side as one network, and its storage."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sensai.data.batches import Normalization
from sensai.files import write_text, writing
from sensai.models.factory import NetworkSpec
from sensai.models.storage import describe, rebuild, save_weights

if TYPE_CHECKING:
    # Members and slots form no groups, so their processes need not wait for what that takes.
    from sensai.grouping.partitions import Group

FORMAT_VERSION = 1
MANIFEST = "ensemble.json"


@dataclass(frozen=True)
class Member:
    """One pruned network: 1 logit for one class; 1 + g outputs (index 0: none of mine) for g classes; K for all K."""

    classes: "Group"
    network: nn.Module


class Ensemble(nn.Module):
    """All members on the same input; together they cover every class."""

    def __init__(
        self, members: list[Member], class_names: tuple[str, ...], spec: NetworkSpec, normalization: Normalization
    ) -> None:
        super().__init__()
        self.members = members
        self.networks = nn.ModuleList(member.network for member in members)
        self.class_names = class_names
        self.spec = spec
        # Images come as the members take them.
        self.normalization = replace(normalization, memory_format=spec.memory_format)

    @property
    def groups(self) -> "list[Group]":
        """Return the classes of each member."""
        return [member.classes for member in self.members]

    def member_logits(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of each member, (N, 1), (N, 1 + g) or (N, K), for normalised images (N, C, H, W)."""
        return [member.network(images) for member in self.members]

    def forward(self, images: Tensor) -> Tensor:
        """Return raw class probabilities (N, K) for normalised images float32 (N, C, H, W)."""
        return combine(self.member_logits(images), self.groups, len(self.class_names))


def combine(logits: list[Tensor], groups: "list[Group]", num_classes: int) -> Tensor:
    """Return class probabilities (N, K) from the members' outputs.

    The raw score of a class is the sigmoid of its logit (binary member) or its share of the softmax (group), and the mean of
    these where several members have the class; the scores of an image are divided by their sum.
    """
    scores = logits[0].new_zeros(len(logits[0]), num_classes)
    members = logits[0].new_zeros(num_classes)
    for output, classes in zip(logits, groups, strict=True):
        scores[:, list(classes)] += class_scores(output, len(classes))
        members[list(classes)] += 1
    scores = scores / members
    # Where every member says "not mine" beyond float32, all classes are equally likely.
    scores = scores + torch.finfo(scores.dtype).tiny
    return scores / scores.sum(1, keepdim=True)


def class_scores(logits: Tensor, group_size: int) -> Tensor:
    """Return the raw scores (N, g) of a member's own classes from its outputs (N, 1), (N, 1 + g) or (N, g)."""
    if logits.shape[1] == 1:
        return torch.sigmoid(logits)
    return torch.softmax(logits, dim=1)[:, logits.shape[1] - group_size :]


def save_ensemble(ensemble: Ensemble, folder: Path) -> None:
    """Write an ensemble into a folder: one safetensors file a member, the manifest last.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    members: list[dict[str, Any]] = []
    for number, member in enumerate(ensemble.members):
        weights = f"member_{number:03d}.safetensors"
        save_weights(member.network, folder / weights)
        description = describe(member.network, ensemble.spec)
        members.append({"classes": list(member.classes), "weights": weights, "widths": description["widths"]})
    manifest = {
        "format_version": FORMAT_VERSION,
        "spec": ensemble.spec.to_json(),
        "class_names": list(ensemble.class_names),
        "mean": list(ensemble.normalization.mean),
        "std": list(ensemble.normalization.std),
        "members": members,
    }
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1))


def load_ensemble(folder: Path, network: nn.Module | None = None) -> Ensemble:
    """Return the ensemble that `save_ensemble` wrote, bit for bit, in eval mode.

    Args:
        folder: of its files.
        network: of the base model's architecture, where no name makes one; it is not changed.

    Raises:
        ValueError: the manifest is of another format version.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    if manifest["format_version"] != FORMAT_VERSION:
        raise ValueError(f"{folder / MANIFEST} has format version {manifest['format_version']}, not {FORMAT_VERSION}")
    members = [
        Member(
            tuple(entry["classes"]),
            rebuild({"spec": manifest["spec"], "widths": entry["widths"]}, folder / entry["weights"], network)[0],
        )
        for entry in manifest["members"]
    ]
    normalization = Normalization(tuple(manifest["mean"]), tuple(manifest["std"]))
    spec = replace(NetworkSpec.from_json(manifest["spec"]), network=network)
    return Ensemble(members, tuple(manifest["class_names"]), spec, normalization).eval()
