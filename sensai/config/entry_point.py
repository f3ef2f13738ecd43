"""The base of every entry point's configuration, and what is derived from its parameters."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sensai.config.usage import Usage, as_text, parameters_of

# The configuration is stored as a tag, which MLflow cuts at this length.
_LONGEST_TAG = 8000


class EntryPoint(BaseModel):
    """The parameters of one entry point.

    Each section of parameters is a class that adds its own to those of the sections before it.

    Attributes:
        stage: name of the entry point.
        owner: the stage to which a section's parameters belong; empty for those of every entry point.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: ClassVar[str]
    owner: ClassVar[str] = ""

    traceback: Annotated[bool, Usage(operational=True)] = Field(
        False,
        description="print the traceback of an error; that of an unexpected error is always kept, in a file and as an "
        "artifact",
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

    @model_validator(mode="after")
    def _fits_into_a_tag(self) -> Self:
        if (length := len(self.model_dump_json())) > _LONGEST_TAG:
            raise ValueError(
                f"all parameters together must have at most {_LONGEST_TAG} characters as JSON, not {length}"
            )
        return self
