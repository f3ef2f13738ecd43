"""The removable channels of a network (`graph`), and what removing some of them leaves of its size (`sizes`)."""

from sensai.sites.graph import Cut, Plan, Scope, Side, Site, SiteMap, find_head, find_sites
from sensai.sites.sizes import SizePrediction, count_flops, count_params

__all__ = [
    "Cut",
    "Plan",
    "Scope",
    "Side",
    "Site",
    "SiteMap",
    "SizePrediction",
    "count_flops",
    "count_params",
    "find_head",
    "find_sites",
]
