"""The removable channels of a network (`site_map`), and exact sizes of networks without some of them (`sizes`)."""

from sensai.sites.exporting import graph_of
from sensai.sites.site_map import Cut, Plan, Scope, Site, SiteMap, find_sites
from sensai.sites.sizes import SizePrediction, count_flops, count_params
from sensai.sites.tracing import Side

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
    "find_sites",
    "graph_of",
]
