"""Per-class statistics of every site's channels, all in one pass: what they are (`statistics`), and who reads them (`reader`,
`taylor`) at which nodes of the exported network (`graph`).
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
