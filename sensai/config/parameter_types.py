"""The types of parameters that are names, lists, pairs or JSON: parsed once, and written as text again. Imports no torch.

A value that comes as text is parsed when the configuration is made. Tags, parameters of runs and fingerprints have its text.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator

from sensai.config.bounds import (
    MOST_EPOCHS,
    MOST_GROUPS,
    MOST_PROCESSES,
    Text,
    check_line,
    is_run_id,
    none_if_empty,
    parts_of,
    whole_numbers,
)
from sensai.config.part_names import PartName, PartOrCode
from sensai.data.sets import DATASETS
from sensai.documents import is_text, parse_json, shown
from sensai.ensemble.combiners import COMBINERS
from sensai.errors import suggestion
from sensai.evaluation.roles import YARDSTICKS
from sensai.grouping.methods import METHODS
from sensai.models.architectures import ARCHITECTURES
from sensai.models.libraries.library_names import ELSEWHERE, TIMM, TORCHVISION
from sensai.policy.criteria import CRITERIA
from sensai.runtimes.implementations import RUNTIMES
from sensai.training.losses import LOSSES
from sensai.training.schedules import SCHEDULES
from sensai.training.stop_rules import STOP_RULES

_BUDGET = re.compile(r"[1-9]\d{0,8}epochs|(?=.*[1-9])\d{1,9}(\.\d{1,9})?s", re.ASCII)
# An empty list of yardsticks, as people write it.
_NO_YARDSTICK = "none"
# torch numbers devices in 8 bits, and takes no leading zeros.
_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d?))?", re.ASCII)
_RESOURCE = re.compile(r"[\w.:@/+-]{1,100}")
_LARGEST_CHANNEL_VALUE, _LEAST_DEVIATION = 1e4, 1e-4
_MOST_OF_A_RESOURCE = 1_000_000
# A run's configuration is a tag, of which MLflow stores 8000 characters.
_LONGEST_JSON = 4000
# What `contention` measures.
TASKS = ("training", "scoring")


# ---------------------------------------------------------------------------------------------------------------- names


def _device(value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise ValueError("must be auto, cpu, cuda or cuda:<n>, n from 0 to 99")
    return value


# ---------------------------------------------------------------------------------------------------------------- lists


def _listed(parse: Callable[[str], Sequence[Any]]) -> BeforeValidator:
    """Return the validator that parses a text; a list of values is parsed as its text would be."""

    def read(value: object) -> object:
        if isinstance(value, list | tuple):
            value = _joined(value)
        # A YAML file may give a single number.
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = _plain(value)
        return tuple(parse(check_line(value))) if isinstance(value, str) else value

    return BeforeValidator(read)


def _joined(values: Iterable[object]) -> str:
    return ",".join(_plain(each) for each in values)


def _plain(value: object) -> str:
    """Return the text of one value of a list; whole numbers have no fraction."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


_AS_LIST = PlainSerializer(_joined, return_type=str)


def _renames(value: str) -> list[tuple[str, str]]:
    if value and not all(pair.count("=") == 1 and pair.split("=")[0].strip(" .") for pair in value.split(",")):
        raise ValueError("must be pairs old=new of key parts, separated by commas, e.g. downsample=shortcut,fc=linear")
    pairs = (pair.split("=") for pair in value.split(",")) if value else ()
    # Dots at the ends of a part mean nothing.
    return [(old.strip(" ."), new.strip(" .")) for old, new in pairs]


def _read_renames(value: object) -> object:
    return tuple(_renames(check_line(value))) if isinstance(value, str) else value


def _patterns(value: str) -> list[str]:
    patterns = parts_of(value)
    if not all(patterns):
        raise ValueError("must be patterns of keys, separated by commas, e.g. total_ops,*.total_ops")
    return patterns


def _channel_values(value: str) -> list[float]:
    try:
        numbers = [float(part) for part in parts_of(value)]
    except ValueError:
        numbers = [math.nan]
    if not all(abs(number) <= _LARGEST_CHANNEL_VALUE for number in numbers):
        raise ValueError(
            f"must be one number a channel, each up to {_LARGEST_CHANNEL_VALUE:g}, separated by commas, e.g. 0.49,0.48,0.45"
        )
    return numbers


def _positive_channel_values(value: str) -> list[float]:
    numbers = _channel_values(value)
    if any(number < _LEAST_DEVIATION for number in numbers):
        raise ValueError(f"must be above 0 in every channel, {_LEAST_DEVIATION:g} at least")
    return numbers


def _counts(most: int, value: str) -> list[int]:
    numbers = whole_numbers(value, 1, most, "whole numbers, separated by commas, e.g. 1,2,4,8")
    if not numbers:
        raise ValueError("must be one or more whole numbers, separated by commas, e.g. 1,2,4,8")
    return sorted(set(numbers))


def _fidelities(value: str) -> list[int]:
    what = "epochs in ascending order, separated by commas, e.g. 0,2,8"
    rungs = whole_numbers(value, 0, MOST_EPOCHS, what)
    if rungs != sorted(set(rungs)):
        raise ValueError(f"must be {what}")
    return rungs


def _ratios(value: str) -> list[float]:
    try:
        ratios = [float(part) for part in parts_of(value) or [""]]
    except ValueError:
        ratios = [math.nan]
    if not all(0 <= ratio < 1 for ratio in ratios):
        raise ValueError("must be shares in [0, 1), separated by commas, e.g. 0.3,0.5")
    return sorted(set(ratios))


def _methods(value: str) -> list[str]:
    counted = [name for name in METHODS if "n_groups" in METHODS[name].uses]
    methods = list(dict.fromkeys(parts_of(value) or [""]))
    for method in methods:
        if method not in counted:
            raise ValueError(
                f"{shown(method)} is no method that makes a number of groups; {suggestion(method, counted)}"
            )
    return methods


def _stop_rules(value: str) -> list[str]:
    names = parts_of(value)
    for name in names:
        if name not in STOP_RULES:
            raise ValueError(f"{shown(name)} is no {STOP_RULES.kind}; {suggestion(name, STOP_RULES.names)}")
    if len(set(names)) < len(names):
        raise ValueError("must name each stop rule once, separated by commas, e.g. plateau,target")
    return names


def _yardsticks(value: str) -> list[str]:
    names = [] if value == _NO_YARDSTICK else parts_of(value)
    for name in names:
        if name not in YARDSTICKS:
            raise ValueError(f"{shown(name)} is no yardstick; {suggestion(name, [*YARDSTICKS, _NO_YARDSTICK])}")
    if len(set(names)) < len(names):
        raise ValueError(f"must name each yardstick once, separated by commas, or be {_NO_YARDSTICK}")
    return names


def _yardstick_runs(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [tuple(part.strip() for part in pair.partition("=")[::2]) for pair in parts_of(check_line(value))]
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or not all(name in YARDSTICKS and is_run_id(run_id) for name, run_id in pairs):
        raise ValueError(
            f"must be pairs yardstick=run id, each once, separated by commas; yardsticks are {', '.join(YARDSTICKS)}"
        )
    return tuple(pairs)


def _tasks(value: str) -> list[str]:
    names = list(dict.fromkeys(parts_of(value) or [""]))
    for name in names:
        if name not in TASKS:
            raise ValueError(f"{shown(name)} is nothing that is measured; {suggestion(name, TASKS)}")
    return names


def _run_ids(value: str) -> list[str]:
    ids = list(dict.fromkeys(filter(None, parts_of(value))))
    if value and (len(ids) < 2 or not all(map(is_run_id, ids))):
        raise ValueError("must be the ids of two or more runs, separated by commas")
    return ids


# --------------------------------------------------------------------------------------------------------- other values


@dataclass(frozen=True)
class JsonObject:
    """A JSON object; equal and hashed by its text.

    Attributes:
        text: as the user wrote it, or empty.
        values: its content.
    """

    text: str
    values: dict[str, Any] = field(compare=False)

    def __str__(self) -> str:
        return self.text


def _json_object(value: object) -> JsonObject:
    if isinstance(value, JsonObject):
        return value
    text = json.dumps(value) if isinstance(value, dict) else value
    if not isinstance(text, str) or len(text) > _LONGEST_JSON or not is_text(text):
        raise ValueError(f"must be a JSON object of at most {_LONGEST_JSON} characters")
    try:
        parsed = parse_json(text) if text else {}
    except ValueError as error:
        raise ValueError(f"must be a JSON object ({error})") from error
    if not isinstance(parsed, dict):
        raise ValueError('must be a JSON object, e.g. {"block": "basic"}')
    return JsonObject(text, parsed)


class BudgetLimit(NamedTuple):
    """The epochs or the seconds that all members together may take; the other is None."""

    epochs: int | None
    seconds: float | None

    def __str__(self) -> str:
        return f"{self.epochs}epochs" if self.seconds is None else f"{_plain(self.seconds)}s"


def _budget(value: object) -> BudgetLimit | None:
    if value is None or value == "":
        return None
    if isinstance(value, BudgetLimit):
        return value
    if not isinstance(value, str) or not _BUDGET.fullmatch(value):
        raise ValueError("must be a number of epochs or seconds above 0, of at most 9 digits, e.g. 90epochs or 600s")
    if value.endswith("epochs"):
        return BudgetLimit(int(value.removesuffix("epochs")), None)
    return BudgetLimit(None, float(value.removesuffix("s")))


def _resources(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in parts_of(check_line(value))]
    try:
        amounts = {name.strip(): float(amount) for name, _, amount in pairs}
    except ValueError:
        amounts = {"": math.nan}
    if len(amounts) != len(pairs) or not all(map(_RESOURCE.fullmatch, amounts)):
        raise ValueError("must be pairs name=amount, each name once, separated by commas, e.g. near_camera=1")
    for name, amount in amounts.items():
        # Ray deals out whole ones, or parts of one.
        if not 0.0001 <= amount <= _MOST_OF_A_RESOURCE or (amount > 1 and not amount.is_integer()):
            raise ValueError(f"must be pairs name=amount, amounts up to 1 or whole up to {_MOST_OF_A_RESOURCE}: {name}")
    if taken := amounts.keys() & {"CPU", "GPU", "memory", "object_store_memory"}:
        raise ValueError(f"must be resources that machines announce themselves, not {min(taken)} (see `threads`)")
    return amounts


def _pairs(values: Iterable[tuple[str, object]]) -> str:
    return ",".join(f"{name}={_plain(value)}" for name, value in values)


GroupMethod = Annotated[str, AfterValidator(PartName(METHODS))]
CriterionName = Annotated[str, AfterValidator(PartName(CRITERIA))]
LossName = Annotated[str, AfterValidator(PartName(LOSSES))]
ScheduleName = Annotated[str, AfterValidator(PartName(SCHEDULES))]
CombineMethod = Annotated[str, AfterValidator(PartName(COMBINERS))]
DatasetName = Annotated[Text, AfterValidator(PartOrCode(DATASETS))]
ArchName = Annotated[Text, AfterValidator(PartOrCode(ARCHITECTURES, f"{TORCHVISION}<name>, {TIMM}<name>", ELSEWHERE))]
DeviceName = Annotated[str, AfterValidator(_device)]
Augment = Literal["auto", "none", "crop", "crop_flip"]
OptionalCombineMethod = Annotated[CombineMethod | None, BeforeValidator(none_if_empty)]
RuntimeName = Annotated[str, AfterValidator(PartName(RUNTIMES, ("auto",)))]

Renames = Annotated[
    tuple[tuple[str, str], ...], BeforeValidator(_read_renames), PlainSerializer(_pairs, return_type=str)
]
Patterns = Annotated[tuple[str, ...], _listed(_patterns), _AS_LIST]
ChannelValues = Annotated[tuple[float, ...], _listed(_channel_values), _AS_LIST]
PositiveChannelValues = Annotated[tuple[float, ...], _listed(_positive_channel_values), _AS_LIST]
GroupCounts = Annotated[tuple[int, ...], _listed(partial(_counts, MOST_GROUPS)), _AS_LIST]
ProcessCounts = Annotated[tuple[int, ...], _listed(partial(_counts, MOST_PROCESSES)), _AS_LIST]
Fidelities = Annotated[tuple[int, ...], _listed(_fidelities), _AS_LIST]
Ratios = Annotated[tuple[float, ...], _listed(_ratios), _AS_LIST]
Methods = Annotated[tuple[str, ...], _listed(_methods), _AS_LIST]
StopRules = Annotated[tuple[str, ...], _listed(_stop_rules), _AS_LIST]
Yardsticks = Annotated[
    tuple[str, ...],
    _listed(_yardsticks),
    PlainSerializer(lambda names: _joined(names) or _NO_YARDSTICK, return_type=str),
]
YardstickRuns = Annotated[
    tuple[tuple[str, str], ...], BeforeValidator(_yardstick_runs), PlainSerializer(_pairs, return_type=str)
]
Tasks = Annotated[tuple[str, ...], _listed(_tasks), _AS_LIST]
RunIds = Annotated[tuple[str, ...], _listed(_run_ids), _AS_LIST]
NetworkArguments = Annotated[JsonObject, PlainValidator(_json_object), PlainSerializer(str, return_type=str)]
OptionalBudget = Annotated[
    BudgetLimit | None,
    PlainValidator(_budget),
    PlainSerializer(lambda budget: "" if budget is None else str(budget), return_type=str),
]
Resources = Annotated[
    dict[str, float],
    BeforeValidator(_resources),
    PlainSerializer(lambda amounts: _pairs(amounts.items()), return_type=str),
]
