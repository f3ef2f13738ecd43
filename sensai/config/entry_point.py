"""The base of every entry point's configuration, and what is derived from its parameters."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sensai.config.usage import Usage, as_text, default_texts, parameters_of

_log = logging.getLogger(__name__)
# The configuration is stored as a tag, which MLflow cuts at this length.
_LONGEST_TAG = 8000


@dataclass(frozen=True)
class Former:
    """A parameter of the version before, which this version still reads.

    Attributes:
        successor: name of the parameter that replaces it.
        text: returns the successor's text for a text of it, or raises a `ValueError` that says what is allowed.
        is_flag: its name alone on a command line means true.
    """

    successor: str
    text: Callable[[str], str]
    is_flag: bool = False


class EntryPoint(BaseModel):
    """The parameters of one entry point.

    Each section of parameters is a class that adds its own to those of the sections before it.

    Attributes:
        stage: name of the entry point.
        owner: the stage to which a section's parameters belong; empty for those of every entry point.
        former: name -> a parameter of the version before that is still read.
    """

    # A process builds the validators of the one entry point that it runs.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    stage: ClassVar[str]
    owner: ClassVar[str] = ""
    former: ClassVar[Mapping[str, Former]] = {}

    traceback: Annotated[bool, Usage(operational=True)] = Field(
        False,
        description="print the traceback of an error; that of an unexpected error is always kept, in a file and as an "
        "artifact",
    )

    quiet: Annotated[bool, Usage(operational=True)] = Field(
        False, description="print only the id of the run, and warnings"
    )

    def ignored(self) -> set[str]:
        """Return the parameters that make no difference with the values of the others."""
        return {name for name, each in parameters_of(type(self)).items() if not each.matters(self)}

    def text(self, name: str) -> str:
        """Return the value of a parameter as the command line has it."""
        return as_text(self.model_dump(include={name})[name])

    def recipe(self) -> dict[str, Any]:
        """Return the values on which results depend, by name, as text or numbers: they make a run again."""
        ignored = self.ignored()
        known = parameters_of(type(self))
        return {
            name: value
            for name, value in self.model_dump().items()
            if name not in ignored and not known[name].usage.operational
        }

    def own_values(self) -> dict[str, Any]:
        """Return the values that a run of this entry point logs as parameters: the listed ones that make a difference."""
        return self.model_dump(include=set(self.listed_names()) - self.ignored())

    @classmethod
    def listed_names(cls) -> list[str]:
        """Return the parameters that MLproject lists: the everyday ones, then those of its own result."""
        known = parameters_of(cls)
        own = [name for name, each in known.items() if cls.stage in each.stages]
        return [name for name, each in known.items() if each.usage.everyday and name not in own] + own

    @model_validator(mode="before")
    @classmethod
    def _read_former(cls, values: Any) -> Any:
        """Replace the parameters of the version before by their successors."""
        if not isinstance(values, dict):
            return values
        read = dict(values)
        for name in cls.former.keys() & values.keys():
            each, value = cls.former[name], as_text(read.pop(name))
            # `mlflow run` hands over the defaults of all parameters that nobody gave.
            if read.get(each.successor, default := default_texts(cls)[each.successor]) != default:
                raise ValueError(f"{name}={value}: is now part of {each.successor}, which is given too")
            read[each.successor] = each.text(value)
            _log.warning(
                "%s=%s is read as %s=%s, and no more by the next version",
                name,
                value,
                each.successor,
                read[each.successor],
            )
        return read

    @model_validator(mode="after")
    def _fits_into_a_tag(self) -> Self:
        if (length := len(self.model_dump_json())) > _LONGEST_TAG:
            raise ValueError(
                f"all parameters together must have at most {_LONGEST_TAG} characters as JSON, not {length}"
            )
        return self
