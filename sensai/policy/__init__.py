"""Statistics to plans: how dispensable channels are (`criteria`), which of them a member goes without (`plans`), and how many
of each site that will be (`counts`).
"""

from sensai.policy.counts import RatioCounts
from sensai.policy.criteria import Criterion, apoz, filter_norms, mean, norms_of_filters, random_order, taylor
from sensai.policy.plans import Ranking, WidthRule, flops_plans, nested_plans, ratio_plan, threshold_plan

__all__ = [
    "Criterion",
    "Ranking",
    "RatioCounts",
    "WidthRule",
    "apoz",
    "filter_norms",
    "flops_plans",
    "mean",
    "nested_plans",
    "norms_of_filters",
    "random_order",
    "ratio_plan",
    "taylor",
    "threshold_plan",
]
