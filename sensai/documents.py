"""Read JSON and YAML of users, and show their values in messages.

Neither library limits what it reads. Lists nested thousands deep, aliases that multiply, repeated keys and numbers that are
not finite are refused here, each with its reason.
"""

import json
import math
import re
import reprlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sensai.errors import InputError
from sensai.files import regular_file

MEBIBYTE = 2**20
_DEEPEST = 50
_MOST_VALUES = 1_000_000
_LONGEST_SHOWN = 200
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
# Floats of JSON; YAML 1.1 reads those without a dot as text.
_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+\Z")

_MERGE = "tag:yaml.org,2002:merge"

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _LONGEST_SHOWN


def shown(value: object) -> str:
    """Return the `repr` of a user's value for a message; a long one is shortened to its beginning and its end, at no cost."""
    try:
        return _short.repr(value)
    # Python does not write numbers of more than 4300 digits.
    except ValueError:
        return "a number of thousands of digits"


def is_text(value: str) -> bool:
    """Return True if every system can store a text: it has no NUL and no half of a character."""
    return _NO_TEXT.search(value) is None


def read_text(path: Path, parameter: str, most_bytes: int) -> str:
    """Return the text of a user's file.

    Raises:
        InputError: there is no such regular file, it is too large, or it is not UTF-8.
    """
    where = f"{parameter}={shown(str(path))}"
    try:
        with regular_file(path, parameter).open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    if len(content) > most_bytes:
        raise InputError(f"{where}: has more than {most_bytes:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not text in UTF-8 (byte {error.start})") from error


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: it is not JSON, a key is repeated, a number is not finite, or it is nested too deeply; in one line.
    """
    try:
        content = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    check_extent(content)
    return content


def parse_yaml(text: str) -> Any:
    """Return the value of a JSON or YAML document.

    Raises:
        ValueError: see `parse_json`.
    """
    try:
        content = yaml.load(text, _Loader)  # noqa: S506  (it is a SafeLoader)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    # PyYAML raises various errors if a tag and its value do not fit.
    except Exception as error:
        raise ValueError(" ".join(f"{error}".split()) or type(error).__name__) from error
    check_extent(content)
    return content


def render_yaml(content: Mapping[str, Any]) -> str:
    """Return a YAML document that `parse_yaml` reads as the same content."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False)


def check_extent(content: object) -> None:
    """Raise an error for content that is nested too deeply or has too many values; each use of an alias counts.

    Raises:
        ValueError: it does, or a number in it is not finite.
    """
    values, level, depth = 0, [content], 0
    while level:
        values += len(level)
        if depth > _DEEPEST:
            raise ValueError(_too_deep())
        deeper: list[object] = []
        for each in level:
            if isinstance(each, float) and not math.isfinite(each):
                raise ValueError(f"{each} is no number")
            deeper += _parts(each)
            if values + len(deeper) > _MOST_VALUES:
                raise ValueError(f"has more than {_MOST_VALUES:,} values")
        level, depth = deeper, depth + 1


def _parts(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple | set) else ()


def _too_deep() -> str:
    return f"is nested more than {_DEEPEST} levels deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {shown(key)} stands twice")
        content[key] = value
    return content


class _Loader(yaml.SafeLoader):
    """YAML without tags that make objects, without merged keys, which multiply, and without repeated keys."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(_too_deep())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = set()
        for key, _ in node.value:
            if (name := (key.tag, str(key.value))) in keys:
                raise ValueError(f"the key {shown(key.value)} stands twice")
            if key.tag == _MERGE:
                raise ValueError("the key '<<' is not supported")
            keys.add(name)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """YAML in which a text that `_Loader` would read as a number stands in quotes."""


for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))
