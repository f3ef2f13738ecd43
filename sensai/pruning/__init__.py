"""From plans to smaller networks, with the proof that pruning computes the same as masking."""

from sensai.pruning.cutting import check_plan, prune, prune_further
from sensai.pruning.masking import masked
from sensai.pruning.member_networks import head_rows, member_network
from sensai.pruning.proof import TOLERANCE, features, provable, proven, pruning_error

__all__ = [
    "TOLERANCE",
    "check_plan",
    "features",
    "head_rows",
    "masked",
    "member_network",
    "provable",
    "proven",
    "prune",
    "prune_further",
    "pruning_error",
]
