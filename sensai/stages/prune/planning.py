"""The channels of the base model that the parameters of a stage let members lose."""

from typing import Any

import numpy as np

from sensai.config import PruneConfig, RetrainConfig
from sensai.errors import InputError
from sensai.pipeline.configured import cut_config
from sensai.pipeline.context import Context
from sensai.policy.member_plans import MemberPlan, Removable
from sensai.stages.group.group_execution import within_scope


def removable(config: PruneConfig | RetrainConfig, context: Context) -> Removable:
    """Return the removable channels of the base model, with the criterion that the parameters name.

    Raises:
        InputError: nothing is within the scope; or `taylor` with a `from_run` whose statistics have no backward pass.
    """
    sites, statistics = within_scope(config.scope, context)
    ranks = "criterion" not in config.ignored()
    if ranks and config.needs_backward and any(each.sensitivity is None for each in statistics.values()):
        raise InputError(
            f"criterion={config.criterion!r}: the run of from_run stands on statistics without a backward pass; "
            f"it must be of a run of group that was made with criterion={config.criterion}"
        )
    return Removable.of(context.base_model.network, sites, statistics, cut_config(config))


def plans_of(content: dict[str, Any]) -> list[MemberPlan]:
    """Return the plans in the JSON that `prune` logs.

    Raises:
        ValueError: a channel is not an integer.
    """
    return [
        MemberPlan(tuple(member["classes"]), {site: _indices(removed) for site, removed in member["removed"].items()})
        for member in content["members"]
    ]


def _indices(removed: list[int]) -> np.ndarray:
    indices = np.array(removed, np.int64)
    # NumPy cuts fractions off.
    if indices.tolist() != removed:
        raise ValueError("channels must be a list of integers")
    return indices
