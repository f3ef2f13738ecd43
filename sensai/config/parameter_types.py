"""The types of parameters that are names, lists or pairs, and what they are read as. Imports neither torch nor MLflow."""

import math
import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from sensai.config.bounds import (
    MOST_EPOCHS,
    MOST_GROUPS,
    MOST_PROCESSES,
    Text,
    check_path,
    is_run_id,
    none_if_empty,
    parts_of,
    whole_numbers,
)
from sensai.data.dataset_names import DATASETS
from sensai.documents import is_text, parse_json, shown
from sensai.errors import suggestion
from sensai.grouping.methods import METHODS
from sensai.models.architecture_names import ARCHITECTURES, ELSEWHERE, TORCHVISION
from sensai.parts import Family
from sensai.plugins import REFERENCE
from sensai.policy.criteria import CRITERIA
from sensai.training.losses import LOSSES
from sensai.training.schedules import SCHEDULES
from sensai.training.stop_rules import STOP_RULES

CombineMethod = Literal["raw", "temperature", "vector", "logistic"]

_OWN = "path/to/file.py:factory or package.module:factory"
_BUDGET = re.compile(r"[1-9]\d{0,8}epochs|(?=.*[1-9])\d{1,9}(\.\d{1,9})?s", re.ASCII)
# torch numbers devices in 8 bits, and takes no leading zeros.
_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d?))?", re.ASCII)
_RESOURCE = re.compile(r"[\w.:@/+-]{1,100}")
_LARGEST_CHANNEL_VALUE, _LEAST_DEVIATION = 1e4, 1e-4
_MOST_OF_A_RESOURCE = 1_000_000
# A run's configuration is a tag, of which MLflow stores 8000 characters.
_LONGEST_JSON = 4000


def _known_or_own(allowed: Collection[str], what: str, value: str, others: Mapping[str, str] | None = None) -> str:
    if value in allowed or REFERENCE.fullmatch(value):
        check_path(value.rpartition(":")[0])
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
    parts = parts_of(value)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = [math.nan]
    if not all(abs(number) <= _LARGEST_CHANNEL_VALUE for number in numbers):
        raise ValueError(
            f"must be one number a channel, each up to {_LARGEST_CHANNEL_VALUE:g}, separated by commas, e.g. 0.49,0.48,0.45"
        )
    return value


def _positive_channel_values(value: str) -> str:
    if any(number < _LEAST_DEVIATION for number in parse_channel_values(_channel_values(value)) or ()):
        raise ValueError(f"must be above 0 in every channel, {_LEAST_DEVIATION:g} at least")
    return value


def parse_channel_values(value: str) -> tuple[float, ...] | None:
    """The numbers of `mean` or `std`, None where the parameter is empty."""
    return tuple(float(part) for part in value.split(",")) if value else None


def _counts(most: int, value: str) -> str:
    if not whole_numbers(value, 1, most, "whole numbers, separated by commas, e.g. 1,2,4,8"):
        raise ValueError("must be one or more whole numbers, separated by commas, e.g. 1,2,4,8")
    return value


def parse_counts(value: str) -> list[int]:
    """The numbers of a list of counts, each once, in ascending order."""
    return sorted({int(part) for part in value.split(",")})


def _fidelities(value: str) -> str:
    what = "epochs in ascending order, separated by commas, e.g. 0,2,8"
    rungs = whole_numbers(value, 0, MOST_EPOCHS, what)
    if rungs != sorted(set(rungs)):
        raise ValueError(f"must be {what}")
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
    return sorted({float(part) for part in parts_of(value) or [""]})


def _methods(value: str) -> str:
    counted = [name for name in METHODS if "n_groups" in METHODS[name].uses]
    for method in parse_methods(value):
        if method not in counted:
            raise ValueError(
                f"{shown(method)} is no method that makes a number of groups; {suggestion(method, counted)}"
            )
    return value


def parse_methods(value: str) -> list[str]:
    """The names of `methods`, each once, as they come."""
    return list(dict.fromkeys(parts_of(value) or [""]))


def _run_ids(value: str) -> str:
    ids = parse_run_ids(value)
    if value and (len(ids) < 2 or not all(map(is_run_id, ids))):
        raise ValueError("must be the ids of two or more runs, separated by commas")
    return value


def parse_run_ids(value: str) -> list[str]:
    """The ids of a list of runs, each once, as they come; none where it is empty."""
    return list(dict.fromkeys(filter(None, parts_of(value))))


def _json_object(value: str) -> str:
    if len(value) > _LONGEST_JSON or not is_text(value):
        raise ValueError(f"must be a JSON object of at most {_LONGEST_JSON} characters")
    try:
        parsed = parse_json(value) if value else {}
    except ValueError as error:
        raise ValueError(f"must be a JSON object ({error})") from error
    if not isinstance(parsed, dict):
        raise ValueError('must be a JSON object, e.g. {"block": "basic"}')
    return value


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise ValueError("must be auto, cpu, cuda or cuda:<n>, n from 0 to 99")
    return value


def _budget(value: str) -> str:
    if value and not _BUDGET.fullmatch(value):
        raise ValueError("must be a number of epochs or seconds above 0, of at most 9 digits, e.g. 90epochs or 600s")
    return value


def parse_budget(value: str) -> tuple[int | None, float | None]:
    """The epochs and the seconds that `budget` names; one of them at most."""
    if not value:
        return None, None
    return (int(value.removesuffix("epochs")), None) if value.endswith("epochs") else (None, float(value[:-1]))


def parse_stop_rules(value: str) -> list[str]:
    """Return the names in `stop_rules`."""
    return parts_of(value)


def _stop_rules(value: str) -> str:
    names = parse_stop_rules(value)
    for name in names:
        if name not in STOP_RULES:
            raise ValueError(f"{name!r} is no {STOP_RULES.kind}; {suggestion(name, STOP_RULES.names)}")
    if len(set(names)) < len(names):
        raise ValueError("must name each stop rule once, separated by commas, e.g. plateau,target")
    return value


def _resources(value: str) -> str:
    try:
        amounts = parse_resources(value)
    except ValueError:
        amounts = {"": math.nan}
    if len(amounts) != len(parts_of(value)) or not all(map(_RESOURCE.fullmatch, amounts)):
        raise ValueError("must be pairs name=amount, each name once, separated by commas, e.g. near_camera=1")
    for name, amount in amounts.items():
        # Ray deals out whole ones, or parts of one.
        if not 0.0001 <= amount <= _MOST_OF_A_RESOURCE or (amount > 1 and not amount.is_integer()):
            raise ValueError(f"must be pairs name=amount, amounts up to 1 or whole up to {_MOST_OF_A_RESOURCE}: {name}")
    if taken := amounts.keys() & {"CPU", "GPU", "memory", "object_store_memory"}:
        raise ValueError(f"must be resources that machines announce themselves, not {min(taken)} (see `threads`)")
    return value


def parse_resources(value: str) -> dict[str, float]:
    """The amounts of `resources` by name."""
    pairs = (pair.partition("=") for pair in parts_of(value))
    return {name.strip(): float(amount) for name, _, amount in pairs}


GroupMethod = Annotated[str, _in(METHODS)]
CriterionName = Annotated[str, _in(CRITERIA)]
LossName = Annotated[str, _in(LOSSES)]
ScheduleName = Annotated[str, _in(SCHEDULES)]
StopRules = Annotated[str, AfterValidator(_stop_rules)]
Patterns = Annotated[Text, AfterValidator(_patterns)]
DatasetName = Annotated[Text, AfterValidator(_dataset)]
ArchName = Annotated[Text, AfterValidator(_arch)]
Renames = Annotated[Text, AfterValidator(_renames)]
DeviceName = Annotated[str, AfterValidator(_device)]
Budgeted = Annotated[str, AfterValidator(_budget)]
JsonObject = Annotated[str, AfterValidator(_json_object)]
ChannelValues = Annotated[Text, AfterValidator(_channel_values)]
PositiveChannelValues = Annotated[Text, AfterValidator(_positive_channel_values)]
GroupCounts = Annotated[Text, AfterValidator(partial(_counts, MOST_GROUPS))]
ProcessCounts = Annotated[Text, AfterValidator(partial(_counts, MOST_PROCESSES))]
Fidelities = Annotated[Text, AfterValidator(_fidelities)]
Ratios = Annotated[Text, AfterValidator(_ratios)]
Methods = Annotated[Text, AfterValidator(_methods)]
RunIds = Annotated[Text, AfterValidator(_run_ids)]
Resources = Annotated[Text, AfterValidator(_resources)]
Augment = Literal["auto", "none", "crop", "crop_flip"]
OptionalCombineMethod = Annotated[CombineMethod | None, BeforeValidator(none_if_empty)]
RuntimeName = Literal[
    "auto", "torch", "torch-compiled", "onnx-graph", "onnx-branches", "onnx-sessions", "cuda-streams", "cuda-graph"
]
