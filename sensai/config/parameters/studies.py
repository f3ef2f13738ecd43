"""The parameters of what is done with many pipelines: the search for the best, whether grouping matters, trainings at once."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sensai.config.bounds import (
    BatchSize,
    FilePath,
    Images,
    OptionalCost,
    OptionalProcesses,
    OptionalShare,
    OptionalThreads,
    PositiveShare,
    ProcessesOrNone,
    Reduction,
    Repeats,
    Seconds,
    Share,
    StudyName,
    Text,
    Trials,
)
from sensai.config.parameter_types import (
    Fidelities,
    GroupCounts,
    Methods,
    ProcessCounts,
    Ratios,
    RuntimeName,
    parse_fidelities,
)
from sensai.config.parameters.pipeline import Evaluate, Prune, Register


class Tune(Register):
    """The search for the ensembles of the best accuracy and cost."""

    trials: Trials = Field(
        40, description="configurations that the study asks for in all; 0 learns from what was logged, and recommends"
    )
    objective: Literal["flops_max", "flops_total", "latency"] = Field(
        "flops_max",
        description="the cost, as a share of the base model's: FLOPs of the largest member, or of all; measured time of the "
        "slowest member, on a thread of its own",
    )
    mode: Literal["front", "constrained"] = Field(
        "front",
        description="front: all trade-offs of accuracy and cost; constrained: the best within limit or min_val_accuracy",
    )
    limit: OptionalCost = Field(None, description="mode=constrained: most cost; the accuracy is sought")
    min_val_accuracy: OptionalShare = Field(None, description="mode=constrained: least accuracy; the cost is sought")
    space: FilePath = Field("", description="JSON or YAML file: parameter -> what it may be (default: see README)")
    fidelities: Fidelities = Field(
        "",
        description="epochs, e.g. 0,2,8: new configurations get the first, the best 1/eta of each the next (default: epochs)",
    )
    eta: Reduction = Field(3, description="one in so many gets more epochs")
    warm_start: Literal["all", "study", "none"] = Field(
        "all", description="logged runs that the study learns from first: all of this base model and data, or its own"
    )
    study: StudyName = Field(
        "", description="its name (default: by data, base model, space, objective and other parameters)"
    )
    storage: Text = Field(
        "",
        description="URL of the study's database (default: a SQLite file beside the tracking store's, or in work_dir)",
    )
    heartbeat: Seconds = Field(
        10, description="seconds between signs of life; after three without one a trial is tried again"
    )
    max_accuracy_drop: Share = Field(
        0.005,
        description="what the recommended ensemble may lose on validation data, as a fraction; the cheapest is taken",
    )
    register_best: bool = Field(False, description="also evaluate and register the recommended ensemble")

    @property
    def rungs(self) -> list[int]:
        """The epochs that configurations are tried with."""
        return parse_fidelities(self.fidelities) or [self.epochs]

    @model_validator(mode="after")
    def _one_bound_where_there_is_one(self) -> Self:
        bounds = [name for name in ("limit", "min_val_accuracy") if getattr(self, name) is not None]
        if self.mode == "constrained" and len(bounds) != 1:
            raise ValueError(
                f"mode='constrained': takes either limit or min_val_accuracy, not {' and '.join(bounds) or 'neither'}"
            )
        if self.mode == "front" and bounds:
            raise ValueError(f"{bounds[0]}={getattr(self, bounds[0])}: goes with mode=constrained")
        return self


class GroupingStudy(Evaluate):
    """Whether it matters how classes are grouped."""

    methods: Methods = Field(
        "random,most_similar,least_similar,min_flops",
        description="methods of group that are compared, separated by commas",
    )
    group_counts: GroupCounts = Field("2,5", description="numbers of groups, separated by commas")
    ratios: Ratios = Field("0.5", description="ratios, separated by commas")
    repeats: Repeats = Field(5, description="cells of each combination; their seeds count up from seed")
    control: bool = Field(
        True, description="with epochs: also one K-way network with the FLOPs of the largest member of each combination"
    )
    runtime: RuntimeName = Field(
        "torch", description="what latencies of cells are measured in; others take longer than to train a small member"
    )
    relevant_accuracy: PositiveShare = Field(
        0.005, description="difference in accuracy that would matter, as a fraction"
    )
    relevant_flops: PositiveShare = Field(
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

    trainings: ProcessCounts = Field("1,2,4,8", description="how many at once, separated by commas")
    contention_images: Images = Field(1024, description="training images that each of them sees")
    workers: ProcessesOrNone = Field(
        2, description="of the loader of each naive process; 0 decodes in the process itself"
    )
    batch_size: BatchSize = Field(64, description="images a step")
    jobs: OptionalProcesses = Field(None, description="workers of the engine (default: one a core, or one on a GPU)")
    threads: OptionalThreads = Field(None, description="threads of each worker (default: the cores dealt out)")
