"""Read the same statistics with a backward pass, for the first-order Taylor criterion (Molchanov et al. 2017)."""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from sensai.activations.read_points import add_gates
from sensai.activations.reader import ActivationReader
from sensai.activations.statistics import SiteStatistics

# Most bytes that the maps kept for a backward pass may take.
_BYTES_AT_ONCE = 1 << 29


class TaylorReader(ActivationReader):
    """A reader that also sums, by class, the first-order change of each image's loss without a channel.

    The loss is the cross entropy at the image's own label. Several read points of one site are added.
    """

    # Zeros, magnitude and sensitivity.
    _quantities = 3

    def _instrument(self, zero_threshold: float) -> None:
        super()._instrument(zero_threshold)
        self._images_at_once = max(_BYTES_AT_ONCE // _bytes_of_maps(self._graph.graph), 1)
        add_gates(self._graph, self._points)

    @torch.enable_grad()
    def read(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add one batch, see `ActivationReader.read`; a large batch goes through the network in parts."""
        parts = zip(images.split(self._images_at_once), labels.split(self._images_at_once), strict=True)
        return torch.cat([self._read(*part) for part in parts])

    def _read(self, images: Tensor, labels: Tensor) -> Tensor:
        logits, sums, gates = self._graph(images)
        # Only the gates get gradients: the parameters belong to the caller.
        loss = F.cross_entropy(logits, labels, reduction="sum")
        # A site that the loss does not depend on gets zeros. A network that is kept whole has no gates.
        gradients = torch.autograd.grad(loss, gates, allow_unused=True, materialize_grads=True) if gates else ()
        sensitivities = [gradient.flatten(1).abs()[None] for gradient in gradients]
        self._add([torch.cat(pair) for pair in zip(sums, sensitivities, strict=True)], labels)
        return logits.detach()

    def _site_statistics(self, totals: np.ndarray, elements: np.ndarray) -> SiteStatistics:
        return replace(super()._site_statistics(totals, elements), sensitivity=totals[2].copy())


def _bytes_of_maps(graph: fx.Graph) -> int:
    """Return the bytes of all float32 results of one image."""
    values = [node.meta.get("val") for node in graph.nodes if node.op == "call_function"]
    return 4 * sum(math.prod(value.shape[1:]) for value in values if isinstance(value, Tensor))
