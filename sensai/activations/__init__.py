"""Statistics of every site's channels by class, read in one pass.

`statistics` defines them. `reader` and `taylor` read them at the nodes of the exported network that `read_points` finds.
"""

from sensai.activations.read_points import channel_sums
from sensai.activations.reader import ZERO_THRESHOLD, ActivationReader
from sensai.activations.statistics import SiteStatistics, Statistics, load_statistics, save_statistics
from sensai.activations.taylor import TaylorReader

__all__ = [
    "ZERO_THRESHOLD",
    "ActivationReader",
    "SiteStatistics",
    "Statistics",
    "TaylorReader",
    "channel_sums",
    "load_statistics",
    "save_statistics",
]
