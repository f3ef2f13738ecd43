"""The types of parameters: what each value may be. Imports neither torch nor MLflow."""

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from sensai.data.names import DATASETS
from sensai.errors import suggestion
from sensai.grouping.methods import METHODS
from sensai.models.names import ARCHITECTURES, ELSEWHERE, TORCHVISION
from sensai.parts import Family
from sensai.plugins import REFERENCE
from sensai.policy.criteria import CRITERIA

CombineMethod = Literal["raw", "temperature", "vector", "logistic"]

_OWN = "path/to/file.py:factory or package.module:factory"
_BUDGET = re.compile(r"[1-9]\d*epochs|(?=.*[1-9])\d+(\.\d+)?s")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _known_or_own(allowed: Collection[str], what: str, value: str, others: Mapping[str, str] | None = None) -> str:
    if value in allowed or REFERENCE.fullmatch(value):
        return value
    raise ValueError(f"is no {what}; {suggestion(value, allowed, others)}")


def _in(family: Family) -> AfterValidator:
    """Return the validator of a part's name."""

    def check(name: str) -> str:
        if name not in family:
            raise ValueError(f"is no {family.kind}; {suggestion(name, family.names)}")
        return name

    return AfterValidator(check)


def _dataset(value: str) -> str:
    return _known_or_own(DATASETS, f"data set (or {_OWN})", value)


def _arch(value: str) -> str:
    return _known_or_own(ARCHITECTURES, f"architecture (or {TORCHVISION}<name>, {_OWN})", value, ELSEWHERE)


def _renames(value: str) -> str:
    if value and not all(pair.count("=") == 1 and pair.split("=")[0].strip(" .") for pair in value.split(",")):
        raise ValueError("must be pairs old=new of key parts, separated by commas, e.g. downsample=shortcut,fc=linear")
    return value


def parse_renames(value: str) -> tuple[tuple[str, str], ...]:
    """The pairs (old, new) of `rename`; dots at the ends of a part mean nothing."""
    pairs = (pair.split("=") for pair in value.split(",")) if value else ()
    return tuple((old.strip(" ."), new.strip(" .")) for old, new in pairs)


def _patterns(value: str) -> str:
    if value and not all(part.strip() for part in value.split(",")):
        raise ValueError("must be patterns of keys, separated by commas, e.g. total_ops,*.total_ops")
    return value


def parse_patterns(value: str) -> tuple[str, ...]:
    """The patterns of `drop`, as they come."""
    return tuple(part.strip() for part in value.split(",")) if value else ()


def _channel_values(value: str) -> str:
    try:
        numbers = [float(part) for part in value.split(",")] if value else []
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("must be one number a channel, separated by commas, e.g. 0.49,0.48,0.45")
    return value


def _positive_channel_values(value: str) -> str:
    if any(number <= 0 for number in parse_channel_values(_channel_values(value)) or ()):
        raise ValueError("must be above 0 in every channel")
    return value


def parse_channel_values(value: str) -> tuple[float, ...] | None:
    """The numbers of `mean` or `std`, None where the parameter is empty."""
    return tuple(float(part) for part in value.split(",")) if value else None


def _counts(value: str) -> str:
    if not all(part.strip().isdecimal() and int(part) for part in value.split(",")):
        raise ValueError("must be whole numbers above 0, separated by commas, e.g. 1,2,4,8")
    return value


def parse_counts(value: str) -> list[int]:
    """The numbers of a list of counts, each once, in ascending order."""
    return sorted({int(part) for part in value.split(",")})


def _fidelities(value: str) -> str:
    parts = value.split(",") if value else []
    rungs = [int(part) if part.strip().isdecimal() else -1 for part in parts]
    if rungs and (min(rungs) < 0 or rungs != sorted(set(rungs))):
        raise ValueError("must be epochs in ascending order, separated by commas, e.g. 0,2,8")
    return value


def parse_fidelities(value: str) -> list[int]:
    """The epochs of `fidelities`; none where it is empty."""
    return [int(part) for part in value.split(",")] if value else []


def _ratios(value: str) -> str:
    try:
        ratios = parse_ratios(value)
    except ValueError:
        ratios = [math.nan]
    if not all(0 <= ratio < 1 for ratio in ratios):
        raise ValueError("must be shares in [0, 1), separated by commas, e.g. 0.3,0.5")
    return value


def parse_ratios(value: str) -> list[float]:
    """The numbers of `ratios`, each once, in ascending order."""
    return sorted({float(part) for part in value.split(",")})


def _methods(value: str) -> str:
    counted = [name for name in METHODS if "n_groups" in METHODS[name].uses]
    for method in parse_methods(value):
        if method not in counted:
            raise ValueError(f"{method!r} is no method that makes a number of groups; {suggestion(method, counted)}")
    return value


def parse_methods(value: str) -> list[str]:
    """The names of `methods`, each once, as they come."""
    return list(dict.fromkeys(part.strip() for part in value.split(",")))


def _run_ids(value: str) -> str:
    if value and len(parse_run_ids(value)) < 2:
        raise ValueError("must be the ids of two or more runs, separated by commas")
    return value


def parse_run_ids(value: str) -> list[str]:
    """The ids of a list of runs, each once, as they come; none where it is empty."""
    return list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _json_object(value: str) -> str:
    try:
        parsed = json.loads(value) if value else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"must be a JSON object ({error})") from error
    if not isinstance(parsed, dict):
        raise ValueError('must be a JSON object, e.g. {"block": "basic"}')
    return value


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise ValueError("must be auto, cpu, cuda or cuda:<n>")
    return value


def _budget(value: str) -> str:
    if value and not _BUDGET.fullmatch(value):
        raise ValueError("must be a number of epochs or seconds above 0, e.g. 90epochs or 600s")
    return value


def parse_budget(value: str) -> tuple[int | None, float | None]:
    """The epochs and the seconds that `budget` names; one of them at most."""
    if not value:
        return None, None
    return (int(value.removesuffix("epochs")), None) if value.endswith("epochs") else (None, float(value[:-1]))


def _resources(value: str) -> str:
    try:
        amounts = parse_resources(value)
    except ValueError:
        amounts = {"": math.nan}
    if "" in amounts or not all(math.isfinite(amount) and amount > 0 for amount in amounts.values()):
        raise ValueError("must be pairs name=amount, separated by commas, e.g. near_camera=1")
    if taken := amounts.keys() & {"CPU", "GPU", "memory"}:
        raise ValueError(f"must be resources that machines announce themselves, not {min(taken)} (see `threads`)")
    return value


def parse_resources(value: str) -> dict[str, float]:
    """The amounts of `resources` by name."""
    pairs = (pair.partition("=") for pair in value.split(",")) if value else ()
    return {name.strip(): float(amount) for name, _, amount in pairs}


GroupMethod = Annotated[str, _in(METHODS)]
CriterionName = Annotated[str, _in(CRITERIA)]
DatasetName = Annotated[str, AfterValidator(_dataset)]
ArchName = Annotated[str, AfterValidator(_arch)]
Renames = Annotated[str, AfterValidator(_renames)]
Patterns = Annotated[str, AfterValidator(_patterns)]
DeviceName = Annotated[str, AfterValidator(_device)]
Budgeted = Annotated[str, AfterValidator(_budget)]
JsonObject = Annotated[str, AfterValidator(_json_object)]
ChannelValues = Annotated[str, AfterValidator(_channel_values)]
PositiveChannelValues = Annotated[str, AfterValidator(_positive_channel_values)]
Counts = Annotated[str, AfterValidator(_counts)]
Fidelities = Annotated[str, AfterValidator(_fidelities)]
Ratios = Annotated[str, AfterValidator(_ratios)]
Methods = Annotated[str, AfterValidator(_methods)]
RunIds = Annotated[str, AfterValidator(_run_ids)]
Resources = Annotated[str, AfterValidator(_resources)]
ModelName = Annotated[str, Field(min_length=1, pattern=r"""^[^/:.'"]+$""")]
Augment = Literal["auto", "none", "crop", "crop_flip"]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, lt=2**16)]
BatchSize = Annotated[int, Field(ge=2)]
Reduction = Annotated[int, Field(ge=2)]
CountOrZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
OptionalCount = Annotated[Count | None, BeforeValidator(_none_if_empty)]
OptionalShare = Annotated[
    Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None, BeforeValidator(_none_if_empty)
]
OptionalPositive = Annotated[Positive | None, BeforeValidator(_none_if_empty)]
InnerShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
OptionalInnerShare = Annotated[InnerShare | None, BeforeValidator(_none_if_empty)]
OptionalCombineMethod = Annotated[CombineMethod | None, BeforeValidator(_none_if_empty)]
RuntimeName = Literal[
    "auto", "torch", "torch-compiled", "onnx-graph", "onnx-branches", "onnx-sessions", "cuda-streams", "cuda-graph"
]
