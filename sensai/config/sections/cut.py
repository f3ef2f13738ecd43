"""The parameters that decide the channels of each member: statistics, groups, plans."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sensai.config.bounds import (
    Channels,
    FilePath,
    Level,
    Multiple,
    OptionalGroups,
    OptionalShare,
    Overlap,
    Parts,
    Ratio,
    Share,
)
from sensai.config.conditions import ALWAYS, Above, Declares, Given, Is, Uses
from sensai.config.parameter_types import CriterionName, GroupMethod
from sensai.config.sections.data_and_base import RANKED, REPLICATED, Baseline
from sensai.config.usage import Among, Between, Usage
from sensai.grouping.methods import METHODS
from sensai.policy.criteria import CRITERIA

BACKWARD = Uses("criterion", CRITERIA, "sensitivity")
COUNTED = Uses("method", METHODS, "n_groups")
BY_SIMILARITY = Uses("method", METHODS, "similarity")
BY_FILE = Uses("method", METHODS, "groups_file")
# These groups depend on plans, and so on `ratio`.
BY_PLANS = Uses("method", METHODS, "costs") | (BY_SIMILARITY & Is("similarity", "coupling"))
# A single group cannot be joined with another.
JOINABLE = Declares("method", METHODS, "joinable") & ~(COUNTED & Is("n_groups", 1))
BY_TARGET = Given("target_flops")
BY_RATIO = Is("policy", "ratio") & ~BY_TARGET
BY_THRESHOLD = Is("policy", "threshold") & ~BY_TARGET


class Activations(Baseline):
    """Per-class statistics of every removable channel."""

    owner = "activations"

    zero_threshold: Level = Field(0.005, description="largest activation that counts as zero")
    criterion: Annotated[
        CriterionName,
        Usage(when=RANKED, enters={"activations": BACKWARD, "prune": RANKED}, search=Among(("apoz", "mean", "l1"))),
    ] = Field("apoz", description=f"criterion by which policy=ratio ranks channels; {CRITERIA.help}")
    shards: Annotated[Parts, Usage(operational=True)] = Field(
        1, description="parts of the pass; a killed pass goes on after its last finished part"
    )

    @property
    def needs_backward(self) -> bool:
        """Return True if the criterion needs a backward pass."""
        return bool(BACKWARD(self))


class Group(Activations):
    """The classes that share a member."""

    owner = "group"

    method: Annotated[
        GroupMethod,
        Usage(
            everyday=True,
            search=Among(("singletons", "min_flops", "most_similar", "least_similar", "random", "replicas")),
        ),
    ] = Field("singletons", description=METHODS.help)
    n_groups: Annotated[OptionalGroups, Usage(when=COUNTED, everyday=True, search=Between(2, 10))] = Field(
        None, description="number of groups; 1 is the control"
    )
    overlap: Annotated[Overlap, Usage(when=JOINABLE, later=True)] = Field(
        1, description="number of members that have each class; above 1 a member has the classes of several groups"
    )
    overlap_design: Annotated[Literal["ring", "balanced"], Usage(when=JOINABLE & Above("overlap", 1), later=True)] = (
        Field(
            "ring",
            description="ring: a member has neighbouring groups; balanced: any two groups share about equally many members",
        )
    )
    similarity: Annotated[Literal["coupling", "statistics", "confusion"], Usage(when=BY_SIMILARITY)] = Field(
        "coupling",
        description="similarity of two classes: coupling (channels that both plans remove), statistics (correlation of APoZ) "
        "or confusion (by the base model, on validation data)",
    )
    groups_file: Annotated[FilePath, Usage(when=BY_FILE, by_content=True)] = Field(
        "", description="JSON list of lists of class names or indices"
    )
    ratio: Annotated[
        Ratio,
        Usage(
            when=BY_RATIO | BY_PLANS,
            enters={"group": ALWAYS, "prune": BY_RATIO},
            search=Between(0.05, 0.95),
            everyday=True,
        ),
    ] = Field(0.5, description="share of all removable channels to remove, in [0, 1)")
    scope: Annotated[Literal["inner", "all"], Usage(enters={"group": ALWAYS, "prune": ALWAYS})] = Field(
        "inner", description="inner: channels inside blocks; all: the residual stream too"
    )

    @property
    def counted(self) -> bool:
        """Return True if the method makes `n_groups` groups."""
        return bool(COUNTED(self))

    @property
    def overlaps(self) -> bool:
        """Return True if classes are in several members of different classes."""
        return bool(JOINABLE(self)) and self.overlap > 1

    @property
    def by_similarity(self) -> bool:
        """Return True if the groups depend on the similarity of classes."""
        return bool(BY_SIMILARITY(self))

    @property
    def by_file(self) -> bool:
        """Return True if the groups come from `groups_file`."""
        return bool(BY_FILE(self))

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> Self:
        if self.counted and self.n_groups is None:
            raise ValueError(f"n_groups='': method={self.method} needs the number of groups")
        if self.by_file and not self.groups_file:
            raise ValueError(f"groups_file='': method={self.method} needs the file of the groups")
        return self


class Prune(Group):
    """The channels that each member loses."""

    owner = "prune"

    policy: Annotated[Literal["ratio", "threshold"], Usage(when=~BY_TARGET, search=Among(("ratio", "threshold")))] = (
        Field("ratio", description="ratio: remove a share of all channels; threshold: remove channels by thresholds")
    )
    target_flops: Annotated[OptionalShare, Usage(everyday=True)] = Field(
        None,
        description="most FLOPs of a member, as a share of the base model's, e.g. 0.055; replaces ratio, which then "
        "only forms groups",
    )
    target_of: Annotated[Literal["member", "ensemble"], Usage(when=BY_TARGET)] = Field(
        "member",
        description="member: each member meets the target by itself; ensemble: channels of all members are ranked "
        "together and removed until the largest member meets it",
    )
    ranking: Annotated[Literal["global", "layer"], Usage(when=RANKED, search=Among(("global", "layer")))] = Field(
        "global", description="global: rank all channels together; layer: rank site by site"
    )
    apoz_threshold: Annotated[Share, Usage(when=BY_THRESHOLD, search=Between(0.3, 0.95))] = Field(
        0.8,
        description="remove channels with a larger APoZ and a mean below mean_threshold; rises in steps of 0.05 where a site "
        "would keep fewer than min_channels",
    )
    mean_threshold: Annotated[Level, Usage(when=BY_THRESHOLD, search=Between(0.001, 1.0, log=True))] = Field(
        0.01, description="remove channels with a smaller mean activation and an APoZ above apoz_threshold"
    )
    plan_classes: Annotated[Literal["own", "all"], Usage(later=True)] = Field(
        "own", description="classes by whose images the channels of a member are judged: its own, or all"
    )
    replica_plans: Annotated[
        Literal["random", "halves", "criteria", "same"],
        Usage(when=REPLICATED & RANKED, later=True),
    ] = Field(
        "random",
        description="plans of replicas: random among channels of nearly the same rank; complementary halves of the channels; "
        "by different criteria; or the same",
    )
    min_channels: Channels = Field(
        1,
        description="fewest channels that a site keeps; 0: none where the network works without the site, as in residual "
        "blocks, else one",
    )
    round_to: Multiple = Field(1, description="round kept widths to multiples of this")

    @property
    def by_ratio(self) -> bool:
        """Return True if `ratio` decides how much is removed."""
        return bool(BY_RATIO(self))

    @model_validator(mode="after")
    def _target_goes_with_a_ranking(self) -> Self:
        if self.target_flops is not None and self.policy == "threshold":
            raise ValueError(f"target_flops={self.target_flops:g}: goes with policy=ratio, whose ratio it replaces")
        return self
