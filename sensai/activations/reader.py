"""Read statistics of every site's channels by class, all in one forward pass.

The network is exported once. Its graph gets a node behind the activation of each site that sums over pixels. So the pass
returns the statistics beside the logits and keeps no feature map. N images, K classes, C channels of a site.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from sensai.activations.read_points import ReadPoint, add_sums, exported_graph, read_points
from sensai.activations.statistics import SiteStatistics, Statistics
from sensai.sites import Site

ZERO_THRESHOLD = 0.005


class ActivationReader:
    """A network whose forward pass also sums the activations of its sites by class."""

    # Zeros and magnitude.
    _quantities = 2

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        example: Tensor,
        num_classes: int,
        zero_threshold: float = ZERO_THRESHOLD,
    ) -> None:
        """Export the network and insert the summing nodes.

        Args:
            model: a network that `torch.export` takes; used in eval mode.
            sites: the sites to read.
            example: float32 (N >= 2, C, H, W) on the model's device.
            num_classes: K.
            zero_threshold: |activation| up to this counts as zero.
        """
        self._graph = exported_graph(model, example)
        self._points = read_points(model, self._graph.graph, sites)
        self._instrument(zero_threshold)
        ends = list(accumulate((site.channels for site in sites), initial=0))
        self._columns = {site.name: slice(*ends[number : number + 2]) for number, site in enumerate(sites)}
        # The sites stand side by side, so that a batch is added at once for any number of sites and classes.
        self._totals = torch.zeros(self._quantities, num_classes, ends[-1], dtype=torch.float64, device=example.device)
        self._positions = [
            {site: _positions(index, point).to(example.device) for site, index in point.reads.items()}
            for point in self._points
        ]
        self._images = torch.zeros(num_classes, dtype=torch.int64, device=example.device)

    def _instrument(self, zero_threshold: float) -> None:
        """Make the exported network return the sums."""
        add_sums(self._graph, self._points, zero_threshold)

    @torch.no_grad()
    def read(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add one batch: images float32 (N, C, H, W), labels int64 (N,). Return the logits (N, K)."""
        logits, sums = self._graph(images)
        self._add(sums, labels)
        return logits

    def _add(self, sums: Sequence[Tensor], labels: Tensor) -> None:
        """Add the quantities of one batch: for every point float64 (quantities, N, C)."""
        quantities, _, channels = self._totals.shape
        batch = self._totals.new_zeros(quantities, len(labels), channels)
        for reads, values in zip(self._positions, sums, strict=True):
            for site, positions in reads.items():
                batch[..., self._columns[site]] += values[..., positions].sum(-1) if len(positions) else values
        self._totals.index_add_(1, labels, batch)
        self._images += torch.bincount(labels, minlength=len(self._images))

    def clear(self) -> None:
        """Forget what was read, for example before another shard."""
        self._totals.zero_()
        self._images.zero_()

    def statistics(self) -> Statistics:
        """Return the statistics of everything read so far."""
        totals, images = self._totals.cpu().numpy(), self._images.cpu().numpy()
        return {
            site: self._site_statistics(totals[..., columns], images * self._pixels(site))
            for site, columns in self._columns.items()
        }

    def _pixels(self, site: str) -> int:
        return sum(point.pixels * point.reads[site].shape[1] for point in self._points if site in point.reads)

    def _site_statistics(self, totals: np.ndarray, elements: np.ndarray) -> SiteStatistics:
        """Return statistics from totals float64 (quantities, K, C) and elements int64 (K,)."""
        zeros, magnitude, *_ = totals
        return SiteStatistics(zeros.astype(np.int64), magnitude.copy(), elements)


def _positions(index: np.ndarray, point: ReadPoint) -> Tensor:
    """Return int64 (C, r), or an empty tensor where a site's channels are all that are read, in their order.

    This is so for most sites, and saves the lookup.
    """
    every = np.arange(point.node.meta["val"].shape[point.axis])[:, None]
    return torch.from_numpy(index[:0] if np.array_equal(index, every) else index)
