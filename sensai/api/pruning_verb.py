"""prune: Cut a small member out of a network for each group of classes."""

from collections.abc import Sequence

from torch import nn

from sensai.api.groupings import REPLICAS, Groups, groups_of
from sensai.api.live_ensemble import Ensemble
from sensai.api.parameters import checked
from sensai.api.scores import ChannelStatistics
from sensai.api.user_images import BATCH, UserImages, split_of
from sensai.config import PruneConfig
from sensai.data.batches import batches
from sensai.ensemble.building import build_ensemble, fit_none_biases
from sensai.errors import InputError
from sensai.evaluation import size
from sensai.pipeline.configured import cut_config
from sensai.policy.member_plans import Removable, make_plans
from sensai.pruning import proven
from sensai.sites import SizePrediction

# More would not make the proof stronger.
_PROOF_IMAGES = 2


def prune(
    model: nn.Module,
    statistics: ChannelStatistics,
    groups: Groups | Sequence[Sequence[int | str]] | None = None,
    *,
    ratio: float = 0.5,
    target_flops: float | None = None,
    target_of: str = "member",
    criterion: str = "apoz",
    ranking: str = "global",
    policy: str = "ratio",
    apoz_threshold: float = 0.8,
    mean_threshold: float = 0.01,
    plan_classes: str = "own",
    replica_plans: str = "random",
    min_channels: int = 1,
    round_to: int = 1,
    scope: str = "inner",
    seed: int = 0,
    val: UserImages = None,
) -> Ensemble:
    """Return an ensemble with a member for each group, cut and not yet trained. It is proven that the cuts are exact.

    Args:
        model: that was scored; it is not changed.
        statistics: of `score`.
        groups: of `group`, or lists of class names or indices; None: a member for every class.
        ratio: share of all removable channels that a member loses, in [0, 1).
        target_flops: most FLOPs of a member, as a share of the model's; replaces `ratio`.
        target_of: `member`: each member meets the target by itself; `ensemble`: the channels of all are ranked together.
        criterion: by which channels are ranked; `taylor` needs statistics with a backward pass.
        ranking: `global` or `layer`.
        policy: `ratio` or `threshold`.
        apoz_threshold: of the policy `threshold`: channels with a larger share of zeros go.
        mean_threshold: likewise: channels with a smaller mean activation.
        plan_classes: `own`: a member's channels are judged on images of its classes; `all`: of all.
        replica_plans: how members of the same classes differ: `random`, `halves`, `criteria` or `same`.
        min_channels: fewest channels that a site keeps.
        round_to: kept widths are multiples of this.
        scope: `inner`: channels inside blocks; `all`: the residual stream too.
        seed: of what is sampled.
        val: images on which the rows for "none of mine" of groups are fitted; None: those that were scored.

    Raises:
        InputError: a parameter is not allowed, the model is another than was scored, or the target cannot be reached.
    """
    statistics.check_model(model)
    formed = groups_of(groups, statistics.class_names)
    values: dict[str, object] = {"ratio": ratio, "target_flops": target_flops, "target_of": target_of, "policy": policy}
    values |= {"criterion": criterion, "ranking": ranking, "scope": scope, "seed": seed, "plan_classes": plan_classes}
    values |= {"apoz_threshold": apoz_threshold, "mean_threshold": mean_threshold, "replica_plans": replica_plans}
    values |= {"min_channels": min_channels, "round_to": round_to}
    if formed.method == REPLICAS:
        values |= {"method": REPLICAS, "n_groups": len(formed)}
    config = checked(PruneConfig, values)
    sites, sums = statistics.within(config.scope)
    backward = all(each.sensitivity is not None for each in sums.values())
    if config.needs_backward and "criterion" not in config.ignored() and not backward:
        raise InputError(
            f"criterion={criterion!r}: the statistics have no backward pass; score with criterion={criterion!r}"
        )
    base, spec, names = statistics.base.network, statistics.base.spec, statistics.class_names
    cut = cut_config(config)
    prediction = SizePrediction(base, sites, spec.input_shape)
    plans = make_plans(cut, Removable.of(base, sites, sums, cut), formed.groups, prediction, len(names))
    pairs = [(each.classes, each.plan) for each in plans]
    fitted_on = statistics.images if val is None else split_of(val, "val", len(names), spec.input_shape)
    first, _ = next(batches(fitted_on, _PROOF_IMAGES, statistics.normalization, statistics.base.device))
    proven(base, sites, pairs, first[:_PROOF_IMAGES])
    built = build_ensemble(base, spec, sites, pairs, names, statistics.normalization)
    ensemble = Ensemble(
        built.members,
        names,
        spec,
        statistics.normalization,
        base_size=size(base, spec.input_shape),
        is_raw_known=statistics.is_raw_known,
    )
    ensemble.to(statistics.base.device).eval()
    fit_none_biases(ensemble, sites.head, batches(fitted_on, BATCH, statistics.normalization, statistics.base.device))
    return ensemble
