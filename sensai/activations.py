"""Per-class statistics of every site's channels, all in one forward pass.

The network is exported once; behind the activation of each site its graph gets a node that sums over pixels, so that the
pass returns the statistics beside the logits and no feature map is ever kept. N images, K classes, C channels of a site.

APoZ, the average percentage of zeros of a channel, is the measure of Hu et al. 2016 ("Network Trimming").
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, fx, nn

from sensai.files import whole_file
from sensai.sites import Site

ZERO_THRESHOLD = 0.005

_FIELDS = ("zeros", "magnitude", "elements")
# Metadata key of the sites' order, which safetensors does not keep.
_SITES = "sites"

_aten = torch.ops.aten
_ACTIVATIONS = {
    _aten.relu.default,
    _aten.relu_.default,
    _aten.hardtanh.default,
    _aten.hardtanh_.default,
    _aten.silu.default,
    _aten.silu_.default,
    _aten.hardswish.default,
    _aten.hardswish_.default,
}
# Operations between a site's layer and its activation that leave the channel what it is.
_PASSED_THROUGH = {_aten.batch_norm.default, _aten.add.Tensor, _aten.add_.Tensor}


@dataclass(frozen=True)
class SiteStatistics:
    """Sums over all images of each class.

    Attributes:
        zeros: int64 (K, C), how many activations a are zero: |a| <= the zero threshold.
        magnitude: float64 (K, C), sum of |a|.
        elements: int64 (K,), how many activations one channel has.
    """

    zeros: np.ndarray
    magnitude: np.ndarray
    elements: np.ndarray

    def apoz(self, classes: Sequence[int]) -> np.ndarray:
        """float64 (C,): the share of zeros over the images of some classes; NaN where these have no images."""
        return self._share(self.zeros, classes)

    def mean(self, classes: Sequence[int]) -> np.ndarray:
        """float64 (C,): the mean of |activation| over the images of some classes; NaN where these have no images."""
        return self._share(self.magnitude, classes)

    def _share(self, sums: np.ndarray, classes: Sequence[int]) -> np.ndarray:
        rows = list(classes)
        with np.errstate(invalid="ignore"):
            return sums[rows].sum(axis=0) / self.elements[rows].sum()

    def __add__(self, other: "SiteStatistics") -> "SiteStatistics":
        return SiteStatistics(
            self.zeros + other.zeros, self.magnitude + other.magnitude, self.elements + other.elements
        )


# Site name -> its statistics.
Statistics = dict[str, SiteStatistics]


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of two shards of the data together."""
    return {site: first[site] + second[site] for site in first}


def save_statistics(statistics: Statistics, path: Path) -> None:
    """Write statistics as safetensors, keys `<site>/<zeros|magnitude|elements>`."""
    tensors = {
        f"{site}/{field}": np.ascontiguousarray(getattr(values, field))
        for site, values in statistics.items()
        for field in _FIELDS
    }
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={_SITES: json.dumps(list(statistics))})


def load_statistics(path: Path) -> Statistics:
    """The inverse of `save_statistics`."""
    with safe_open(path, framework="np") as file:
        return {
            site: SiteStatistics(*(file.get_tensor(f"{site}/{field}") for field in _FIELDS))
            for site in json.loads(file.metadata()[_SITES])
        }


class ActivationReader:
    """A network whose forward pass also sums the activations of its sites by class."""

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        example: Tensor,
        num_classes: int,
        zero_threshold: float = ZERO_THRESHOLD,
    ) -> None:
        """Export the network and put the summing nodes in.

        Args:
            model: a network that `torch.export` takes; used in eval mode.
            sites: the sites to read.
            example: float32 (N >= 2, C, H, W) on the model's device.
            num_classes: K.
            zero_threshold: |activation| up to this counts as zero.
        """
        dynamic = ({0: torch.export.Dim.DYNAMIC},)
        exported = torch.export.export(model.eval(), (example,), dynamic_shapes=dynamic).module()
        if not isinstance(exported, fx.GraphModule):
            raise TypeError(f"torch.export gave a {type(exported).__name__}")
        self._points = _insert_sums(exported, sites, zero_threshold)
        self._graph = exported
        self._device = example.device
        self._totals = {
            site.name: (
                torch.zeros(num_classes, site.channels, dtype=torch.int64, device=self._device),
                torch.zeros(num_classes, site.channels, dtype=torch.float64, device=self._device),
                torch.zeros(num_classes, dtype=torch.int64, device=self._device),
            )
            for site in sites
        }

    @torch.no_grad()
    def read(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add one batch: images float32 (N, C, H, W), labels int64 (N,). Returns the logits (N, K)."""
        logits, sums = self._graph(images)
        for site, (zeros, magnitude, pixels) in zip(self._points, sums, strict=True):
            total_zeros, total_magnitude, total_elements = self._totals[site]
            total_zeros.index_add_(0, labels, zeros)
            total_magnitude.index_add_(0, labels, magnitude)
            total_elements.index_add_(0, labels, torch.full_like(labels, pixels))
        return logits

    def clear(self) -> None:
        """Forget what was read, as before a further shard."""
        for totals in self._totals.values():
            for total in totals:
                total.zero_()

    def statistics(self) -> Statistics:
        """What was read so far."""
        return {
            site: SiteStatistics(*(total.cpu().numpy().copy() for total in totals))
            for site, totals in self._totals.items()
        }


def channel_sums(activation: Tensor, zero_threshold: float) -> tuple[Tensor, Tensor, int]:
    """Zeros (N, C) int64, sum of |a| (N, C) float64, and pixels a channel, of an activation (N, C) or (N, C, H, W)."""
    magnitude = activation.abs() if activation.ndim > 2 else activation.abs().unsqueeze(2)
    pixels = tuple(range(2, magnitude.ndim))
    zeros = (magnitude <= zero_threshold).sum(pixels)
    return zeros, magnitude.sum(pixels).double(), magnitude[0, 0].numel()


def _insert_sums(graph_module: fx.GraphModule, sites: Sequence[Site], zero_threshold: float) -> list[str]:
    """Add a `channel_sums` node behind every activation that is read; returns the site of each, in output order."""
    graph = graph_module.graph
    by_layer: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_function" and (stack := node.meta.get("nn_module_stack")):
            path = next(reversed(stack.values()))[0]
            by_layer.setdefault(path, []).append(node)
    points, sums = [], []
    for site in sites:
        for activation in _activation_nodes(site, by_layer):
            with graph.inserting_after(activation):
                sums.append(graph.call_function(channel_sums, (activation, zero_threshold)))
            points.append(site.name)
    output = next(node for node in graph.nodes if node.op == "output")
    (logits,) = output.args[0]
    output.args = ((logits, sums),)
    # The export's own code generation packs and checks the outputs that it knew.
    graph.set_codegen(fx.graph.CodeGen())
    graph_module.recompile()
    return points


def _activation_nodes(site: Site, by_layer: dict[str, list[fx.Node]]) -> list[fx.Node]:
    """Where a site is read: behind each of its producers, each place once."""
    found: dict[fx.Node, None] = {}
    for layer in site.producers:
        for node in by_layer.get(layer, []):
            found[_follow(node)] = None
    return list(found)


def _follow(node: fx.Node) -> fx.Node:
    """The activation that a layer's output runs into; without one, its batch norm or the layer itself."""
    last = node
    while True:
        users = [user for user in node.users if user.op == "call_function"]
        activation = next((user for user in users if user.target in _ACTIVATIONS), None)
        if activation is not None:
            return activation
        step = next((user for user in users if user.target in _PASSED_THROUGH), None)
        if step is None:
            return last
        if step.target is _aten.batch_norm.default:
            last = step
        node = step
