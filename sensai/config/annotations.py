"""Read the type of a parameter: its choices, or that it is a number."""

import types
from collections.abc import Iterable
from typing import Literal, Union, get_args, get_origin

from pydantic import AfterValidator
from pydantic.fields import FieldInfo


def choices_of(field: FieldInfo) -> list[str]:
    """Return the names that a parameter may have; none if it takes numbers or other texts."""
    return _named(field.metadata) or _choices(field.annotation)


def _named(metadata: Iterable[object]) -> list[str]:
    """Return the names that a validator knows."""
    return [name for each in metadata if isinstance(each, AfterValidator) for name in getattr(each.func, "names", ())]


def _choices(annotation: object) -> list[str]:
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return [str(each) for each in get_args(annotation)]
    if named := _named(getattr(annotation, "__metadata__", ())):
        return named
    return [each for part in _alternatives(annotation) for each in _choices(part)]


def is_number(annotation: object) -> bool:
    """Return True if a parameter is a number, or an optional number."""
    return annotation in (int, float) or any(map(is_number, _alternatives(annotation)))


def is_whole_number(annotation: object) -> bool:
    """Return True if a parameter is a whole number, or an optional whole number."""
    return annotation is int or any(map(is_whole_number, _alternatives(annotation)))


def _alternatives(annotation: object) -> tuple[object, ...]:
    """Return the types of a union, and of an annotated type the type itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return get_args(annotation)[:1] if getattr(annotation, "__metadata__", None) else ()
