"""Members made ready for runtimes: whatever opens them, each is folded and exported once. N images, C channels, H x W
pixels.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from torch import nn
from torch.fx import GraphModule

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.runtimes.export import export_onnx
from sensai.runtimes.folding import folded
from sensai.sites import count_flops


class PreparedMember:
    """One network from normalised images float32 (N, C, H, W) to its outputs, in the forms that runtimes take."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, int, int]) -> None:
        """Make nothing yet.

        Args:
            network: on the CPU, in eval mode; it stays as it is.
            input_shape: (C, H, W) of one image.
        """
        self.network = network
        self.input_shape = input_shape

    @property
    def _example(self) -> torch.Tensor:
        return torch.zeros(2, *self.input_shape)

    @torch.no_grad()
    def eager(self, images: np.ndarray) -> np.ndarray:
        """The outputs of the network as it is, float32 (N, outputs), for float32 (N, C, H, W): what all forms must give."""
        return self.network(torch.from_numpy(images)).numpy()

    @cached_property
    def graph(self) -> GraphModule:
        """Torch operators, batch norms folded."""
        return folded(self.network, self._example)

    @cached_property
    def onnx(self) -> onnx.ModelProto:
        """The same as an ONNX model."""
        return export_onnx(self.graph, self._example).model_proto

    @cached_property
    def flops(self) -> int:
        """What it costs, by prediction."""
        return count_flops(self.network, self.input_shape)


@dataclass(frozen=True)
class Prepared:
    """The members of an ensemble, or some of them, and how raw images are normalised for them."""

    members: Sequence[PreparedMember]
    normalization: Normalization

    def alone(self) -> "list[Prepared]":
        """Each member by itself; what has been made of it is kept."""
        return [Prepared([member], self.normalization) for member in self.members]

    def normalised(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, C, H, W) of raw images uint8 (N, H, W, C): one pass for all members.

        Raises:
            ValueError: images of another dtype, which are no raw ones.
        """
        if images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 (N, H, W, C), not {images.dtype}")
        mean, std = (
            np.array(each, np.float32)[:, None, None] for each in (self.normalization.mean, self.normalization.std)
        )
        values = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        values /= 255
        values -= mean
        values /= std
        return values


def prepare(ensemble: Ensemble) -> Prepared:
    """An ensemble's members; the ensemble stays as it is."""
    shape = ensemble.spec.input_shape
    members = [PreparedMember(copy.deepcopy(member.network).cpu().eval(), shape) for member in ensemble.members]
    return Prepared(members, ensemble.normalization)


def prepare_base(model: nn.Module, like: Ensemble) -> Prepared:
    """A base model, as the ensemble of one member of all classes that it is."""
    classes = tuple(range(len(like.class_names)))
    return prepare(Ensemble([Member(classes, model)], like.class_names, like.spec, like.normalization))
