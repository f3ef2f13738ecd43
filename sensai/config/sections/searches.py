"""The parameters of studies over many pipelines: tune, grouping_study and contention."""

from typing import Annotated, Literal, Self

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
    TASKS,
    Fidelities,
    GroupCounts,
    Methods,
    ProcessCounts,
    Ratios,
    RuntimeName,
    Tasks,
)
from sensai.config.sections.cut import Prune
from sensai.config.sections.data_and_base import RETRAINED
from sensai.config.sections.trained import Evaluate, Register
from sensai.config.usage import Usage


class Tune(Register):
    """The search for the ensembles of the best accuracy and cost."""

    owner = "tune"

    trials: Trials = Field(
        40, description="total number of configurations of the study; 0: only recommend, from logged runs"
    )
    objective: Literal["flops_max", "flops_total", "latency"] = Field(
        "flops_max",
        description="cost to reduce, as a share of the base model's: FLOPs of the largest member, FLOPs of all members, or "
        "the measured latency of the slowest member on its own thread",
    )
    mode: Literal["front", "constrained"] = Field(
        "front",
        description="front: the best trade-offs of accuracy and cost; constrained: the best within limit or min_val_accuracy",
    )
    limit: OptionalCost = Field(None, description="mode=constrained: largest cost allowed; accuracy is maximised")
    min_val_accuracy: OptionalShare = Field(
        None, description="mode=constrained: least calibrated validation accuracy allowed; cost is minimised"
    )
    space: Annotated[FilePath, Usage(by_content=True)] = Field(
        "",
        description="JSON or YAML file with the search space: parameter -> allowed values "
        "(default: see docs/tutorials/tuning.md)",
    )
    fidelities: Fidelities = Field(
        (),
        description="increasing epochs, e.g. 0,2,8: the best 1/eta of each step get the next (default: epochs)",
    )
    eta: Reduction = Field(3, description="of each step of fidelities, the best 1/eta get more epochs")
    warm_start: Literal["all", "study", "none"] = Field(
        "all", description="logged runs to learn from: all with this base model and data, the study's own, or none"
    )
    study: StudyName = Field(
        "", description="name of the study (default: made from data, base model, space, objective and other parameters)"
    )
    storage: Annotated[Text, Usage(operational=True)] = Field(
        "",
        description="URL of the study's database (default: a SQLite file beside the tracking store's, or in work_dir)",
    )
    heartbeat: Annotated[Seconds, Usage(operational=True)] = Field(
        10, description="seconds between signs of life of a trial; after three missing ones it is tried again"
    )
    max_accuracy_drop: Share = Field(
        0.005,
        description="largest loss of calibrated validation accuracy of the recommended ensemble against the base model, as a "
        "fraction; the cheapest is taken",
    )
    register_best: bool = Field(False, description="also evaluate and register the recommended ensemble")

    @property
    def rungs(self) -> tuple[int, ...]:
        """Return the numbers of epochs that configurations get."""
        return self.fidelities or (self.epochs,)

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
    """The test whether it matters how classes are grouped."""

    owner = "grouping_study"

    methods: Methods = Field(
        ("random", "most_similar", "least_similar", "min_flops"),
        description="grouping methods to compare, separated by commas",
    )
    group_counts: GroupCounts = Field((2, 5), description="numbers of groups, separated by commas")
    ratios: Ratios = Field((0.5,), description="ratios, separated by commas")
    repeats: Repeats = Field(5, description="cells per combination; their seeds count up from seed")
    control: Annotated[bool, Usage(when=RETRAINED)] = Field(
        True,
        description="with epochs: also train, per combination, one K-way network with the FLOPs of its largest member",
    )
    runtime: RuntimeName = Field(
        "torch",
        description="runtime that is timed; others than torch can take longer than the training of a small member",
    )
    relevant_accuracy: PositiveShare = Field(
        0.005, description="smallest difference in accuracy that matters, as a fraction"
    )
    relevant_flops: PositiveShare = Field(
        0.005,
        description="smallest difference in FLOPs of the largest member that matters, as a share of the base model's",
    )
    source: Literal["computed", "logged"] = Field(
        "computed",
        description="computed: compute the cells that are not logged yet; logged: use only logged cells, of any seed",
    )

    @model_validator(mode="after")
    def _lists_in_place_of_single_values(self) -> Self:
        for single, several in (("method", "methods"), ("n_groups", "group_counts"), ("ratio", "ratios")):
            if (value := getattr(self, single)) != GroupingStudy.model_fields[single].default:
                raise ValueError(f"{single}={value!r}: grouping_study takes several, as {several}")
        return self


class Contention(Prune):
    """The slowdown of many trainings, and of many scorings, at once on this machine."""

    owner = "contention"

    trainings: ProcessCounts = Field((1, 2, 4, 8), description="numbers of trainings at once, separated by commas")
    tasks: Annotated[Tasks, Usage(later=True)] = Field(TASKS, description="what is measured, separated by commas")
    repeats: Annotated[Repeats, Usage(later=True)] = Field(
        1, description="times that each setting is measured, each time in another order; intervals need 2 or more"
    )
    contention_images: Images = Field(1024, description="training images that each training sees")
    workers: ProcessesOrNone = Field(
        2, description="loader workers of each naive process; 0: decode in the process itself"
    )
    batch_size: BatchSize = Field(64, description="images per step")
    # Elsewhere these change no result; here they are measured.
    jobs: OptionalProcesses = Field(None, description="workers of the engine (default: one per core, or one on a GPU)")
    threads: OptionalThreads = Field(
        None, description="threads of each worker (default: the cores divided by the workers)"
    )
