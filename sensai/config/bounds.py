"""The bounds of numbers and texts as parameters. Imports neither torch nor MLflow.

Every number has two bounds, which pydantic's messages name. The upper one is far above any need, and below the point where a
library or a database fails. Every text can be stored.
"""

import os
import re
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from sensai.documents import is_text, shown

_LONGEST_PATH, _LONGEST_NAME = 4095, 255
_LONGEST_TEXT = 2000
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}", re.ASCII)
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?", re.ASCII)
_ADDRESS = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+):(?P<port>[1-9]\d{0,4})", re.ASCII)
# The registry allows more. These names also work in URIs models:/<name>@<alias>, in filters and as file names.
_MODEL_NAME = re.compile(r"[\w+-]+([ .][\w+-]+)*")
_LONGEST_MODEL_NAME = 200


def none_if_empty(value: object) -> object:
    """Return None for the empty value of an optional parameter."""
    return None if value == "" else value


def _text(value: str) -> str:
    if not is_text(value):
        raise ValueError("must be text, without NUL and without bytes that are no UTF-8")
    return value


def check_line(value: str) -> str:
    """Return a text of one line that can be stored.

    Raises:
        ValueError: it has control characters, cannot be encoded, or is too long.
    """
    if _CONTROL.search(_text(value)):
        raise ValueError("must be one line, without control characters")
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"must have at most {_LONGEST_TEXT} characters, not {len(value)}")
    return value


def check_path(value: str) -> str:
    """Return a path that a file system can have.

    Raises:
        ValueError: it has a NUL, or is too long in all or in one part.
    """
    encoded = os.fsencode(_text(value))
    longest = max(map(len, encoded.split(b"/")))
    if len(encoded) > _LONGEST_PATH or longest > _LONGEST_NAME:
        raise ValueError(
            f"must be a path of at most {_LONGEST_PATH} bytes with at most {_LONGEST_NAME} between slashes, "
            f"not {len(encoded)} with {longest}"
        )
    return value


def _given(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _run_id(value: str) -> str:
    if value and not _RUN_ID.fullmatch(value):
        raise ValueError("must be the id of a run: letters, digits, - and _")
    return value


def is_run_id(value: str) -> bool:
    """Return True if a text has the form of a run id."""
    return _RUN_ID.fullmatch(value) is not None


def _host(value: str) -> str:
    if len(value) > _LONGEST_NAME - 2 or not _HOST.fullmatch(value):
        raise ValueError("must be the name or the IP address of a machine, e.g. 127.0.0.1")
    return value


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a server on a host; of names only localhost is known to be such."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def _address(value: str) -> str:
    found = _ADDRESS.fullmatch(value)
    if value not in ("", "auto") and (
        found is None or int(found["port"]) >= 2**16 or not _HOST.fullmatch(found["host"].strip("[]"))
    ):
        raise ValueError("must be auto or host:port, e.g. 10.0.0.5:6379")
    return value


def _model_name(value: str) -> str:
    if len(value) > _LONGEST_MODEL_NAME or not _MODEL_NAME.fullmatch(value):
        raise ValueError(
            f"must be at most {_LONGEST_MODEL_NAME} letters, digits, _, - and +, with single blanks or dots between them"
        )
    return value


def parts_of(value: str) -> list[str]:
    """Return the parts between the commas of a list, without blanks around them; none for an empty list."""
    return [part.strip() for part in value.split(",")] if value else []


def whole_numbers(value: str, least: int, most: int, what: str) -> list[int]:
    """Return the numbers of a list.

    Raises:
        ValueError: a part of it is none within the bounds; `what` says what they must be.
    """
    parts = parts_of(value)
    wrong = [
        part
        for part in parts
        if not (part.isascii() and part.isdecimal() and len(part) < 12 and least <= int(part) <= most)
    ]
    if wrong:
        raise ValueError(f"must be {what}, each from {least} to {most}, not {shown(wrong[0])}")
    return [int(part) for part in parts]


Text = Annotated[str, AfterValidator(check_line)]
GivenText = Annotated[str, AfterValidator(check_line), AfterValidator(_given)]
StudyName = Annotated[str, AfterValidator(check_line), Field(max_length=250)]
FilePath = Annotated[str, AfterValidator(check_path)]
WorkDir = Annotated[str, AfterValidator(check_path), AfterValidator(_given)]
RunId = Annotated[str, AfterValidator(_run_id)]
Host = Annotated[str, AfterValidator(_host)]
RayAddress = Annotated[str, AfterValidator(_address)]
ModelName = Annotated[str, AfterValidator(_model_name)]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
InnerShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
# Logits are divided by it.
Temperature = Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)]
# Both parameters of a beta distribution.
Concentration = Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
# Of activations.
Level = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
# As a share of the base model's, of which a measured time may be several.
Cost = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]

MOST_GROUPS = 100_000
MOST_EPOCHS = 1_000_000
MOST_PROCESSES = 1024
Groups = Annotated[int, Field(ge=1, le=MOST_GROUPS)]
Overlap = Annotated[int, Field(ge=1, le=MOST_GROUPS)]
EpochsOrNone = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Trials = Annotated[int, Field(ge=0, le=1_000_000)]
Repeats = Annotated[int, Field(ge=1, le=10_000)]
Parts = Annotated[int, Field(ge=1, le=10_000)]
Processes = Annotated[int, Field(ge=1, le=MOST_PROCESSES)]
ProcessesOrNone = Annotated[int, Field(ge=0, le=MOST_PROCESSES)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Channels = Annotated[int, Field(ge=0, le=65_536)]
Multiple = Annotated[int, Field(ge=1, le=65_536)]
Side = Annotated[int, Field(ge=1, le=4096)]
BatchSize = Annotated[int, Field(ge=2, le=65_536)]
ImagesAtOnce = Annotated[int, Field(ge=1, le=65_536)]
Images = Annotated[int, Field(ge=2, le=10_000_000)]
Reduction = Annotated[int, Field(ge=2, le=1000)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Mebibytes = Annotated[int, Field(ge=1, le=1024)]
Port = Annotated[int, Field(ge=1, lt=2**16)]
# Whole numbers of databases have 32 bits.
Version = Annotated[int, Field(ge=1, lt=2**31)]
MOST_SEED = 2**31 - 1
Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]

OptionalGroups = Annotated[Groups | None, BeforeValidator(none_if_empty)]
OptionalParts = Annotated[Parts | None, BeforeValidator(none_if_empty)]
OptionalProcesses = Annotated[Processes | None, BeforeValidator(none_if_empty)]
OptionalThreads = Annotated[Threads | None, BeforeValidator(none_if_empty)]
OptionalSide = Annotated[Side | None, BeforeValidator(none_if_empty)]
OptionalVersion = Annotated[Version | None, BeforeValidator(none_if_empty)]
OptionalShare = Annotated[PositiveShare | None, BeforeValidator(none_if_empty)]
OptionalInnerShare = Annotated[InnerShare | None, BeforeValidator(none_if_empty)]
OptionalCost = Annotated[Cost | None, BeforeValidator(none_if_empty)]
