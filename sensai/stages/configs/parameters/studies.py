"""The parameters of what is measured beside the pipeline: whether grouping matters, and trainings at once."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sensai.stages.configs.parameters.pipeline import Evaluate, Prune
from sensai.stages.values import (
    BatchSize,
    Count,
    CountOrZero,
    Counts,
    Methods,
    OptionalCount,
    Positive,
    Ratios,
    RuntimeName,
)


class GroupingStudy(Evaluate):
    """Whether it matters how classes are grouped."""

    methods: Methods = Field(
        "random,most_similar,least_similar,min_flops",
        description="methods of group that are compared, separated by commas",
    )
    group_counts: Counts = Field("2,5", description="numbers of groups, separated by commas")
    ratios: Ratios = Field("0.5", description="ratios, separated by commas")
    repeats: Count = Field(5, description="cells of each combination; their seeds count up from seed")
    control: bool = Field(
        True, description="with epochs: also one K-way network with the FLOPs of the largest member of each combination"
    )
    runtime: RuntimeName = Field(
        "torch", description="what latencies of cells are measured in; others take longer than to train a small member"
    )
    relevant_accuracy: Positive = Field(0.005, description="difference in accuracy that would matter, as a fraction")
    relevant_flops: Positive = Field(
        0.005, description="difference in FLOPs of the largest member that would matter, as a share of the base model's"
    )
    source: Literal["computed", "logged"] = Field(
        "computed",
        description="computed: what is not logged yet is computed; logged: cells of the store alone, of any seed",
    )

    @model_validator(mode="after")
    def _lists_in_place_of_single_values(self) -> Self:
        for single, several in (("method", "methods"), ("n_groups", "group_counts"), ("ratio", "ratios")):
            if (value := getattr(self, single)) != GroupingStudy.model_fields[single].default:
                raise ValueError(f"{single}={value!r}: grouping_study takes several, as {several}")
        return self


class Contention(Prune):
    """What many trainings, and many scorings, do to each other on this machine."""

    trainings: Counts = Field("1,2,4,8", description="how many at once, separated by commas")
    contention_images: BatchSize = Field(1024, description="training images that each of them sees")
    workers: CountOrZero = Field(2, description="of the loader of each naive process; 0 decodes in the process itself")
    batch_size: BatchSize = Field(64, description="images a step")
    jobs: OptionalCount = Field(None, description="slots of the engine (default: one a core, or one on a GPU)")
    threads: OptionalCount = Field(None, description="threads of each slot (default: the cores dealt out)")
