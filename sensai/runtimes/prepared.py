"""Prepare members for runtimes: each is folded and exported once for all of them. N images, C channels, H x W pixels."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from sensai.data.batches import Normalization
from sensai.ensemble import Ensemble, Member
from sensai.models.factory import NetworkSpec
from sensai.runtimes.export import export_onnx
from sensai.runtimes.folding import folded
from sensai.sites import count_flops


class _Forms:
    """The networks of one ensemble in the forms that runtimes take. A form is made of all networks on its first use."""

    def __init__(self, networks: Sequence[nn.Module], spec: NetworkSpec) -> None:
        self._networks = networks
        self._memory_format = spec.memory_format
        self._example = torch.zeros(2, *spec.input_shape)

    @cached_property
    def graphs(self) -> list[GraphModule]:
        return [folded(network, self._example, self._memory_format) for network in self._networks]

    @cached_property
    def onnx(self) -> list[onnx.ModelProto]:
        return export_onnx(self.graphs, self._example)


class PreparedMember:
    """One network in the forms that runtimes take: from normalised images float32 (N, C, H, W) to its outputs."""

    def __init__(self, network: nn.Module, flops: int, forms: _Forms, number: int) -> None:
        """Make nothing yet.

        Args:
            network: on the CPU, in eval mode; it is not changed.
            flops: of one image.
            forms: of all networks of its ensemble.
            number: the network's place in them.
        """
        self.network = network
        self.flops = flops
        self._forms = forms
        self._number = number

    @torch.no_grad()
    def eager(self, images: np.ndarray) -> np.ndarray:
        """Return the outputs of the unchanged network, float32 (N, outputs), which all forms must give: for (N, C, H, W)."""
        return self.network(torch.from_numpy(images)).numpy()

    @property
    def graph(self) -> GraphModule:
        """Return the network as a graph of torch operators with folded batch norms."""
        return self._forms.graphs[self._number]

    @property
    def onnx(self) -> onnx.ModelProto:
        """Return the same as an ONNX model."""
        return self._forms.onnx[self._number]


@dataclass(frozen=True)
class Prepared:
    """The members of an ensemble, or some of them, and the normalisation of their images."""

    members: Sequence[PreparedMember]
    normalization: Normalization

    def alone(self) -> "list[Prepared]":
        """Return each member by itself, with the forms that it has already."""
        return [Prepared([member], self.normalization) for member in self.members]

    def normalised(self, images: np.ndarray) -> np.ndarray:
        """Normalise raw images uint8 (N, H, W, C) for all members; return float32 (N, C, H, W).

        Raises:
            ValueError: the images have another dtype.
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

    def laid_out(self, images: np.ndarray) -> Tensor:
        """Return normalised images float32 (N, C, H, W) as a tensor in the memory format that the members take."""
        return torch.from_numpy(images).contiguous(memory_format=self.normalization.memory_format)


def prepare(ensemble: Ensemble) -> Prepared:
    """Prepare the members of an ensemble, which is not changed."""
    shape = ensemble.spec.input_shape
    networks = [copy.deepcopy(member.network).cpu().eval() for member in ensemble.members]
    forms = _Forms(networks, ensemble.spec)
    members = [
        PreparedMember(network, count_flops(network, shape), forms, number) for number, network in enumerate(networks)
    ]
    return Prepared(members, ensemble.normalization)


def prepare_base(model: nn.Module, like: Ensemble) -> Prepared:
    """Prepare a base model as an ensemble of one member with all classes."""
    classes = tuple(range(len(like.class_names)))
    return prepare(Ensemble([Member(classes, model)], like.class_names, like.spec, like.normalization))
